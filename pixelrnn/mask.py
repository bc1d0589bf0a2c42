"""Masks: which pixels of an image are to be drawn, by a name or as a black and white picture."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from data_prep.images import load_image
from vision_rnn.errors import UserError

# Where a pixel lies, down and to the right, as fractions of the image's sides: 0 first, 1 beyond the last.
_NAMED: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "lower-half": lambda down, right: down >= 0.5,
    "upper-half": lambda down, right: down < 0.5,
    "left-half": lambda down, right: right < 0.5,
    "right-half": lambda down, right: right >= 0.5,
    "center": lambda down, right: (down >= 0.25) & (down < 0.75) & (right >= 0.25) & (right < 0.75),
}
NAMES = tuple(_NAMED)


def read_mask(name_or_path: str | Path, height: int, width: int) -> Tensor:
    """Find out which pixels of an image of this size are to be drawn.

    The middle of a side of odd length belongs to the upper or the left half.

    Args:
        name_or_path: One of `NAMES`, the part that is drawn; or a picture as large as the image, white where pixels
            are to be drawn and black where they are known.
        height: Of the image, in pixels.
        width: Of the image, in pixels.

    Returns:
        (H, W) bool, True where a pixel is to be drawn; at least one is, and at least one is known.

    Raises:
        UserError: There is neither such a name nor such a picture; the picture is of another size, has grey levels
            or colours, or leaves nothing to draw or nothing known.
    """
    if name_or_path in _NAMED:
        down, right = (torch.arange(side) / side for side in (height, width))
        mask = _NAMED[str(name_or_path)](down[:, None], right).expand(height, width).contiguous()
    else:
        mask = _read(Path(name_or_path), height, width)
    if mask.all():
        raise UserError(f"{name_or_path}: leaves no pixel known; choose another mask, or draw whole images by `sample`")
    if not mask.any():
        raise UserError(f"{name_or_path}: leaves no pixel to draw; choose another mask")
    return mask


def _read(path: Path, height: int, width: int) -> Tensor:
    if not path.exists():
        raise UserError(f"{path}: no such mask; name a PNG file, or one of: {', '.join(NAMES)}")
    levels = np.asarray(load_image(path))
    if levels.shape[:2] != (height, width):
        found = f"{levels.shape[0]}x{levels.shape[1]}"
        raise UserError(f"{path}: a mask of {found} pixels, but the model's images have {height}x{width}; scale it")
    white = (levels == 255).all(axis=2)
    if not (white | (levels == 0).all(axis=2)).all():
        raise UserError(f"{path}: has other colours than black and white; paint known pixels black, the others white")
    return torch.from_numpy(white)
