"""The certificate: it passes only causal models, and finds exactly the inputs that a model can see.

The expected view is computed with sets, from the figures of the paper, without gradients. The leaks are those found in
public implementations of the paper, each planted on purpose.
"""

import copy
import itertools
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from pixelrnn.layers import diagonal_bilstm, row_lstm
from pixelrnn.layers.masked_convolution import group_mask
from pixelrnn.level_distribution import LogisticMixture
from pixelrnn.model import PixelModel, PixelNetwork
from pixelrnn.pixel_config import ImageShape, ModelConfig, Order
from pixelrnn.scan.lstm_scan import Geometry
from pixelrnn.studies.causality import Certificate, certify, half_known

MakeModel = Callable[..., PixelModel]


def view_of_mixture(config: ModelConfig, rows: int, width: int, channels: int) -> np.ndarray:
    """Return the view of a network without groups: that of one channel, and the earlier channels of the own pixel."""
    by_pixel = view_in_raster_order(config, rows, width, 1)[:, :, 0]  # (H, W, pixels)
    view = by_pixel[:, :, None, :, None].repeat(channels, axis=2).repeat(channels, axis=4)
    for row, column, channel in itertools.product(range(rows), range(width), range(channels)):
        view[row, column, channel, row * width + column, :channel] = True
    return view.reshape(rows, width, channels, -1)


def view_in_raster_order(config: ModelConfig, rows: int, width: int, channels: int) -> np.ndarray:
    """Propagate sets of inputs through the network: (H, W, C, inputs), with inputs numbered in raster order."""
    inputs = np.eye(rows * width * channels, dtype=bool).reshape(rows, width, channels, -1)
    columns = width + config.extra_column

    def empty() -> np.ndarray:
        return np.zeros((rows, columns, channels, inputs.shape[-1]), bool)

    def beside(maps: np.ndarray, row: int, column: int) -> np.ndarray:
        """Return the inputs that all channels of another pixel see together."""
        inside = 0 <= row < maps.shape[0] and 0 <= column < maps.shape[1]
        return maps[row, column].any(0) if inside else np.zeros(inputs.shape[-1], bool)

    def mask_b(maps: np.ndarray) -> np.ndarray:
        return np.logical_or.accumulate(maps, axis=-2)

    def row_layer(x: np.ndarray, dilation: int) -> np.ndarray:
        states = mask_b(x)
        for row, column in itertools.product(range(rows), range(columns)):
            states[row, column] |= beside(x, row, column - dilation)
            for offset in (-dilation, 0, dilation):
                states[row, column] |= beside(states, row - 1, column + offset)
        return states

    def diagonal_layer(x: np.ndarray) -> np.ndarray:
        left, right = mask_b(x), mask_b(x)
        for row, column in itertools.product(range(rows), range(columns)):
            left[row, column] |= beside(left, row, column - 1) | beside(left, row - 1, column)
        for row, column in itertools.product(range(rows), reversed(range(columns))):
            right[row, column] |= beside(right, row, column + 1) | beside(right, row - 1, column)
        left[1:] |= right[:-1]
        return left

    def convolution_layer(x: np.ndarray) -> np.ndarray:
        x = mask_b(x)
        states = mask_b(x)
        for row, column in itertools.product(range(rows), range(columns)):
            states[row, column] |= beside(x, row, column - 1)
            for offset in (-1, 0, 1):
                states[row, column] |= beside(x, row - 1, column + offset)
        return states

    def vertical_layer(x: np.ndarray, dilation: int) -> np.ndarray:
        """Map what is seen together at each place, (H, W, inputs)."""
        states = np.zeros_like(x)
        for row, column in itertools.product(range(rows), range(columns)):
            for up, right in itertools.product((0, dilation), (-dilation, 0, dilation)):
                if row - up >= 0 and 0 <= column + right < columns:
                    states[row, column] |= x[row - up, column + right]
        return states

    def horizontal_layer(x: np.ndarray, above: np.ndarray, dilation: int) -> np.ndarray:
        states = mask_b(x)
        for row, column in itertools.product(range(rows), range(columns)):
            states[row, column] |= beside(x, row, column - dilation) | above[row, column]
        return states

    above = np.zeros((rows, columns, inputs.shape[-1]), bool)
    for row, column in itertools.product(range(rows), range(columns)):
        for up, right in itertools.product(range(1, 4), range(-3, 4)):
            above[row, column] |= beside(inputs, row - up, column + right)
    x = empty()
    for row, column in itertools.product(range(rows), range(columns)):
        for down, right in itertools.product(range(-3, 1), range(-3, 4)):
            if (down, right) < (0, 0):
                x[row, column] |= beside(inputs, row + down, column + right)
        for channel in range(1, channels if column < width else 0):
            x[row, column, channel] |= inputs[row, column, :channel].any(0)
    total = empty()
    for index in range(config.num_layers):
        dilation = config.dilations[index % len(config.dilations)]
        if config.architecture == "row_lstm":
            states = row_layer(x, dilation)
        elif config.architecture == "gated_pixel_cnn":
            above = vertical_layer(above, dilation)
            states = horizontal_layer(x, above, dilation)
        else:
            states = diagonal_layer(x) if config.architecture == "diagonal_bilstm" else convolution_layer(x)
        x = mask_b(states) | x if config.residual else mask_b(states)
        total |= mask_b(states)
    return mask_b(x | total if config.skip else x)[:, :width]


