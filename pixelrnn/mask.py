"""Masks: the pixels of an image to draw, given by a name or by a black and white picture."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from data_prep.images import load_image, read_encoded, read_image
from vision_rnn.errors import UserError

# By name, from the position of a pixel, down and to the right, as a fraction of the image's sides: 0 to below 1.
_NAMED: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "lower-half": lambda down, right: down >= 0.5,
    "upper-half": lambda down, right: down < 0.5,
    "left-half": lambda down, right: right < 0.5,
    "right-half": lambda down, right: right >= 0.5,
    "center": lambda down, right: (down >= 0.25) & (down < 0.75) & (right >= 0.25) & (right < 0.75),
}
NAMES = tuple(_NAMED)


def named_masks(height: int, width: int) -> dict[str, Tensor]:
    """Return the masks of `NAMES` for an image, (H, W) bool, except those that mask all of its pixels or none."""
    masks = {name: _named(name, height, width) for name in NAMES}
    return {name: mask for name, mask in masks.items() if mask.any() and not mask.all()}


def read_mask(name_or_path: str | Path, height: int, width: int) -> Tensor:
    """Return the mask for an image of the given size.

    If a side has an odd length, its middle belongs to the upper or the left half.

    Args:
        name_or_path: One of `NAMES`, which is the region to draw, or a picture of the image's size, white where
            pixels are drawn and black where they are known.
        height: Height of the image in pixels.
        width: Width of the image in pixels.

    Returns:
        (H, W) bool, True where a pixel is drawn; at least one pixel is drawn and at least one is known.

    Raises:
        UserError: It is neither a name nor a readable picture; or the picture has another size, has grey levels or
            colours or transparent pixels, or masks no pixel or all pixels.
    """
    if name_or_path in _NAMED:
        mask = _named(str(name_or_path), height, width)
    else:
        mask = _read(Path(name_or_path), height, width)
    if mask.all():
        raise UserError(f"{name_or_path}: masks all pixels; choose another mask, or draw whole images with `sample`")
    if not mask.any():
        raise UserError(f"{name_or_path}: masks no pixel; choose another mask")
    return mask


def _named(name: str, height: int, width: int) -> Tensor:
    down, right = (torch.arange(side) / side for side in (height, width))
    return _NAMED[name](down[:, None], right).expand(height, width).contiguous()


def _read(path: Path, height: int, width: int) -> Tensor:
    if not path.exists():
        raise UserError(f"{path}: no such mask; give an image file or one of: {', '.join(NAMES)}")
    encoded = read_encoded(path)
    levels = np.asarray(load_image(encoded, str(path)))
    if levels.shape[:2] != (height, width):
        found = f"{levels.shape[0]}x{levels.shape[1]}"
        raise UserError(f"{path}: has {found} pixels, but the model's images have {height}x{width}; resize the mask")
    # `load_image` shows transparent pixels as white, so they would be drawn unasked.
    if read_image(encoded, str(path), _is_transparent):
        raise UserError(f"{path}: has transparent pixels; make those to draw white and the others black, all opaque")
    white = (levels == 255).all(axis=2)
    if not (white | (levels == 0).all(axis=2)).all():
        raise UserError(
            f"{path}: has colours other than black and white; use white for pixels to draw, else black, in a PNG file"
        )
    return torch.from_numpy(white)


def _is_transparent(picture: Image.Image) -> bool:
    return picture.has_transparency_data and picture.convert("RGBA").getchannel("A").getextrema() != (255, 255)
