"""The causality certificate: a proof, by gradients, that a pixel model predicts every pixel from the past alone.

The gradient of every output pixel and channel with respect to every input pixel and channel must be exactly zero for
the input that is predicted and for all after it. Where it is not zero for an input before it, that input is seen; the
share of such pairs is the model's coverage of the past, which bounds what it can learn.

The gradients are taken in double precision on a copy of the model, with new random values for all parameters. Masks and
offsets are in the structure: no weights can open a path that the structure closes, and random ones leave open every
path that it opens, while trained ones, or initial ones of zero, may hide it. For the same reason the copy has softplus
in place of ReLU, which shuts at random what a trained model may open.
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
    """Which inputs each output of a pixel model depends on.

    Attributes:
        sees: (H, W, C, H, W, C), boolean: whether the output (first three indices: row, column, channel) depends on
            the input (last three).
        past: (H, W, C, H, W, C), boolean: whether the input comes before the output in the model's order.
    """

    sees: Tensor
    past: Tensor

    @property
    def leaks(self) -> list[tuple[Place, Place]]:
        """Pairs of an output and an input, each (row, column, channel), that no causal model would have."""
        pairs = (self.sees & ~self.past).nonzero().tolist()
        return [((a, b, c), (d, e, f)) for a, b, c, d, e, f in pairs]

    @property
    def num_leaks(self) -> int:
        """Number of `leaks`; 0 certifies the model."""
        return int((self.sees & ~self.past).sum())

    @property
    def past_pairs(self) -> int:
        """Number of pairs of an output and an input before it."""
        return int(self.past.sum())

    @property
    def seen_pairs(self) -> int:
        """How many of them the model sees."""
        return int((self.sees & self.past).sum())

    @property
    def coverage(self) -> float:
        """The share of them that it sees, 0 to 1; 1 where there are none."""
        return self.seen_pairs / self.past_pairs if self.past_pairs else 1.0

    @property
    def missed(self) -> Tensor:
        """(H, W): for each input pixel, the share of pairs with outputs after it that are not seen, 0 to 1.

        It is not a number for the last pixel, if it has one channel.
        """
        return 1 - _share(self.sees, self.past, (0, 1, 2, 5))

    def field_of_view(self, row: int, column: int) -> Tensor:
        """(H, W): how much of each input pixel the output pixel at (row, column) sees, 0 to 1.

        With one channel this is 0 or 1; with three, a share of the pairs of channels. It is not a number for pixels
        that are not in the past.
        """
        return _share(self.sees[row, column], self.past[row, column], (0, 3))

    def describe(self) -> str:
        """Return the leaks, at most ten of them, and the coverage as lines to read."""
        leaks = self.leaks
        lines = [f"leaks: {len(leaks):,}" if leaks else "no leaks: no output depends on its own pixel or on later ones"]
        lines += [f"  output {output} depends on input {source}" for output, source in leaks[:_LEAKS_SHOWN]]
        if leaks:
            more = [f"{len(leaks) - _LEAKS_SHOWN:,} more"] * (len(leaks) > _LEAKS_SHOWN)
            lines.append("  " + "; ".join([*more, "places are (row, column, channel), from 0"]))
        lines.append(
            f"coverage: {self.coverage:.2%}; of {self.past_pairs:,} pairs of an output and an earlier input "
            f"{self.seen_pairs:,} are seen"
        )
        return "\n".join(lines)

    def document(self) -> dict[str, Any]:
        """Return all leaks and the coverage as JSON can hold them."""
        return {
            "leaks": [{"output": output, "input": source} for output, source in self.leaks],
            "past_pairs": self.past_pairs,
            "seen_pairs": self.seen_pairs,
            "coverage": self.coverage,
        }


def certify(model: PixelModel, progress: Callable[[], object] | None = None) -> Certificate:
    """Find out on which inputs each output of a model depends.

    It takes a forward and a backward pass for every pixel and channel.

    Args:
        model: The model; it stays as it is.
        progress: Called after every row of outputs.
    """
    shape, generator = model.shape, torch.Generator().manual_seed(_SEED)
    model = _redrawn(model, generator)
    channels, height, width = shape.channels, shape.height, shape.width
    image = torch.rand(channels, height, width, generator=generator, dtype=torch.float64) * (shape.levels - 1)
    # Of a softmax's levels, any one combination but their sum.
    combination = torch.randn(shape.levels, generator=generator, dtype=torch.float64)
    image, combination = image.to(model.device), combination.to(model.device)
    sees = torch.zeros(height, width, channels, height, width, channels, dtype=torch.bool)
    batches = torch.cartesian_prod(torch.arange(width), torch.arange(channels)).split(_batch_size(model))
    for row in range(height):
        for columns, of_channel in (batch.unbind(1) for batch in batches):
            gradients = _gradients(model, image, combination, row, columns, of_channel)
            sees[row, columns, of_channel] = (gradients != 0).permute(0, 2, 3, 1).cpu()
        if progress is not None:
            progress()
    return Certificate(sees, _past(model.config.order, shape))


def _gradients(
    model: PixelModel, image: Tensor, combination: Tensor, row: int, columns: Tensor, channels: Tensor
) -> Tensor:
    """Return the gradients (B, C, H, W) of the outputs (B,) at these columns and channels of a row."""
    batch = len(columns)
    pixels = image.expand(batch, -1, -1, -1).clone().requires_grad_()
    labels = torch.zeros(batch, dtype=torch.int64, device=image.device) if model.shape.num_classes else None
    outputs = model(pixels, labels)[torch.arange(batch), channels, :, row, columns]
    return torch.autograd.grad((outputs * combination[: outputs.shape[1]]).sum(), pixels)[0]


def _redrawn(model: PixelModel, generator: torch.Generator) -> PixelModel:
    """Copy a model in double precision, with other parameters and without functions that shut."""
    model = copy.deepcopy(model).double().requires_grad_(False)
    for parameter in model.parameters():
        # Small enough that no gate saturates, where double precision would round its gradient to zero.
        drawn = torch.randn(parameter.shape, generator=generator, dtype=torch.float64) * parameter.shape[-1] ** -0.5
        parameter.copy_(drawn)
    for module in list(model.modules()):
        for name, child in module.named_children():
            if isinstance(child, nn.ReLU):
                setattr(module, name, nn.Softplus())
    return model


def _batch_size(model: PixelModel) -> int:
    """Choose how many images to backpropagate at once, from a rough count of what their graph keeps."""
    config, shape = model.config, model.shape
    of_layers = 24 * config.hidden_channels * config.num_layers
    of_output = 6 * config.output_channels + 3 * shape.channels * shape.levels
    return max(1, _BATCH_BYTES // (8 * shape.height * shape.width * (of_layers + of_output)))


def _past(order: Order, shape: ImageShape) -> Tensor:
    place = order_index(order, shape.height, shape.width)[..., None] * shape.channels + torch.arange(shape.channels)
    return place[..., None, None, None] > place


def _share(chosen: Tensor, of: Tensor, dimensions: tuple[int, ...]) -> Tensor:
    """Count over these dimensions what share of the pairs `of` is also `chosen`."""
    return (chosen & of).sum(dimensions) / of.sum(dimensions)