def expected_view(config: ModelConfig, shape: ImageShape) -> Tensor:
    """Return the expected `Certificate.sees`, (H, W, C, H, W, C)."""
    turned = config.order == "transposed"
    rows, columns = (shape.width, shape.height) if turned else (shape.height, shape.width)
    view_of = view_of_mixture if config.output == "logistic_mixture" else view_in_raster_order
    view = torch.tensor(view_of(config, rows, columns, shape.channels))
    view = view.unflatten(3, (rows, columns, shape.channels))
    if config.order == "rotated":
        view = view.flip((0, 1, 3, 4))
    return view.transpose(0, 1).transpose(3, 4) if turned else view


@pytest.mark.pairwise
@pytest.mark.parametrize(
    ("order", "num_layers"), [("raster", 1), ("raster", 2), ("raster", 7), ("rotated", 2), ("transposed", 2)]
)
@pytest.mark.parametrize(("height", "width", "channels", "levels"), [(5, 9, 1, 2), (7, 4, 1, 3), (3, 5, 3, 4)])
def test_a_sound_model_sees_just_what_it_can(
    make_model: MakeModel,
    variant: dict[str, Any],
    order: Order,
    num_layers: int,
    height: int,
    width: int,
    channels: int,
    levels: int,
) -> None:
    model = make_model(height, width, channels, levels, **variant, order=order, num_layers=num_layers)
    certificate = certify(model)
    assert certificate.leaks == []
    assert certificate.num_leaks == 0
    assert torch.equal(certificate.sees, expected_view(model.config, model.shape))


@pytest.mark.parametrize("extra_column", [False, True])
@pytest.mark.parametrize("architecture", ["row_lstm", "diagonal_bilstm", "gated_pixel_cnn", "pixel_cnn"])
@pytest.mark.parametrize(("height", "width"), [(1, 1), (1, 6), (6, 1), (2, 2)])
def test_the_smallest_images(
    make_model: MakeModel, architecture: str, extra_column: bool, height: int, width: int
) -> None:
    for channels in (1, 3):
        model = make_model(
            height, width, channels, 2, architecture=architecture, extra_column=extra_column, dilations=(3, 8)
        )
        certificate = certify(model)
        assert certificate.num_leaks == 0
        assert certificate.coverage == 1


def reach(left: Callable[[int], int], right: Callable[[int], int], height: int, width: int) -> Tensor:
    """Return the view (H, W, H, W) where each pixel sees, d rows up, the column offsets `left(d)` to `right(d)`."""
    row, column, row_seen, column_seen = torch.meshgrid(
        *map(torch.arange, (height, width, height, width)), indexing="ij"
    )
    up, along = row - row_seen, column_seen - column
    first = torch.tensor([left(d) for d in range(height)])[up.clamp(min=0)]
    last = torch.tensor([right(d) for d in range(height)])[up.clamp(min=0)]
    return (up >= 0) & (first <= along) & (along <= last)


@pytest.mark.parametrize("num_layers", [1, 2, 7])
def test_row_lstm_sees_a_trapezium(make_model: MakeModel, num_layers: int) -> None:
    """Own row: 3 + L pixels to the left; d rows up: d + 2 columns to the right, for any depth."""
    certificate = certify(make_model(6, 19, architecture="row_lstm", num_layers=num_layers))
    expected = reach(lambda d: -3 - num_layers - d, lambda d: d + 2 if d else -1, 6, 19)
    assert torch.equal(certificate.sees[:, :, 0, :, :, 0], expected)


