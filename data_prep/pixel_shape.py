"""Conversion of images of any size and kind to one size, one number of channels and, on request, binary levels."""

import numpy as np
from PIL import Image, ImageOps

from vision_rnn.errors import UserError

BINARIZATIONS = ("none", "threshold", "stochastic")
THRESHOLD = 128


class Shaper:
    """Converts images to one shape; without a given size or channels, all images must match the first.

    A grey image among colour images always becomes RGB, since nothing is lost.

    Args:
        source: Name of the source in messages.
        size: Height and width to resize to, see `resized`; None for those of the first image.
        channels: 1 for grey, 3 for RGB, None for those of the first image.
        levels: Number of values that a pixel can take; binary images (2) are never converted, since that would give
            grey levels.

    Attributes:
        shape: Height, width and channels of all images; None before the first.
    """

    def __init__(self, source: str, size: tuple[int, int] | None, channels: int | None, levels: int) -> None:
        self.shape: tuple[int, int, int] | None = None
        self._source = source
        self._size = size
        self._channels = channels
        self._levels = levels

    def __call__(self, image: np.ndarray, name: str) -> np.ndarray:
        """Convert an image to `shape`.

        Args:
            image: Image to convert, (H, W, 1 or 3) uint8.
            name: Name of the image in messages, within the source.

        Raises:
            UserError: The image does not match the first, or it is binary and would have to be converted.
        """
        if self.shape is None:
            height, width = self._size or image.shape[:2]
            self.shape = height, width, self._channels or image.shape[2]
        height, width, channels = self.shape
        where = f"{self._source}, {name}"
        if self._levels == 2 and image.shape != self.shape:
            raise UserError(f"{where}: binary images cannot be resized or converted; omit --size and --channels")
        if self._size is None and image.shape[:2] != (height, width):
            found, first = f"{image.shape[0]}x{image.shape[1]}", f"{height}x{width}"
            raise UserError(f"{where}: {found} pixels, but the first image has {first}; resize all with --size")
        if self._channels is None and image.shape[2] > channels:
            raise UserError(f"{where}: in colour, but the first image is grey; add --channels 1 or --channels 3")
        return resized(with_channels(image, channels), height, width)


def with_channels(image: np.ndarray, channels: int) -> np.ndarray:
    """Convert an image (H, W, 1 or 3) uint8 to grey (luma of ITU-R BT.601), or to RGB by repeating the grey level."""
    if image.shape[2] == channels:
        return image
    if channels == 3:
        return image.repeat(3, axis=2)
    return np.asarray(Image.fromarray(image).convert("L"))[..., np.newaxis]


def resized(image: np.ndarray, height: int, width: int) -> np.ndarray:
    """Resize an image (H, W, 1 or 3) uint8 to height x width pixels.

    The content is not distorted: the largest region of the new aspect ratio around the centre is cropped first. Pixels
    are averaged over areas, which cannot overshoot; sharper filters would accumulate values at 0 and 255.
    """
    if image.shape[:2] == (height, width):
        return image
    plane = image[..., 0] if image.shape[2] == 1 else image
    fitted = ImageOps.fit(Image.fromarray(plane), (width, height), Image.Resampling.BOX)
    return np.asarray(fitted).reshape(height, width, image.shape[2])


def binarized(levels: np.ndarray, method: str, generator: np.random.Generator) -> np.ndarray:
    """Convert grey levels 0..255 (uint8, any shape) to 0 or 1 by one of `BINARIZATIONS`; `none` keeps them.

    `stochastic` draws every pixel independently with P(1) = level / 255 (Salakhutdinov and Murray, "On the quantitative
    analysis of deep belief networks", ICML 2008), from `generator` in the order of the pixels.
    """
    if method == "threshold":
        return (levels >= THRESHOLD).astype(np.uint8)
    if method == "stochastic":
        return (generator.random(levels.shape) * 255 < levels).astype(np.uint8)
    return levels
