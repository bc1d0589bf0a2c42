"""Uncertainty of a corpus score due to the choice of images: bootstrap intervals of one system and of pairs.

B. Efron, R. J. Tibshirani, "An Introduction to the Bootstrap", 1993, section 13.3 (percentile intervals); P. Koehn,
"Statistical Significance Tests for Machine Translation Evaluation", EMNLP 2004, sections 3 and 4 (corpus scores, and
two systems on the same resampled images). The images are resampled. A corpus score must be a function of sums over
them, so that a resample costs a weighted sum and not a complete scoring.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

# Maps the sums (..., S) of the images' statistics and the number of images to scores (...,).
Score = Callable[[np.ndarray, int], np.ndarray]

RESAMPLES = 1000


@dataclass(frozen=True)
class Interval:
    """A corpus score with its confidence interval.

    Attributes:
        score: Score of the given images.
        low: Lower end of the interval.
        high: Upper end of the interval.
        level: Confidence level, 0..1: the share of such intervals that should contain the score of the whole population
            of images.
    """

    score: float
    low: float
    high: float
    level: float


@dataclass(frozen=True)
class Comparison:
    """Difference between two systems on the same images.

    Attributes:
        difference: Score of the first system minus score of the second, with its interval.
        p_value: Two-sided p-value, 0..1, the probability of a difference at least this large without a true difference:
            twice the share of resamples with the opposite sign, counting the corpus itself as one resample.
    """

    difference: Interval
    p_value: float


def bootstrap(
    statistics: np.ndarray, score: Score, resamples: int = RESAMPLES, level: float = 0.95, seed: int = 0
) -> Interval:
    """Return a score with its percentile interval.

    Args:
        statistics: Statistics of the images, which are summed, (N, S).
        score: Function that gives the score for such sums.
        resamples: Number of resamples, each of N images drawn with replacement.
        level: Confidence level of the interval, between 0 and 1.
        seed: Random seed for the resamples.

    Raises:
        ValueError: There are no images or no resamples.
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
    """Compare two systems; every resample has the same images for both.

    Args:
        first: Statistics of the first system, (N, S).
        second: Statistics of the second system for the same images in the same order, (N, S).
        score: Function that gives the score for sums of the statistics.
        resamples: Number of resamples, each of N images drawn with replacement.
        level: Confidence level of the interval, between 0 and 1.
        seed: Random seed for the resamples.

    Raises:
        ValueError: There are no images or no resamples, or the statistics differ in shape.
    """
    if first.shape != second.shape:
        raise ValueError(f"statistics of shapes {first.shape} and {second.shape}; give both for the same images")
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
    # A sum needs only the number of times that each image was drawn.
    draws = (generator.integers(number, size=number) for _ in range(resamples))
    return np.stack([np.bincount(drawn, minlength=number) @ statistics for drawn in draws])


def _interval(score: float, resampled: np.ndarray, level: float) -> Interval:
    low, high = np.quantile(resampled, [(1 - level) / 2, (1 + level) / 2])
    return Interval(score, float(low), float(high), level)