def test_row_lstm_of_the_paper_misses_a_quarter_of_mnist(make_model: MakeModel) -> None:
    certificate = certify(make_model(28, 28, architecture="row_lstm", num_layers=7, hidden_channels=1))
    expected = reach(lambda d: -10 - d, lambda d: d + 2 if d else -1, 28, 28)
    assert torch.equal(certificate.sees[:, :, 0, :, :, 0], expected)
    assert certificate.past_pairs == 784 * 783 // 2
    assert certificate.coverage == pytest.approx(0.74423, abs=1e-5)


@pytest.mark.parametrize("num_layers", [1, 3])
def test_pixel_cnn_has_a_blind_spot(make_model: MakeModel, num_layers: int) -> None:
    """d rows up it sees d + 2 columns to the right, but at most 3 + L columns and at most 3 + L rows."""
    certificate = certify(make_model(9, 15, architecture="pixel_cnn", num_layers=num_layers))
    far = 3 + num_layers
    expected = reach(
        lambda d: -far if d <= far else 1, lambda d: (min(d + 2, far) if d <= far else 0) if d else -1, 9, 15
    )
    assert torch.equal(certificate.sees[:, :, 0, :, :, 0], expected)


@pytest.mark.parametrize("num_layers", [1, 3])
def test_gated_pixel_cnn_has_no_blind_spot(make_model: MakeModel, num_layers: int) -> None:
    """It sees all of the last 3 + L rows, and of its own, that is at most 3 + L columns away."""
    certificate = certify(make_model(9, 15, architecture="gated_pixel_cnn", num_layers=num_layers))
    far = 3 + num_layers
    expected = reach(lambda d: -far if d <= far else 1, lambda d: (far if d <= far else 0) if d else -1, 9, 15)
    assert torch.equal(certificate.sees[:, :, 0, :, :, 0], expected)


@pytest.mark.parametrize("num_layers", [1, 2])
@pytest.mark.parametrize("channels", [1, 3])
def test_diagonal_bilstm_misses_only_the_end_of_the_row_above(
    make_model: MakeModel, num_layers: int, channels: int
) -> None:
    """The columns left of W - 4 do not see the last channel of pixel (r - 1, W - 1)."""
    rows, width = 3, 7
    plain = certify(make_model(rows, width, channels, architecture="diagonal_bilstm", num_layers=num_layers))
    expected = plain.past.clone()
    for row in range(1, rows):
        expected[row, : width - 4, :, row - 1, width - 1, -1] = False
    assert torch.equal(plain.sees, expected)
    extra = make_model(rows, width, channels, architecture="diagonal_bilstm", num_layers=num_layers, extra_column=True)
    assert certify(extra).coverage == 1


def test_numbers_and_maps(make_model: MakeModel) -> None:
    """On a model with a known view: only the first layer, on an image that is wider than its view."""
    certificate = certify(make_model(1, 6, num_layers=0))
    assert certificate.past_pairs == 15
    assert certificate.seen_pairs == 5 + 4 + 3  # Neighbours at distances of one, two and three columns.
    assert certificate.coverage == 12 / 15
    nan = float("nan")
    missed = torch.tensor([[2 / 5, 1 / 4, 0, 0, 0, nan]])
    torch.testing.assert_close(certificate.missed, missed, equal_nan=True)
    view = torch.tensor([[0, 1, 1, 1, nan, nan]])
    torch.testing.assert_close(certificate.field_of_view(0, 4), view, equal_nan=True)


def test_maps_of_colour_count_pairs_of_channels(make_model: MakeModel) -> None:
    certificate = certify(make_model(1, 5, 3, num_layers=0))
    # Within pixel 3, green sees red, and blue sees red and green: the whole past; pixel 4 is not in the past.
    view = torch.tensor([[1, 1, 1, 1, float("nan")]])
    torch.testing.assert_close(certificate.field_of_view(0, 3), view, equal_nan=True)
    # The 3 channels of pixel 4 do not see pixel 0; 3 pixels see all of it, and its own channels make 3 pairs.
    assert certificate.missed[0, 0] == pytest.approx(9 / (4 * 9 + 3))
    assert certificate.missed[0, 1:].tolist() == [0, 0, 0, 0]


