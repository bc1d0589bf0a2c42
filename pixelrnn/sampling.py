"""Sampling and completion, pixel by pixel, at about the total cost of a single forward pass.

The naive algorithm (`draw_naively`) runs the whole network for every pixel. But the features of a pixel depend only on
the past, which does not change, so they are computed once and cached. At the start of a row, the contribution of the
rows above to its states is computed for all columns at once; each pixel then costs one column of every layer. What the
known pixels after a region contribute (see `layers.context`) depends on none that is drawn: it is computed first.

The features of one pixel are a matrix (features, B), with the batch last, as in `scan`.
"""

from collections.abc import Callable, Iterable
from typing import Protocol

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from pixelrnn.layers.diagonal_bilstm import DiagonalBiLSTM, DiagonalLSTM
from pixelrnn.layers.gated_pixel_cnn import HorizontalLayer, VerticalStack, gated
from pixelrnn.layers.masked_convolution import MaskedConv2d, MaskedPointwise
from pixelrnn.layers.pixel_cnn import BottleneckConvolution
from pixelrnn.layers.row_lstm import RowLSTM
from pixelrnn.level_distribution import neighbour_means
from pixelrnn.model import PixelModel, PixelNetwork, order_index, turn
from pixelrnn.scan import kernels
from pixelrnn.scan.compiled_scan import by_gate, by_tap, round_up
from pixelrnn.scan.kernels import CHANNELS


@torch.inference_mode()
def draw(
    model: PixelModel,
    pixels: Tensor,
    mask: Tensor,
    noise: Tensor,
    labels: Tensor | None = None,
    progress: Callable[[], object] | None = None,
) -> Tensor:
    """Draw the masked pixels, each from its distribution given the pixels before it in the model's order.

    Without a context, a drawn pixel does not depend on known pixels that come after it in the order.

    Args:
        model: Pixel model.
        pixels: (B, C, H, W) uint8, known levels; levels under the mask are ignored.
        mask: (H, W) bool, True where pixels are drawn; if it is True everywhere, whole images are sampled.
        noise: (B, C, H, W) float64, uniform in [0, 1): the randomness of each pixel and channel.
        labels: (B,), classes for a class-conditional model.
        progress: Callback after each row (for the order `transposed`: each column).

    Returns:
        (B, C, H, W) uint8; known pixels are unchanged.
    """
    noise = turn(noise, model.config.order)

    def choose(parameters: Tensor, channel: int, row: int, column: int) -> Tensor:
        return model.distribution.choose(parameters, noise[:, channel, row, column])

    return visit(model, pixels, mask, choose, labels, progress)


@torch.inference_mode()
def visit(
    model: PixelModel,
    pixels: Tensor,
    mask: Tensor,
    choose: Callable[[Tensor, int, int, int], Tensor],
    labels: Tensor | None = None,
    progress: Callable[[], object] | None = None,
) -> Tensor:
    """Visit the pixels in the model's order and choose each masked one from its distribution given those before it.

    Args:
        model: Pixel model.
        pixels: (B, C, H, W) uint8, known levels; levels under the mask are ignored.
        mask: (H, W) bool, True where pixels are chosen.
        choose: Function of the parameters of a channel's distribution (B, parameters), channel, row and column that
            returns levels (B,) uint8; row and column are counted in the model's order (see `turn`).
        labels: (B,), classes for a class-conditional model.
        progress: Callback after each row (for the order `transposed`: each column).

    Returns:
        (B, C, H, W) uint8; known pixels are unchanged.
    """
    order = model.config.order
    drawn, mask = turn(pixels, order).clone(), turn(mask, order)
    drawn.masked_fill_(mask, 0)
    rows, columns = mask.shape
    to_draw = mask.tolist()
    networks = _Networks(model, drawn, labels, mask)
    for row in range(rows):
        networks.begin_row(row, drawn)
        for column in range(columns):
            if not to_draw[row][column]:
                networks.step(column)
                continue
            window = drawn[:, :, max(row - 1, 0) : row + 1, max(column - 1, 0) : column + 1]
            neighbours = neighbour_means(window, model.shape.levels)[:, :, -1, -1]
            networks.step(column)
            outputs = networks.outputs().t()
            for channel in range(model.shape.channels):
                if channel and model.distribution.groups > 1:
                    networks.step(column)
                    outputs = networks.outputs().t()
                parameters = model.distribution.given(outputs, drawn[:, :, row, column], neighbours)
                level = choose(parameters[:, channel], channel, row, column)
                drawn[:, channel, row, column] = level
                networks.reveal(column, channel, level)
        networks.end_row(columns)
        if progress is not None:
            progress()
    return turn(drawn, order)


