"""The distribution of the levels of a pixel, given the outputs of the network for it.

`Categorical` is PixelRNN's (arXiv 1601.06759, section 3.3): a softmax over all levels of every channel, or a sigmoid
for two levels. Its outputs for green and blue depend on the earlier channels through the channel groups of the network.

`LogisticMixture` is PixelCNN++'s (Salimans, Karpathy, Chen, Kingma 2017, arXiv 1701.05517, sections 2.1 and 2.2): a
mixture of logistic distributions that is integrated over the width of a level, where the lowest and the highest level
take the tails. One network output serves all channels of a pixel, so the network needs no channel groups: the means of
green and blue are linear in the true levels before them, and the channels share the mixture's weights. By the chain
rule, a channel given those before it is such a mixture again, whose weights are those of the components given the
earlier channels. Nothing is approximated: the probabilities of all levels sum to one.

Deviations from PixelCNN++: each mean starts from the mean of the pixel's left and upper neighbour, and the linear terms
are of what the earlier channels differ from theirs, so that the network learns differences; the probability of a level
is computed without a difference of sigmoids, and is therefore exact where that would be rounded to 0; and the scales
have bounds in levels (`NARROWEST`, `WIDEST`).

Shapes: B images, C channels, K components, any number of further dimensions (`...`), such as rows and columns.
"""

import math
from typing import Protocol

import torch
from torch import Tensor
from torch.nn import functional as F

from pixelrnn.pixel_config import AnyConfig, ImageShape, ModelConfig

# Bounds of the scales of the logistics, in levels and in multiples of the number of levels. The narrowest gives a level
# at most 1 - 7e-4; narrower ones would let a single pixel dominate a gradient.
NARROWEST, WIDEST = 1 / 16, 4


class LevelDistribution(Protocol):
    """What the levels of a pixel follow.

    Attributes:
        outputs: Number of network outputs per pixel.
        groups: Number of groups of the network's features, each of which sees the channels before its own: the number
            of channels, or 1 if all channels of a pixel come from the same features.
        parameters: Number of parameters of the distribution of one channel.
    """

    outputs: int
    groups: int
    parameters: int

    def given(self, outputs: Tensor, pixels: Tensor, neighbours: Tensor) -> Tensor:
        """Return the parameters of every channel given the true levels of the channels before it.

        Args:
            outputs: (B, outputs, ...), network outputs.
            pixels: (B, C, ...), levels in any dtype; the last channel is not used.
            neighbours: (B, C, ...), result of `neighbour_means`.

        Returns:
            (B, C, parameters, ...).
        """
        ...

    def log_likelihood(self, outputs: Tensor, pixels: Tensor, neighbours: Tensor) -> Tensor:
        """Return ln p of the level of every channel given the channels before it, in nats, (B, C, ...).

        Args:
            outputs: (B, outputs, ...), network outputs.
            pixels: (B, C, ...), levels in any dtype.
            neighbours: (B, C, ...), result of `neighbour_means`.
        """
        ...

    def log_probabilities(self, parameters: Tensor) -> Tensor:
        """Return ln p of all levels of a channel, (B, levels, ...), from its parameters (B, parameters, ...)."""
        ...

    def choose(self, parameters: Tensor, noise: Tensor) -> Tensor:
        """Choose levels by inverting the cumulative distribution function.

        Args:
            parameters: (B, parameters), of one channel.
            noise: (B,), uniform in [0, 1).

        Returns:
            (B,) uint8.
        """
        ...


