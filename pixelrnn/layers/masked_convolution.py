"""Masks that keep a pixel from seeing itself and its future: section 3.4 of PixelRNN (arXiv 1601.06759).

Pixels are predicted in raster order, and within a pixel red, green, blue. Feature maps are divided into one group for
each channel. At a kernel's centre, mask A (the first layer, which reads pixels) lets a group see the channels before
its own; mask B (all others, which read features) lets it see its own group too.
"""

from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

MaskKind = Literal["A", "B"]


def group_mask(outputs: int, inputs: int, channels: int, kind: MaskKind) -> Tensor:
    """Return which inputs of the same pixel each output may see.

    Args:
        outputs: Number of output features, divided into `channels` groups in order.
        inputs: Number of input features, divided likewise.
        channels: Of the image: 1 or 3.
        kind: A: only groups before the output's own; B: that one too.

    Returns:
        (outputs, inputs), 1 where it may see and 0 where not.
    """
    of_output = torch.arange(outputs)[:, None] * channels // outputs
    of_input = torch.arange(inputs) * channels // inputs
    return (of_input < of_output if kind == "A" else of_input <= of_output).float()


class MaskedConv2d(nn.Module):
    """A convolution of odd size that keeps the image's size and sees the past alone.

    Args:
        inputs: Input features.
        outputs: Output features.
        kernel_size: Odd.
        kind: The mask's.
        channels: Of the image.
    """

    mask: Tensor

    def __init__(self, inputs: int, outputs: int, kernel_size: int, kind: MaskKind, channels: int):
        super().__init__()
        self.kernel_size = kernel_size
        middle = kernel_size // 2
        mask = torch.zeros(outputs, inputs, kernel_size, kernel_size)
        mask[:, :, :middle] = 1
        mask[:, :, middle, :middle] = 1
        mask[:, :, middle, middle] = group_mask(outputs, inputs, channels, kind)
        self.register_buffer("mask", mask.flatten(1), persistent=False)
        # A matrix, one row an output: what the optimiser of matrices takes.
        self.weight = nn.Parameter(uniform_kernel(outputs, inputs * kernel_size**2))
        self.bias = nn.Parameter(torch.zeros(outputs))

    def forward(self, x: Tensor) -> Tensor:
        """Convolve (B, inputs, H, W) into (B, outputs, H, W)."""
        size = self.kernel_size
        return F.conv2d(x, (self.weight * self.mask).unflatten(1, (-1, size, size)), self.bias, padding=size // 2)


class MaskedPointwise(nn.Module):
    """A 1x1 convolution with mask B on maps whose batch comes last.

    Args:
        inputs: Input features.
        outputs: Output features.
        channels: Of the image.
    """

    mask: Tensor

    def __init__(self, inputs: int, outputs: int, channels: int):
        super().__init__()
        self.weight = nn.Parameter(uniform_kernel(outputs, inputs))
        self.bias = nn.Parameter(torch.zeros(outputs))
        self.register_buffer("mask", group_mask(outputs, inputs, channels, "B"), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        """Map (H, inputs, W, B) to (H, outputs, W, B)."""
        rows, _, columns, batch = x.shape
        weight = (self.weight * self.mask).expand(rows, -1, -1)
        return torch.baddbmm(self.bias[:, None], weight, x.flatten(2)).unflatten(2, (columns, batch))


def uniform_kernel(outputs: int, inputs: int) -> Tensor:
    """Draw a kernel (outputs, inputs), uniform within one over the root of its inputs, as torch's own layers do."""
    return torch.empty(outputs, inputs).uniform_(-(inputs**-0.5), inputs**-0.5)
