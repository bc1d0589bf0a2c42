"""Reproducible probabilities from the parameters of a distribution, for an entropy coder.

The last digits of the logits of a network depend on the batch size, the number of threads and the vector width of the
CPU, and a decoder fails if its probabilities differ from those of the encoder. Therefore the logits, computed in double
precision, are first rounded to a grid, and everything after that is integer arithmetic. Two computations that differ by
e agree unless a logit is within e of the midpoint between two grid points: for e = 1e-14, once in 5e10 logits. This
makes a disagreement rare, but not impossible, so decoded images must still be checked.

For a mixture of logistics, the weights, means and scales are rounded in the same way, and the frequencies are
the differences of its cumulative function, which is computed in fixed point.
"""

import math
from typing import Any

import numba
import numpy as np
import torch
from torch import Tensor

from pixelrnn.level_distribution import NARROWEST, WIDEST, LevelDistribution, LogisticMixture

# A power of two, so that dividing by it is exact. Rounding by at most half of it costs at most 3e-8 nats per pixel.
GRID = 2.0**-10
# Sum of the frequencies: the finest resolution of a range coder with 32-bit words.
TOTAL = 2**24
# exp(-x) on the grid in units of 2^-32, rounded down; it is 0 beyond this range.
_EXPONENTIALS = np.array([math.floor(math.exp(-step * GRID) * 2**32) for step in range(int(23 / GRID))] + [0])
# 1 / (1 + exp(-x)) on the grid in units of 2^-32, rounded down; it is 1 beyond this range.
_SIGMOIDS = np.array(
    [math.floor(2**32 / (1 + math.exp(-step * GRID))) for step in range(int(23 / GRID))] + [2**32, 2**32]
)
# Fixed-point units of the means and of the inverse scales of a mixture, per level, and of the distances in scales.
# Means beyond the bound are rounded to it: there, the widest logistic gives 0 or 1 for all levels. A mean has an error
# of about 1e-13 levels, so a finer grid would make disagreements more frequent.
_MEAN_BITS, _INVERSE_BITS, _DISTANCE_BITS = 8, 24, 20
_FURTHEST_MEAN = 2.0**17
_NARROWEST, _WIDEST = (round(math.log(scale) / GRID) for scale in (NARROWEST, WIDEST * 256))
# Inverse scales by the logarithm of the scale on the grid, counted from the narrowest.
_INVERSE_SCALES = np.array(
    [round(math.exp(-step * GRID) * 2**_INVERSE_BITS) for step in range(_NARROWEST, _WIDEST + 1)]
)


def frequencies(distribution: LevelDistribution, parameters: Tensor) -> np.ndarray:
    """Return the integer frequencies of the levels of a channel: at least 1 each, with the sum `TOTAL`.

    Args:
        distribution: Distribution of the levels.
        parameters: (B, parameters), float64.

    Returns:
        (B, levels) int64 in row-major order, because constriction ignores the strides of an array.

    Raises:
        ValueError: The parameters are not float64, or not all finite.
    """
    if parameters.dtype != torch.float64 or not parameters.isfinite().all():
        raise ValueError(f"parameters of {parameters.dtype} given; they must be finite float64 numbers")
    values = parameters.cpu().numpy()
    if isinstance(distribution, LogisticMixture):
        return _of_mixture(values, distribution.levels)
    return _of_logits(values)


def _of_logits(logits: np.ndarray) -> np.ndarray:
    """Return the frequencies for logits (B, levels), or (B, 1) for 2 levels."""
    if logits.shape[1] == 1:
        logits = np.concatenate([np.zeros_like(logits), logits], axis=1)
    return _shared_out(logits, TOTAL, least=1)


def _of_mixture(parameters: np.ndarray, levels: int) -> np.ndarray:
    """Return the frequencies for a mixture of logistics (B, 3K)."""
    log_weights, means, log_scales = np.split(parameters, 3, axis=1)
    weights = _shared_out(log_weights, TOTAL, least=0)
    means = np.rint(np.clip(means, -_FURTHEST_MEAN, _FURTHEST_MEAN) * 2**_MEAN_BITS).astype(np.int64)
    inverse_scales = _INVERSE_SCALES[np.rint(log_scales / GRID).astype(np.int64) - _NARROWEST]
    counts = np.empty((len(parameters), levels), np.int64)
    _fill(counts, weights, means, inverse_scales, _SIGMOIDS)
    return counts


def _shared_out(logits: np.ndarray, total: int, least: int) -> np.ndarray:
    """Share out `total` in proportion to the exponentials of logits (B, N), with at least `least` for each."""
    steps = np.ascontiguousarray(np.rint(logits / GRID))
    below = np.minimum(steps.max(axis=1, keepdims=True) - steps, len(_EXPONENTIALS) - 1).astype(np.int64)
    weights = _EXPONENTIALS[below]
    counts = least + weights * (total - least * weights.shape[1]) // weights.sum(axis=1, keepdims=True)
    # The remainder from rounding down goes to the largest one (the first one if there are several).
    counts[np.arange(len(counts)), weights.argmax(axis=1)] += total - counts.sum(axis=1)
    return counts


@numba.njit(cache=True)
def _fill(counts: Any, weights: Any, means: Any, inverse_scales: Any, sigmoids: Any) -> None:
    """Write the frequencies (B, levels) of mixtures, (B, K) each; the weights sum to `TOTAL`. All are integers."""
    levels = counts.shape[1]
    for image in range(len(counts)):
        before = 0
        for level in range(levels):
            up_to = TOTAL
            if level < levels - 1:
                edge = (2 * level + 1) << (_MEAN_BITS - 1)  # The upper edge of the level.
                cumulated = 0  # In units of 2^-32 / TOTAL.
                for k in range(weights.shape[1]):
                    distance = ((edge - means[image, k]) * inverse_scales[image, k]) >> (
                        _MEAN_BITS + _INVERSE_BITS - _DISTANCE_BITS
                    )
                    cumulated += weights[image, k] * _sigmoid(distance, sigmoids)
                # Each level has one of TOTAL; the others are shared out.
                up_to = (((cumulated >> 26) * (TOTAL - levels)) >> 30) + level + 1
            counts[image, level] = up_to - before
            before = up_to


@numba.njit(cache=True)
def _sigmoid(x: Any, sigmoids: Any) -> Any:
    """Return the sigmoid in units of 2^-32 of x in units of 2^-20, from a line between two points of the grid."""
    finer = _DISTANCE_BITS - 10  # Bits beyond those of GRID.
    size = abs(x)
    place = min(size >> finer, len(sigmoids) - 2)
    low, high = sigmoids[place], sigmoids[place + 1]
    value = low + (((high - low) * (size & ((1 << finer) - 1))) >> finer)
    return value if x >= 0 else 2**32 - value
