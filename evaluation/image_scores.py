"""What a metric says of a set of captions that it scores one image at a time."""

from dataclasses import dataclass
from statistics import fmean


@dataclass(frozen=True)
class ImageScores:
    """One score an image.

    Attributes:
        scores: In the order of the candidates.
    """

    scores: tuple[float, ...]

    @property
    def score(self) -> float:
        """The mean over the images."""
        return fmean(self.scores)
