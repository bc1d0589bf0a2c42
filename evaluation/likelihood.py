"""The exact likelihood of images: sums and counts over a whole split, never a mean of means."""

import math
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Likelihood:
    """What a model says of a set of images.

    Attributes:
        images: Their number.
        dimensions: Pixels times channels of an image.
        sum: Of -ln p(image) over the images, in nats.
        sum_of_squares: Of the same, squared.
    """

    images: int
    dimensions: int
    sum: float
    sum_of_squares: float

    @property
    def nats_per_image(self) -> float:
        """Mean of -ln p(image)."""
        return self.sum / self.images

    @property
    def bits_per_dimension(self) -> float:
        """The same in bits, for a pixel and channel."""
        return self.nats_per_image / (self.dimensions * math.log(2))

    @property
    def standard_error(self) -> float:
        """Standard error of `nats_per_image`, for images drawn at random; not a number for a single image."""
        if self.images < 2:
            return math.nan
        variance = (self.sum_of_squares - self.sum**2 / self.images) / (self.images - 1)
        return math.sqrt(max(variance, 0.0) / self.images)


def summarize_likelihood(nats: np.ndarray, dimensions: int) -> Likelihood:
    """Sum up the images of a split.

    Args:
        nats: (N,), -ln p of each image.
        dimensions: Pixels times channels of an image.

    Raises:
        ValueError: There is no image, or a likelihood is not a number.
    """
    nats = np.asarray(nats, dtype=np.float64)
    if not nats.size or np.isnan(nats).any():
        raise ValueError("the likelihood of no images, or one that is not a number")
    return Likelihood(nats.size, dimensions, math.fsum(nats), math.fsum(nats**2))
