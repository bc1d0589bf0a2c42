"""Random regions to train a model with a context on.

Of eight masks, on average, one is of the whole image, three are of a part beside a straight cut, two of a rectangle or
of what surrounds it, one of strokes of a brush and one of scattered pixels.
"""

from collections.abc import Callable
from itertools import pairwise

import numpy as np
import torch
from torch import Tensor

_MOST_STROKES = 3


def random_masks(generator: np.random.Generator, number: int, height: int, width: int) -> Tensor:
    """Draw masks, each with one pixel or more.

    Args:
        generator: Source of randomness.
        number: Number of masks, B.
        height: Height of the images in pixels.
        width: Width of the images in pixels.

    Returns:
        (B, 1, H, W) bool, True for the pixels of the region; the others are known.
    """
    masks = np.ones((number, 1, height, width), bool)
    for mask, kind in zip(masks[:, 0], generator.integers(len(_KINDS), size=number), strict=True):
        drawn = _KINDS[kind](generator, height, width)
        if drawn.any():
            mask[:] = drawn
    return torch.from_numpy(masks)


def _everything(generator: np.random.Generator, height: int, width: int) -> np.ndarray:
    return np.ones((height, width), bool)


def _beside_cut(generator: np.random.Generator, height: int, width: int) -> np.ndarray:
    """Draw the part above, below, left or right of a cut, which is more often near the middle than near a border."""
    row, column = np.indices((height, width))
    position, side = ((row + 0.5) / height, (column + 0.5) / width)[generator.integers(2)], generator.integers(2)
    return (position < generator.random(2).mean()) == bool(side)


def _rectangle(generator: np.random.Generator, height: int, width: int) -> np.ndarray:
    """Draw a rectangle, or with probability one quarter what surrounds it."""
    mask = np.zeros((height, width), bool)
    top, bottom = np.sort(generator.integers(height, size=2))
    left, right = np.sort(generator.integers(width, size=2))
    mask[top : bottom + 1, left : right + 1] = True
    return mask ^ (generator.random() < 0.25)


def _strokes(generator: np.random.Generator, height: int, width: int) -> np.ndarray:
    """Draw straight strokes one after another, each from the end of the one before, of a round brush."""
    row, column = np.indices((height, width))
    points = generator.random((generator.integers(2, _MOST_STROKES + 2), 2)) * (height, width)
    radius = generator.uniform(0.5, 0.12 * max(height, width) + 0.5)
    mask = np.zeros((height, width), bool)
    for (down, right), (next_down, next_right) in pairwise(points):
        along_down, along_right = next_down - down, next_right - right
        length = along_down**2 + along_right**2
        share = ((row - down) * along_down + (column - right) * along_right) / max(length, 1e-9)
        share = share.clip(0, 1)
        mask |= np.hypot(row - down - share * along_down, column - right - share * along_right) <= radius
    return mask


def _scattered(generator: np.random.Generator, height: int, width: int) -> np.ndarray:
    return generator.random((height, width)) < generator.random()


_KINDS: tuple[Callable[[np.random.Generator, int, int], np.ndarray], ...] = (
    _everything,
    *[_beside_cut] * 3,
    *[_rectangle] * 2,
    _strokes,
    _scattered,
)
