"""The networks that read a caption word by word: a fixed window, a vanilla RNN, and an LSTM with accessible gates.

All have the same interface, so that the decoder can use any of them. A step takes the product of the input with its
weights, the last hidden state, and the cell state, which is everything else that the network carries between steps.

Shapes: `...` any leading dimensions, here (images, captions of an image); I input size; H hidden size; G width of the
input product; M width of the cell state.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class Gates(NamedTuple):
    """The gate activations of an LSTM at one step, each (..., H)."""

    input: Tensor
    forget: Tensor
    output: Tensor
    candidate: Tensor


class LSTMCell(nn.Module):
    """One step of an LSTM; the caller computes the product of the input with its weights.

    Hochreiter and Schmidhuber (1997), with the forget gate of Gers, Schmidhuber and Cummins (2000); the equations are
    those of Xu et al., "Show, Attend and Tell" (arXiv 1502.03044), section 3.1.2, equations 1 to 3.

    In training all words of a caption are known, so their part of the input product is computed once for the whole
    sequence; only what depends on the last state remains in the loop.

    Deviation: the forget gate's bias starts at 1 (Jozefowicz et al., 2015), so that an untrained cell remembers.
    """

    def __init__(self, input_size: int, hidden_size: int):
        super().__init__()
        self.cell_state_size = hidden_size
        self.input_to_gates = nn.Linear(input_size, 4 * hidden_size)
        self.state_to_gates = nn.Linear(hidden_size, 4 * hidden_size, bias=False)
        nn.init.xavier_uniform_(self.input_to_gates.weight)
        for gate_weight in self.state_to_gates.weight.chunk(4):
            nn.init.orthogonal_(gate_weight)
        nn.init.zeros_(self.input_to_gates.bias)
        with torch.no_grad():
            self.input_to_gates.bias[hidden_size : 2 * hidden_size] = 1.0

    def forward(self, projected_input: Tensor, hidden: Tensor, cell_state: Tensor) -> tuple[Tensor, Tensor]:
        """Return the next hidden state and cell, each (..., H).

        Args:
            projected_input: `input_to_gates` of the input, (..., 4H), ordered as input, forget, output, candidate.
            hidden: The last hidden state h_{t-1}, (..., H).
            cell_state: The last cell c_{t-1}, (..., H).
        """
        return self.update(projected_input + self.projected_state(hidden), cell_state)

    def projected_state(self, hidden: Tensor) -> Tensor:
        """Return the product of the last hidden state with its weights, (..., 4H)."""
        return self.state_to_gates(hidden)

    def update(self, sums: Tensor, cell_state: Tensor) -> tuple[Tensor, Tensor]:
        """Return what `forward` does, given the sum of both products, (..., 4H)."""
        gates = self.gates(sums)
        cell = gates.forget * cell_state + gates.input * gates.candidate  # equation 2
        return gates.output * cell.tanh(), cell  # equation 3

    def gates(self, sums: Tensor) -> Gates:
        """Return the gates of equation 1, given the sum of both products, (..., 4H)."""
        sigmoid_gates, candidate = sums.split([3 * self.cell_state_size, self.cell_state_size], dim=-1)
        input_gate, forget_gate, output_gate = sigmoid_gates.sigmoid().chunk(3, dim=-1)
        return Gates(input_gate, forget_gate, output_gate, candidate.tanh())


@contextmanager
def recorded_gates(cell: nn.Module) -> Iterator[list[Gates]]:
    """Collect the gates of every step that an LSTM takes within the block; of another cell, nothing."""
    steps: list[Gates] = []
    if not isinstance(cell, LSTMCell):
        yield steps
        return
    gates = cell.gates

    def record(sums: Tensor) -> Gates:
        steps.append(gates(sums))
        return steps[-1]

    cell.gates = record
    try:
        yield steps
    finally:
        del cell.gates


class RNNCell(nn.Module):
    """One step of the vanilla RNN (Elman, 1990): h_t = tanh(W x_t + U h_{t-1} + b), without a cell state.

    U starts orthogonal, so that the weights of an untrained network neither shrink nor enlarge gradients; tanh still
    shrinks them.
    """

    def __init__(self, input_size: int, hidden_size: int):
        super().__init__()
        self.cell_state_size = 0
        self.input_to_gates = nn.Linear(input_size, hidden_size)
        self.state_to_gates = nn.Linear(hidden_size, hidden_size, bias=False)
        nn.init.xavier_uniform_(self.input_to_gates.weight)
        nn.init.orthogonal_(self.state_to_gates.weight)
        nn.init.zeros_(self.input_to_gates.bias)

    def forward(self, projected_input: Tensor, hidden: Tensor, cell_state: Tensor) -> tuple[Tensor, Tensor]:
        """Return the next hidden state, (..., H), and the cell state unchanged, (..., 0).

        Args:
            projected_input: `input_to_gates` of the input, (..., H).
            hidden: The last hidden state, (..., H).
            cell_state: Empty tensor.
        """
        return self.update(projected_input + self.projected_state(hidden), cell_state)

    def projected_state(self, hidden: Tensor) -> Tensor:
        """Return the product of the last hidden state with its weights, (..., H)."""
        return self.state_to_gates(hidden)

    def update(self, sums: Tensor, cell_state: Tensor) -> tuple[Tensor, Tensor]:
        """Return what `forward` does, given the sum of both products, (..., H)."""
        return sums.tanh(), cell_state


class WindowCell(nn.Module):
    """One step of a feed-forward layer over the last n inputs: h_t = tanh(W_1 x_t + ... + W_n x_{t-n+1} + b).

    The fixed window of Bengio et al., "A Neural Probabilistic Language Model" (2003), equation 1 without its direct
    connections. The products of an input with all W_j are computed together when the input arrives. The cell state
    contains the partial sums of the next n - 1 steps; earlier inputs have no effect. Each W_j has its own bias, and b
    is the sum of the biases whose inputs exist, so that the first steps can be distinguished.
    """

    def __init__(self, input_size: int, hidden_size: int, window: int):
        super().__init__()
        self.cell_state_size = (window - 1) * hidden_size
        self.input_to_gates = nn.Linear(input_size, window * hidden_size)
        # Initialised like one layer that reads the n inputs concatenated.
        bound = (6 / (window * input_size + hidden_size)) ** 0.5
        nn.init.uniform_(self.input_to_gates.weight, -bound, bound)
        nn.init.zeros_(self.input_to_gates.bias)

    def forward(self, projected_input: Tensor, hidden: Tensor, cell_state: Tensor) -> tuple[Tensor, Tensor]:
        """Return the next hidden state, (..., H), and the partial sums of the next n - 1 steps, (..., (n - 1) H).

        Args:
            projected_input: `input_to_gates` of the input, (..., n H): W_1 x, ..., W_n x.
            hidden: The last hidden state; it is not used.
            cell_state: The last partial sums, (..., (n - 1) H).
        """
        return self.update(projected_input, cell_state)

    def projected_state(self, hidden: Tensor) -> Tensor:
        """Return zeros, (..., 1): everything that a window carries is in the partial sums."""
        return torch.zeros_like(hidden[..., :1])

    def update(self, sums: Tensor, cell_state: Tensor) -> tuple[Tensor, Tensor]:
        """Return what `forward` does."""
        hidden_size = sums.shape[-1] - cell_state.shape[-1]
        now, later = (sums + F.pad(cell_state, (0, hidden_size))).split([hidden_size, cell_state.shape[-1]], dim=-1)
        return now.tanh(), later


Cell = LSTMCell | RNNCell | WindowCell
