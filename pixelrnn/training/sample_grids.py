"""Pictures of the samples of a model during training."""

from pathlib import Path

import lightning
import numpy as np
import torch
from lightning.pytorch.loggers import TensorBoardLogger

from pixelrnn.model import PixelModel
from pixelrnn.pictures import cell_scale, grid_image, save_picture
from pixelrnn.sampling import draw

_ROWS = _COLUMNS = 6


class SampleGrids(lightning.Callback):
    """Draws a grid of samples at every validation, from the same noise, and saves it to a folder and to TensorBoard.

    A class-conditional model cycles through its classes.

    Args:
        model: Model being trained.
        folder: Folder for `epoch-00.png` and so on, numbered as in the log.
    """

    def __init__(self, model: PixelModel, folder: Path):
        self._model, self._folder = model, folder

    def on_validation_epoch_start(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        """Draw and save the grid."""
        device, shape = self._model.device, self._model.shape
        size = (_ROWS * _COLUMNS, shape.channels, shape.height, shape.width)
        noise = torch.rand(size, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
        everywhere = torch.ones(size[2:], dtype=torch.bool, device=device)
        labels = torch.arange(size[0], device=device) % shape.num_classes if shape.num_classes else None
        pixels = torch.zeros(size, dtype=torch.uint8, device=device)
        drawn = draw(self._model, pixels, everywhere, noise.to(device), labels).cpu()
        picture = grid_image(drawn, shape.levels, _COLUMNS, cell_scale(shape.height, shape.width))
        save_picture(picture, self._folder / f"epoch-{trainer.current_epoch:02}.png")
        for logger in trainer.loggers:
            if isinstance(logger, TensorBoardLogger):
                logger.experiment.add_image("samples", np.asarray(picture), trainer.global_step, dataformats="HWC")
