"""Masks that hide a pixel and its future from its own prediction: section 3.4 of PixelRNN (arXiv 1601.06759).

Pixels are predicted in raster order, and the channels of a pixel in the order red, green, blue. Feature maps are
divided into one group per channel. At the centre of a kernel, mask A (first layer, which reads pixels) lets a group see
the channels before its own; mask B (all other layers, which read features) lets it see its own group too.
"""

from collections.abc import Callable, Sequence
from functools import reduce
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

MaskKind = Literal["A", "B"]


def group_mask(outputs: int, inputs: int, channels: int, kind: MaskKind) -> Tensor:
    """Return the mask of the inputs of the same pixel that each output may see.

    Args:
        outputs: Number of output features, divided into `channels` groups in order.
        inputs: Number of input features, divided in the same way.
        channels: Number of channels of the image, 1 or 3.
        kind: Kind of mask: A shows only the groups before that of the output, B also shows that group.

    Returns:
        (outputs, inputs), 1 where the output may see the input and 0 elsewhere.
    """
    of_output = torch.arange(outputs)[:, None] * channels // outputs
    of_input = torch.arange(inputs) * channels // inputs
    return (of_input < of_output if kind == "A" else of_input <= of_output).float()


def mask_of_shape(shape: tuple[int, int], compute: Callable[[], Tensor]) -> Tensor:
    """Return what `compute` does; on torch's device `meta`, where nothing has values, only something of that shape.

    To compute there, torch would import its compiler, for two seconds.
    """
    return torch.empty(shape) if torch.get_default_device().type == "meta" else compute()


class MaskedConv2d(nn.Module):
    """A convolution that keeps the size of the image and sees only the past.

    Args:
        inputs: Number of input features.
        outputs: Number of output features.
        kernel_size: Side of the kernel; an odd number.
        kind: Kind of mask, A or B.
        channels: Number of channels of the image.
    """

    mask: Tensor

    def __init__(self, inputs: int, outputs: int, kernel_size: int, kind: MaskKind, channels: int):
        super().__init__()
        self.kernel_size = kernel_size
        middle = kernel_size // 2

        def past() -> Tensor:
            mask = torch.zeros(outputs, inputs, kernel_size, kernel_size)
            mask[:, :, :middle] = 1
            mask[:, :, middle, :middle] = 1
            mask[:, :, middle, middle] = group_mask(outputs, inputs, channels, kind)
            return mask.flatten(1)

        mask = mask_of_shape((outputs, inputs * kernel_size**2), past)
        self.register_buffer("mask", mask, persistent=False)
        # A matrix with one row per output, because Muon takes only matrices.
        self.weight = nn.Parameter(uniform_kernel(outputs, inputs * kernel_size**2))
        self.bias = nn.Parameter(torch.zeros(outputs))

    def forward(self, x: Tensor) -> Tensor:
        """Convolve (B, inputs, H, W) into (B, outputs, H, W)."""
        size = self.kernel_size
        return F.conv2d(x, (self.weight * self.mask).unflatten(1, (-1, size, size)), self.bias, padding=size // 2)


class MaskedPointwise(nn.Module):
    """A 1x1 convolution with mask B on maps with the batch last.

    Args:
        inputs: Number of input features.
        outputs: Number of output features.
        channels: Number of channels of the image.
    """

    mask: Tensor

    def __init__(self, inputs: int, outputs: int, channels: int):
        super().__init__()
        self.weight = nn.Parameter(uniform_kernel(outputs, inputs))
        self.bias = nn.Parameter(torch.zeros(outputs))
        mask = mask_of_shape((outputs, inputs), lambda: group_mask(outputs, inputs, channels, "B"))
        self.register_buffer("mask", mask, persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        """Map (H, inputs, W, B) to (H, outputs, W, B)."""
        return summed([self], [x])


def summed(layers: Sequence[MaskedPointwise], inputs: Sequence[Tensor]) -> Tensor:
    """Return the sum of what each layer gives for its own input, as one matrix product: one pass over memory in all.

    Args:
        layers: Layers with the same number of outputs.
        inputs: One (H, inputs, W, B) per layer.

    Returns:
        (H, outputs, W, B).
    """
    rows, _, columns, batch = inputs[0].shape
    weight = torch.cat([layer.weight * layer.mask for layer in layers], 1).expand(rows, -1, -1)
    bias = reduce(torch.add, [layer.bias for layer in layers])
    # `torch.cat` would copy a single input too.
    x = inputs[0] if len(inputs) == 1 else torch.cat(list(inputs), 1)
    return torch.baddbmm(bias[:, None], weight, x.flatten(2)).unflatten(2, (columns, batch))


def uniform_kernel(outputs: int, inputs: int) -> Tensor:
    """Draw a kernel (outputs, inputs) uniformly from +-1/sqrt(inputs), the default of torch layers."""
    return torch.empty(outputs, inputs).uniform_(-(inputs**-0.5), inputs**-0.5)
