"""The likelihood of images whose pixels are independent: what a model that sees no other pixel can reach."""

from dataclasses import dataclass

import numpy as np

# Images that are counted at once.
_BATCH = 1000
# Pseudo-counts of a place, in multiples of the number of levels, of which those are used that predict best.
_STRENGTHS = (1, 4, 16, 64, 256, 1024)


@dataclass(frozen=True, eq=False)
class IndependentPixels:
    """A distribution of the levels for every place of an image, which depends on no other pixel or channel.

    Attributes:
        log_probabilities: ln p(level), (H, W, C, levels) float64.
    """

    log_probabilities: np.ndarray

    @classmethod
    def fit(cls, images: np.ndarray, levels: int) -> "IndependentPixels":
        """Count how often each level occurs at each place.

        Pseudo-counts are added at each place, shared out by the frequencies of the levels in the channel, where each
        level counts at least once: no level has the probability 0. Their number is the one with which every image is
        most likely by the counts of the others.

        Args:
            images: (N, H, W, C) uint8, values 0..levels-1.
            levels: Number of values that a pixel can take.
        """
        number, height, width, channels = images.shape
        places = np.arange(height * width * channels).reshape(height, width, channels) * levels
        counts = np.zeros(places.size * levels)
        for start in range(0, number, _BATCH):
            found = (images[start : start + _BATCH] + places).ravel()
            counts += np.bincount(found, minlength=counts.size)
        counts = counts.reshape(height, width, channels, levels)
        of_channel = counts.sum(axis=(0, 1)) + 1
        prior = of_channel / of_channel.sum(axis=1, keepdims=True)

        def left_out(added: int) -> float:
            others = np.where(counts > 0, counts - 1, 0) + added * prior
            return float((counts * np.log(others / (number - 1 + added))).sum())

        added = max((levels * strength for strength in _STRENGTHS), key=left_out)
        return cls(np.log((counts + added * prior) / (number + added)))

    def nats(self, images: np.ndarray) -> np.ndarray:
        """Return -ln p of images (N, H, W, C), in nats, (N,)."""
        of_pixels = np.take_along_axis(self.log_probabilities, images.transpose(1, 2, 3, 0).astype(np.intp), axis=3)
        return -of_pixels.sum(axis=(0, 1, 2))
