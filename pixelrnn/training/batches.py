"""The input of a pixel model from a prepared data set: the image shape, and batches of pixels and labels."""

import numpy as np
import torch
from torch.utils.data import DataLoader, TensorDataset

from data_prep.prepared_pixels import PreparedPixels
from pixelrnn.pixel_config import ImageShape
from vision_rnn.errors import UserError


def image_shape(data: PreparedPixels, conditional: bool) -> ImageShape:
    """Return the image shape of a model for a data set.

    Args:
        data: Prepared data set.
        conditional: Whether the model is class-conditional.

    Raises:
        UserError: The number of levels is neither 2 nor 256, or `conditional` is set and the images have no labels.
    """
    if data.levels not in (2, 256):
        raise UserError(f"{data.folder}: has pixels with {data.levels} levels; prepare it again with 2 or 256 levels")
    if conditional and not data.num_classes:
        raise UserError(
            f"{data.folder}: has no labels, but the model is class-conditional; choose another data set or model"
        )
    return ImageShape(
        height=data.height,
        width=data.width,
        channels=data.channels,
        levels=data.levels,
        num_classes=data.num_classes if conditional else 0,
    )


def check_fit(data: PreparedPixels, shape: ImageShape) -> None:
    """Check that the images of a data set have the shape of a model's images.

    Raises:
        UserError: They have another shape.
    """
    images = image_shape(data, conditional=shape.num_classes > 0)
    if images != shape:
        raise UserError(
            f"{data.folder}: has {images.describe()}, but the model is for {shape.describe()}; "
            "prepare the data like the training data of the model, or choose another model"
        )


def pixels_and_labels(data: PreparedPixels, split: str, shape: ImageShape) -> TensorDataset:
    """Return pixels (C, H, W) uint8 and labels () int64, which are zeros for an unconditional model, of every image.

    Args:
        data: Prepared data set.
        split: Name of the split.
        shape: Image shape of the model.

    Raises:
        UserError: The split does not exist, or it has no labels and the model is class-conditional.
    """
    rows = data.split(split)
    if shape.num_classes and rows.labels is None:
        raise UserError(
            f"{data.folder}, split {split}: has no labels, but the model is class-conditional; choose another split"
        )
    labels = rows.labels if shape.num_classes else None
    labels = np.zeros(len(rows.pixels), np.int64) if labels is None else labels
    return TensorDataset(torch.tensor(rows.pixels).permute(0, 3, 1, 2), torch.tensor(labels))


def batches(data: PreparedPixels, split: str, shape: ImageShape, batch_size: int) -> DataLoader:
    """Return a loader of the images of a split in order, as `pixels_and_labels`; the last batch may be smaller."""
    return DataLoader(pixels_and_labels(data, split, shape), batch_size)