@torch.inference_mode()
def draw_naively(
    model: PixelModel, pixels: Tensor, mask: Tensor, noise: Tensor, labels: Tensor | None = None
) -> Tensor:
    """Return the result of `draw`, computed with a full forward pass for every pixel and channel."""
    drawn = pixels.clone()
    for place in order_index(model.config.order, model.shape.height, model.shape.width).flatten().argsort().tolist():
        row, column = divmod(place, model.shape.width)
        for channel in range(model.shape.channels):
            if mask[row, column]:
                parameters = model(drawn, labels, mask)[:, channel, :, row, column]
                drawn[:, channel, row, column] = model.distribution.choose(parameters, noise[:, channel, row, column])
    return drawn


class _Layers(Protocol):
    """All layers of a network with their caches of the pixels so far."""

    def begin_row(self, row: int, seen: Tensor | None = None, above: Tensor | None = None) -> None:
        """Compute the contribution of the rows above to this row.

        Args:
            row: Number of the row.
            seen: (layers, 2h, W, B), what the context adds to the input of each layer in this row; None without one.
            above: (C, 3, W + 6, B), the scaled levels of the three rows above, with three columns of zeros on each
                side; for a Gated PixelCNN.
        """
        ...

    def run(self, column: int, x: Tensor) -> Tensor:
        """Map the features (2h, B) of a pixel to the input of the output layers, (2h, B), valid until the next pixel.

        The same pixel may be run again with other features before the next one.
        """
        ...


class _Networks:
    """All networks of a model, evaluated together, pixel by pixel."""

    def __init__(self, model: PixelModel, pixels: Tensor, labels: Tensor | None, mask: Tensor):
        self._model = model
        self._networks = [
            _Network(each, len(pixels), labels, each.context_states(pixels, mask)) for each in model.networks
        ]

    def begin_row(self, row: int, pixels: Tensor) -> None:
        """Start a row, whose known levels are in `pixels` (B, C, H, W)."""
        for network in self._networks:
            network.begin_row(row, pixels)

    def step(self, column: int) -> None:
        """Compute the features of a pixel from the levels known so far."""
        for network in self._networks:
            network.step(column)

    def outputs(self) -> Tensor:
        """Return the outputs for the pixel of the last step, (outputs, B)."""
        return self._model.combined([network.outputs() for network in self._networks])

    def reveal(self, column: int, channel: int, level: Tensor) -> None:
        """Store the level (B,) chosen for a channel of the pixel of the last step."""
        for network in self._networks:
            network.reveal(column, channel, level)

    def end_row(self, columns: int) -> None:
        """Compute the features of the extra column after the last of the columns, in the networks that have one."""
        for network in self._networks:
            if network.has_extra_column:
                network.step(columns)


