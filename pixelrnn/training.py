"""Training a pixel model by maximum likelihood, through Lightning.

The loss is the mean over the images of -ln p(image), in nats: equation 1 of PixelRNN (arXiv 1601.06759) with every
pixel predicted from the true ones before it. The paper trains by RMSProp at unpublished rates; we train by Muon
(`optimizer`) with rates that rise, stay and fall, and keep an exponential average of the weights.
"""

from dataclasses import dataclass
from typing import Any

import lightning
import torch
from torch import Tensor

from data_prep.errors import UserError
from evaluation.likelihood import summarize_likelihood
from pixelrnn.model import PixelModel
from pixelrnn.optimizer import MuonAdamW


@dataclass(frozen=True, kw_only=True)
class TrainingConfig:
    """How a pixel model is trained.

    Attributes:
        epochs: Passes over the images.
        batch_size: Images a batch.
        matrix_learning_rate: Muon's, for the kernels within the model, at its peak.
        learning_rate: AdamW's, for all else, at its peak.
        warmup_steps: Steps over which the rates rise, at most a tenth of all.
        decay: Share of the steps, the last ones, over which the rates fall in a line to 0.
        weight_decay: Of the kernels within the model.
        gradient_clip: The gradient's norm is cut to this; the loss is in nats an image.
        average_decay: Weights are averaged exponentially with this decay, and the average is what is kept; 0 does not.
        seed: Of the initial weights and of the order of the images.
    """

    epochs: int = 10
    batch_size: int = 32
    matrix_learning_rate: float = 0.02
    learning_rate: float = 4e-3
    warmup_steps: int = 100
    decay: float = 0.7
    weight_decay: float = 0.0
    gradient_clip: float = 100.0
    average_decay: float = 0.999
    seed: int = 0

    def __post_init__(self) -> None:
        """Refuse numbers that no training can use, by their name."""
        least = {"epochs": 1, "batch_size": 1}
        for name, value in vars(self).items():
            if value < least.get(name, 0):
                raise UserError(f"training.{name}: {value} is too small; give at least {least.get(name, 0)}")
        if self.decay > 1 or self.average_decay >= 1:
            name, most = ("decay", "at most 1") if self.decay > 1 else ("average_decay", "less than 1")
            raise UserError(f"training.{name}: {getattr(self, name)} is too large; give {most}")


class PixelTask(lightning.LightningModule):
    """A pixel model with its loss, its optimiser and its validation.

    Args:
        model: The model.
        config: How to train it.
    """

    def __init__(self, model: PixelModel, config: TrainingConfig):
        super().__init__()
        self.model = model
        self.config = config
        self._validation: list[Tensor] = []

    def training_step(self, batch: list[Tensor], batch_idx: int) -> Tensor:
        """Return the mean of -ln p(image), in nats."""
        loss = self._nats(batch).mean()
        self._check(loss)
        self.log("loss", loss, prog_bar=True, on_step=True)
        return loss

    def validation_step(self, batch: list[Tensor], batch_idx: int) -> None:
        """Keep -ln p of every image."""
        self._validation.append(self._nats(batch))

    def on_validation_epoch_end(self) -> None:
        """Log the mean over all images."""
        nats = torch.cat(self._validation)
        self._validation.clear()
        self._check(nats)
        shape = self.model.shape
        likelihood = summarize_likelihood(nats.double().cpu().numpy(), shape.channels * shape.height * shape.width)
        self.log("validation", likelihood.nats_per_image, prog_bar=True)

    def configure_optimizers(self) -> Any:
        """Muon and AdamW with rates that rise, stay and fall, by step."""
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
        """Keep what is needed to build the model again: a checkpoint exports without its data set."""
        checkpoint["model"] = self.model.describe()

    def _nats(self, batch: list[Tensor]) -> Tensor:
        pixels, labels = batch
        return -self.model.log_likelihood(pixels, labels).flatten(1).sum(1)

    def _check(self, nats: Tensor) -> None:
        """Stop a training that has failed, before its last whole checkpoint is replaced."""
        if not nats.isfinite().all():
            raise UserError(
                f"training: the loss is not a number in epoch {self.current_epoch}, step {self.global_step}; "
                "train anew with lower rates (training.matrix_learning_rate, training.learning_rate)"
            )
