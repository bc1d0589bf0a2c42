"""How far the features of a photo lie from those of the training photos."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

DIRECTIONS = 128


class Familiarity(nn.Module):
    """The Mahalanobis distance under a normal distribution with few directions of its own variance.

    Tipping and Bishop, "Probabilistic Principal Component Analysis" (1999): the variance along the main directions of
    the training photos is theirs, and equal in all others. Features are scaled to unit length before: those of photos
    that show little the network knows are short, and thus near the mean, but point elsewhere.

    Args:
        channels: Number C of encoder channels.
        directions: Number D of directions.
    """

    centre: Tensor
    directions: Tensor
    deviations: Tensor
    other_deviation: Tensor

    def __init__(self, channels: int, directions: int):
        super().__init__()
        self.register_buffer("centre", torch.zeros(channels))
        self.register_buffer("directions", torch.zeros(directions, channels))
        self.register_buffer("deviations", torch.ones(directions))
        self.register_buffer("other_deviation", torch.ones(1))

    @classmethod
    def fitted(cls, features: Tensor, directions: int = DIRECTIONS) -> "Familiarity":
        """Return the distribution of maximum likelihood (equations 7 and 8 of the source), rounded to half precision.

        Args:
            features: Mean of each training photo's grid, (photos, C); photos and channels must be more than directions.
            directions: Number of directions.
        """
        unit = F.normalize(features.double(), dim=1)
        centre = unit.mean(dim=0)
        _, values, vectors = torch.linalg.svd(unit - centre, full_matrices=False)
        variances = values.square() / len(features)
        found = cls(features.shape[1], directions)
        # The variances that are not listed are 0.
        other = variances[directions:].sum() / (features.shape[1] - directions)
        # Rounded as a model folder keeps it, so that distances stay the same.
        found.centre.copy_(centre.half())
        found.directions.copy_(vectors[:directions].half())
        found.deviations.copy_(variances[:directions].sqrt().half())
        found.other_deviation.copy_(other.sqrt().half())
        return found

    def forward(self, grid: Tensor) -> Tensor:
        """Return the distance of each photo, (B,), for grids (B, L, C); its root mean square is 1 in training."""
        centred = F.normalize(grid.mean(dim=1), dim=1) - self.centre
        along = centred @ self.directions.T
        weights = self.deviations**-2 - self.other_deviation**-2
        squares = (along.square() * weights).sum(-1) + centred.square().sum(-1) / self.other_deviation**2
        return (squares / centred.shape[-1]).clamp_min(1e-6).sqrt()