class Categorical:
    """A probability for every level. The parameters are logits: of level 1 for 2 levels, otherwise one per level.

    Args:
        channels: Number of channels of the image, C.
        levels: Number of levels.
    """

    def __init__(self, channels: int, levels: int):
        self.groups, self.parameters = channels, 1 if levels == 2 else levels
        self.outputs = channels * self.parameters

    def given(self, outputs: Tensor, pixels: Tensor, neighbours: Tensor) -> Tensor:
        """See `LevelDistribution.given`; the outputs already depend on the channels before each."""
        return outputs.unflatten(1, (self.groups, self.parameters))

    def log_likelihood(self, outputs: Tensor, pixels: Tensor, neighbours: Tensor) -> Tensor:
        """See `LevelDistribution.log_likelihood`."""
        logits = self.given(outputs, pixels, neighbours)
        if self.parameters == 1:
            return -F.binary_cross_entropy_with_logits(logits.squeeze(2), pixels.to(logits.dtype), reduction="none")
        return logits.log_softmax(dim=2).gather(2, pixels.long().unsqueeze(2)).squeeze(2)

    def log_probabilities(self, parameters: Tensor) -> Tensor:
        """See `LevelDistribution.log_probabilities`."""
        if self.parameters == 1:
            parameters = torch.cat([torch.zeros_like(parameters), parameters], dim=1)
        return parameters.log_softmax(dim=1)

    def choose(self, parameters: Tensor, noise: Tensor) -> Tensor:
        """See `LevelDistribution.choose`."""
        if self.parameters == 1:
            return (noise < parameters[:, 0].double().sigmoid()).to(torch.uint8)
        cumulated = parameters.double().softmax(dim=1).cumsum(dim=1)
        # The last sum is omitted: rounding may leave it slightly below 1.
        return (cumulated[:, :-1] <= noise[:, None]).sum(dim=1).to(torch.uint8)


