"""The recurrent scan: one LSTM layer run over the rows, or the diagonals, of a batch of images.

Pixel Recurrent Neural Networks (van den Oord, Kalchbrenner, Kavukcuoglu 2016, arXiv 1601.06759), equation 3:

    [o, f, i, g] = sigma(K_ss * h_{t-1} + K_is * x_t)        with tanh in place of sigma for g
    c_t = f . c_{t-1} + i . g
    h_t = o . tanh(c_t)

Both convolutions run along the line t (the columns of a row, or the rows of a diagonal) and are written as sums over
taps: the tap `offset` reads the position + `offset`, or zero beyond the ends of the line. The Row LSTM and the Diagonal
BiLSTM differ only in their taps and in the positions of a line.

This is the hot path of training, so the gradient is derived by hand: `compiled_scan` is the implementation for a CPU,
`torch_scan` that for an accelerator, and `layers.reference` a plain loop, with which both are compared.

Shapes: T lines, P positions per line, B images, I input channels, h hidden channels. The batch is last, so that the tap
of a line is a matrix (channels, positions x batch) for the matrix product, without a copy.
"""

from dataclasses import dataclass

from torch import Tensor

from pixelrnn.scan.compiled_scan import CompiledScan
from pixelrnn.scan.torch_scan import TorchScan


@dataclass(frozen=True)
class Geometry:
    """The positions that a scan visits, and the positions that it reads for each of them.

    Attributes:
        input_taps: Offsets of the taps of K_is, along line t.
        state_taps: Offsets of the taps of K_ss, along line t - 1.
        ranges: Half-open range (first, end) of the positions of each line. Neither bound may decrease from line to
            line: a position starts from the learned initial state, and is not read again after its last line.
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
    """Run the LSTM over all lines.

    Args:
        x: (T, I, P, B), input features.
        input_to_state: (4h, input taps x I), K_is: taps side by side, rows in the order o, f, i, g.
        state_to_state: (4h, state taps x h), K_ss: in the same layout.
        bias: (4h,), bias of the gates.
        initial_hidden: (h, P), hidden state before the first line of a position.
        initial_cell: (h, P), cell before the first line of a position.
        geometry: Taps, and positions of each line.

    Returns:
        (T, h, P, B), hidden states; the values at positions that a line does not have are undefined.
    """
    scan = CompiledScan if x.device.type == "cpu" else TorchScan
    return scan.apply(x, input_to_state, state_to_state, bias, initial_hidden, initial_cell, geometry)