class _Network:
    """A network, evaluated pixel by pixel."""

    def __init__(self, model: PixelNetwork, batch: int, labels: Tensor | None, context: Tensor | None = None):
        config, shape = model.config, model.shape
        self._model, self._context, self.has_extra_column = model, context, config.extra_column
        columns = (shape.height if config.order == "transposed" else shape.width) + config.extra_column
        weight = model.first.weight
        size = model.first.kernel_size
        self._reach = reach = size // 2
        # Only the rows of the first kernel down to that of the pixel itself; the mask hides the rest.
        kernel = (weight * model.first.mask).unflatten(1, (-1, size, size))[:, :, : reach + 1]
        self._first = kernel.flatten(1)
        self._bias = model.first.bias[:, None]
        if model.classes is not None:
            self._bias = self._bias + model.classes(labels).t()
        # The rows that the first kernel sees, with a margin; the last one is the current row.
        self._seen = weight.new_zeros(shape.channels, reach + 1, columns + 2 * reach, batch)
        rows = len(model.layers) > 0 and config.architecture == "row_lstm"
        compiled = rows and weight.device.type == "cpu" and weight.dtype == torch.float32
        self._layers: _Layers = (_CompiledRowLSTMs if compiled else _LayerByLayer)(model, columns, batch)
        self._output = [_with_bias(layer) for layer in model.output if isinstance(layer, MaskedConv2d)]
        self._widened = [weight.new_ones(kernel.shape[1], batch) for kernel in self._output]

    def begin_row(self, row: int, pixels: Tensor) -> None:
        """Start a row, whose known levels are in `pixels` (B, C, H, W)."""
        levels = self._model.scaled(pixels[:, :, row]).permute(1, 2, 0)  # (C, W, B)
        self._seen[:, :-1] = self._seen[:, 1:].clone()
        self._seen[:, -1, self._reach : self._reach + levels.shape[1]] = levels
        self._layers.begin_row(row, self._seen_in_context(row), self._seen[:, :-1])

    def _seen_in_context(self, row: int) -> Tensor | None:
        if self._model.context is None or self._context is None:
            return None
        states = self._context[row : row + 1]
        return torch.cat([rise(states) for rise in self._model.context.rise])

    def step(self, column: int) -> None:
        """Compute the features of a pixel from the levels known so far."""
        patch = self._seen[:, :, column : column + 2 * self._reach + 1].flatten(0, 2)
        self._summed = self._layers.run(column, torch.addmm(self._bias, self._first, patch))

    def outputs(self) -> Tensor:
        """Return the network's outputs for the pixel of the last step, (outputs, B)."""
        x = self._summed
        for kernel, widened in zip(self._output, self._widened, strict=True):
            torch.clamp_min(x, 0, out=widened[:-1])
            x = kernel @ widened
        return x

    def reveal(self, column: int, channel: int, level: Tensor) -> None:
        """Store the level (B,) chosen for a channel of the pixel of the last step."""
        self._seen[channel, -1, self._reach + column] = self._model.scaled(level)


class _CompiledRowLSTMs:
    """The layers of a Row LSTM in float32 on a CPU, run by the loops of `kernels`, with the array shapes used there."""

    def __init__(self, model: PixelNetwork, columns: int, batch: int):
        layers = [layer for layer in model.layers if isinstance(layer, RowLSTM)]
        h = len(layers[0].initial_hidden)
        missing = round_up(h, CHANNELS) - h
        depth, images = 2 * (h + missing), round_up(batch, CHANNELS)

        def by_layer(tensors: Iterable[Tensor]) -> np.ndarray:
            return torch.stack(list(tensors)).numpy(force=True)

        def zeros(*shape: int) -> np.ndarray:
            return torch.zeros(shape).numpy()  # Arrays that NumPy allocates are not aligned to vector registers.

        def started(states: Iterable[Tensor]) -> np.ndarray:
            return by_layer(F.pad(state.t()[:, None].expand(-1, images, -1), (0, missing)) for state in states)

        def transposed(kernel: Tensor, channels: int, rounded: int) -> Tensor:
            matrices = by_tap(kernel, h, channels).transpose(1, 2)
            return F.pad(matrices, (0, 0, 0, rounded - matrices.shape[1]))

        self._hidden = started(layer.initial_hidden for layer in layers)
        self._cell, self._next_cell = (started(layer.initial_cell for layer in layers) for _ in range(2))
        self._bias = by_layer(by_gate(layer.bias, h) for layer in layers)
        self._above = zeros(len(layers), columns * images, self._bias.shape[1])
        self._gates = zeros(images, self._bias.shape[1])
        self._state_kernels = by_layer(transposed(layer.state_to_state, h, h + missing) for layer in layers)
        masked = [layer.input_to_state * layer.mask for layer in layers]
        self._input_kernels = by_layer(transposed(kernel, 2 * h, depth) for kernel in masked)
        self._distances = np.array([layer.dilation for layer in layers])
        # Columns of each part: h for the state, then one for the bias.
        rise = [torch.cat([F.pad(part, (0, 0, 0, depth - 2 * h)) for part in parts]).t() for parts in _rising(model)]
        self._rise = by_layer(F.pad(matrix[:h], (0, 0, 0, missing)) for matrix in rise)
        self._rise_bias = by_layer(matrix[h] for matrix in rise)
        self._residual = model.config.residual
        self._stream = zeros(images, self._rise.shape[2])
        self._features = zeros(len(layers), columns, images, depth)
        self._summed = torch.zeros(2 * h, batch)
        self._seen = zeros(len(layers) * (model.context is not None), columns, images, depth)

    def begin_row(self, row: int, seen: Tensor | None = None, above: Tensor | None = None) -> None:
        if seen is not None:
            _, depth, _, batch = seen.shape
            self._seen[:, :, :batch, :depth] = seen.permute(0, 2, 3, 1).numpy()
        self._cell, self._next_cell = self._next_cell, self._cell
        kernels.begin_row(self._above, self._bias, self._state_kernels, self._hidden, self._distances)

    def run(self, column: int, x: Tensor) -> Tensor:
        kernels.run_pixel(
            column,
            x.numpy(),
            self._summed.numpy(),
            self._stream,
            self._gates,
            self._above,
            self._seen,
            self._features,
            self._cell,
            self._next_cell,
            self._hidden,
            self._input_kernels,
            self._rise,
            self._rise_bias,
            self._distances,
            self._residual,
        )
        return self._summed


