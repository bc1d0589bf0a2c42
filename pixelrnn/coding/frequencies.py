"""Reproducible probabilities from logits, for an entropy coder.

The last digits of the logits of a network depend on the batch size, the number of threads and the vector width of the
CPU, and a decoder fails if its probabilities differ from those of the encoder. Therefore the logits, computed in double
precision, are first rounded to a grid, and everything after that is integer arithmetic. Two computations that differ by
e agree unless a logit is within e of the midpoint between two grid points: for e = 1e-14, once in 5e10 logits. This
makes a disagreement rare, but not impossible, so decoded images must still be checked.
"""

import math

import numpy as np
import torch
from torch import Tensor

# A power of two, so that dividing by it is exact. Rounding by at most half of it costs at most 3e-8 nats per pixel.
GRID = 2.0**-10
# Sum of the frequencies: the finest resolution of a range coder with 32-bit words.
TOTAL = 2**24
# exp(-x) on the grid in units of 2^-32, rounded down; it is 0 beyond this range.
_EXPONENTIALS = np.array([math.floor(math.exp(-step * GRID) * 2**32) for step in range(int(23 / GRID))] + [0])


def frequencies(logits: Tensor) -> np.ndarray:
    """Return the integer frequencies of the levels: at least 1 each, with the sum `TOTAL`.

    Args:
        logits: (B, 1), of level 1, for 2 levels; (B, levels) otherwise; float64.

    Returns:
        (B, levels) int64 in row-major order, because constriction ignores the strides of an array.

    Raises:
        ValueError: The logits are not float64, or not all finite.
    """
    if logits.dtype != torch.float64 or not logits.isfinite().all():
        raise ValueError(f"logits of {logits.dtype} given; they must be finite float64 numbers")
    steps = np.ascontiguousarray((logits / GRID).round().cpu().numpy())
    if steps.shape[1] == 1:
        steps = np.concatenate([np.zeros_like(steps), steps], axis=1)
    below = np.minimum(steps.max(axis=1, keepdims=True) - steps, len(_EXPONENTIALS) - 1).astype(np.int64)
    weights = _EXPONENTIALS[below]
    levels = weights.shape[1]
    counts = 1 + weights * (TOTAL - levels) // weights.sum(axis=1, keepdims=True)
    # The remainder from rounding down goes to the most probable level (the first one if there are several).
    counts[np.arange(len(counts)), weights.argmax(axis=1)] += TOTAL - counts.sum(axis=1)
    return counts
