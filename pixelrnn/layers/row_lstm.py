"""The Row LSTM: section 3.1 of Pixel Recurrent Neural Networks (arXiv 1601.06759).

The scan runs down the image, one row at a time. Input-to-state is a masked 1-D convolution along the row (mask B keeps
the left one and the centre of its three taps); state-to-state reads the row above with three taps.

Deviation, off by default: with a dilation d the taps are d columns apart, as in a dilated convolution. This costs
nothing, and layers with dilations 1, 2, 4, ... see the whole row to the left and all rows above; the paper's triangle
misses a quarter of them at 28x28.
"""

import torch
from torch import Tensor, nn

from pixelrnn.layers.masked_convolution import group_mask, mask_of_shape, uniform_kernel
from pixelrnn.scan.lstm_scan import Geometry, lstm_scan


class RowRecurrence(nn.Module):
    """The parameters of a Row LSTM layer, whatever it sees of its row.

    Args:
        inputs: Number of inputs of a state: of features times taps.
        hidden_channels: Number of hidden channels h.
        columns: Width of the image; each column has its own initial state.
        dilation: Distance between the taps in columns.
    """

    def __init__(self, inputs: int, hidden_channels: int, columns: int, dilation: int):
        super().__init__()
        self.dilation = dilation
        gates = 4 * hidden_channels
        self.input_to_state = nn.Parameter(uniform_kernel(gates, inputs))
        self.state_to_state = nn.Parameter(uniform_kernel(gates, 3 * hidden_channels))
        self.bias = nn.Parameter(torch.zeros(gates))
        self.initial_hidden = nn.Parameter(torch.zeros(hidden_channels, columns))
        self.initial_cell = nn.Parameter(torch.zeros(hidden_channels, columns))


class RowLSTM(RowRecurrence):
    """A Row LSTM layer.

    Args:
        features: Number of input features, divided into one group per channel of the image.
        hidden_channels: Number of hidden channels h.
        columns: Width of the image; each column has its own initial state.
        channels: Number of channels of the image.
        dilation: Distance between the taps in columns.
    """

    mask: Tensor

    def __init__(self, features: int, hidden_channels: int, columns: int, channels: int, dilation: int = 1):
        super().__init__(2 * features, hidden_channels, columns, dilation)

        def past() -> Tensor:
            centre = group_mask(hidden_channels, features, channels, "B").repeat(4, 1)
            return torch.cat([torch.ones_like(centre), centre], dim=1)

        self.register_buffer("mask", mask_of_shape((4 * hidden_channels, 2 * features), past), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        """Map features (H, features, W, B) to states (H, h, W, B)."""
        rows, _, columns, _ = x.shape
        distance = self.dilation
        geometry = Geometry((-distance, 0), (-distance, 0, distance), ((0, columns),) * rows)
        kernel = self.input_to_state * self.mask
        return lstm_scan(x, kernel, self.state_to_state, self.bias, self.initial_hidden, self.initial_cell, geometry)