class _LayerByLayer:
    """Layers of any kind, run with torch operations."""

    def __init__(self, model: PixelNetwork, columns: int, batch: int):
        self._vertical = None if model.vertical is None else _CachedVerticalStack(model.vertical, columns, batch)
        self._layers = [
            _CachedHorizontal(layer, self._vertical, index, columns, batch)
            if isinstance(layer, HorizontalLayer) and self._vertical is not None
            else _cached(layer, columns, batch)
            for index, layer in enumerate(model.layers)
        ]
        # Both 1x1 convolutions of a layer as one matrix product; their biases multiply an input that is always 1.
        self._rise = [torch.cat(parts) for parts in _rising(model)]
        self._residual = model.config.residual
        self._width = 2 * model.config.hidden_channels
        self._padding = model.first.weight.new_zeros(self._width if model.skips is not None else 0, batch)
        self._seen: Tensor | None = None

    def begin_row(self, row: int, seen: Tensor | None = None, above: Tensor | None = None) -> None:
        self._seen = seen
        if self._vertical is not None and above is not None:
            self._vertical.begin_row(above)
        for layer in self._layers:
            layer.begin_row(row)

    def run(self, column: int, x: Tensor) -> Tensor:
        # Rows of the stream: the residual stream, then the sum of the skip connections.
        stream, width = torch.cat([x, self._padding]), self._width
        for index, (layer, rise) in enumerate(zip(self._layers, self._rise, strict=True)):
            if self._seen is not None:
                stream = torch.cat([stream[:width] + self._seen[index, :, column], stream[width:]])
            states = layer.step(column, stream[:width])
            if not self._residual:
                stream = torch.cat([torch.zeros_like(stream[:width]), stream[width:]])
            stream = torch.addmm(stream, rise, states)
        return stream[:width] + stream[width:] if len(self._padding) else stream


class _Layer(Protocol):
    """One layer with its cache of the pixels so far."""

    def begin_row(self, row: int) -> None:
        """Compute the contribution of the rows above to this row."""
        ...

    def step(self, column: int, x: Tensor) -> Tensor:
        """Map the features (2h, B) of a pixel to its states and a row of ones, (h + 1, B), valid until the next row.

        The same pixel may be run again with other features before the next one.
        """
        ...


class _CachedRowLSTM:
    def __init__(self, layer: RowLSTM, columns: int, batch: int):
        self._layer, self._distance = layer, layer.dilation
        self._left, self._centre = (layer.input_to_state * layer.mask).chunk(2, dim=1)
        # States of the row above, overwritten pixel by pixel with those of this row.
        self._states = _states(layer.initial_hidden.t(), batch)  # (W, h + 1, B)
        self._slots = self._states.unbind()
        self._new_cells = list(layer.initial_cell[..., None].expand(-1, -1, batch).unbind(1))
        self._x = [self._states[0]] * columns

    def begin_row(self, row: int) -> None:
        self._cells, self._new_cells = self._new_cells, list(self._new_cells)
        kernels, hidden, distance = self._layer.state_to_state.chunk(3, dim=1), self._states[:, :-1], self._distance
        from_above = torch.matmul(kernels[1], hidden) + self._layer.bias[:, None]
        if distance < len(hidden):
            from_above[distance:] += torch.matmul(kernels[0], hidden[:-distance])
            from_above[:-distance] += torch.matmul(kernels[2], hidden[distance:])
        self._from_above = from_above.unbind()

    def step(self, column: int, x: Tensor) -> Tensor:
        self._x[column] = x
        gates = torch.addmm(self._from_above[column], self._centre, x)
        if column >= self._distance:
            gates.addmm_(self._left, self._x[column - self._distance])
        states = self._slots[column]
        self._new_cells[column] = _activate(gates, self._cells[column], states[:-1])
        return states


