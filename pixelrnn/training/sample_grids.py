"""Pictures of the samples of a model during training."""

from collections.abc import Callable
from pathlib import Path

import lightning
import numpy as np
import torch
from lightning.pytorch.loggers import TensorBoardLogger
from PIL import Image

from pixelrnn.model import PixelModel
from pixelrnn.pictures import cell_scale, grid_image, save_picture
from pixelrnn.sampling import draw

# Rows and columns of the grid of an epoch.
SIDE = 6


def sample_grid(model: PixelModel, side: int, progress: Callable[[], object] | None = None) -> Image.Image:
    """Draw a square of samples, always from the same noise; a class-conditional model cycles through its classes.

    Args:
        model: Pixel model.
        side: Number of rows, and of columns.
        progress: Callback after each row of pixels (for the order `transposed`: each column).
    """
    device, shape = model.device, model.shape
    size = (side * side, shape.channels, shape.height, shape.width)
    noise = torch.rand(size, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    everywhere = torch.ones(size[2:], dtype=torch.bool, device=device)
    labels = torch.arange(size[0], device=device) % shape.num_classes if shape.num_classes else None
    pixels = torch.zeros(size, dtype=torch.uint8, device=device)
    drawn = draw(model, pixels, everywhere, noise.to(device), labels, progress).cpu()
    return grid_image(drawn, shape.levels, side, cell_scale(shape.height, shape.width))


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
        if not trainer.is_global_zero:
            return
        picture = sample_grid(self._model, SIDE)
        save_picture(picture, self._folder / f"epoch-{trainer.current_epoch:02}.png")
        for logger in trainer.loggers:
            if isinstance(logger, TensorBoardLogger):
                logger.experiment.add_image("samples", np.asarray(picture), trainer.global_step, dataformats="HWC")