def test_the_order_of_leaks_is_row_column_channel() -> None:
    past = torch.zeros(2, 3, 1, 2, 3, 1, dtype=torch.bool)
    sees = past.clone()
    sees[1, 0, 0, 0, 2, 0] = True
    certificate = Certificate(sees, past)
    assert certificate.leaks == [((1, 0, 0), (0, 2, 0))]
    assert certificate.num_leaks == 1


def test_certifying_changes_nothing(make_model: MakeModel) -> None:
    model = make_model(4, 3, 3, 4)
    before, state = copy.deepcopy(model.state_dict()), torch.get_rng_state()
    rows = []
    certify(model, progress=lambda: rows.append(None))
    assert len(rows) == 4
    torch.testing.assert_close(model.state_dict(), before, rtol=0, atol=0)
    assert torch.equal(torch.get_rng_state(), state)
    assert all(parameter.requires_grad for parameter in model.parameters())
    assert isinstance(model.output[0], torch.nn.ReLU)


def test_weights_of_zero_hide_nothing(make_model: MakeModel) -> None:
    """A weight that happens to be zero may change in training."""
    model = make_model(4, 5)
    expected = certify(model).sees
    for parameter in model.parameters():
        parameter.data.zero_()
    assert torch.equal(certify(model).sees, expected)


def test_few_images_at_once_give_the_same(make_model: MakeModel, monkeypatch: pytest.MonkeyPatch) -> None:
    model = make_model(3, 4, 3, 4)
    expected = certify(model).sees
    monkeypatch.setattr("pixelrnn.studies.causality._batch_size", lambda model: 5)
    assert torch.equal(certify(model).sees, expected)


def test_conditional_model(make_model: MakeModel, variant: dict[str, Any]) -> None:
    assert certify(make_model(3, 4, num_classes=3, **variant)).num_leaks == 0


@pytest.mark.pairwise
@pytest.mark.parametrize(("height", "width", "channels", "levels"), [(5, 9, 1, 2), (4, 3, 3, 4)])
def test_with_a_context_all_known_pixels_are_seen_and_none_of_the_region_from_the_pixel_on(
    make_model: MakeModel, variant: dict[str, Any], order: Order, height: int, width: int, channels: int, levels: int
) -> None:
    """Expected: what the model without a context sees, and known pixels on every side up to the width of the taps."""
    settings = variant | {"order": order, "dilations": (1, 4)}
    plain = certify(make_model(height, width, channels, levels, **settings | {"context_layers": 0}))
    given = make_model(height, width, channels, levels, **settings | {"context_layers": 2})
    torch.testing.assert_close(certify(given).sees, plain.sees)
    mask = half_known(height, width)
    certificate = certify(given, mask=mask)
    assert certificate.num_leaks == 0
    known = mask[:, :, None, None] != mask
    assert certificate.known is not None
    assert torch.equal(certificate.known[:, :, 0, :, :, 0], known)
    # Pixels of the same region: those that the model without a context sees, or what was derived from known ones.
    same = ~certificate.known
    assert (certificate.sees & same & ~plain.past).sum() == 0
    assert (certificate.sees | ~plain.sees | certificate.known).all()
    # 3 columns of the first convolution and 5 of both layers, in its own line: here that is everywhere.
    assert certificate.later_known_pairs == certificate.seen_later_known_pairs > 0


# Planted leaks


def leaks_from(certificate: Certificate) -> set[tuple[int, int]]:
    """Return the directions of the leaks: offsets of the input from the output, in rows down and columns right."""
    return {(seen[0] - output[0], seen[1] - output[1]) for output, seen in certificate.leaks}


def test_mask_b_in_the_first_layer_leaks_the_pixel_itself(make_model: MakeModel, variant: dict[str, Any]) -> None:
    model = make_model(4, 5, **variant)
    model.first.mask.unflatten(1, (1, 7, 7))[:, :, 3, 3] = 1
    certificate = certify(model)
    # All other outputs of these features come later, and may depend on the pixel.
    assert leaks_from(certificate) == {(0, 0)}
    assert certificate.num_leaks == 20