class _CachedDiagonalBiLSTM:
    def __init__(self, layer: DiagonalBiLSTM, columns: int, batch: int):
        self._left, self._right = layer.from_left, layer.from_right
        self._kernel = self._left.input_to_state * self._left.mask
        h = len(self._left.initial_hidden)
        # Stream from the left: hidden states of the row above, overwritten pixel by pixel with those of this row.
        self._hidden = self._kernel.new_zeros(columns, h, batch)
        self._hiddens, self._cells = self._hidden.unbind(), list(self._hidden.clone())
        # Mirrored stream: hidden states of the row above.
        self._shifted = self._kernel.new_zeros(columns, h, batch)
        self._sum = _states(self._kernel.new_zeros(columns, h), batch).unbind()
        self._x = list(self._kernel.new_zeros(columns, self._kernel.shape[1], batch))

    def begin_row(self, row: int) -> None:
        if row:
            self._finish_mirrored(row - 1)
        above, self._beside = self._left.state_to_state.chunk(2, dim=1)
        self._from_above = (torch.matmul(above, self._hidden) + self._left.bias[:, None]).unbind()
        batch = self._hidden.shape[2]
        self._first_hidden = self._left.initial_hidden[:, row, None].expand(-1, batch)
        self._first_cell = self._left.initial_cell[:, row, None].expand(-1, batch)

    def step(self, column: int, x: Tensor) -> Tensor:
        self._x[column] = x
        gates = torch.addmm(self._from_above[column], self._kernel, x)
        gates.addmm_(self._beside, self._hiddens[column - 1] if column else self._first_hidden)
        cell = self._cells[column - 1] if column else self._first_cell
        self._cells[column] = _activate(gates, cell, self._hiddens[column])
        states = self._sum[column]
        torch.add(self._hiddens[column], self._shifted[column], out=states[:-1])
        return states

    def _finish_mirrored(self, row: int) -> None:
        """Run the stream from the right over a row, once all features of the row are known."""
        layer: DiagonalLSTM = self._right
        above, beside = layer.state_to_state.chunk(2, dim=1)
        gates = torch.matmul(layer.input_to_state * layer.mask, torch.stack(self._x)) + layer.bias[:, None]
        gates += torch.matmul(above, self._shifted)
        batch = self._hidden.shape[2]
        hidden = layer.initial_hidden[:, row, None].expand(-1, batch)
        cell = layer.initial_cell[:, row, None].expand(-1, batch)
        for column in reversed(range(len(self._x))):
            cell = _activate(gates[column].addmm_(beside, hidden), cell, self._shifted[column])
            hidden = self._shifted[column]


class _CachedConvolution:
    def __init__(self, layer: BottleneckConvolution, columns: int, batch: int):
        narrow, wide = (part for part in layer.layers if isinstance(part, MaskedConv2d))
        self._narrow, self._narrow_bias = narrow.weight * narrow.mask, narrow.bias[:, None]
        kernel = (wide.weight * wide.mask).unflatten(1, (-1, 3, 3))
        self._above, self._left, self._centre = kernel[:, :, 0].transpose(1, 2), kernel[:, :, 1, 0], kernel[:, :, 1, 1]
        self._bias = wide.bias[:, None, None]
        self._states = _states(self._narrow.new_zeros(columns, len(wide.weight)), batch).unbind()
        # With a margin of one column on each side.
        self._row = self._narrow.new_zeros(len(self._narrow), columns + 2, batch)

    def begin_row(self, row: int) -> None:
        columns = self._row.shape[1] - 2
        taps = torch.stack([self._row[:, tap : tap + columns] for tap in range(3)])  # (3, h, W, B), from the row above
        from_above = torch.einsum("otk,tkpb->opb", self._above, taps) + self._bias
        self._from_above = from_above.unbind(1)

    def step(self, column: int, x: Tensor) -> Tensor:
        narrow = torch.addmm(self._narrow_bias, self._narrow, F.relu(x)).relu_()
        wide = torch.addmm(self._from_above[column], self._centre, narrow)
        wide.addmm_(self._left, self._row[:, column])
        self._row[:, column + 1] = narrow
        states = self._states[column]
        torch.clamp_min(wide, 0, out=states[:-1])
        return states


