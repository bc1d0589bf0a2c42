"""The scan on a CPU: an autograd function around the loops of `kernels`, with the batch divided among threads."""

import math

import numba
import numpy as np
import torch
from numba.np.ufunc.parallel import get_thread_count
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

from pixelrnn.scan import kernels
from pixelrnn.scan.kernels import CHANNELS, LANES, pack

MOST_COLUMNS = 2048  # Columns of a line in one share; with more, the gates of a line do not fit in the cache of a core.


class CompiledScan(torch.autograd.Function):
    """`lstm_scan` for float32 and float64 on a CPU.

    It obeys `torch.set_float32_matmul_precision("medium")` where the processor multiplies bf16: factors of products are
    rounded, also in the backward pass, and sums are not.
    """

    @staticmethod
    def forward(ctx, x, input_to_state, state_to_state, bias, initial_hidden, initial_cell, geometry):
        """Return the hidden states."""
        lines, features, positions, batch = x.shape
        h = initial_hidden.shape[0]
        x = x.contiguous()
        lanes = round_up(math.ceil(batch / _threads()), LANES)
        lanes = min(lanes, max(MOST_COLUMNS // positions // LANES, 1) * LANES)
        shares = math.ceil(batch / lanes)
        is_packed = x.dtype == torch.float32 and _rounds_factors()
        step = LANES if is_packed else CHANNELS
        by_taps = by_tap(input_to_state, h, features, step), by_tap(state_to_state, h, h, step)
        missing = round_up(h, step) - h
        starts = [F.pad(state, (0, 0, 0, missing)).contiguous() for state in (initial_hidden, initial_cell)]
        places = [np.array(numbers) for numbers in (geometry.input_taps, geometry.state_taps, geometry.ranges)]
        hidden = x.new_empty(lines, h, positions, batch)
        record = x.new_empty(shares, lines + 1, 5 * (h + missing), positions * lanes)
        factors = [packed(kernel) for kernel in by_taps] if is_packed else by_taps
        kernels.forward(*_arrays(record, hidden, x, *factors, by_gate(bias, h, step), *starts), *places)
        ctx.save_for_backward(x, *by_taps, starts[0], record, hidden)
        ctx.places, ctx.is_packed = places, is_packed
        return hidden

    @staticmethod
    @once_differentiable  # Its loose type makes pyright report an incompatible override.
    def backward(ctx, grad):  # pyright: ignore[reportIncompatibleMethodOverride]
        """Return the gradients of all arguments of `forward`."""
        x, input_kernels, state_kernels, initial_hidden, record, hidden = ctx.saved_tensors
        features, h = x.shape[1], hidden.shape[1]
        _threads()
        # Each share has its own sum of the gradients of the tensors that all shares use.
        shared = (input_kernels, state_kernels, input_kernels[0, :, 0], initial_hidden, initial_hidden)
        sums = [x.new_zeros(len(record), *tensor.shape) for tensor in shared]
        transposed = [kernel.transpose(1, 2).contiguous() for kernel in (input_kernels, state_kernels)]
        transposed = [packed(kernel) for kernel in transposed] if ctx.is_packed else transposed
        grad_x = torch.empty_like(x)
        arrays = _arrays(record, *sums, grad_x, grad.contiguous(), x, hidden, initial_hidden, *transposed)
        kernels.backward(*arrays, *ctx.places)
        grad_input_kernels, grad_state_kernels, grad_bias, *grad_starts = (total.sum(0) for total in sums)
        return (
            grad_x,
            _side_by_side(grad_input_kernels, h, features),
            _side_by_side(grad_state_kernels, h, h),
            grad_bias.unflatten(0, (4, -1))[:, :h].flatten(),
            *(total[:h] for total in grad_starts),
            None,
        )


def _rounds_factors() -> bool:
    """Return whether factors of products of float32 may be rounded to bf16, and this processor gains by it."""
    return torch.get_float32_matmul_precision() == "medium" and torch.cpu._is_avx512_bf16_supported()


def packed(kernels: Tensor) -> Tensor:
    """Return kernels (taps, rows, columns), rounded to bf16, in pairs: (taps, rows, columns / 2) uint32."""
    flat = kernels.detach().reshape(-1, kernels.shape[2])
    return torch.from_numpy(pack(flat.numpy())).unflatten(0, kernels.shape[:2])


def round_up(number: int, step: int) -> int:
    """Round a number up to a multiple of `step`."""
    return math.ceil(number / step) * step


def _threads() -> int:
    """Let Numba use as many threads as torch, and return that number.

    Both run on the same OpenMP threads, so that idle threads of one do not slow down the other by spinning. Therefore
    Numba also changes torch's number of threads when it starts its threads, at its first call; this resets it.
    """
    threads = torch.get_num_threads()
    numba.set_num_threads(min(threads, get_thread_count()))
    torch.set_num_threads(threads)
    return threads


def by_tap(kernel: Tensor, h: int, channels: int, step: int = CHANNELS) -> Tensor:
    """Split a kernel (4h, taps x channels) into one matrix per tap, (taps, 4h, channels), sizes multiples of `step`."""
    kernel = kernel.reshape(4, h, -1, channels)
    rounded = F.pad(kernel, (0, round_up(channels, step) - channels, 0, 0, 0, round_up(h, step) - h))
    return rounded.permute(2, 0, 1, 3).flatten(1, 2).contiguous()


def by_gate(bias: Tensor, h: int, step: int = CHANNELS) -> Tensor:
    """Return a bias (4h,) with the size h of each gate rounded up to a multiple of `step`."""
    return F.pad(bias.reshape(4, h), (0, round_up(h, step) - h)).flatten()


def _side_by_side(kernels: Tensor, h: int, channels: int) -> Tensor:
    """Invert `by_tap`."""
    return kernels.unflatten(1, (4, -1)).permute(1, 2, 0, 3)[:, :h, :, :channels].reshape(4 * h, -1)


def _arrays(*tensors: Tensor) -> list[np.ndarray]:
    """Return NumPy views of the tensors, which Numba needs."""
    return [tensor.detach().numpy() for tensor in tensors]
