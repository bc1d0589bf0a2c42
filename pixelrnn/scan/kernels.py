"""Loops that Numba compiles to vector instructions of the CPU: the scan, its gradient, and single pixels of a scan.

With torch operations, a line takes about thirty passes over memory, and its matrix products are too small for the
library that torch uses, which reaches half of the peak rate on many CPUs. Here each thread runs its share of the images
through all lines, and a line stays in the cache of the thread while its gates are summed and activated and the state is
updated.

Shapes are those of `lstm_scan`: T lines, P positions per line, B images, I input channels, h hidden channels. A share
has a multiple of LANES images, and one of its lines is a matrix (channels, P x lanes) with the images of a position
side by side, so that a tap reads the same matrix with an offset in columns. I and h are rounded up to a multiple of
CHANNELS, so that the products, which process eight rows and four columns of a kernel at once, have no remainder. The
padding contributes nothing to any gradient.

Kernels may be rounded to bf16 and packed, two neighbours of a row in a uint32 (see `pack`); then what they are
multiplied with is packed too, and a processor with the instruction for it multiplies twice as many numbers at once. The
sums, the gates and the states remain float32. The type of the kernels chooses the form of every product.

The first call takes some seconds to compile; the result is cached next to this file. Numba compiles again when this
file changes, but not when another file does, so everything that it compiles is in this file.
"""

import math
from typing import Any

import numba
import numpy as np
from llvmlite import ir
from numba import extending, njit, prange, types
from numba.core import cgutils
from numba.extending import models, overload, register_model

# Number of float32 values in the widest vector register. The number of columns is a multiple of it, which the compiler
# does not know: a loop over `columns // LANES * LANES` saves the registers for a remainder.
LANES = 16
CHANNELS = 8

# Sums may be reordered, and a product may be added without rounding it first. The other flags of "fast" would hide NaN.
OPTIONS: Any = {"fastmath": {"reassoc", "contract", "arcp", "nsz"}, "error_model": "numpy"}
compiled = njit(cache=True, **OPTIONS)
intrinsic: Any = extending.intrinsic


@njit(cache=True, parallel=True, **OPTIONS)
def forward(record, hidden, *inputs):
    """Run `_forward_share` for all shares in parallel."""
    for number in prange(len(record)):
        share = np.intp(number)  # Numba counts such loops in unsigned integers, and would compile all for these too.
        _forward_share(share, record[share], hidden, *inputs)


@compiled
def _forward_share(
    share,
    record,  # (T + 1, 5h, P x lanes), output: at t, the activated gates of line t and the cell before it
    hidden,  # (T, h, P, B), output; here h is not rounded up
    x,  # (T, I, P, B)
    input_kernels,  # (input taps, 4h, I), or packed
    state_kernels,  # (state taps, 4h, h), likewise
    bias,  # (4h,)
    initial_hidden,  # (h, P)
    initial_cell,  # (h, P)
    input_taps,
    state_taps,
    ranges,  # (T, 2)
):
    h, width, lanes, first_image, images = _extent(share, record, x)
    features = np.zeros((_depth(input_kernels), width), x.dtype)
    before, after = np.zeros((h, width), x.dtype), np.zeros((h, width), x.dtype)
    begun = 0
    for t in range(len(x)):
        first, last = ranges[t, 0] * lanes, ranges[t, 1] * lanes
        _load(x[t], first_image, images, features, lanes)
        _begin(before, 0, initial_hidden, begun, ranges[t, 1], lanes)
        _begin(record[t], 4 * h, initial_cell, begun, ranges[t, 1], lanes)
        begun = ranges[t, 1]
        for row in range(4 * h):
            record[t, row, first:last] = bias[row]
        for taps, kernels, source in (
            (input_taps, input_kernels, features),
            (state_taps, state_kernels, before),
        ):
            factor = _channels(kernels, source)
            for tap in range(len(taps)):
                shift = taps[tap] * lanes
                start, stop = reached(shift, first, last, width)
                _add_tap(kernels[tap], record[t], start, factor, start + shift, stop - start)
        _step(record[t], record[t + 1], after, first, last)
        _store(after, lanes, hidden[t], first_image, images)
        before, after = after, before


