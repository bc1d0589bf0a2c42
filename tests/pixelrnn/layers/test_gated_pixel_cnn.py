"""Both stacks of the Gated PixelCNN against the sums of the paper, written pixel by pixel."""

import math

import numpy as np
import pytest
import torch

from pixelrnn.layers.gated_pixel_cnn import HorizontalLayer, VerticalStack

FEATURES, ROWS, COLUMNS = 3, 6, 5


def sigmoid(x: float) -> float:
    return 1 / (1 + math.exp(-x))


def random(*shape: int) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(sum(shape)), dtype=torch.float64)


def drawn(module: torch.nn.Module) -> torch.nn.Module:
    module.double()
    for parameter in module.parameters():
        torch.nn.init.normal_(parameter, std=0.5)
    return module


def at(maps: np.ndarray, row: int, column: int) -> np.ndarray:
    """Return the features (C,) at a place of maps (C, H, W), zeros beyond the border."""
    inside = 0 <= row < maps.shape[1] and 0 <= column < maps.shape[2]
    return maps[:, row, column] if inside else np.zeros(len(maps))


def gate(values: np.ndarray) -> np.ndarray:
    """Equation 2, number by number."""
    half = len(values) // 2
    return np.array([math.tanh(values[k]) * sigmoid(values[half + k]) for k in range(half)])


def vertical(stack: VerticalStack, image: np.ndarray, dilations: tuple[int, ...]) -> list[np.ndarray]:
    """Compute the maps before the gates, (2p, H, W), of each layer."""
    first, bias = stack.first.weight.detach().numpy(), stack.first.bias.detach().numpy()
    x = np.zeros((FEATURES, ROWS, COLUMNS))
    for row in range(ROWS):
        for column in range(COLUMNS):
            x[:, row, column] = bias
            for up in (1, 2, 3):  # Rows above alone.
                for right in range(-3, 4):
                    x[:, row, column] += first[:, :, 3 - up, right + 3] @ at(image, row - up, column + right)
    found = []
    for layer, distance in zip(stack.layers, dilations, strict=True):
        kernel = layer.weight.detach().numpy().reshape(2 * FEATURES, FEATURES, 2, 3)
        maps, x_next = np.zeros((2 * FEATURES, ROWS, COLUMNS)), np.zeros_like(x)
        for row in range(ROWS):
            for column in range(COLUMNS):
                maps[:, row, column] = layer.bias.detach().numpy()
                for up in (0, 1):
                    for right in (-1, 0, 1):
                        seen = at(x, row - up * distance, column + right * distance)
                        maps[:, row, column] += kernel[:, :, 1 - up, right + 1] @ seen
                x_next[:, row, column] = gate(maps[:, row, column])
        found.append(maps)
        x = x_next
    return found


@pytest.mark.parametrize("dilations", [(1,), (1, 1), (2, 1, 4)])
@pytest.mark.parametrize("channels", [1, 3])
def test_the_vertical_stack_is_the_papers(channels: int, dilations: tuple[int, ...]) -> None:
    stack, images = drawn(VerticalStack(channels, FEATURES, dilations)), random(2, channels, ROWS, COLUMNS)
    found = stack(images)
    assert len(found) == len(dilations)
    for index, image in enumerate(images.numpy()):
        for maps, expected in zip(found, vertical(stack, image, dilations), strict=True):
            np.testing.assert_allclose(maps[index].detach().numpy(), expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize("dilation", [1, 3])
@pytest.mark.parametrize("channels", [1, 3])
def test_a_horizontal_layer_is_the_papers(channels: int, dilation: int) -> None:
    layer = drawn(HorizontalLayer(FEATURES, channels, dilation))
    x, above = random(2, FEATURES, ROWS, COLUMNS), random(2, 2 * FEATURES, ROWS, COLUMNS)
    found = layer(x, above).detach().numpy()
    kernel = layer.weight.detach().numpy()
    left, centre = kernel[:, :FEATURES], kernel[:, FEATURES:].copy()
    for output in range(2 * FEATURES):
        for own in range(FEATURES):
            # With as many features as channels, feature k is of channel k.
            if channels == 3 and own > output % FEATURES:
                centre[output, own] = 0
    for image in range(2):
        for row in range(ROWS):
            for column in range(COLUMNS):
                values = left @ at(x[image].numpy(), row, column - dilation) + centre @ x[image, :, row, column].numpy()
                values += layer.from_above.weight.detach().numpy() @ above[image, :, row, column].numpy()
                values += layer.from_above.bias.detach().numpy()
                np.testing.assert_allclose(found[image, :, row, column], gate(values), rtol=0, atol=1e-12)
