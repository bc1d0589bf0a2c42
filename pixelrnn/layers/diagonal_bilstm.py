"""The Diagonal BiLSTM: section 3.2 of Pixel Recurrent Neural Networks (arXiv 1601.06759).

Two streams go down the image from its upper corners, a diagonal at once. Skewing, each row one further to the right
than the one above, turns the diagonals into lines; input-to-state is then 1x1, and state-to-state has two taps: the
same row, which is the pixel to the left, and the row above. The stream from the upper right would see pixels to the
right in the same row, so its output is shifted down by a row before it is added.

The scan visits just the H x W pixels of the skewed map, not its H (W + H - 1) cells, half of which are empty.
"""

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from pixelrnn.layers.masked_convolution import group_mask, uniform_kernel
from pixelrnn.scan.lstm_scan import Geometry, lstm_scan


class DiagonalLSTM(nn.Module):
    """One layer of one stream, from the upper left corner or, mirrored, from the upper right one.

    Args:
        features: Input features, in one group for each channel of the image.
        hidden_channels: h, the width of the state.
        rows: Height of the image; every row has an initial state of its own.
        channels: Of the image.
        mirrored: Whether it comes from the upper right.
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
        mask = group_mask(hidden_channels, features, channels, "B").repeat(4, 1)
        self.register_buffer("mask", mask, persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        """Map features (H, features, W, B) to states (H, h, W, B), those of the mirrored stream not yet shifted."""
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
    """One layer: the sum of both streams, the mirrored one shifted down.

    Args:
        features: Input features, in one group for each channel of the image.
        hidden_channels: h, the width of each stream's state.
        rows: Height of the image.
        channels: Of the image.
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
    """Lay the diagonals of (H, C, W, B) in lines, (H + W - 1, C, H, B): pixel (r, c) at line r + c, position r.

    Mirrored, the pixel lies at line r + (W - 1 - c). Cells without a pixel are zero.
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
    @once_differentiable  # Its type is so loose that pyright takes the method for another's.
    def backward(ctx, grad):  # pyright: ignore[reportIncompatibleMethodOverride]
        return unskew(grad, ctx.mirrored), None


class _Unskew(torch.autograd.Function):
    @staticmethod
    def forward(ctx, skewed, mirrored):
        ctx.mirrored = mirrored
        return unskew(skewed, mirrored)

    @staticmethod
    @once_differentiable  # Its type is so loose that pyright takes the method for another's.
    def backward(ctx, grad):  # pyright: ignore[reportIncompatibleMethodOverride]
        return skew(grad, ctx.mirrored), None
