"""Maximum-likelihood training of a pixel model with Lightning.

The loss is the mean of -ln p(image) over the images, in nats: equation 1 of PixelRNN (arXiv 1601.06759), where every
pixel is predicted from the true pixels before it. The paper trains with RMSProp at unpublished learning rates. Here
the optimiser is Muon (see `optimizer`), with learning rates that warm up, stay constant and decay, and the weights are
averaged exponentially.

For a model with a context, the loss is the mean of -ln p(region | known pixels), with a random region for every image
(see `random_masks`). Regions count by their nats, so that each predicted pixel has the same weight: that is the mean
over these regions of what is measured in the end. Weights by the size of a region would make small ones, whose mean
over pixels varies most, dominate the gradient.
"""

from contextlib import AbstractContextManager
from typing import Any

import lightning
import numpy as np
import torch
from torch import Tensor

from evaluation.likelihood import summarize_likelihood
from pixelrnn.mask import named_masks
from pixelrnn.model import PixelNetwork
from pixelrnn.pixel_config import TrainingConfig
from pixelrnn.training.optimizer import MuonAdamW
from pixelrnn.training.random_masks import random_masks
from vision_rnn.precision import products_in, resolved_precision
from vision_rnn.processes import gathered, in_order, num_processes, rank
from vision_rnn.trainer import check_finite

_REGIONS = "validation_regions"
_RATES = "training.matrix_learning_rate or training.learning_rate"


class PixelTask(lightning.LightningModule):
    """A pixel model with its loss, optimiser and validation.

    Args:
        model: Pixel model to train.
        config: Training settings.
    """

    def __init__(self, model: PixelNetwork, config: TrainingConfig):
        super().__init__()
        self.model = model
        self.config = config
        self._validation: list[float] = []
        self._of_regions: list[float] = []
        shape = model.shape
        self._masks = {} if model.context is None else named_masks(shape.height, shape.width)

    @property
    def monitor(self) -> str:
        """The logged number by which the best epoch is chosen."""
        return _REGIONS if self._masks else "validation"

    def training_step(self, batch: list[Tensor], batch_idx: int) -> Tensor:
        """Return the mean of -ln p(image), or of -ln p(region | known pixels) with a context, in nats."""
        # Drawn by seed, step and process, so that a resumed run is exact.
        generator = np.random.default_rng([self.config.seed, self.global_step, rank()])
        batch = self._mirrored(batch, generator) if self.config.mirror else batch
        masks = None
        if self.model.context is not None:
            shape = self.model.shape
            masks = random_masks(generator, len(batch[0]), shape.height, shape.width).to(batch[0].device)
        with self._products():
            loss = self._nats(batch, masks).mean()
        check_finite(self, loss, _RATES)
        self.log("loss", loss, prog_bar=True, on_step=True, sync_dist=True)
        return loss

    def backward(self, loss: Tensor, *arguments: Any, **options: Any) -> None:
        """Compute the gradients."""
        with self._products():
            super().backward(loss, *arguments, **options)

    def validation_step(self, batch: list[Tensor], batch_idx: int) -> None:
        """Store -ln p(image) of every image, in nats, and with a context -ln p of one of the named regions in turn."""
        start = len(self._validation)
        self._validation += self._nats(batch).double().tolist()
        if not self._masks:
            return
        masks = list(self._masks.values())
        # The position in the split decides, so that every process measures the same.
        positions = [rank() + num_processes() * place for place in range(start, len(self._validation))]
        chosen = torch.stack([masks[position % len(masks)] for position in positions])
        self._of_regions += self._nats(batch, chosen[:, None].to(batch[0].device)).double().tolist()

    def on_validation_epoch_end(self) -> None:
        """Log the mean of -ln p(image) over all images of the split, and the means of -ln p of the regions."""
        nats = np.array(in_order(gathered(self._validation)))
        self._validation.clear()
        check_finite(self, torch.from_numpy(nats), _RATES)
        shape = self.model.shape
        likelihood = summarize_likelihood(nats, shape.channels * shape.height * shape.width)
        self.log("validation", likelihood.nats_per_image, prog_bar=True)
        if not self._masks:
            return
        of_regions = np.array(in_order(gathered(self._of_regions)))
        self._of_regions.clear()
        check_finite(self, torch.from_numpy(of_regions), _RATES)
        # With fewer images than regions, those of the first ones.
        means = {
            name: float(of_regions[index :: len(self._masks)].mean())
            for index, name in enumerate(self._masks)
            if index < len(of_regions)
        }
        for name, mean in means.items():
            self.log(f"validation_{name}", mean)
        self.log(_REGIONS, float(np.mean(list(means.values()))), prog_bar=True)

    def configure_optimizers(self) -> Any:
        """Return Muon and AdamW with a schedule per step: linear warmup, constant learning rates, linear decay."""
        config = self.config
        optimizer = MuonAdamW(
            self.model,
            self.model.inner_matrices(),
            config.matrix_learning_rate,
            config.learning_rate,
            config.weight_decay,
        )
        steps = int(self.trainer.estimated_stepping_batches)

        def share(step: int) -> float:
            risen = (step + 1) / (min(config.warmup_steps, steps // 10) + 1)
            left = (steps - step) / (config.decay * steps) if config.decay else 1.0
            return min(1.0, risen, left)

        schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, share)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Add the description of the model, so that a checkpoint can be exported without its data set."""
        checkpoint["model"] = self.model.describe()

    def _mirrored(self, batch: list[Tensor], generator: np.random.Generator) -> list[Tensor]:
        """Mirror half of the images, left to right."""
        pixels, labels = batch
        drawn = generator.random(len(pixels)) < 0.5
        chosen = torch.from_numpy(drawn).to(pixels.device)[:, None, None, None]
        return [torch.where(chosen, pixels.flip(3), pixels), labels]

    def _products(self) -> AbstractContextManager[None]:
        """Return the context in which a training step multiplies matrices."""
        return products_in(resolved_precision(self.config.precision, self.device.type))

    def _nats(self, batch: list[Tensor], masks: Tensor | None = None) -> Tensor:
        pixels, labels = batch
        return -self.model.log_likelihood(pixels, labels, masks).flatten(1).sum(1)
