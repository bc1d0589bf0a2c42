"""The causality certificate: a proof by gradients that a pixel model predicts every pixel from the past alone.

The gradient of each output pixel and channel with respect to each input pixel and channel must be exactly zero for the
predicted input itself and for all inputs after it. If it is not zero for an earlier input, the model sees that input.
The share of such pairs is the coverage of the past, which bounds what the model can learn.

With a context (see `layers.context`), a known input may be seen wherever it is; later inputs of the region must not be.

The gradients are computed in double precision on a copy of the model with new random values for all parameters. Masks
and offsets belong to the structure: no weights can open a path that the structure closes. Random weights use every open
path, which trained weights, or initial weights of zero, may hide. For the same reason the copy uses softplus instead of
ReLU, whose zero gradient would hide paths at random.
"""

import copy
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from pixelrnn.model import PixelModel, order_index
from pixelrnn.pixel_config import ImageShape, Order

Place = tuple[int, int, int]

_SEED = 0
_BATCH_BYTES = 2**28
_LEAKS_SHOWN = 10


@dataclass(frozen=True, eq=False)
class Certificate:
    """The inputs on which each output of a pixel model depends.

    Attributes:
        sees: (H, W, C, H, W, C) bool: whether the output (first three indices: row, column, channel) depends on the
            input (last three indices).
        past: (H, W, C, H, W, C) bool: whether the input comes before the output in the model's order.
        known: (H, W, C, H, W, C) bool: whether the input is known where the output is predicted; None if none is.
    """

    sees: Tensor
    past: Tensor
    known: Tensor | None = None

    @property
    def leaks(self) -> list[tuple[Place, Place]]:
        """Pairs of an output and an input, each (row, column, channel): seen, but neither in the past nor known."""
        return [((a, b, c), (d, e, f)) for a, b, c, d, e, f in self._leaks().nonzero().tolist()]

    @property
    def num_leaks(self) -> int:
        """Number of `leaks`; 0 means that the model is causal."""
        return int(self._leaks().sum())

    def _leaks(self) -> Tensor:
        leaks = self.sees & ~self.past
        return leaks if self.known is None else leaks & ~self.known

    @property
    def past_pairs(self) -> int:
        """Number of pairs of an output and an earlier input."""
        return int(self.past.sum())

    @property
    def seen_pairs(self) -> int:
        """Number of pairs of an output and an earlier input on which it depends."""
        return int((self.sees & self.past).sum())

    @property
    def coverage(self) -> float:
        """Ratio of `seen_pairs` to `past_pairs`, 0 to 1; 1 if there are no pairs."""
        return self.seen_pairs / self.past_pairs if self.past_pairs else 1.0

    @property
    def later_known_pairs(self) -> int:
        """Number of pairs of an output and a known input after it."""
        return 0 if self.known is None else int((self.known & ~self.past).sum())

    @property
    def seen_later_known_pairs(self) -> int:
        """Number of `later_known_pairs` in which the output depends on the input."""
        return 0 if self.known is None else int((self.sees & self.known & ~self.past).sum())

    @property
    def missed(self) -> Tensor:
        """(H, W): share of the pairs of each input pixel with later outputs that are not seen, 0 to 1.

        NaN for the last pixel of images with one channel.
        """
        return 1 - _share(self.sees, self.past, (0, 1, 2, 5))

    def field_of_view(self, row: int, column: int) -> Tensor:
        """(H, W): how much of each input pixel the output pixel at (row, column) sees, 0 to 1.

        The value is 0 or 1 for one channel, and a share of the pairs of channels for three. NaN for pixels that are
        not in the past.
        """
        return _share(self.sees[row, column], self.past[row, column], (0, 3))

    def describe(self) -> str:
        """Return a report with at most ten leaks and the coverage."""
        leaks, unknown = self.leaks, "" if self.known is None else " of its region"
        sound = f"no leaks: no output depends on its own pixel or on later ones{unknown}"
        lines = [f"leaks: {len(leaks):,}" if leaks else sound]
        lines += [f"  output {output} depends on input {source}" for output, source in leaks[:_LEAKS_SHOWN]]
        if leaks:
            more = [f"{len(leaks) - _LEAKS_SHOWN:,} more"] * (len(leaks) > _LEAKS_SHOWN)
            lines.append("  " + "; ".join([*more, "positions are (row, column, channel), counted from 0"]))
        lines.append(
            f"coverage: {self.coverage:.2%}; the model sees {self.seen_pairs:,} of {self.past_pairs:,} pairs of an "
            "output and an earlier input"
        )
        if self.known is not None:
            lines.append(
                f"context: the model sees {self.seen_later_known_pairs:,} of {self.later_known_pairs:,} pairs of an "
                "output and a known input after it"
            )
        return "\n".join(lines)

    def document(self) -> dict[str, Any]:
        """Return all leaks and the coverage in JSON types."""
        document = {
            "leaks": [{"output": output, "input": source} for output, source in self.leaks],
            "past_pairs": self.past_pairs,
            "seen_pairs": self.seen_pairs,
            "coverage": self.coverage,
        }
        if self.known is not None:
            document["later_known_pairs"] = self.later_known_pairs
            document["seen_later_known_pairs"] = self.seen_later_known_pairs
        return document


