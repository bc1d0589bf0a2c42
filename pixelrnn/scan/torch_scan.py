"""The scan on an accelerator: torch operations, line by line, with the gradient derived by hand.

Autograd would keep a dozen tensors per line. Here the gates are computed and activated in place, one buffer holds the
gradients of the gates of the current line, and the gradients of both kernels are summed line by line. Shapes are those
of `lstm_scan`.
"""

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from pixelrnn.scan.kernels import reached


class TorchScan(torch.autograd.Function):
    """`lstm_scan` on any device."""

    @staticmethod
    def forward(ctx, x, input_to_state, state_to_state, bias, initial_hidden, initial_cell, geometry):
        """Return the hidden states."""
        lines, _, positions, batch = x.shape
        h = initial_hidden.shape[0]
        x = x.flatten(2)
        gates = x.new_empty(lines, 4 * h, positions * batch)
        # Entry t is the state before line t.
        hidden = x.new_empty(lines + 1, h, positions * batch)
        cell = x.new_empty(lines + 1, h, positions * batch)
        squashed = x.new_empty(h, positions * batch)
        initial_hidden = initial_hidden[..., None].expand(-1, -1, batch).flatten(1)
        initial_cell = initial_cell[..., None].expand(-1, -1, batch).flatten(1)
        input_kernels = input_to_state.chunk(len(geometry.input_taps), dim=1)
        state_kernels = state_to_state.chunk(len(geometry.state_taps), dim=1)
        bias = bias[:, None].expand(-1, positions * batch)
        begun = 0
        steps = zip(gates.unbind(), x.unbind(), hidden[:-1].unbind(), hidden[1:].unbind(), cell.unbind(), strict=False)
        next_cells = cell[1:].unbind()
        for t, (gate, features, before, after, cell_before) in enumerate(steps):
            first, last = (position * batch for position in geometry.ranges[t])
            if last > begun:
                before[:, begun:last] = initial_hidden[:, begun:last]
                cell_before[:, begun:last] = initial_cell[:, begun:last]
                begun = last
            line = _columns(gate, first, last)
            line.copy_(_columns(bias, first, last))
            for source, taps, kernels in (
                (features, geometry.input_taps, input_kernels),
                (before, geometry.state_taps, state_kernels),
            ):
                for offset, kernel in zip(taps, kernels, strict=True):
                    shift = offset * batch
                    start, stop = reached(shift, first, last, positions * batch)
                    _columns(gate, start, stop).addmm_(kernel, _columns(source, start + shift, stop + shift))
            output, forget, write, candidate = line.split(h)
            line[: 3 * h].sigmoid_()
            candidate.tanh_()
            new_cell, tanh = _columns(next_cells[t], first, last), _columns(squashed, first, last)
            torch.mul(forget, _columns(cell_before, first, last), out=new_cell)
            new_cell.addcmul_(write, candidate)
            torch.tanh(new_cell, out=tanh)
            torch.mul(output, tanh, out=_columns(after, first, last))
        ctx.save_for_backward(x, input_to_state, state_to_state, hidden, cell, gates)
        ctx.geometry, ctx.batch = geometry, batch
        return hidden[1:].unflatten(2, (positions, batch))

    @staticmethod
    @once_differentiable  # Its loose type makes pyright report an incompatible override.
    def backward(ctx, grad):  # pyright: ignore[reportIncompatibleMethodOverride]
        """Return the gradients of all arguments of `forward`."""
        x, input_to_state, state_to_state, hidden, cell, gates = ctx.saved_tensors
        geometry, batch = ctx.geometry, ctx.batch
        grad = grad.flatten(2)
        _, h, width = hidden.shape
        grad_x = torch.empty_like(x)
        grad_input_to_state = torch.zeros_like(input_to_state)
        grad_state_to_state = torch.zeros_like(state_to_state)
        num_inputs, num_states = len(geometry.input_taps), len(geometry.state_taps)
        input_kernels = [kernel.t() for kernel in input_to_state.chunk(num_inputs, dim=1)]
        state_kernels = [kernel.t() for kernel in state_to_state.chunk(num_states, dim=1)]
        grad_input_kernels = grad_input_to_state.chunk(num_inputs, dim=1)
        grad_state_kernels = grad_state_to_state.chunk(num_states, dim=1)
        grad_bias = input_to_state.new_zeros(4 * h)
        grad_initial_hidden, grad_initial_cell = hidden.new_zeros(2, h, width)
        # Gradients that line t + 1 passes to the state after line t, and that line t passes to the state before it.
        grad_hidden, grad_hidden_before = hidden.new_zeros(2, h, width)
        grad_cell_all = hidden.new_zeros(h, width)
        grad_gate = hidden.new_empty(4 * h, width)
        tanh_buffer, grad_tanh_buffer = hidden.new_empty(2, h, width)
        lines = list(zip(gates.unbind(), x.unbind(), grad_x.unbind(), hidden.unbind(), grad.unbind(), strict=False))
        cells = cell.unbind()
        for t in reversed(range(len(lines))):
            first, last = (position * batch for position in geometry.ranges[t])
            gate, features, grad_features, before, grad_after = lines[t]
            line = _columns(gate, first, last)
            output, forget, write, candidate = line.split(h)
            tanh, grad_tanh = _columns(tanh_buffer, first, last), _columns(grad_tanh_buffer, first, last)
            grad_line = _columns(grad_gate, first, last)
            grad_output, grad_forget, grad_write, grad_candidate = grad_line.split(h)
            grad_state, grad_cell = _columns(grad_hidden, first, last), _columns(grad_cell_all, first, last)

            grad_state += _columns(grad_after, first, last)
            torch.tanh(_columns(cells[t + 1], first, last), out=tanh)
            torch.mul(grad_state, tanh, out=grad_output)
            torch.mul(grad_state, output, out=grad_tanh)
            _tanh_backward(grad_tanh, tanh, grad_tanh)
            grad_cell += grad_tanh
            torch.mul(grad_cell, _columns(cells[t], first, last), out=grad_forget)
            torch.mul(grad_cell, candidate, out=grad_write)
            torch.mul(grad_cell, write, out=grad_candidate)
            grad_cell *= forget
            _sigmoid_backward(grad_line[: 3 * h], line[: 3 * h], grad_line[: 3 * h])
            _tanh_backward(grad_candidate, candidate, grad_candidate)

            grad_bias += grad_line.sum(1)
            grad_features.zero_()
            grad_hidden_before.zero_()
            for source, grad_source, taps, kernels, grad_kernels in (
                (features, grad_features, geometry.input_taps, input_kernels, grad_input_kernels),
                (before, grad_hidden_before, geometry.state_taps, state_kernels, grad_state_kernels),
            ):
                for offset, kernel, grad_kernel in zip(taps, kernels, grad_kernels, strict=True):
                    shift = offset * batch
                    start, stop = reached(shift, first, last, width)
                    grad_tap = _columns(grad_gate, start, stop)
                    grad_kernel.addmm_(grad_tap, _columns(source, start + shift, stop + shift).t())
                    _columns(grad_source, start + shift, stop + shift).addmm_(kernel, grad_tap)
            begun = geometry.ranges[t - 1][1] * batch if t else 0
            if last > begun:
                grad_initial_hidden[:, begun:last] = grad_hidden_before[:, begun:last]
                grad_initial_cell[:, begun:last] = grad_cell_all[:, begun:last]
            grad_hidden, grad_hidden_before = grad_hidden_before, grad_hidden
        return (
            grad_x.unflatten(2, (-1, batch)),
            grad_input_to_state,
            grad_state_to_state,
            grad_bias,
            grad_initial_hidden.unflatten(1, (-1, batch)).sum(2),
            grad_initial_cell.unflatten(1, (-1, batch)).sum(2),
            None,
        )


def _columns(matrix: Tensor, first: int, last: int) -> Tensor:
    """Return columns [first, last), without a view if these are all: creating one takes a microsecond."""
    return matrix if last - first == matrix.shape[1] else matrix[:, first:last]


def _sigmoid_backward(grad: Tensor, activated: Tensor, target: Tensor) -> None:
    torch.ops.aten.sigmoid_backward.grad_input(grad, activated, grad_input=target)


def _tanh_backward(grad: Tensor, activated: Tensor, target: Tensor) -> None:
    torch.ops.aten.tanh_backward.grad_input(grad, activated, grad_input=target)
