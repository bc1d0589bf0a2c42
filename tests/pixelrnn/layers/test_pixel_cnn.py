"""The block of figure 5 against explicit sums over the neighbours in the past."""

import numpy as np
import pytest
import torch

from pixelrnn.layers.masked_convolution import MaskedConv2d
from pixelrnn.layers.pixel_cnn import BottleneckConvolution

FEATURES, HIDDEN, ROWS, COLUMNS = 5, 4, 4, 5


def make_block(channels: int) -> BottleneckConvolution:
    torch.manual_seed(0)
    block = BottleneckConvolution(FEATURES, HIDDEN, channels).double()
    for parameter in block.parameters():
        torch.nn.init.normal_(parameter, std=0.7)
    return block


def figure_5(block: BottleneckConvolution, x: np.ndarray, channels: int) -> np.ndarray:
    """Compute (H, W, h) from one image (H, W, features)."""
    narrow, wide = (layer for layer in block.layers if isinstance(layer, MaskedConv2d))
    group = np.arange(HIDDEN) * channels // HIDDEN
    sees = np.arange(FEATURES) * channels // FEATURES <= group[:, None]
    narrow_kernel = narrow.weight.detach().numpy() * sees
    kernel = wide.weight.detach().numpy().reshape(HIDDEN, HIDDEN, 3, 3)
    hidden = np.maximum(np.maximum(x, 0) @ narrow_kernel.T + narrow.bias.detach().numpy(), 0)
    padded = np.pad(hidden, ((1, 1), (1, 1), (0, 0)))
    states = np.zeros((ROWS, COLUMNS, HIDDEN)) + wide.bias.detach().numpy()
    for row in range(ROWS):
        for column in range(COLUMNS):
            for down, right in ((0, 0), (0, 1), (0, 2), (1, 0)):
                states[row, column] += kernel[:, :, down, right] @ padded[row + down, column + right]
            states[row, column] += (kernel[:, :, 1, 1] * (group <= group[:, None])) @ hidden[row, column]
    return np.maximum(states, 0)


@pytest.mark.parametrize("channels", [1, 3])
def test_equals_figure_5_pixel_by_pixel(channels: int) -> None:
    block = make_block(channels)
    x = torch.randn(2, FEATURES, ROWS, COLUMNS, dtype=torch.float64)
    states = block(x).detach().numpy()
    for image in range(2):
        expected = figure_5(block, x[image].permute(1, 2, 0).numpy(), channels)
        np.testing.assert_allclose(states[image].transpose(1, 2, 0), expected, rtol=0, atol=1e-12)


def test_the_input_is_unchanged() -> None:
    """The residual connection reads the input afterwards."""
    x = torch.randn(1, FEATURES, ROWS, COLUMNS, dtype=torch.float64)
    before = x.clone()
    make_block(1)(x)
    assert torch.equal(x, before)
