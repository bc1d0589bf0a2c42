"""How far a corpus score could be off by the choice of the images: bootstrap intervals, alone and in pairs.

B. Efron, R. J. Tibshirani, "An Introduction to the Bootstrap", 1993, section 13.3 (percentile intervals); P. Koehn,
"Statistical Significance Tests for Machine Translation Evaluation", EMNLP 2004, sections 3 and 4 (corpus scores, and
two systems on the same resampled images). The images are what is drawn again: a corpus score must be a function of
sums over them, since then a resample costs a weighted sum and not a scoring.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

# Sums (..., S) of the images' statistics and the number of images, to scores (...,).
Score = Callable[[np.ndarray, int], np.ndarray]

RESAMPLES = 1000


@dataclass(frozen=True)
class Interval:
    """A score of a corpus, and where it lies for other images of the same kind.

    Attributes:
        score: Of the images as they are.
        low: Lower end of the interval.
        high: Its upper end.
        level: Share of such intervals, 0..1, that are to hold the score of all images that there could be.
    """

    score: float
    low: float
    high: float
    level: float


@dataclass(frozen=True)
class Comparison:
    """What one system has over another on the same images.

    Attributes:
        difference: The score of the first less that of the second, with its interval.
        p_value: How often, 0..1, images without a true difference would give one as large to either side: twice the
            share of resamples in which the sign is the other, counting the corpus itself as one resample.
    """

    difference: Interval
    p_value: float


def bootstrap(
    statistics: np.ndarray, score: Score, resamples: int = RESAMPLES, level: float = 0.95, seed: int = 0
) -> Interval:
    """Return a score with its percentile interval.

    Args:
        statistics: (N, S), what is summed over the images.
        score: The score of such sums.
        resamples: How often N images are drawn from the N, with replacement.
        level: Of the interval, between 0 and 1.
        seed: Of the draws.

    Raises:
        ValueError: There is no image, or no resample.
    """
    resampled = score(_resampled_sums(statistics, resamples, seed), len(statistics))
    return _interval(float(score(statistics.sum(0), len(statistics))), resampled, level)


def paired_bootstrap(
    first: np.ndarray,
    second: np.ndarray,
    score: Score,
    resamples: int = RESAMPLES,
    level: float = 0.95,
    seed: int = 0,
) -> Comparison:
    """Compare two systems, each resample being of the same images for both.

    Args:
        first: (N, S), the first system's statistics.
        second: (N, S), the second's, of the same images in the same order.
        score: The score of their sums.
        resamples: How often N images are drawn from the N, with replacement.
        level: Of the interval, between 0 and 1.
        seed: Of the draws.

    Raises:
        ValueError: There is no image, no resample, or the two differ in shape.
    """
    if first.shape != second.shape:
        raise ValueError(f"statistics of shape {first.shape} against {second.shape}; give both of the same images")
    number = len(first)
    sums = _resampled_sums(np.concatenate([first, second], axis=1), resamples, seed)
    of_first, of_second = np.split(sums, 2, axis=-1)
    differences = score(of_first, number) - score(of_second, number)
    difference = float(score(first.sum(0), number) - score(second.sum(0), number))
    not_above, not_below = ((sign * differences <= 0).sum() for sign in (1, -1))
    p_value = min(1.0, 2 * (min(not_above, not_below) + 1) / (resamples + 1))
    return Comparison(_interval(difference, differences, level), float(p_value))


def _resampled_sums(statistics: np.ndarray, resamples: int, seed: int) -> np.ndarray:
    """Return the sums over each resample, (R, S)."""
    number = len(statistics)
    if not number or resamples < 1:
        raise ValueError(f"{number} images and {resamples} resamples; both must be at least 1")
    generator = np.random.default_rng(seed)
    # How often each image was drawn is all that a sum asks.
    draws = (generator.integers(number, size=number) for _ in range(resamples))
    return np.stack([np.bincount(drawn, minlength=number) @ statistics for drawn in draws])


def _interval(score: float, resampled: np.ndarray, level: float) -> Interval:
    low, high = np.quantile(resampled, [(1 - level) / 2, (1 + level) / 2])
    return Interval(score, float(low), float(high), level)