class _CachedVerticalStack:
    """The vertical stack of a Gated PixelCNN, which runs over a whole row when it starts.

    Attributes:
        maps: Of each layer, those for the pixels of the row, before the gates, (W, 2p, B).
    """

    def __init__(self, stack: VerticalStack, columns: int, batch: int):
        self._stack = stack
        kernel = stack.first.weight
        # Of each layer the rows of its input that it still reads, with margins: (B, p, distance, W + 2 distance).
        self._rows = [
            kernel.new_zeros(batch, len(kernel), distance, columns + 2 * distance) for distance in stack.dilations
        ]
        self.maps: list[Tensor] = []

    def begin_row(self, above: Tensor) -> None:
        x = self._stack.first(above.permute(3, 0, 1, 2))
        self.maps = []
        for index, (layer, distance) in enumerate(zip(self._stack.layers, self._stack.dilations, strict=True)):
            rows = torch.cat([self._rows[index], F.pad(x, (distance, distance))], dim=2)
            self._rows[index] = rows[:, :, 1:]
            maps = layer(rows)
            x = gated(maps)
            self.maps.append(maps[:, :, 0].permute(2, 1, 0))


class _CachedHorizontal:
    def __init__(self, layer: HorizontalLayer, vertical: _CachedVerticalStack, index: int, columns: int, batch: int):
        self._layer, self._vertical, self._index = layer, vertical, index
        self._left, self._centre = (layer.weight * layer.mask).chunk(2, dim=1)
        self._states = _states(layer.weight.new_zeros(columns, len(layer.weight) // 2), batch).unbind()
        self._x = [self._states[0]] * columns

    def begin_row(self, row: int) -> None:
        from_above = self._layer.from_above
        maps = torch.matmul(from_above.weight, self._vertical.maps[self._index])
        self._from_above = (maps + from_above.bias[:, None]).unbind()

    def step(self, column: int, x: Tensor) -> Tensor:
        self._x[column] = x
        gates = torch.addmm(self._from_above[column], self._centre, x)
        if column >= self._layer.dilation:
            gates.addmm_(self._left, self._x[column - self._layer.dilation])
        candidate, gate = gates.chunk(2)
        states = self._states[column]
        torch.mul(candidate.tanh(), gate.sigmoid(), out=states[:-1])
        return states


def _cached(layer: torch.nn.Module, columns: int, batch: int) -> _Layer:
    if isinstance(layer, RowLSTM):
        return _CachedRowLSTM(layer, columns, batch)
    if isinstance(layer, DiagonalBiLSTM):
        return _CachedDiagonalBiLSTM(layer, columns, batch)
    assert isinstance(layer, BottleneckConvolution)
    return _CachedConvolution(layer, columns, batch)


def _activate(gates: Tensor, cell: Tensor, hidden: Tensor) -> Tensor:
    """Compute the new state from the gates (4h, B), before activation, and the previous cell (h, B).

    The new hidden state (h, B) is written to `hidden`, the new cell is returned, and `gates` is overwritten.
    """
    h = len(cell)
    gates[: 3 * h].sigmoid_()
    output, forget, write, candidate = gates.split(h)
    cell = torch.addcmul(forget * cell, write, candidate.tanh_())
    torch.mul(output, cell.tanh(), out=hidden)
    return cell


def _states(initial: Tensor, batch: int) -> Tensor:
    """Return states (W, h + 1, B): `initial` (W, h) for all images, and a last row of ones for the bias."""
    return F.pad(initial[..., None].expand(-1, -1, batch), (0, 0, 0, 1), value=1.0)


def _rising(model: PixelNetwork) -> list[list[Tensor]]:
    """Return the 1x1 convolutions of each layer: to the residual stream and, with skip connections, to the output."""
    rising = [model.up] if model.skips is None else [model.up, model.skips]
    return [[_with_bias(part) for part in parts] for parts in zip(*rising, strict=True)]


def _with_bias(layer: torch.nn.Module) -> Tensor:
    """Return a 1x1 convolution as one matrix with the bias in the last column."""
    assert isinstance(layer, MaskedConv2d | MaskedPointwise)
    return torch.cat([layer.weight * layer.mask, layer.bias[:, None]], dim=1)
