"""The Diagonal BiLSTM: section 3.2 of Pixel Recurrent Neural Networks (arXiv 1601.06759).

Two streams scan the image from its upper corners, one diagonal at a time. Skewing shifts each row one column further to
the right than the row above and so turns diagonals into lines. Input-to-state is then a 1x1 convolution, and
state-to-state has two taps: the same row, which is the pixel to the left, and the row above. The stream from the upper
right would see pixels to the right in the same row, so its output is shifted down by one row before it is added.

The scan visits only the H x W pixels of the skewed map, not all its H (W + H - 1) cells, about half of which are empty.
"""

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from pixelrnn.layers.masked_convolution import group_mask, mask_of_shape, uniform_kernel
from pixelrnn.scan.lstm_scan import Geometry, lstm_scan


class DiagonalLSTM(nn.Module):
    """One layer of one stream, from the upper left corner or, if mirrored, from the upper right one.

    Args:
        features: Number of input features, divided into one group per channel of the image.
        hidden_channels: Number of hidden channels h.
        rows: Height of the image; each row has its own initial state.
        channels: Number of channels of the image.
        mirrored: Whether the stream starts at the upper right corner.
    """

    mask: Tensor

    def __init__(self, features: int, hidden_channels: int, rows: int, channels: int, mirrored: bool):
        super().__init__()
        self.mirrored = mirrored
        gates = 4 * hidden_channels
        self.input_to_state = nn.Parameter(uniform_kernel(gates, features))
        self.state_to_state = nn.Parameter(uniform_kernel(gates, 2 * hidden_channels))
        self.bias = nn.Parameter(torch.zeros(gates))
        self.initial_hidden = nn.Parameter(torch.zeros(hidden_channels, rows))
        self.initial_cell = nn.Parameter(torch.zeros(hidden_channels, rows))
        mask = mask_of_shape(
            (gates, features), lambda: group_mask(hidden_channels, features, channels, "B").repeat(4, 1)
        )
        self.register_buffer("mask", mask, persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        """Map features (H, features, W, B) to states (H, h, W, B); a mirrored stream is not shifted down yet."""
        rows, _, columns, _ = x.shape
        diagonals = range(rows + columns - 1)
        geometry = Geometry((0,), (-1, 0), tuple((max(0, d - columns + 1), min(rows, d + 1)) for d in diagonals))
        states = lstm_scan(
            _Skew.apply(x, self.mirrored),
            self.input_to_state * self.mask,
            self.state_to_state,
            self.bias,
            self.initial_hidden,
            self.initial_cell,
            geometry,
        )
        return _Unskew.apply(states, self.mirrored)


class DiagonalBiLSTM(nn.Module):
    """A Diagonal BiLSTM layer: the sum of both streams, with the mirrored stream shifted down.

    Args:
        features: Number of input features, divided into one group per channel of the image.
        hidden_channels: Number of hidden channels h of each stream.
        rows: Height of the image.
        channels: Number of channels of the image.
    """

    def __init__(self, features: int, hidden_channels: int, rows: int, channels: int):
        super().__init__()
        self.from_left = DiagonalLSTM(features, hidden_channels, rows, channels, mirrored=False)
        self.from_right = DiagonalLSTM(features, hidden_channels, rows, channels, mirrored=True)

    def forward(self, x: Tensor) -> Tensor:
        """Map features (H, features, W, B) to states (H, h, W, B)."""
        return self.from_left(x) + shift_down(self.from_right(x))


def shift_down(x: Tensor) -> Tensor:
    """Move a map (H, features, W, B) down by one row; the first row becomes zero."""
    return torch.cat([torch.zeros_like(x[:1]), x[:-1]])


def skew(x: Tensor, mirrored: bool) -> Tensor:
    """Turn the diagonals of (H, C, W, B) into lines (H + W - 1, C, H, B): pixel (r, c) is at line r + c, position r.

    If mirrored, the pixel is at line r + (W - 1 - c). Cells without a pixel are zero.
    """
    rows, channels, columns, batch = x.shape
    skewed = x.new_zeros(rows + columns - 1, channels, rows, batch)
    for row in range(rows):
        line = x[row].transpose(0, 1)
        skewed[row : row + columns, :, row] = line.flip(0) if mirrored else line
    return skewed


def unskew(skewed: Tensor, mirrored: bool) -> Tensor:
    """Undo `skew`: (H + W - 1, C, H, B) back to (H, C, W, B)."""
    lines, channels, rows, batch = skewed.shape
    columns = lines - rows + 1
    x = skewed.new_empty(rows, channels, columns, batch)
    for row in range(rows):
        line = skewed[row : row + columns, :, row].transpose(0, 1)
        x[row] = line.flip(1) if mirrored else line
    return x


class _Skew(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x, mirrored):
        ctx.mirrored = mirrored
        return skew(x, mirrored)

    @staticmethod
    @once_differentiable  # Its loose type makes pyright report an incompatible override.
    def backward(ctx, grad):  # pyright: ignore[reportIncompatibleMethodOverride]
        return unskew(grad, ctx.mirrored), None


class _Unskew(torch.autograd.Function):
    @staticmethod
    def forward(ctx, skewed, mirrored):
        ctx.mirrored = mirrored
        return unskew(skewed, mirrored)

    @staticmethod
    @once_differentiable  # Its loose type makes pyright report an incompatible override.
    def backward(ctx, grad):  # pyright: ignore[reportIncompatibleMethodOverride]
        return skew(grad, ctx.mirrored), None
