"""The Diagonal BiLSTM layer against equation 3 in image coordinates, without skewing; the algebra of skewing."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from pixelrnn.layers.diagonal_bilstm import DiagonalBiLSTM, DiagonalLSTM, shift_down, skew, unskew

FEATURES, HIDDEN, BATCH = 5, 4, 2

sizes = st.integers(1, 5)


def random_map(rows: int, features: int, columns: int, batch: int) -> Tensor:
    return torch.randn(rows, features, columns, batch, dtype=torch.float64)


def make_layer(rows: int, channels: int) -> DiagonalBiLSTM:
    torch.manual_seed(0)
    layer = DiagonalBiLSTM(FEATURES, HIDDEN, rows, channels).double()
    for parameter in layer.parameters():
        torch.nn.init.normal_(parameter, std=0.7)
    return layer


def sigmoid(x: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-x))


def stream(layer: DiagonalLSTM, x: np.ndarray, channels: int) -> np.ndarray:
    """Compute states (H, W, h) of one image (H, W, features), pixel by pixel."""
    values = {name: parameter.detach().numpy() for name, parameter in layer.named_parameters()}
    kernel = values["input_to_state"].copy()
    for gate_row in range(4 * HIDDEN):
        for feature in range(FEATURES):
            if feature * channels // FEATURES > (gate_row % HIDDEN) * channels // HIDDEN:
                kernel[gate_row, feature] = 0
    from_above, from_beside = np.split(values["state_to_state"], 2, axis=1)
    rows, columns, _ = x.shape
    hidden = np.zeros((rows, columns, HIDDEN))
    for row in range(rows):
        beside, cell = values["initial_hidden"][:, row], values["initial_cell"][:, row]
        for column in reversed(range(columns)) if layer.mirrored else range(columns):
            total = values["bias"] + kernel @ x[row, column] + from_beside @ beside
            if row:
                total += from_above @ hidden[row - 1, column]
            output, forget, write, candidate = np.split(total, 4)
            cell = sigmoid(forget) * cell + sigmoid(write) * np.tanh(candidate)
            beside = hidden[row, column] = sigmoid(output) * np.tanh(cell)
    return hidden


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize(("rows", "columns"), [(4, 4), (3, 6), (6, 2), (1, 3), (3, 1), (1, 1)])
def test_equals_equation_3_pixel_by_pixel(channels: int, rows: int, columns: int) -> None:
    layer = make_layer(rows, channels)
    x = random_map(rows, FEATURES, columns, BATCH)
    states = layer(x).detach().numpy()
    assert states.shape == (rows, HIDDEN, columns, BATCH)
    for image in range(BATCH):
        pixels = x[..., image].permute(0, 2, 1).numpy()
        expected = stream(layer.from_left, pixels, channels)
        # Shifted down: the stream from the right has seen pixels up to the row above.
        expected[1:] += stream(layer.from_right, pixels, channels)[:-1]
        np.testing.assert_allclose(states[..., image].transpose(0, 2, 1), expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize(("rows", "columns"), [(3, 3), (2, 4)])
def test_gradient_equals_differences(rows: int, columns: int) -> None:
    assert torch.autograd.gradcheck(make_layer(rows, 3), random_map(rows, FEATURES, columns, 1).requires_grad_())


def test_skew_of_a_small_map() -> None:
    x = torch.tensor([[1, 2, 3], [4, 5, 6]]).view(2, 1, 3, 1)
    assert skew(x, mirrored=False).squeeze().tolist() == [[1, 0], [2, 4], [3, 5], [0, 6]]
    assert skew(x, mirrored=True).squeeze().tolist() == [[3, 0], [2, 6], [1, 5], [0, 4]]


@given(sizes, sizes, sizes, sizes, st.booleans())
def test_unskew_undoes_skew(rows: int, features: int, columns: int, batch: int, mirrored: bool) -> None:
    x = random_map(rows, features, columns, batch)
    assert torch.equal(unskew(skew(x, mirrored), mirrored), x)


@settings(deadline=None)
@given(sizes, sizes, sizes, sizes, st.booleans())
def test_each_is_the_others_adjoint(rows: int, features: int, columns: int, batch: int, mirrored: bool) -> None:
    """Therefore each is the backward pass of the other."""
    x = random_map(rows, features, columns, batch)
    lines = random_map(rows + columns - 1, features, rows, batch)
    inner = (skew(x, mirrored) * lines).sum()
    torch.testing.assert_close(inner, (x * unskew(lines, mirrored)).sum())


def test_shift_down() -> None:
    x = torch.tensor([[1, 2], [3, 4], [5, 6]]).view(3, 1, 2, 1)
    assert shift_down(x).squeeze().tolist() == [[0, 0], [1, 2], [3, 4]]


def test_every_row_has_an_initial_state_of_its_own() -> None:
    layer = make_layer(3, 1).from_left
    x = random_map(3, FEATURES, 4, 1)
    before = layer(x)[..., 0]
    with torch.no_grad():
        layer.initial_cell[:, 1] += 1
    changed = (layer(x)[..., 0] != before).any(1)
    assert changed.tolist() == [[False] * 4, [True] * 4, [True] * 4]
