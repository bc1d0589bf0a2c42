"""From a prepared pixel data set to what a model takes: its shape, and batches of pixels and labels."""

import numpy as np
import torch
from torch.utils.data import DataLoader, DistributedSampler, TensorDataset

from data_prep.prepared_pixels import PreparedPixels
from pixelrnn.pixel_config import ImageShape
from vision_rnn.errors import UserError


def image_shape(data: PreparedPixels, conditional: bool) -> ImageShape:
    """Return the shape of a model of these images.

    Args:
        data: The data set.
        conditional: Whether the model is to be told the class of an image.

    Raises:
        UserError: The images have other levels than 2 or 256, or no labels although `conditional` asks for them.
    """
    if data.levels not in (2, 256):
        raise UserError(f"{data.folder}: pixels of {data.levels} levels; prepare it again, with 2 or 256")
    if conditional and not data.num_classes:
        raise UserError(f"{data.folder}: has no labels, and the model is conditional; choose another data set or model")
    return ImageShape(
        height=data.height,
        width=data.width,
        channels=data.channels,
        levels=data.levels,
        num_classes=data.num_classes if conditional else 0,
    )


def check_fit(data: PreparedPixels, shape: ImageShape) -> None:
    """Make sure that a model of this shape can read the images of a data set.

    Raises:
        UserError: It cannot.
    """
    images = image_shape(data, conditional=shape.num_classes > 0)
    if images != shape:
        raise UserError(
            f"{data.folder}: {_describe(images)}, but the model is of {_describe(shape)}; "
            "prepare the data as the model's were, or choose another model"
        )


def batches(
    data: PreparedPixels, split: str, shape: ImageShape, batch_size: int, shuffle_seed: int | None = None
) -> DataLoader:
    """Load pixels (B, C, H, W) uint8 with labels (B,) int64, which are zeros for a model that is not conditional.

    Args:
        data: The data set.
        split: Which of its splits.
        shape: The model's.
        batch_size: Images a batch; the last may be shorter.
        shuffle_seed: Shuffle as this seed and the epoch's number say; None keeps the order.

    Raises:
        UserError: There is no such split, or it has no labels and the model is conditional.
    """
    rows = data.split(split)
    if shape.num_classes and rows.labels is None:
        raise UserError(f"{data.folder}, split {split}: has no labels, and the model is conditional; choose another")
    labels = rows.labels if shape.num_classes else None
    labels = np.zeros(len(rows.pixels), np.int64) if labels is None else labels
    images = TensorDataset(torch.tensor(rows.pixels).permute(0, 3, 1, 2), torch.tensor(labels))
    # Of torch's own samplers this one alone is a function of (seed, epoch), which an exact resume needs.
    sampler = (
        DistributedSampler(images, num_replicas=1, rank=0, shuffle=True, seed=shuffle_seed)
        if shuffle_seed is not None
        else None
    )
    return DataLoader(images, batch_size, sampler=sampler)


def _describe(shape: ImageShape) -> str:
    colour = "grey" if shape.channels == 1 else "RGB"
    classes = f" in {shape.num_classes} classes" if shape.num_classes else ""
    return f"{colour} images of {shape.height}x{shape.width} pixels and {shape.levels} levels{classes}"
