"""The Gated PixelCNN: section 2 of Conditional Image Generation with PixelCNN Decoders (arXiv 1606.05328).

Two stacks of convolutions (sections 2.2 and figure 2). The vertical one reads all rows above a pixel, without masks;
the horizontal one reads the pixels to its left and, in every layer, the vertical one. Together they see every pixel in
reach, where stacked masked 3x3 convolutions have a blind spot to the upper right. Both have gated activation units
(equation 2): y = tanh(W_f * x) . sigma(W_g * x).

With the features p of the residual stream, a layer of the vertical stack is a 2x3 convolution to 2p maps, gated to p;
one of the horizontal stack is a 1x2 convolution of its own features (mask B: the left one and the centre) and a 1x1
convolution of the 2p maps of the vertical one, gated to p. The 1x1 convolution and the residual connection after it
are those of the model (`PixelNetwork.up`); the vertical stack has no residual connections.

Deviations: the horizontal stack starts with the model's first layer, which reads the rows above too; classes are added
there alone; and, off by default, the taps of a layer are a distance apart, in rows and columns, as in a dilated
convolution. With the distances 1, 2, 4, 8, ... the reach doubles with each layer at the same cost.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from pixelrnn.layers.masked_convolution import group_mask, mask_of_shape, uniform_kernel

# The first convolution of the vertical stack reads as many rows above, and columns on each side, as a 7x7 kernel.
REACH = 3


class VerticalStack(nn.Module):
    """The vertical stack: what each layer knows of the rows above each pixel.

    Args:
        channels: Number of channels of the image.
        features: Number of features p.
        dilations: Distance between the taps of each layer.
    """

    def __init__(self, channels: int, features: int, dilations: Sequence[int]):
        super().__init__()
        self.dilations = tuple(dilations)
        self.first = nn.Conv2d(channels, features, (REACH, 2 * REACH + 1))
        self.layers = nn.ModuleList(VerticalLayer(features, dilation) for dilation in dilations)

    def forward(self, pixels: Tensor) -> list[Tensor]:
        """Map (B, C, H, W), levels scaled to 0..1, to the maps of each layer before the gates, (B, 2p, H, W)."""
        # The last row is above no pixel.
        x = self.first(F.pad(pixels, (REACH, REACH, REACH, 0))[:, :, :-1])
        maps = []
        for layer, distance in zip(self.layers, self.dilations, strict=True):
            maps.append(layer(F.pad(x, (distance, distance, distance, 0))))
            x = gated(maps[-1])
        return maps


class VerticalLayer(nn.Module):
    """A layer of the vertical stack.

    Args:
        features: Number of features p.
        dilation: Distance between the taps in rows and columns.
    """

    def __init__(self, features: int, dilation: int):
        super().__init__()
        self.dilation = dilation
        # A matrix with one row per output, because Muon takes only matrices.
        self.weight = nn.Parameter(uniform_kernel(2 * features, 6 * features))
        self.bias = nn.Parameter(torch.zeros(2 * features))

    def forward(self, padded: Tensor) -> Tensor:
        """Convolve features (B, p, H + dilation, W + 2 dilation) into maps before the gates (B, 2p, H, W)."""
        return F.conv2d(padded, self.weight.unflatten(1, (-1, 2, 3)), self.bias, dilation=self.dilation)


class HorizontalLayer(nn.Module):
    """A layer of the horizontal stack.

    Args:
        features: Number of features p, divided into one group per channel of the image.
        channels: Number of channels of the image.
        dilation: Distance between the taps in columns.
    """

    mask: Tensor

    def __init__(self, features: int, channels: int, dilation: int):
        super().__init__()
        self.dilation = dilation
        # Two matrices side by side: of the left features, and of those of the pixel itself.
        self.weight = nn.Parameter(uniform_kernel(2 * features, 2 * features))
        self.from_above = nn.Linear(2 * features, 2 * features)

        def past() -> Tensor:
            centre = group_mask(features, features, channels, "B").repeat(2, 1)
            return torch.cat([torch.ones_like(centre), centre], dim=1)

        self.register_buffer("mask", mask_of_shape((2 * features, 2 * features), past), persistent=False)

    def forward(self, x: Tensor, above: Tensor) -> Tensor:
        """Map features (B, p, H, W) and the vertical stack's maps (B, 2p, H, W) to states (B, p, H, W)."""
        left, centre = (self.weight * self.mask).chunk(2, dim=1)
        kernel = torch.stack([left, centre], dim=2)[:, :, None]
        gates = F.conv2d(F.pad(x, (self.dilation, 0)), kernel, dilation=(1, self.dilation))
        return gated(gates + F.conv2d(above, self.from_above.weight[..., None, None], self.from_above.bias))


def gated(maps: Tensor) -> Tensor:
    """Apply equation 2 to maps (B, 2p, ...), first all W_f * x, then all W_g * x; return (B, p, ...)."""
    candidate, gate = maps.chunk(2, dim=1)
    return candidate.tanh() * gate.sigmoid()
