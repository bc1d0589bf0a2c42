"""How well a confidence agrees with what came true."""

from typing import NamedTuple

import numpy as np


class Bin(NamedTuple):
    """Predictions of similar confidence.

    Attributes:
        confidence: Their mean confidence, in 0..1.
        share: The share of them that came true, in 0..1.
        size: Their number.
    """

    confidence: float
    share: float
    size: int


def reliability(confidences: np.ndarray, outcomes: np.ndarray, bins: int = 10) -> list[Bin]:
    """Return the reliability curve, in `bins` parts of about equal size, least confident first.

    Niculescu-Mizil and Caruana, "Predicting Good Probabilities with Supervised Learning" (2005), section 4.

    Args:
        confidences: The predicted probabilities, (N,).
        outcomes: Whether each came true, (N,) bool.
        bins: Number of parts, at most the number of predictions.
    """
    order = np.argsort(confidences, kind="stable")
    predicted, true = confidences[order], outcomes[order]
    return [
        Bin(float(part.mean()), float(happened.mean()), len(part))
        for part, happened in zip(np.array_split(predicted, bins), np.array_split(true, bins), strict=True)
        if len(part)
    ]


def rank_correlation(first: np.ndarray, second: np.ndarray) -> float:
    """Return Spearman's rank correlation of two sets of values, (N,), -1 to 1; equal values share their mean rank.

    Raises:
        ValueError: All values of one are equal, so there is no order.
    """
    ranks = [_ranks(values) for values in (first, second)]
    if any(np.ptp(values) == 0 for values in ranks):
        raise ValueError("all values are equal")
    return float(np.corrcoef(np.stack(ranks))[0, 1])


def _ranks(values: np.ndarray) -> np.ndarray:
    _, inverse, counts = np.unique(values, return_inverse=True, return_counts=True)
    return (counts.cumsum() - (counts - 1) / 2)[inverse]
