"""The context of a region: what is known of an image on every side of the pixels to predict.

A raster model does not see known pixels that come after a pixel. With a context, the model is of a region of any form:

    p(region | known pixels) = product over the region's pixels i, in order, of p(x_i | earlier pixels, known pixels)

The known pixels and the mask go through a stack of Row LSTMs (PixelRNN, arXiv 1601.06759, section 3.1) without masks:
they run from the last row up, and their taps reach both sides. What lies above is seen by the model's own layers. The
stack reads no pixel of the region, so whatever is computed from it depends on none of them, and the product is exact.
With nothing known it is the likelihood of the whole image.

Each layer adds its states to its input, h features, which keeps the stack cheaper than the model's own layers. The
states of all layers together are added, through a 1x1 convolution that starts at zero, to the input of every layer of
the model: a model that gets a context predicts at first what it did without.
"""

import torch
from torch import Tensor, nn

from pixelrnn.layers.masked_convolution import MaskedPointwise
from pixelrnn.layers.row_lstm import RowRecurrence
from pixelrnn.scan.lstm_scan import Geometry, lstm_scan


class UnmaskedRowLSTM(RowRecurrence):
    """A Row LSTM layer that reads its own column and those on both sides.

    Args:
        hidden_channels: Number of hidden channels h, and of input features.
        columns: Width of the image; each column has its own initial state.
        dilation: Distance between the taps in columns.
    """

    def __init__(self, hidden_channels: int, columns: int, dilation: int):
        super().__init__(3 * hidden_channels, hidden_channels, columns, dilation)

    def forward(self, x: Tensor) -> Tensor:
        """Map features (H, h, W, B) to states (H, h, W, B), row by row in the order given."""
        rows, _, columns, _ = x.shape
        taps = (-self.dilation, 0, self.dilation)
        geometry = Geometry(taps, taps, ((0, columns),) * rows)
        kernels = self.input_to_state, self.state_to_state
        return lstm_scan(x, *kernels, self.bias, self.initial_hidden, self.initial_cell, geometry)


class Context(nn.Module):
    """The stack, and what it adds to the layers of the model.

    Args:
        channels: Number of channels of the image.
        hidden_channels: Number of hidden channels h of each layer.
        columns: Width of the image.
        dilations: Distance between the taps of each layer, in columns.
        targets: Number of layers of the model.
        features: Number of input features of the layers of the model.
    """

    def __init__(
        self,
        channels: int,
        hidden_channels: int,
        columns: int,
        dilations: tuple[int, ...],
        targets: int,
        features: int,
    ):
        super().__init__()
        self.first = nn.Conv2d(channels + 1, hidden_channels, 7, padding=3)
        self.layers = nn.ModuleList(UnmaskedRowLSTM(hidden_channels, columns, dilation) for dilation in dilations)
        # With one group of channels, a masked convolution hides nothing.
        states = hidden_channels * len(dilations)
        self.rise = nn.ModuleList(MaskedPointwise(states, features, 1) for _ in range(targets))
        for rise in self.rise.parameters():
            nn.init.zeros_(rise)

    def forward(self, known: Tensor, mask: Tensor) -> Tensor:
        """Compute the states of all layers.

        Args:
            known: (B, C, H, W), levels scaled to 0..1; those of the region are ignored.
            mask: (B, 1, H, W) bool, True in the region.

        Returns:
            (H, layers x h, W, B).
        """
        x = torch.cat([known.masked_fill(mask, 0), (~mask).to(known.dtype)], dim=1)
        x = self.first(x).permute(2, 1, 3, 0).flip(0)
        states = []
        for layer in self.layers:
            states.append(layer(x))
            x = x + states[-1]
        return torch.cat(states, dim=1).flip(0)
