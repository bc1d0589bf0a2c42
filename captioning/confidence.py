"""Confidence: how probably a caption is a good one, from the model's own probabilities and from the photo.

A captioner describes a photo unlike all that it was trained on as fluently as any other. Two numbers tell: the mean
log-probability of the caption's words, and how far the photo's features lie from those of the training photos
(`captioning.network.familiarity`). A logistic regression on both (Platt, "Probabilistic Outputs for Support Vector
Machines", 1999) is fitted to the captions of the validation images, whose scores are known. It cannot know photos that
are unlike all of these. So the result is reduced for photos that are farther away than 95 % of the validation images,
in proportion to the share of these that is at least as far: a conformal p-value (Vovk et al., "Algorithmic Learning in
a Random World", 2005, chapter 2).
"""

import math
from dataclasses import dataclass

import numpy as np

from evaluation.calibration import rank_correlation, reliability

# A caption with at least this CIDEr-D against its image's references is a good one.
GOOD = 0.5
# A validation image is among the farthest with this probability.
_TAIL = 0.05
# So few images fit no regression.
FEWEST_IMAGES = 50
# Weight of a penalty on the squared coefficients, in images: it keeps them finite if the classes can be separated.
_PENALTY = 0.01
_STEPS = 50
_FOLDS = 5
# Of the reliability curve.
_PARTS = 10


@dataclass(frozen=True, kw_only=True)
class Calibration:
    """What turns a caption's log-probability and its image's distance into a confidence.

    Attributes:
        intercept: Constant of the logistic regression.
        log_probability: Its coefficient of the mean log-probability per word, end token included.
        distance: Its coefficient of the logarithm of the distance.
        good: CIDEr-D of a good caption.
        farthest: The largest distances of the validation images, in ascending order.
        images: Number of validation images.
        directions: Number of directions of the features' distribution.
        correlation: Rank correlation of confidence and CIDEr-D on the validation images, each rated by a regression
            without it.
        reliability: The reliability curve of these: mean confidence, share of good captions and count of each part.
    """

    intercept: float
    log_probability: float
    distance: float
    good: float
    farthest: list[float]
    images: int
    directions: int
    correlation: float
    reliability: list[list[float]]

    def confidence(self, log_probability: float, distance: float) -> float:
        """Return the probability, 0 to 1, that a caption is good.

        Args:
            log_probability: Mean natural log-probability of its words and end token.
            distance: Distance of its image, greater than 0.
        """
        logit = self.intercept + self.log_probability * log_probability + self.distance * math.log(distance)
        at_least_as_far = len(self.farthest) - int(np.searchsorted(self.farthest, distance))
        p_value = (1 + at_least_as_far) / (1 + self.images) if at_least_as_far < len(self.farthest) else 1.0
        return float(_logistic(np.array(logit))) * min(1.0, p_value / _TAIL)


def fit_calibration(
    log_probabilities: np.ndarray, distances: np.ndarray, scores: np.ndarray, directions: int
) -> Calibration:
    """Fit a calibration to captions whose scores are known.

    Args:
        log_probabilities: Mean natural log-probability per word of each image's caption, (N,).
        distances: Distance of each image, greater than 0, (N,).
        scores: CIDEr-D of each caption, (N,); some are good and others not.
        directions: Number of directions of the features' distribution.
    """
    inputs = np.stack([np.ones(len(scores)), log_probabilities, np.log(distances)], axis=1)
    good = scores >= GOOD
    others = np.arange(len(scores)) % _FOLDS != np.arange(_FOLDS)[:, np.newaxis]
    held_out = np.empty(len(scores))
    for fold in others:
        held_out[~fold] = _logistic(inputs[~fold] @ _regression(inputs[fold], good[fold]))
    intercept, log_probability, distance = _regression(inputs, good).tolist()
    return Calibration(
        intercept=intercept,
        log_probability=log_probability,
        distance=distance,
        good=GOOD,
        farthest=np.sort(distances)[-max(1, round(_TAIL * len(distances))) :].tolist(),
        images=len(scores),
        directions=directions,
        correlation=rank_correlation(held_out, scores),
        reliability=[list(part) for part in reliability(held_out, good, _PARTS)],
    )


def _regression(inputs: np.ndarray, good: np.ndarray) -> np.ndarray:
    """Return the coefficients of greatest penalised likelihood, by Newton's method."""
    penalty = _PENALTY * np.eye(inputs.shape[1])
    weights = np.zeros(inputs.shape[1])
    for _ in range(_STEPS):
        probabilities = _logistic(inputs @ weights)
        gradient = inputs.T @ (good - probabilities) - penalty @ weights
        hessian = (inputs * (probabilities * (1 - probabilities))[:, np.newaxis]).T @ inputs + penalty
        weights = weights + np.linalg.solve(hessian, gradient)
    return weights


def _logistic(values: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-np.clip(values, -700, 700)))
