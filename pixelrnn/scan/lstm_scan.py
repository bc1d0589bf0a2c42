"""The recurrent scan: one LSTM layer run over the rows, or the diagonals, of a whole batch of images.

Pixel Recurrent Neural Networks (van den Oord, Kalchbrenner, Kavukcuoglu 2016, arXiv 1601.06759), equation 3:

    [o, f, i, g] = sigma(K_ss * h_{t-1} + K_is * x_t)        with tanh in place of sigma for g
    c_t = f . c_{t-1} + i . g
    h_t = o . tanh(c_t)

Both convolutions run along the line t (the columns of a row, or the rows of a diagonal) and are written as sums over
taps: a tap at `offset` reads the position `offset` further on, zero beyond the ends. The Row LSTM and the Diagonal
BiLSTM differ only in their taps and in which positions a line has.

This is the hot path of training, so the gradient is derived by hand: `compiled_scan` has it for a processor,
`torch_scan` for an accelerator, and `reference` the plain loop, which both must equal.

Shapes: T lines, P positions a line, B images, I input channels, h hidden channels. The batch comes last, so that a tap
of a line is a plain matrix (channels, positions x batch) for the matrix product, without a copy.
"""

from dataclasses import dataclass

from torch import Tensor

from pixelrnn.scan.compiled_scan import CompiledScan
from pixelrnn.scan.torch_scan import TorchScan


@dataclass(frozen=True)
class Geometry:
    """Which positions a scan visits, and which it reads at each.

    Attributes:
        input_taps: Offsets of K_is, along the line t.
        state_taps: Offsets of K_ss, along the line t - 1.
        ranges: For each line the first of its positions and the one after its last. Both may only grow: a position
            begins from the learned initial state, and once it has ended it is not read again.
    """

    input_taps: tuple[int, ...]
    state_taps: tuple[int, ...]
    ranges: tuple[tuple[int, int], ...]


def lstm_scan(
    x: Tensor,
    input_to_state: Tensor,
    state_to_state: Tensor,
    bias: Tensor,
    initial_hidden: Tensor,
    initial_cell: Tensor,
    geometry: Geometry,
) -> Tensor:
    """Run the LSTM over the lines.

    Args:
        x: (T, I, P, B), the input features.
        input_to_state: (4h, input taps x I), K_is: the taps side by side, the rows in the order o, f, i, g.
        state_to_state: (4h, state taps x h), K_ss.
        bias: (4h,).
        initial_hidden: (h, P), the hidden state before a position's first line.
        initial_cell: (h, P), the cell before it.
        geometry: The taps, and the positions of every line.

    Returns:
        (T, h, P, B), the hidden states; at positions that a line does not have, whatever lay there.
    """
    scan = CompiledScan if x.device.type == "cpu" else TorchScan
    return scan.apply(x, input_to_state, state_to_state, bias, initial_hidden, initial_cell, geometry)