@pytest.mark.parametrize(
    ("wrong", "leaking"),
    [
        ("own channel", {(0, 0), (1, 1), (2, 2)}),
        ("channels in reverse", {(0, 1), (0, 2), (1, 1), (1, 2), (2, 2)}),
        ("all channels", {(0, 0), (0, 1), (0, 2), (1, 1), (1, 2), (2, 2)}),
    ],
)
def test_wrong_masks_of_colour_leak(
    make_model: MakeModel, variant: dict[str, Any], wrong: str, leaking: set[tuple[int, int]]
) -> None:
    model = make_model(3, 4, 3, 4, **(variant | {"output": "softmax"}))
    features = len(model.first.weight)
    masks = {
        "own channel": group_mask(features, 3, 3, "B"),
        "channels in reverse": group_mask(features, 3, 3, "A").flip((0, 1)),
        "all channels": torch.ones(features, 3),
    }
    model.first.mask.unflatten(1, (3, 7, 7))[:, :, 3, 3] = masks[wrong]
    certificate = certify(model)
    assert leaks_from(certificate) == {(0, 0)}
    assert {(output[2], seen[2]) for output, seen in certificate.leaks} == leaking


def test_a_context_that_reads_the_region_leaks(make_model: MakeModel, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is known, and every pixel is read; the same if half of them are known."""
    context_states = PixelNetwork.context_states
    nothing = torch.zeros((), dtype=torch.bool)
    monkeypatch.setattr(
        PixelNetwork, "context_states", lambda model, pixels, mask: context_states(model, pixels, nothing)
    )
    model, mask = make_model(3, 4, context_layers=2), half_known(3, 4)
    assert certify(model).num_leaks == 12 + 12 * 11 // 2
    certificate = certify(model, mask=mask)
    size = int(mask.sum())
    assert 0 < size < 12
    assert certificate.num_leaks == sum(part * (part + 1) // 2 for part in (size, 12 - size))
    assert f"leaks: {certificate.num_leaks}" in certificate.describe()


def test_wrong_mask_of_colour_in_a_later_layer_leaks(make_model: MakeModel, variant: dict[str, Any]) -> None:
    """Mask B opened to all channels: the features of green, which depend on red, reach the prediction of red."""
    model = make_model(3, 4, 3, 4, **(variant | {"output": "softmax"}))
    model.output[1].mask.fill_(1)
    certificate = certify(model)
    assert leaks_from(certificate) == {(0, 0)}
    assert {(output[2], seen[2]) for output, seen in certificate.leaks} == {(0, 0), (0, 1), (1, 1)}


@pytest.mark.parametrize(
    ("wrong", "leaking"),
    [
        ("mask", {(output, seen) for output in range(3) for seen in range(output, 3)}),
        ("weights", {(0, 0), (1, 1), (2, 2)}),
        ("neighbours", {(0, 0), (1, 1), (2, 2)}),
    ],
)
def test_wrong_mixtures_leak(
    make_model: MakeModel, monkeypatch: pytest.MonkeyPatch, wrong: str, leaking: set[tuple[int, int]]
) -> None:
    """Features that see their own pixel; components weighted by the level to predict; means that start from it."""
    model = make_model(3, 4, 3, 4, output="logistic_mixture", components=3)
    if wrong == "mask":
        model.first.mask.unflatten(1, (3, 7, 7))[:, :, 3, 3] = 1
    elif wrong == "weights":

        def given(self: LogisticMixture, outputs: Tensor, pixels: Tensor, neighbours: Tensor) -> Tensor:
            return self._joint(*self._mixture(outputs, pixels, neighbours), pixels).log_softmax(dim=2)

        monkeypatch.setattr(LogisticMixture, "given", given)
        model.distribution.parameters = 3
    else:
        monkeypatch.setattr("pixelrnn.model.neighbour_means", lambda pixels, levels: pixels)
    certificate = certify(model)
    assert leaks_from(certificate) == {(0, 0)}
    assert {(output[2], seen[2]) for output, seen in certificate.leaks} == leaking


def test_mirrored_stream_not_shifted_down_leaks(make_model: MakeModel, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(diagonal_bilstm, "shift_down", lambda x: x)
    directions = leaks_from(certify(make_model(4, 5, architecture="diagonal_bilstm", num_layers=1)))
    # The feature to the right depends on the pixel itself, and so on for the columns further right.
    assert directions == {(0, right) for right in range(4)}


def test_state_taps_centred_as_by_same_padding_leak(make_model: MakeModel, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two taps at 0 and +1 instead of -1 and 0 read the row below."""
    monkeypatch.setattr(diagonal_bilstm, "Geometry", lambda inputs, _, ranges: Geometry(inputs, (0, 1), ranges))
    directions = leaks_from(certify(make_model(4, 5, architecture="diagonal_bilstm", num_layers=1)))
    assert any(down > 0 for down, _ in directions)


def test_skew_shifted_the_wrong_way_leaks(make_model: MakeModel, monkeypatch: pytest.MonkeyPatch) -> None:
    """If each row is shifted further right than the row below, the neighbour in the line is in the row below."""
    skew, unskew = diagonal_bilstm.skew, diagonal_bilstm.unskew
    monkeypatch.setattr(diagonal_bilstm, "skew", lambda x, mirrored: skew(x.flip(0), mirrored))
    monkeypatch.setattr(diagonal_bilstm, "unskew", lambda x, mirrored: unskew(x, mirrored).flip(0))
    directions = leaks_from(certify(make_model(4, 5, architecture="diagonal_bilstm", num_layers=1)))
    assert max(down for down, _ in directions) == 3


@pytest.mark.parametrize("mirrored_only", [False, True])
def test_skew_undone_by_a_line_too_few_leaks(
    make_model: MakeModel, monkeypatch: pytest.MonkeyPatch, mirrored_only: bool
) -> None:
    unskew = diagonal_bilstm.unskew

    def late(skewed: Tensor, mirrored: bool) -> Tensor:
        return unskew(skewed.roll(-1, 0) if mirrored >= mirrored_only else skewed, mirrored)

    monkeypatch.setattr(diagonal_bilstm, "unskew", late)
    monkeypatch.setattr(diagonal_bilstm, "shift_down", lambda x: x)
    directions = leaks_from(certify(make_model(4, 5, architecture="diagonal_bilstm", num_layers=1)))
    assert (0, 0) in directions


def test_hidden_and_width_mixed_by_a_reshape_leak(make_model: MakeModel, monkeypatch: pytest.MonkeyPatch) -> None:
    """States (H, h, W, B) reshaped as if they were (H, W, h, B)."""
    forward = row_lstm.RowLSTM.forward

    def mixing(self: row_lstm.RowLSTM, x: Tensor) -> Tensor:
        states = forward(self, x)
        return states.transpose(1, 2).reshape(states.shape)

    monkeypatch.setattr(row_lstm.RowLSTM, "forward", mixing)
    directions = leaks_from(certify(make_model(4, 5, architecture="row_lstm", num_layers=1)))
    assert {down for down, _ in directions} == {0}
    assert max(right for _, right in directions) > 0


def test_state_taps_reading_the_present_row_leak(make_model: MakeModel) -> None:
    """A tap to the right reads the current row instead of the row above: x_{t+1} predicts x_t."""
    model = make_model(3, 6, architecture="row_lstm", num_layers=1)
    model.layers[0].register_forward_hook(lambda module, inputs, states: states + states.roll(-1, 2))
    assert (0, 0) in leaks_from(certify(model))


def test_a_leak_outside_the_parameters_is_found(make_model: MakeModel, variant: dict[str, Any]) -> None:
    """One pixel, far from the output, added after the layers."""
    model = make_model(4, 5, 3, 4, **variant)

    def whisper(module: torch.nn.Module, inputs: tuple[Tensor, ...], logits: Tensor) -> Tensor:
        leak = torch.zeros_like(logits)
        leak[:, 1, 2, 0, 2] = 1e-9 * inputs[0][:, 2, 3, 4]
        return logits + leak

    model.register_forward_hook(whisper)
    assert certify(model).leaks == [((0, 2, 1), (3, 4, 2))]


def test_too_much_masked_lowers_the_coverage(make_model: MakeModel) -> None:
    """Mask A instead of B in the recurrent layers: no leak, but green no longer sees red there."""
    model = make_model(3, 4, 3, 4, architecture="diagonal_bilstm", residual=False, num_layers=1)
    sound = certify(model)
    for stream in (model.layers[0].from_left, model.layers[0].from_right):
        stream.mask.copy_(group_mask(7, 14, 3, "A").repeat(4, 1))
    masked = certify(model)
    assert masked.num_leaks == 0
    assert masked.coverage < sound.coverage
    assert not torch.equal(masked.sees, expected_view(model.config, model.shape))