@njit(cache=True, parallel=True, **OPTIONS)
def backward(record, grad_input_kernels, grad_state_kernels, grad_bias, grad_hidden, grad_cell, *inputs):
    """Run `_backward_share` for all shares in parallel."""
    for number in prange(len(record)):
        share = np.intp(number)
        _backward_share(
            share,
            record[share],
            grad_input_kernels[share],
            grad_state_kernels[share],
            grad_bias[share],
            grad_hidden[share],
            grad_cell[share],
            *inputs,
        )


@compiled
def _backward_share(
    share,
    record,  # (T + 1, 5h, P x lanes), as written by `_forward_share`
    grad_input_kernels,  # (input taps, 4h, I), zero at the start, accumulated like the next four
    grad_state_kernels,  # (state taps, 4h, h)
    grad_bias,  # (4h,)
    grad_initial_hidden,  # (h, P)
    grad_initial_cell,  # (h, P)
    grad_x,  # (T, I, P, B), output
    grad,  # (T, h, P, B), gradient of the loss with respect to the hidden states; here h is not rounded up
    x,  # (T, I, P, B)
    hidden,  # (T, h, P, B)
    initial_hidden,  # (h, P)
    transposed_input_kernels,  # (input taps, I, 4h), or packed
    transposed_state_kernels,  # (state taps, h, 4h), likewise
    input_taps,
    state_taps,
    ranges,  # (T, 2)
):
    h, width, lanes, first_image, images = _extent(share, record, x)
    features = np.zeros((grad_input_kernels.shape[2], width), x.dtype)
    grad_features, before = np.zeros_like(features), np.zeros((h, width), x.dtype)
    # Gradients that line t + 1 passes to the state after line t, and that line t passes to the state before it.
    grad_after, grad_before = np.zeros((h, width), x.dtype), np.zeros((h, width), x.dtype)
    grad_cell = np.zeros((h, width), x.dtype)
    grad_gate = np.zeros((4 * h, width), x.dtype)
    for t in range(len(x) - 1, -1, -1):
        first, last = ranges[t, 0] * lanes, ranges[t, 1] * lanes
        begun = ranges[t - 1, 1] if t else 0
        _load(x[t], first_image, images, features, lanes)
        if t:
            _load(hidden[t - 1], first_image, images, before, lanes)
        _begin(before, 0, initial_hidden, begun, ranges[t, 1], lanes)
        _add(grad[t], first_image, images, grad_after, lanes)
        _step_backward(record[t], record[t + 1], grad_after, grad_cell, grad_gate, grad_bias, first, last)
        grad_features[:] = 0
        grad_before[:] = 0
        grad_channels = _channels(transposed_input_kernels, grad_gate)
        grad_columns = _columns(transposed_input_kernels, grad_gate)
        for taps, kernels, source, grad_kernels, grad_source in (
            (input_taps, transposed_input_kernels, features, grad_input_kernels, grad_features),
            (state_taps, transposed_state_kernels, before, grad_state_kernels, grad_before),
        ):
            factor = _transposed(kernels, source)
            for tap in range(len(taps)):
                shift = taps[tap] * lanes
                start, stop = reached(shift, first, last, width)
                read = start + shift
                _add_gradient(kernels[tap], grad_kernels[tap], grad_columns, start, factor, read, stop - start)
                _add_tap(kernels[tap], grad_source, read, grad_channels, start, stop - start)
        _store(grad_features, lanes, grad_x[t], first_image, images)
        for position in range(begun, ranges[t, 1]):
            for channel in range(h):
                place = slice(position * lanes, (position + 1) * lanes)
                grad_initial_hidden[channel, position] += _sum(grad_before[channel, place])
                grad_initial_cell[channel, position] += _sum(grad_cell[channel, place])
        grad_after, grad_before = grad_before, grad_after


@compiled
def _extent(share, record, x):
    """Return h (rounded up), columns of a line, lanes, and the first image and the number of images of a share."""
    positions, batch = x.shape[2:]
    h, width = record.shape[1] // 5, record.shape[2]
    lanes = width // positions
    return h, width, lanes, share * lanes, min(lanes, batch - share * lanes)