def half_known(height: int, width: int) -> Tensor:
    """Return a mask (H, W) bool for `certify`, with about half of the pixels in it, drawn at random."""
    return torch.rand(height, width, generator=torch.Generator().manual_seed(_SEED)) < 0.5


def certify(model: PixelModel, progress: Callable[[], object] | None = None, mask: Tensor | None = None) -> Certificate:
    """Determine the inputs on which each output of a model depends.

    This takes a forward and a backward pass for every pixel and channel.

    Args:
        model: Pixel model; it is not changed.
        progress: Callback after each row of outputs.
        mask: (H, W) bool: the pixels under the mask are predicted with those outside it known, and those outside it
            with those under it known; for a model with a context (default: nothing is known).
    """
    shape, generator = model.shape, torch.Generator().manual_seed(_SEED)
    model = _redrawn(model, generator)
    channels, height, width = shape.channels, shape.height, shape.width
    image = torch.rand(channels, height, width, generator=generator, dtype=torch.float64) * (shape.levels - 1)
    # A random linear combination of a channel's parameters (logits), in which dependencies do not cancel.
    combination = torch.randn(model.distribution.parameters, generator=generator, dtype=torch.float64)
    image, combination = image.to(model.device), combination.to(model.device)
    sees = torch.zeros(height, width, channels, height, width, channels, dtype=torch.bool)
    batches = torch.cartesian_prod(torch.arange(width), torch.arange(channels)).split(_batch_size(model))
    for row in range(height):
        for columns, of_channel in (batch.unbind(1) for batch in batches):
            gradients = _gradients(model, image, combination, row, columns, of_channel, mask)
            sees[row, columns, of_channel] = (gradients != 0).permute(0, 2, 3, 1).cpu()
        if progress is not None:
            progress()
    past = _past(model.config.order, shape)
    if mask is None:
        return Certificate(sees, past)
    known = mask[:, :, None, None, None, None] != mask[None, None, None, :, :, None]
    return Certificate(sees, past, known.expand_as(past))


def _gradients(
    model: PixelModel,
    image: Tensor,
    combination: Tensor,
    row: int,
    columns: Tensor,
    channels: Tensor,
    mask: Tensor | None,
) -> Tensor:
    """Return the gradients (B, C, H, W) of B outputs of a row, given by their columns and channels."""
    batch = len(columns)
    pixels = image.expand(batch, -1, -1, -1).clone().requires_grad_()
    labels = torch.zeros(batch, dtype=torch.int64, device=image.device) if model.shape.num_classes else None
    # For each output the side of the mask that it is on.
    regions = None if mask is None else (mask == mask[row, columns, None, None])[:, None].to(image.device)
    outputs = model(pixels, labels, regions)[torch.arange(batch), channels, :, row, columns]
    return torch.autograd.grad((outputs * combination).sum(), pixels)[0]


def _redrawn(model: PixelModel, generator: torch.Generator) -> PixelModel:
    """Copy a model in double precision, with random parameters and softplus instead of ReLU."""
    model = copy.deepcopy(model).double().requires_grad_(False)
    for parameter in model.parameters():
        # Small enough that no gate saturates, which would round its gradient to zero in double precision.
        drawn = torch.randn(parameter.shape, generator=generator, dtype=torch.float64) * parameter.shape[-1] ** -0.5
        parameter.copy_(drawn)
    for module in list(model.modules()):
        for name, child in module.named_children():
            if isinstance(child, nn.ReLU):
                setattr(module, name, nn.Softplus())
    return model


def _batch_size(model: PixelModel) -> int:
    """Choose the number of images per backward pass from a rough estimate of the memory of their graph."""
    shape, values = model.shape, 0
    for config in (network.config for network in model.networks):
        values += 24 * config.hidden_channels * (config.num_layers + config.context_layers)
        values += 6 * config.output_channels + 3 * shape.channels * max(shape.levels, model.distribution.parameters)
    return max(1, _BATCH_BYTES // (8 * shape.height * shape.width * values))


def _past(order: Order, shape: ImageShape) -> Tensor:
    place = order_index(order, shape.height, shape.width)[..., None] * shape.channels + torch.arange(shape.channels)
    return place[..., None, None, None] > place


def _share(chosen: Tensor, of: Tensor, dimensions: tuple[int, ...]) -> Tensor:
    """Return the share of the pairs `of` that are also `chosen`, over the given dimensions."""
    return (chosen & of).sum(dimensions) / of.sum(dimensions)
