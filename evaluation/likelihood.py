"""Exact likelihood of images, from sums and counts over a whole split and never a mean of means."""

import math
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Likelihood:
    """Likelihood of a set of images under a model.

    Attributes:
        images: Number of images.
        dimensions: Number of pixels times number of channels of an image.
        sum: Sum of -ln p(image) over the images, in nats.
        sum_of_squares: Sum of the squares of -ln p(image) over the images.
    """

    images: int
    dimensions: int
    sum: float
    sum_of_squares: float

    @property
    def nats_per_image(self) -> float:
        """Mean of -ln p(image), in nats per image."""
        return self.sum / self.images

    @property
    def bits_per_dimension(self) -> float:
        """The same in bits per dimension, that is, per pixel and channel."""
        return self.nats_per_image / (self.dimensions * math.log(2))

    @property
    def standard_error(self) -> float:
        """Standard error of `nats_per_image` for randomly drawn images; NaN for a single image."""
        if self.images < 2:
            return math.nan
        variance = (self.sum_of_squares - self.sum**2 / self.images) / (self.images - 1)
        return math.sqrt(max(variance, 0.0) / self.images)


def summarize_likelihood(nats: np.ndarray, dimensions: int) -> Likelihood:
    """Summarize the likelihoods of the images of a split.

    Args:
        nats: Values of -ln p(image) in nats, (N,).
        dimensions: Number of pixels times number of channels of an image.

    Raises:
        ValueError: There are no images, or a value is NaN.
    """
    nats = np.asarray(nats, dtype=np.float64)
    if not nats.size or np.isnan(nats).any():
        raise ValueError("the likelihoods are empty or contain NaN; give one number per image")
    return Likelihood(nats.size, dimensions, math.fsum(nats), math.fsum(nats**2))
