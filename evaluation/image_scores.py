"""The result of a metric that scores one image at a time."""

from dataclasses import dataclass
from statistics import fmean


@dataclass(frozen=True)
class ImageScores:
    """One score per image.

    Attributes:
        scores: Score of each image, in the order of the candidates.
    """

    scores: tuple[float, ...]

    @property
    def score(self) -> float:
        """Mean over the images."""
        return fmean(self.scores)