class LogisticMixture:
    """A discretised mixture of logistics.

    The parameters of a channel are, for each component, the logarithm of its weight, its mean and the logarithm of its
    scale, both in levels: (B, 3K, ...).

    Args:
        channels: Number of channels of the image, C.
        levels: Number of levels.
        components: Number of components, K.
    """

    groups = 1

    def __init__(self, channels: int, levels: int, components: int):
        self.levels, self.components = levels, components
        self.parameters = 3 * components
        # Pairs of a channel and an earlier one, in the order of their coefficients.
        self._pairs = [(channel, earlier) for channel in range(channels) for earlier in range(channel)]
        # For each component its weight, the means and the scales of the channels, and the coefficients.
        self._sizes = [1, channels, channels, len(self._pairs)]
        self.outputs = components * sum(self._sizes)

    def given(self, outputs: Tensor, pixels: Tensor, neighbours: Tensor) -> Tensor:
        """See `LevelDistribution.given`."""
        weights, means, log_scales = self._mixture(outputs, pixels, neighbours)
        joint = self._joint(weights, means, log_scales, pixels)
        # Of the components given the channels before each one.
        before = torch.cat([weights, joint[:, :-1]], dim=1)
        return torch.cat([before.log_softmax(dim=2), means, log_scales], dim=2)

    def log_likelihood(self, outputs: Tensor, pixels: Tensor, neighbours: Tensor) -> Tensor:
        """See `LevelDistribution.log_likelihood`."""
        joint = self._joint(*self._mixture(outputs, pixels, neighbours), pixels).logsumexp(dim=2)
        return torch.cat([joint[:, :1], joint[:, 1:] - joint[:, :-1]], dim=1)

    def log_probabilities(self, parameters: Tensor) -> Tensor:
        """See `LevelDistribution.log_probabilities`."""
        weights, means, log_scales = parameters.chunk(3, dim=1)
        each = [
            (weights + self._of_components(means, log_scales, torch.full_like(means[:, :1], level))).logsumexp(dim=1)
            for level in range(self.levels)
        ]
        return torch.stack(each, dim=1)

    def choose(self, parameters: Tensor, noise: Tensor) -> Tensor:
        """See `LevelDistribution.choose`; the function is inverted by bisection."""
        weights, means, log_scales = parameters.double().chunk(3, dim=1)
        weights, inverse_scales = weights.softmax(dim=1), (-log_scales).exp()
        lowest, highest = torch.zeros_like(noise), torch.full_like(noise, self.levels - 1)
        for _ in range(math.ceil(math.log2(self.levels))):
            middle = ((lowest + highest) / 2).floor()
            up_to = (weights * ((middle[:, None] + 0.5 - means) * inverse_scales).sigmoid()).sum(dim=1)
            # Where the bounds have met, `up_to` would include the upper tail.
            above = (up_to <= noise) & (lowest < highest)
            lowest, highest = torch.where(above, middle + 1, lowest), torch.where(above, highest, middle)
        return lowest.to(torch.uint8)

    def _mixture(self, outputs: Tensor, pixels: Tensor, neighbours: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return the log-weights (B, 1, K, ...) and the means and log-scales (B, C, K, ...) in levels."""
        half = (self.levels - 1) / 2
        parts = outputs.unflatten(1, (sum(self._sizes), self.components)).split(self._sizes, dim=1)
        weights, means, log_scales, coefficients = parts
        # As in PixelCNN++, the outputs are in halves of the range of the levels.
        start = neighbours.to(outputs.dtype).unsqueeze(2)
        differences = pixels.unsqueeze(2) - start
        channels = list((half * means + start).unbind(1))
        for (channel, earlier), coefficient in zip(self._pairs, coefficients.unbind(1), strict=True):
            channels[channel] = channels[channel] + coefficient.tanh() * differences[:, earlier]
        means = torch.stack(channels, dim=1)
        log_scales = (log_scales + math.log(half)).clamp(math.log(NARROWEST), math.log(WIDEST * self.levels))
        return weights.log_softmax(dim=2), means, log_scales

    def _joint(self, weights: Tensor, means: Tensor, log_scales: Tensor, pixels: Tensor) -> Tensor:
        """Return ln p of each component and of the levels of all channels up to each one, (B, C, K, ...)."""
        return weights + self._of_components(means, log_scales, pixels.to(means.dtype).unsqueeze(2)).cumsum(dim=1)

    def _of_components(self, means: Tensor, log_scales: Tensor, level: Tensor) -> Tensor:
        """Return ln of the logistics' probabilities of levels, all broadcast to the same shape.

        With b and a the distances of the upper and the lower edge of the level from the mean, in scales, it is
        sigma(b) - sigma(a) = sigma(b) sigma(-a) (1 - exp(a - b)), of which the tails have one factor alone.
        """
        inverse_scales = (-log_scales).exp()
        upper = (level + 0.5 - means) * inverse_scales
        lower = upper - inverse_scales
        below, above = level < self.levels - 1, level > 0
        zero = torch.zeros((), dtype=means.dtype, device=means.device)
        inner = torch.where(below & above, (-(-inverse_scales).expm1()).log(), zero)
        return torch.where(below, F.logsigmoid(upper), zero) + torch.where(above, F.logsigmoid(-lower), zero) + inner


def neighbour_means(pixels: Tensor, levels: int) -> Tensor:
    """Return the mean of the levels of the left and the upper neighbour of each pixel.

    In the first row and in the first column it is the level of the only one, for the first pixel the middle of the
    levels.

    Args:
        pixels: (B, C, H, W), levels in any dtype.
        levels: Number of levels.

    Returns:
        (B, C, H, W) of the same dtype, or of torch's default one if that is not a floating-point dtype.
    """
    levels_of = pixels if pixels.is_floating_point() else pixels.to(torch.get_default_dtype())
    means = torch.full_like(levels_of, (levels - 1) / 2)
    means[..., 0, 1:] = levels_of[..., 0, :-1]
    means[..., 1:, 0] = levels_of[..., :-1, 0]
    means[..., 1:, 1:] = (levels_of[..., 1:, :-1] + levels_of[..., :-1, 1:]) / 2
    return means


def level_distribution(config: AnyConfig, shape: ImageShape) -> LevelDistribution:
    """Return the distribution of the levels for a model."""
    if isinstance(config, ModelConfig) and config.output == "logistic_mixture":
        return LogisticMixture(shape.channels, shape.levels, config.components)
    return Categorical(shape.channels, shape.levels)