@compiled
def _begin(line, first_row, initial, begun, end, lanes):
    """Write the initial states (h, P) of positions [begun, end) to all lanes of a line, starting at `first_row`."""
    for channel in range(initial.shape[0]):
        for position in range(begun, end):
            line[first_row + channel, position * lanes : (position + 1) * lanes] = initial[channel, position]


@compiled
def _step(record, next_record, hidden, first, last):
    """Apply equation 3 to columns [first, last): activate the gates in place, write the new cell and hidden state."""
    h = len(hidden)
    for channel in range(h):
        output, forget = record[channel, first:last], record[h + channel, first:last]
        write, candidate = record[2 * h + channel, first:last], record[3 * h + channel, first:last]
        before, after = record[4 * h + channel, first:last], next_record[4 * h + channel, first:last]
        state = hidden[channel, first:last]
        for i in range((last - first) // LANES * LANES):
            o, f, w, g = _sigmoid(output[i]), _sigmoid(forget[i]), _sigmoid(write[i]), _tanh(candidate[i])
            c = f * before[i] + w * g
            output[i], forget[i], write[i], candidate[i] = o, f, w, g
            after[i] = c
            state[i] = o * _tanh(c)


@compiled
def _step_backward(record, next_record, grad_hidden, grad_cell, grad_gate, grad_bias, first, last):
    """Compute the gradients of a line's gates, before activation, and of the cell before it from those of its state."""
    h = len(grad_hidden)
    one = record.dtype.type(1)
    for channel in range(h):
        output, forget = record[channel, first:last], record[h + channel, first:last]
        write, candidate = record[2 * h + channel, first:last], record[3 * h + channel, first:last]
        grad_output, grad_forget = grad_gate[channel, first:last], grad_gate[h + channel, first:last]
        grad_write, grad_candidate = grad_gate[2 * h + channel, first:last], grad_gate[3 * h + channel, first:last]
        before, after = record[4 * h + channel, first:last], next_record[4 * h + channel, first:last]
        grad_state, grad_carried = grad_hidden[channel, first:last], grad_cell[channel, first:last]
        sum_o = sum_f = sum_w = sum_g = record.dtype.type(0)
        for i in range((last - first) // LANES * LANES):
            o, f, w, g, tanh = output[i], forget[i], write[i], candidate[i], _tanh(after[i])
            grad_c = grad_carried[i] + grad_state[i] * o * (one - tanh * tanh)
            grad_o = grad_state[i] * tanh * o * (one - o)
            grad_f = grad_c * before[i] * f * (one - f)
            grad_w = grad_c * g * w * (one - w)
            grad_g = grad_c * w * (one - g * g)
            grad_carried[i] = grad_c * f
            grad_output[i], grad_forget[i], grad_write[i], grad_candidate[i] = grad_o, grad_f, grad_w, grad_g
            sum_o, sum_f, sum_w, sum_g = sum_o + grad_o, sum_f + grad_f, sum_w + grad_w, sum_g + grad_g
        grad_bias[channel] += sum_o
        grad_bias[h + channel] += sum_f
        grad_bias[2 * h + channel] += sum_w
        grad_bias[3 * h + channel] += sum_g


@compiled
def begin_row(above, bias, kernels, hidden, distances):
    """Compute the contribution of the row above to the gates of a row, in every layer of a Row LSTM.

    For single pixels the channels are last, after the images, whose number is rounded up to a multiple of CHANNELS.

    Args:
        above: (layers, W x B, 4h), output.
        bias: (layers, 4h), bias of the gates.
        kernels: (layers, 3, h, 4h), state-to-state kernels by tap.
        hidden: (layers, W, B, h), states of the row above.
        distances: (layers,), distances between the taps in columns.
    """
    layers, columns, images, h = hidden.shape
    width = columns * images
    for layer in range(layers):
        for place in range(width):
            _copy(bias[layer], above[layer, place])
        states = hidden[layer].reshape(width, h)
        for tap in range(3):
            shift = (tap - 1) * distances[layer] * images
            start, stop = reached(shift, 0, width, width)
            _add_product(
                above[layer, start:stop], 0, states[start + shift : stop + shift], kernels[layer, tap], 0, 4 * h
            )


@compiled
def run_pixel(
    column,
    x,  # (I, B), features of the pixel; here neither size is rounded up, and the batch is last
    result,  # (I, B), output: the input of the output layers; sizes as in x
    stream,  # (B, I or 2I), zero beyond the images: the features and, after them, the sum of the skip connections
    gates,  # (B, 4h), buffer
    above,  # (layers, W x B, 4h), as written by `begin_row`
    seen,  # (layers, W, B, I), what the context adds to the input of each layer; no layers without a context
    features,  # (layers, W, B, I), features of the pixels to the left; those of this pixel are stored
    cell,  # (layers, W, B, h), cells of the row above
    next_cell,  # (layers, W, B, h), output: cells of this row
    hidden,  # (layers, W, B, h), states of the row above, overwritten with those of this row
    kernels,  # (layers, 2, I, 4h), input-to-state kernels by tap
    rise,  # (layers, h, I or 2I), 1x1 convolutions
    rise_bias,  # (layers, I or 2I), their biases
    distances,  # (layers,), distances between the taps in columns
    residual,  # whether the layers have residual connections
):
    """Run one pixel through all layers of a Row LSTM."""
    layers, _, images, depth = features.shape
    h = hidden.shape[3]
    stream[:, depth:] = 0
    for row in range(len(x)):
        for image in range(x.shape[1]):
            stream[image, row] = x[row, image]
    for layer in range(layers):
        if len(seen) > 0:
            for image in range(images):
                row, added = stream[image], seen[layer, column, image]
                for i in range(depth):
                    row[i] += added[i]
        for image in range(images):
            _copy(stream[image, :depth], features[layer, column, image])
            _copy(above[layer, column * images + image], gates[image])
        _add_product(gates, 0, features[layer, column], kernels[layer, 1], 0, 4 * h)
        left = column - distances[layer]
        if left >= 0:
            _add_product(gates, 0, features[layer, left], kernels[layer, 0], 0, 4 * h)
        for image in range(images):
            output, forget = gates[image, :h], gates[image, h : 2 * h]
            write, candidate = gates[image, 2 * h : 3 * h], gates[image, 3 * h :]
            before, after = cell[layer, column, image], next_cell[layer, column, image]
            state = hidden[layer, column, image]
            for i in range(h // CHANNELS * CHANNELS):
                after[i] = _sigmoid(forget[i]) * before[i] + _sigmoid(write[i]) * _tanh(candidate[i])
                state[i] = _sigmoid(output[i]) * _tanh(after[i])
        if not residual:
            stream[:, :depth] = 0
        for image in range(images):
            row = stream[image]
            for i in range(len(row)):
                row[i] += rise_bias[layer, i]
        _add_product(stream, 0, hidden[layer, column], rise[layer], 0, stream.shape[1])
    for row in range(len(x)):
        for image in range(x.shape[1]):
            result[row, image] = stream[image, row]
            if stream.shape[1] > depth:
                result[row, image] += stream[image, depth + row]


@compiled
def _copy(source, target):
    """Copy a row. For `target[:] = source` Numba would also compile the message of an error, for seconds."""
    for i in range(len(target)):
        target[i] = source[i]


@compiled
def _sigmoid(x):
    half = np.float32(0.5)  # Exact; the literal 0.5 would promote float32 to float64.
    return half * _tanh(half * x) + half


def _tanh(x):
    raise NotImplementedError  # Numba replaces this by the implementation for the type of x.


@overload(_tanh, jit_options=OPTIONS)
def _tanh_of_type(x):
    """Implement tanh for a type: for float32 as a ratio of polynomials, which compiles to vector instructions.

    It was fitted on [0, 7.9] for the smallest relative error, 6e-9; with rounding the error is 3e-7. Beyond 7.9, tanh
    differs from tanh(7.9) by less than that. NaN stays NaN.
    """
    if x != numba.float32:
        return lambda x: math.tanh(x)
    limit = np.float32(7.9)
    p0, p1, p2, p3, p4 = map(
        np.float32, (9.999999943e-01, 1.345062103e-01, 3.578992571e-03, 2.202325400e-05, 1.542798494e-08)
    )
    q0, q1, q2, q3, q4 = map(np.float32, (1, 4.678394903e-01, 2.619224002e-02, 3.423651440e-04, 8.598785104e-07))

    def ratio(x):
        if x > limit:
            x = limit
        elif x < -limit:
            x = -limit
        y = x * x
        return x * ((((p4 * y + p3) * y + p2) * y + p1) * y + p0) / ((((q4 * y + q3) * y + q2) * y + q1) * y + q0)

    return ratio


@compiled
def _add_product(total, total_start, kernel, source, source_start, columns):
    """Add kernel @ source to total, where source and total have their own first column.

    Eight rows of total and four rows of source at a time keep the multipliers busy and fit in the registers.
    """
    rows, depth = kernel.shape
    a, b = slice(total_start, total_start + columns), slice(source_start, source_start + columns)
    for r in range(0, rows, 8):
        t0, t1, t2, t3 = total[r, a], total[r + 1, a], total[r + 2, a], total[r + 3, a]
        t4, t5, t6, t7 = total[r + 4, a], total[r + 5, a], total[r + 6, a], total[r + 7, a]
        for k in range(0, depth, 4):
            s0, s1, s2, s3 = source[k, b], source[k + 1, b], source[k + 2, b], source[k + 3, b]
            k0, k1 = _four(kernel, r, k), _four(kernel, r + 1, k)
            k2, k3 = _four(kernel, r + 2, k), _four(kernel, r + 3, k)
            k4, k5 = _four(kernel, r + 4, k), _four(kernel, r + 5, k)
            k6, k7 = _four(kernel, r + 6, k), _four(kernel, r + 7, k)
            for i in range(columns // LANES * LANES):
                w, x, y, z = s0[i], s1[i], s2[i], s3[i]
                t0[i] += k0[0] * w + k0[1] * x + k0[2] * y + k0[3] * z
                t1[i] += k1[0] * w + k1[1] * x + k1[2] * y + k1[3] * z
                t2[i] += k2[0] * w + k2[1] * x + k2[2] * y + k2[3] * z
                t3[i] += k3[0] * w + k3[1] * x + k3[2] * y + k3[3] * z
                t4[i] += k4[0] * w + k4[1] * x + k4[2] * y + k4[3] * z
                t5[i] += k5[0] * w + k5[1] * x + k5[2] * y + k5[3] * z
                t6[i] += k6[0] * w + k6[1] * x + k6[2] * y + k6[3] * z
                t7[i] += k7[0] * w + k7[1] * x + k7[2] * y + k7[3] * z


@compiled
def _four(matrix, row, column):
    return matrix[row, column], matrix[row, column + 1], matrix[row, column + 2], matrix[row, column + 3]


@compiled
def _add_outer_product(total, a, a_start, b, b_start, columns):
    """Add a @ b.T to total, where a and b have their own first column: four rows by four rows at a time."""
    rows, depth = total.shape
    at_a, at_b = slice(a_start, a_start + columns), slice(b_start, b_start + columns)
    for k in range(0, depth, 4):
        b0, b1, b2, b3 = b[k, at_b], b[k + 1, at_b], b[k + 2, at_b], b[k + 3, at_b]
        for r in range(0, rows, 4):
            a0, a1, a2, a3 = a[r, at_a], a[r + 1, at_a], a[r + 2, at_a], a[r + 3, at_a]
            t00 = t01 = t02 = t03 = t10 = t11 = t12 = t13 = total.dtype.type(0)
            t20 = t21 = t22 = t23 = t30 = t31 = t32 = t33 = total.dtype.type(0)
            for i in range(columns // LANES * LANES):
                w, x, y, z = b0[i], b1[i], b2[i], b3[i]
                t00, t01, t02, t03 = t00 + a0[i] * w, t01 + a0[i] * x, t02 + a0[i] * y, t03 + a0[i] * z
                t10, t11, t12, t13 = t10 + a1[i] * w, t11 + a1[i] * x, t12 + a1[i] * y, t13 + a1[i] * z
                t20, t21, t22, t23 = t20 + a2[i] * w, t21 + a2[i] * x, t22 + a2[i] * y, t23 + a2[i] * z
                t30, t31, t32, t33 = t30 + a3[i] * w, t31 + a3[i] * x, t32 + a3[i] * y, t33 + a3[i] * z
            _add_four(total, r, k, t00, t01, t02, t03)
            _add_four(total, r + 1, k, t10, t11, t12, t13)
            _add_four(total, r + 2, k, t20, t21, t22, t23)
            _add_four(total, r + 3, k, t30, t31, t32, t33)


@compiled
def _add_four(matrix, row, column, a, b, c, d):
    matrix[row, column] += a
    matrix[row, column + 1] += b
    matrix[row, column + 2] += c
    matrix[row, column + 3] += d


@compiled
def _sum(row):
    total = row.dtype.type(0)
    for value in row:
        total += value
    return total


@compiled
def _load(source, first, images, line, lanes):
    """Copy the images of a share from a line (C, P, B) to its matrix; other lanes are not changed."""
    for channel in range(source.shape[0]):
        for position in range(source.shape[1]):
            given = source[channel, position, first : first + images]
            row = line[channel, position * lanes : position * lanes + images]
            for i in range(images):
                row[i] = given[i]


@compiled
def _add(source, first, images, line, lanes):
    """Add the values that `_load` would copy to a matrix."""
    for channel in range(source.shape[0]):
        for position in range(source.shape[1]):
            given = source[channel, position, first : first + images]
            row = line[channel, position * lanes : position * lanes + images]
            for i in range(images):
                row[i] += given[i]


@compiled
def _store(line, lanes, target, first, images):
    """Copy the images of a share back from its matrix, the inverse of `_load`."""
    for channel in range(target.shape[0]):
        for position in range(target.shape[1]):
            row = line[channel, position * lanes : position * lanes + images]
            taken = target[channel, position, first : first + images]
            for i in range(images):
                taken[i] = row[i]


@compiled
def reached(shift, first, last, width):
    """Return the part (start, stop) of the columns [first, last) where a tap is within the line.

    Args:
        shift: Offset of the tap in columns.
        first: First column.
        last: Column after the last one.
        width: Number of columns of the line.
    """
    first = max(first, -shift)
    return first, max(first, min(last, width - shift))  # A tap may be outside a short line everywhere.


def _by_kernel(plain, packed):
    """Return a function that is `packed` where its first argument is a packed kernel or several, and `plain` elsewhere.

    Only packed kernels compile to instructions that not every processor has.
    """

    def function(*arguments):
        raise NotImplementedError  # Numba replaces this by one of the two.

    @overload(function, jit_options=OPTIONS, strict=False)
    def _chosen(kernel, *others):
        return packed if kernel.dtype == numba.uint32 else plain

    return function


# The number of columns of a kernel, packed or not.
_depth = _by_kernel(lambda kernels: kernels.shape[2], lambda kernels: 2 * kernels.shape[2])


def _pairs_of_channels(kernels, line):
    packed = np.empty((len(line) // 2, line.shape[1]), np.uint32)
    bits = line.view(np.uint32)
    for row in range(len(packed)):
        low, high, pairs = bits[2 * row], bits[2 * row + 1], packed[row]
        for i in range(len(pairs) // LANES * LANES):
            pairs[i] = _pair(low[i], high[i])
    return packed


def _pairs_of_columns(kernels, line):
    return pack(line)


def _pairs_of_columns_transposed(kernels, line):
    packed = np.empty((line.shape[1] // 2, len(line)), np.uint32)
    bits = line.view(np.uint32)
    for first in range(0, len(line), LANES):  # So many rows of pairs at once stay in the cache.
        rows = bits[first : first + LANES]
        for column in range(len(packed)):
            pairs = packed[column, first : first + LANES]
            for row in range(LANES):
                pairs[row] = _pair(rows[row, 2 * column], rows[row, 2 * column + 1])
    return packed


# A line (channels, columns) as a factor of a product whose sums are over the channels, or over the columns.
_channels = _by_kernel(lambda kernels, line: line, _pairs_of_channels)
_columns = _by_kernel(lambda kernels, line: line, _pairs_of_columns)
_transposed = _by_kernel(lambda kernels, line: line, _pairs_of_columns_transposed)


def _plain_tap(kernel, total, total_start, factor, start, columns):
    _add_product(total, total_start, kernel, factor, start, columns)


def _packed_tap(kernel, total, total_start, factor, start, columns):
    _add_packed_product(total, total_start, kernel, factor, start, columns)


def _plain_gradient(kernel, total, grad, grad_start, factor, start, columns):
    _add_outer_product(total, grad, grad_start, factor, start, columns)


def _packed_gradient(kernel, total, grad, grad_start, factor, start, columns):
    # Taps are apart by an even number of columns.
    a, b, pairs = grad_start // 2, start // 2, columns // 2
    _add_packed_product(total, 0, grad[:, a : a + pairs], factor[b : b + pairs], 0, total.shape[1])


# Add to a total what a tap of a kernel gives, with the factor of `_channels`; and the gradient of the tap, with those
# of `_columns` and `_transposed`.
_add_tap = _by_kernel(_plain_tap, _packed_tap)
_add_gradient = _by_kernel(_plain_gradient, _packed_gradient)


@compiled
def pack(matrix):
    """Round a float32 matrix, with an even number of columns, to bf16, two neighbours of a row in a uint32."""
    rows, columns = matrix.shape
    packed = np.empty((rows, columns // 2), np.uint32)
    bits = matrix.view(np.uint32)
    for row in range(rows):
        for i in range(columns // 2):
            packed[row, i] = _pair(bits[row, 2 * i], bits[row, 2 * i + 1])
    return packed


@compiled
def _pair(low, high):
    """Pack the bits of two float32 numbers, each rounded to bf16: to the nearest, or to the even one of two."""
    half, one, sixteen = np.uint32(0x7FFF), np.uint32(1), np.uint32(16)
    low = (low + half + ((low >> sixteen) & one)) >> sixteen
    high = (high + half + ((high >> sixteen) & one)) & np.uint32(0xFFFF0000)
    return low | high


@compiled
def _add_packed_product(total, total_start, kernel, source, source_start, columns):
    """Add kernel @ source to total, as `_add_product` does: kernel is packed by columns, source by rows.

    Eight rows and two vectors of total at a time stay in the registers while the products are summed. The number of
    columns is a multiple of LANES.
    """
    for r in range(0, len(kernel), 8):
        for i in range(0, columns - LANES, 2 * LANES):
            a, b = total_start + i, source_start + i
            c, d = a + LANES, b + LANES
            t0, t1, t2, t3 = _vectors(total, r, a)
            t4, t5, t6, t7 = _vectors(total, r + 4, a)
            u0, u1, u2, u3 = _vectors(total, r, c)
            u4, u5, u6, u7 = _vectors(total, r + 4, c)
            for k in range(kernel.shape[1]):
                x, y = _vector(source, k, b), _vector(source, k, d)
                k0, k1, k2, k3 = kernel[r, k], kernel[r + 1, k], kernel[r + 2, k], kernel[r + 3, k]
                t0, t1, t2, t3 = _dot(t0, k0, x), _dot(t1, k1, x), _dot(t2, k2, x), _dot(t3, k3, x)
                u0, u1, u2, u3 = _dot(u0, k0, y), _dot(u1, k1, y), _dot(u2, k2, y), _dot(u3, k3, y)
                k0, k1, k2, k3 = kernel[r + 4, k], kernel[r + 5, k], kernel[r + 6, k], kernel[r + 7, k]
                t4, t5, t6, t7 = _dot(t4, k0, x), _dot(t5, k1, x), _dot(t6, k2, x), _dot(t7, k3, x)
                u4, u5, u6, u7 = _dot(u4, k0, y), _dot(u5, k1, y), _dot(u6, k2, y), _dot(u7, k3, y)
            _set_vectors(total, r, a, t0, t1, t2, t3)
            _set_vectors(total, r + 4, a, t4, t5, t6, t7)
            _set_vectors(total, r, c, u0, u1, u2, u3)
            _set_vectors(total, r + 4, c, u4, u5, u6, u7)
        if columns // LANES % 2:
            a, b = total_start + columns - LANES, source_start + columns - LANES
            t0, t1, t2, t3 = _vectors(total, r, a)
            t4, t5, t6, t7 = _vectors(total, r + 4, a)
            for k in range(kernel.shape[1]):
                x = _vector(source, k, b)
                k0, k1, k2, k3 = kernel[r, k], kernel[r + 1, k], kernel[r + 2, k], kernel[r + 3, k]
                t0, t1, t2, t3 = _dot(t0, k0, x), _dot(t1, k1, x), _dot(t2, k2, x), _dot(t3, k3, x)
                k0, k1, k2, k3 = kernel[r + 4, k], kernel[r + 5, k], kernel[r + 6, k], kernel[r + 7, k]
                t4, t5, t6, t7 = _dot(t4, k0, x), _dot(t5, k1, x), _dot(t6, k2, x), _dot(t7, k3, x)
            _set_vectors(total, r, a, t0, t1, t2, t3)
            _set_vectors(total, r + 4, a, t4, t5, t6, t7)


@compiled
def _vectors(matrix, row, column):
    first, second = _vector(matrix, row, column), _vector(matrix, row + 1, column)
    return first, second, _vector(matrix, row + 2, column), _vector(matrix, row + 3, column)


@compiled
def _set_vectors(matrix, row, column, a, b, c, d):
    _set_vector(matrix, row, column, a)
    _set_vector(matrix, row + 1, column, b)
    _set_vector(matrix, row + 2, column, c)
    _set_vector(matrix, row + 3, column, d)


class _VectorType(types.Type):
    """LANES float32 numbers, or as many pairs of bf16 numbers, in a register."""


_VECTOR = _VectorType(name="Vector")
_FLOATS = ir.VectorType(ir.FloatType(), LANES)


@register_model(_VectorType)
class _VectorModel(models.PrimitiveModel):
    def __init__(self, manager, type_):
        super().__init__(manager, type_, _FLOATS)


class _BFloat16(ir.Type):
    """The type bf16 of LLVM, which llvmlite lacks."""

    def _to_string(self):
        return "bfloat"


_FACTORS = ir.VectorType(_BFloat16(), 2 * LANES)


def _pointer(context, builder, array_type, array, row, column):
    """Return a pointer to the vector that begins at an element of a matrix."""
    array = context.make_array(array_type)(context, builder, array)
    element = cgutils.get_item_pointer(context, builder, array_type, array, [row, column])
    return builder.bitcast(element, _FLOATS.as_pointer())


@intrinsic
def _vector(typing, matrix, row, column):
    """Read a vector from a matrix of float32 or uint32."""

    def generate(context, builder, signature, arguments):
        return builder.load(_pointer(context, builder, signature.args[0], *arguments), align=4)

    return _VECTOR(matrix, types.intp, types.intp), generate


@intrinsic
def _set_vector(typing, matrix, row, column, vector):
    """Write a vector to a matrix."""

    def generate(context, builder, signature, arguments):
        *place, value = arguments
        builder.store(value, _pointer(context, builder, signature.args[0], *place), align=4)
        return context.get_dummy_value()

    return types.void(matrix, types.intp, types.intp, _VECTOR), generate


@intrinsic
def _dot(typing, total, pair, pairs):
    """Add to each number of a vector the sum of the products of a pair of bf16 with its pair of a vector of pairs."""

    def generate(context, builder, signature, arguments):
        total, pair, pairs = arguments
        integers = ir.VectorType(pair.type, LANES)
        single = builder.insert_element(ir.Constant(integers, ir.Undefined), pair, ir.Constant(pair.type, 0))
        repeated = builder.shuffle_vector(single, single, ir.Constant(integers, [0] * LANES))
        multiply = cgutils.get_or_insert_function(
            builder.module, ir.FunctionType(_FLOATS, [_FLOATS, _FACTORS, _FACTORS]), "llvm.x86.avx512bf16.dpbf16ps.512"
        )
        return builder.call(multiply, [total, builder.bitcast(repeated, _FACTORS), builder.bitcast(pairs, _FACTORS)])

    return _VECTOR(_VECTOR, types.uint32, _VECTOR), generate
