"""The recurrent cell of the caption decoder: an LSTM with its four gates in the open.

Hochreiter and Schmidhuber (1997), with the forget gate of Gers, Schmidhuber and Cummins (2000); the equations are
those of Xu et al., "Show, Attend and Tell" (arXiv 1502.03044), section 3.1.2, equations 1 to 3.

Shapes: `...` any leading dimensions, here (images, captions of an image); I input size; H hidden size.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class LSTMCell(nn.Module):
    """One step of an LSTM, the product of the input with its weights being left to the caller.

    The words of a caption are known beforehand in training, so their part of the input product is made once for the
    whole sequence; only what depends on the last state remains in the loop.

    Deviation: the forget gate's bias starts at 1 (Jozefowicz et al., 2015), so that a fresh cell remembers.
    """

    def __init__(self, input_size: int, hidden_size: int):
        super().__init__()
        self.input_to_gates = nn.Linear(input_size, 4 * hidden_size)
        self.state_to_gates = nn.Linear(hidden_size, 4 * hidden_size, bias=False)
        nn.init.xavier_uniform_(self.input_to_gates.weight)
        for gate_weight in self.state_to_gates.weight.chunk(4):
            nn.init.orthogonal_(gate_weight)
        nn.init.zeros_(self.input_to_gates.bias)
        with torch.no_grad():
            self.input_to_gates.bias[hidden_size : 2 * hidden_size] = 1.0

    def forward(self, projected_input: Tensor, hidden: Tensor, cell: Tensor) -> tuple[Tensor, Tensor]:
        """Return the next hidden state and cell, each (..., H).

        Args:
            projected_input: `input_to_gates` of the input, (..., 4H), in the order input, forget, output, candidate.
            hidden: The last hidden state h_{t-1}, (..., H).
            cell: The last cell c_{t-1}, (..., H).
        """
        gates = projected_input + F.linear(hidden, self.state_to_gates.weight)  # (..., 4H), equation 1
        sigmoid_gates, candidate = gates.split([3 * cell.shape[-1], cell.shape[-1]], dim=-1)
        input_gate, forget_gate, output_gate = sigmoid_gates.sigmoid().chunk(3, dim=-1)
        cell = forget_gate * cell + input_gate * candidate.tanh()  # equation 2
        return output_gate * cell.tanh(), cell  # equation 3
