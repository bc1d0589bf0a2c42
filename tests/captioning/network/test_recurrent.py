"""The cells against those of torch, against one layer over the window, and against finite differences."""

import pytest
import torch
from torch import Tensor, nn

from captioning.network.recurrent import LSTMCell, RNNCell, WindowCell

INPUT_SIZE, HIDDEN_SIZE = 5, 3


def in_torch_order(gates: Tensor) -> Tensor:
    """Reorder rows of (input, forget, output, candidate) to those of torch (input, forget, candidate, output)."""
    return torch.cat([gates.chunk(4)[gate] for gate in (0, 1, 3, 2)])


def torch_cell_like(cell: LSTMCell) -> nn.LSTMCell:
    theirs = nn.LSTMCell(INPUT_SIZE, HIDDEN_SIZE, dtype=torch.float64)
    theirs.load_state_dict(
        {
            "weight_ih": in_torch_order(cell.input_to_gates.weight.data),
            "weight_hh": in_torch_order(cell.state_to_gates.weight.data),
            "bias_ih": in_torch_order(cell.input_to_gates.bias.data),
            "bias_hh": torch.zeros(4 * HIDDEN_SIZE),
        }
    )
    return theirs


@pytest.fixture
def cell() -> LSTMCell:
    torch.manual_seed(0)
    cell = LSTMCell(INPUT_SIZE, HIDDEN_SIZE).double()
    nn.init.normal_(cell.input_to_gates.bias)
    return cell


def test_equals_torchs_cell_forward_and_backward(cell: LSTMCell) -> None:
    theirs = torch_cell_like(cell)
    generator = torch.Generator().manual_seed(1)
    inputs = torch.randn(4, 6, INPUT_SIZE, generator=generator, dtype=torch.float64)  # 4 words of 6 captions
    hidden, state = torch.randn(2, 6, HIDDEN_SIZE, generator=generator, dtype=torch.float64)
    their_hidden, their_state = hidden, state
    for step in inputs:
        hidden, state = cell(cell.input_to_gates(step), hidden, state)
        their_hidden, their_state = theirs(step, (their_hidden, their_state))
    torch.testing.assert_close(hidden, their_hidden)
    torch.testing.assert_close(state, their_state)

    (hidden.sin().sum() + state.square().sum()).backward()
    (their_hidden.sin().sum() + their_state.square().sum()).backward()
    pairs = [
        (cell.input_to_gates.weight, theirs.weight_ih),
        (cell.state_to_gates.weight, theirs.weight_hh),
        (cell.input_to_gates.bias, theirs.bias_ih),
    ]
    for ours, reference in pairs:
        assert ours.grad is not None
        assert reference.grad is not None
        torch.testing.assert_close(in_torch_order(ours.grad), reference.grad)


def test_gradient_is_that_of_finite_differences(cell: LSTMCell) -> None:
    shapes = [(2, 2, 4 * HIDDEN_SIZE), (2, 2, HIDDEN_SIZE), (2, 2, HIDDEN_SIZE)]
    tensors = [torch.randn(shape, dtype=torch.float64, requires_grad=True) for shape in shapes]
    assert torch.autograd.gradcheck(cell, tuple(tensors))


def test_a_fresh_cell_remembers_and_has_orthogonal_gates() -> None:
    cell = LSTMCell(INPUT_SIZE, HIDDEN_SIZE)
    assert cell.input_to_gates.bias.tolist() == [0.0] * HIDDEN_SIZE + [1.0] * HIDDEN_SIZE + [0.0] * 2 * HIDDEN_SIZE
    for weight in cell.state_to_gates.weight.chunk(4):
        torch.testing.assert_close(weight @ weight.T, torch.eye(HIDDEN_SIZE))


def test_the_vanilla_rnn_equals_torchs_cell_forward_and_backward() -> None:
    torch.manual_seed(0)
    cell = RNNCell(INPUT_SIZE, HIDDEN_SIZE).double()
    nn.init.normal_(cell.input_to_gates.bias)
    theirs = nn.RNNCell(INPUT_SIZE, HIDDEN_SIZE, dtype=torch.float64)
    theirs.load_state_dict(
        {
            "weight_ih": cell.input_to_gates.weight.data,
            "weight_hh": cell.state_to_gates.weight.data,
            "bias_ih": cell.input_to_gates.bias.data,
            "bias_hh": torch.zeros(HIDDEN_SIZE),
        }
    )
    inputs = torch.randn(4, 6, INPUT_SIZE, dtype=torch.float64)
    hidden = their_hidden = torch.randn(6, HIDDEN_SIZE, dtype=torch.float64)
    for step in inputs:
        hidden, cell_state = cell(cell.input_to_gates(step), hidden, hidden[:, :0])
        assert cell_state.shape == (6, 0)
        their_hidden = theirs(step, their_hidden)
    torch.testing.assert_close(hidden, their_hidden)
    hidden.sin().sum().backward()
    their_hidden.sin().sum().backward()
    torch.testing.assert_close(cell.state_to_gates.weight.grad, theirs.weight_hh.grad)
    torch.testing.assert_close(cell.input_to_gates.weight.grad, theirs.weight_ih.grad)


@pytest.mark.parametrize("window", [1, 2, 4])
def test_a_window_is_one_layer_over_the_last_inputs_side_by_side(window: int) -> None:
    torch.manual_seed(0)
    cell = WindowCell(INPUT_SIZE, HIDDEN_SIZE, window).double()
    nn.init.normal_(cell.input_to_gates.bias)
    inputs = torch.randn(7, 2, INPUT_SIZE, dtype=torch.float64, requires_grad=True)
    hidden, cell_state = torch.zeros(2, HIDDEN_SIZE).double(), torch.zeros(2, cell.cell_state_size).double()
    weights, biases = cell.input_to_gates.weight.chunk(window), cell.input_to_gates.bias.chunk(window)
    for time in range(len(inputs)):
        hidden, cell_state = cell(cell.input_to_gates(inputs[time]), hidden, cell_state)
        seen = [(inputs[time - back], weights[back], biases[back]) for back in range(min(window, time + 1))]
        expected = torch.tanh(torch.stack([x @ weight.T + bias for x, weight, bias in seen]).sum(0))
        torch.testing.assert_close(hidden, expected)
    (gradient,) = torch.autograd.grad(hidden.sum(), inputs)
    # Inputs before the window have no influence.
    assert (gradient != 0).any(-1).any(-1).tolist() == [False] * (7 - window) + [True] * window
