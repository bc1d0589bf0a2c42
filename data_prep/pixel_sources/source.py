"""The result of every reader: the images of each split, which may still be encoded on disk, and optionally labels."""

from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import numpy as np

from vision_rnn.errors import UserError


class Images(Protocol):
    """Images that are decoded one at a time: an array of shape (N, H, W, C) uint8, or an object that acts like it."""

    def __len__(self) -> int:
        """Number of images, N."""
        ...

    def __getitem__(self, index: int, /) -> np.ndarray:
        """Return an image, (H, W, C) uint8 with C 1 or 3; raise ImageError if it cannot be decoded."""
        ...


@runtime_checkable
class EncodedImages(Images, Protocol):
    """Images of which each is the content of an image file, decoded only on request."""

    def encoded(self, index: int) -> bytes:
        """Return the content of an image file; raise ImageError if it cannot be read."""
        ...


@dataclass(frozen=True, eq=False)
class SourceSplit:
    """The images of one split.

    Attributes:
        images: The images, in the order of the source.
        names: Name of each image in messages, (N,); splits made by seed depend on these.
        labels: Class of each image from 0 up, (N,) int64; None if there are no labels.
    """

    images: Images
    names: list[str]
    labels: np.ndarray | None


@dataclass(frozen=True)
class PixelSource:
    """The splits of a source.

    Attributes:
        splits: Splits by name: `train`, `validation`, `test`; or all images under None if the source has no splits.
        levels: 2 if all values of all images are 0 or 1, else 256.
    """

    splits: dict[str | None, SourceSplit]
    levels: int


def source_of_arrays(
    images: dict[str | None, np.ndarray], labels: dict[str | None, np.ndarray], where: str
) -> PixelSource:
    """Create a source from arrays of whole splits.

    Args:
        images: Images of each split, (N, H, W, C), with numbers in 0..255; floats in 0..1 are scaled to 0..255.
        labels: Labels of each split that has labels, (N,) integers.
        where: Name of the source in messages.

    Raises:
        UserError: A value is outside 0..255, splits have different ranges, there are no images, or labels do not fit
            their images.
    """
    for split, values in images.items():
        if not values.size:
            raise UserError(f"{where}: the array of {split or 'the'} images is empty; omit it")
        # Written this way so that NaN, which compares false, is rejected too.
        if not (values.min() >= 0 and values.max() <= 255):
            found = f"{values.min()} to {values.max()}"
            raise UserError(
                f"{where}: values of {split or 'the'} images range from {found}; scale them to 0..255 or 0..1"
            )
    is_binary = all(np.isin(values, (0, 1)).all() for values in images.values())
    in_unit = {split: bool(values.max() <= 1) for split, values in images.items()}
    if len(set(in_unit.values())) > 1:
        ranges = ", ".join(f"{split} goes to {images[split].max():g}" for split in images)
        raise UserError(f"{where}: the splits have different ranges ({ranges}); scale all to 0..255 or 0..1")
    scale = 255 if all(in_unit.values()) and not is_binary else 1
    splits = {
        split: SourceSplit(
            _to_levels(values, scale),
            [f"image {index}" for index in range(len(values))],
            checked_labels(labels[split], len(values), f"{where}, {split or 'y'}") if split in labels else None,
        )
        for split, values in images.items()
    }
    return PixelSource(splits, 2 if is_binary else 256)


def _to_levels(values: np.ndarray, scale: int) -> np.ndarray:
    scaled = values * scale
    return (np.rint(scaled) if scaled.dtype.kind == "f" else scaled).astype(np.uint8)


def checked_labels(labels: np.ndarray, num_images: int, where: str) -> np.ndarray:
    """Return labels of shape (N,) or (N, 1) and any integer type as (N,) int64.

    Raises:
        UserError: The labels are not one integer, from 0 up, per image.
    """
    if labels.dtype.kind not in "iu" or labels.shape not in ((num_images,), (num_images, 1)):
        found = f"{labels.dtype} of shape {labels.shape}"
        raise UserError(f"{where}: labels are {found}; give one integer for each of {num_images} images")
    if labels.min() < 0:
        raise UserError(f"{where}: a label is {labels.min()}; number the classes from 0")
    return labels.reshape(-1).astype(np.int64)
