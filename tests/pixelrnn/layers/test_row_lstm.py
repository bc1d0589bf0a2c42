"""The Row LSTM layer against equation 3, computed pixel by pixel."""

import numpy as np
import pytest
import torch

from pixelrnn.layers.row_lstm import RowLSTM

FEATURES, HIDDEN, ROWS, COLUMNS, BATCH = 5, 4, 4, 6, 2


def make_layer(channels: int, dilation: int) -> RowLSTM:
    torch.manual_seed(0)
    layer = RowLSTM(FEATURES, HIDDEN, COLUMNS, channels, dilation).double()
    for parameter in layer.parameters():
        torch.nn.init.normal_(parameter, std=0.7)
    return layer


def sigmoid(x: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-x))


def equation_3(layer: RowLSTM, x: np.ndarray, channels: int) -> np.ndarray:
    """Compute states (H, W, h) of one image (H, W, features)."""
    values = {name: parameter.detach().numpy() for name, parameter in layer.named_parameters()}
    left, centre = np.split(values["input_to_state"], 2, axis=1)
    from_left, from_above, from_right = np.split(values["state_to_state"], 3, axis=1)
    centre = centre.copy()
    for gate_row in range(4 * HIDDEN):
        for feature in range(FEATURES):
            # Mask B: a feature of a later channel is not seen.
            if feature * channels // FEATURES > (gate_row % HIDDEN) * channels // HIDDEN:
                centre[gate_row, feature] = 0
    distance = layer.dilation
    hidden, cell = values["initial_hidden"].T, values["initial_cell"].T
    states = []
    for row in range(ROWS):
        new_hidden, new_cell = np.zeros_like(hidden), np.zeros_like(cell)
        for column in range(COLUMNS):
            total = values["bias"] + centre @ x[row, column] + from_above @ hidden[column]
            if column >= distance:
                total += left @ x[row, column - distance] + from_left @ hidden[column - distance]
            if column + distance < COLUMNS:
                total += from_right @ hidden[column + distance]
            output, forget, write, candidate = np.split(total, 4)
            new_cell[column] = sigmoid(forget) * cell[column] + sigmoid(write) * np.tanh(candidate)
            new_hidden[column] = sigmoid(output) * np.tanh(new_cell[column])
        hidden, cell = new_hidden, new_cell
        states.append(hidden)
    return np.stack(states)


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("dilation", [1, 2, 5])
def test_equals_equation_3_pixel_by_pixel(channels: int, dilation: int) -> None:
    layer = make_layer(channels, dilation)
    x = torch.randn(ROWS, FEATURES, COLUMNS, BATCH, dtype=torch.float64)
    states = layer(x).detach().numpy()
    assert states.shape == (ROWS, HIDDEN, COLUMNS, BATCH)
    for image in range(BATCH):
        expected = equation_3(layer, x[..., image].permute(0, 2, 1).numpy(), channels)
        np.testing.assert_allclose(states[..., image].transpose(0, 2, 1), expected, rtol=0, atol=1e-12)


def sources(dilation: int, row: int, column: int) -> set[tuple[int, int]]:
    """Return the pixels (row, column) of x on which the state of one pixel depends."""
    x = torch.randn(ROWS, FEATURES, COLUMNS, 1, dtype=torch.float64, requires_grad=True)
    gradient = torch.autograd.grad(make_layer(1, dilation)(x)[row, :, column].sum(), x)[0]
    return {(r, c) for r, c in (gradient != 0).any(1).any(2).nonzero().tolist()}


def test_the_row_above_gives_context_on_both_sides() -> None:
    own = {(1, 1), (1, 2)}
    assert sources(1, 1, 2) == own | {(0, 0), (0, 1), (0, 2), (0, 3)}


def test_dilated_taps_lie_apart() -> None:
    own = {(1, 1), (1, 3)}
    assert sources(2, 1, 3) == own | {(0, 1), (0, 3), (0, 5)}


def test_every_column_has_an_initial_state_of_its_own() -> None:
    layer = make_layer(1, 1)
    x = torch.randn(ROWS, FEATURES, COLUMNS, 1, dtype=torch.float64)
    before = layer(x)[0, :, :, 0]
    with torch.no_grad():
        layer.initial_hidden[:, 3] += 1
    changed = (layer(x)[0, :, :, 0] != before).any(0)
    assert changed.tolist() == [False, False, True, True, True, False]
