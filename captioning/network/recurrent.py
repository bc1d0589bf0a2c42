"""The networks that read a caption word by word: a fixed window, a vanilla RNN, and an LSTM with its gates in the open.

All have one interface, so that the decoder can use any: a step takes the input's product with its weights, the last
hidden state, and whatever else the network carries from step to step, its cell state.

Shapes: `...` any leading dimensions, here (images, captions of an image); I input size; H hidden size; G the width of
the input's product; M the width of the cell
state.
"""

from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class Gates(NamedTuple):
    """What the gates of an LSTM let through at one step, each (..., H)."""

    input: Tensor
    forget: Tensor
    output: Tensor
    candidate: Tensor


class LSTMCell(nn.Module):
    """One step of an LSTM, the product of the input with its weights being left to the caller.

    Hochreiter and Schmidhuber (1997), with the forget gate of Gers, Schmidhuber and Cummins (2000); the equations are
    those of Xu et al., "Show, Attend and Tell" (arXiv 1502.03044), section 3.1.2, equations 1 to 3.

    The words of a caption are known beforehand in training, so their part of the input product is made once for the
    whole sequence; only what depends on the last state remains in the loop.

    Deviation: the forget gate's bias starts at 1 (Jozefowicz et al., 2015), so that a fresh cell remembers.
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
            projected_input: `input_to_gates` of the input, (..., 4H), in the order input, forget, output, candidate.
            hidden: The last hidden state h_{t-1}, (..., H).
            cell_state: The last cell c_{t-1}, (..., H).
        """
        gates = self.gates(projected_input, hidden)
        cell = gates.forget * cell_state + gates.input * gates.candidate  # equation 2
        return gates.output * cell.tanh(), cell  # equation 3

    def gates(self, projected_input: Tensor, hidden: Tensor) -> Gates:
        """Return equation 1, of the same arguments."""
        sums = projected_input + F.linear(hidden, self.state_to_gates.weight)  # (..., 4H)
        sigmoid_gates, candidate = sums.split([3 * hidden.shape[-1], hidden.shape[-1]], dim=-1)
        input_gate, forget_gate, output_gate = sigmoid_gates.sigmoid().chunk(3, dim=-1)
        return Gates(input_gate, forget_gate, output_gate, candidate.tanh())


class RNNCell(nn.Module):
    """One step of the vanilla RNN (Elman, 1990): h_t = tanh(W x_t + U h_{t-1} + b), which carries nothing else.

    U starts orthogonal: a fresh network then neither fades nor explodes by its weights, only by its tanh.
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
            cell_state: Empty.
        """
        return (projected_input + F.linear(hidden, self.state_to_gates.weight)).tanh(), cell_state


class WindowCell(nn.Module):
    """A feed-forward layer over the last n inputs, as a step: h_t = tanh(W_1 x_t + ... + W_n x_{t-n+1} + b).

    The fixed window of Bengio et al., "A Neural Probabilistic Language Model" (2003), equation 1 without its direct
    connections. An input's products with all W_j are made at once, when it comes, and the cell state holds the sums
    that the next n - 1 steps continue; what lies further back is gone. Each W_j has a bias of its own: b is the sum of
    those whose inputs exist, so the first steps can tell that they are the first.
    """

    def __init__(self, input_size: int, hidden_size: int, window: int):
        super().__init__()
        self.cell_state_size = (window - 1) * hidden_size
        self.input_to_gates = nn.Linear(input_size, window * hidden_size)
        # As one layer that reads the n inputs side by side would start.
        bound = (6 / (window * input_size + hidden_size)) ** 0.5
        nn.init.uniform_(self.input_to_gates.weight, -bound, bound)
        nn.init.zeros_(self.input_to_gates.bias)

    def forward(self, projected_input: Tensor, hidden: Tensor, cell_state: Tensor) -> tuple[Tensor, Tensor]:
        """Return the next hidden state, (..., H), and the sums of the next n - 1 steps, (..., (n - 1) H).

        Args:
            projected_input: `input_to_gates` of the input, (..., n H): W_1 x, ..., W_n x.
            hidden: The last hidden state, which is not read.
            cell_state: The last sums, (..., (n - 1) H).
        """
        sums = projected_input + F.pad(cell_state, (0, hidden.shape[-1]))
        now, later = sums.split([hidden.shape[-1], cell_state.shape[-1]], dim=-1)
        return now.tanh(), later


Cell = LSTMCell | RNNCell | WindowCell
