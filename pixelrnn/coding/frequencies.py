"""From logits to probabilities that two computations of the same logits agree on: what an entropy coder needs.

The logits of a network differ in their last digits with the size of a batch, the number of threads and the width of the
processor's vectors, and a decoder whose probabilities differ from the encoder's reads nonsense. So logits, computed in
double precision, are first rounded to a grid, and all that follows is arithmetic of integers. Two computations that
differ by e agree unless a logit lies within e of the middle between two points of the grid: for e = 1e-14, once in
5e10 logits. This makes a disagreement rare, not impossible; whoever decodes must still check what came out.
"""

import math

import numpy as np
import torch
from torch import Tensor

# A power of two, so that dividing by it is exact. Rounding by at most half of it costs at most 3e-8 nats a pixel.
GRID = 2.0**-10
# Frequencies sum to this; a range coder of 32-bit words divides no finer.
TOTAL = 2**24
# exp(-x) on the grid, in units of 2^-32: beyond this range it is none of them.
_EXPONENTIALS = np.array([math.floor(math.exp(-step * GRID) * 2**32) for step in range(int(23 / GRID))] + [0])


def frequencies(logits: Tensor) -> np.ndarray:
    """Return how often in `TOTAL` each level comes: at least once, and `TOTAL` together.

    Args:
        logits: (B, 1), of a 1, or (B, levels); float64.

    Returns:
        (B, levels) int64, row by row in memory: constriction takes any other layout for that one.

    Raises:
        ValueError: The logits have another type, or one is no finite number.
    """
    if logits.dtype != torch.float64 or not logits.isfinite().all():
        raise ValueError(f"logits of {logits.dtype}, which must be finite float64 numbers")
    steps = np.ascontiguousarray((logits / GRID).round().cpu().numpy())
    if steps.shape[1] == 1:
        steps = np.concatenate([np.zeros_like(steps), steps], axis=1)
    below = np.minimum(steps.max(axis=1, keepdims=True) - steps, len(_EXPONENTIALS) - 1).astype(np.int64)
    weights = _EXPONENTIALS[below]
    levels = weights.shape[1]
    counts = 1 + weights * (TOTAL - levels) // weights.sum(axis=1, keepdims=True)
    # What rounding down has left goes to the likeliest level, the first of several.
    counts[np.arange(len(counts)), weights.argmax(axis=1)] += TOTAL - counts.sum(axis=1)
    return counts
