"""The cached sampler: it draws the same pixels as the naive sampler from the same noise, and the right distribution."""

import itertools
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from pixelrnn.model import PixelModel, order_index
from pixelrnn.pixel_config import Order
from pixelrnn.sampling import _CompiledRowLSTMs, _LayerByLayer, _Network, draw, draw_naively

MakeModel = Callable[..., PixelModel]

MASKS: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "lower half": lambda row, column: row >= 2,
    "upper half": lambda row, column: row < 2,
    "left half": lambda row, column: column < 2,
    "right half": lambda row, column: column >= 3,
    "centre": lambda row, column: (row - 2).abs() + (column - 2).abs() < 2,
    "every other pixel": lambda row, column: (row + column) % 2 == 0,
    "first pixel": lambda row, column: row + column == 0,
    "last column": lambda row, column: column == 4,
    "nothing": lambda row, column: row < 0,
}


def make_mask(name: str, height: int, width: int) -> Tensor:
    return MASKS[name](*torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij"))


def images_and_noise(model: PixelModel, batch: int) -> tuple[Tensor, Tensor]:
    shape, generator = model.shape, torch.Generator().manual_seed(0)
    size = (batch, shape.channels, shape.height, shape.width)
    pixels = torch.randint(shape.levels, size, generator=generator, dtype=torch.uint8)
    return pixels, torch.rand(size, generator=generator, dtype=torch.float64)


def everything(model: PixelModel) -> Tensor:
    return torch.ones(model.shape.height, model.shape.width, dtype=torch.bool)


def check_same_as_naive(model: PixelModel, mask: Tensor, batch: int = 3, labels: Tensor | None = None) -> None:
    pixels, noise = images_and_noise(model, batch)
    before = pixels.clone()
    drawn = draw(model, pixels, mask, noise, labels)
    assert drawn.dtype == torch.uint8
    assert drawn.shape == pixels.shape
    assert torch.equal(drawn, draw_naively(model, pixels, mask, noise, labels))
    assert torch.equal(pixels, before)
    assert torch.equal(drawn[..., ~mask], pixels[..., ~mask])


@pytest.mark.pairwise
@pytest.mark.parametrize(
    ("height", "width", "channels", "levels"), [(5, 6, 1, 2), (4, 3, 1, 256), (3, 4, 3, 4), (2, 4, 3, 256)]
)
def test_whole_images_are_the_naive_samplers(
    make_model: MakeModel, variant: dict[str, Any], order: Order, height: int, width: int, channels: int, levels: int
) -> None:
    model = make_model(height, width, channels, levels, order=order, **variant)
    check_same_as_naive(model, everything(model))


@pytest.mark.parametrize("name", MASKS)
def test_completions_are_the_naive_samplers(make_model: MakeModel, variant: dict[str, Any], name: str) -> None:
    model = make_model(4, 5, 3, 16, **variant)
    check_same_as_naive(model, make_mask(name, 4, 5), batch=2)


@pytest.mark.pairwise
@pytest.mark.parametrize("name", ["lower half", "centre", "last column"])
def test_completions_in_every_order(make_model: MakeModel, variant: dict[str, Any], order: Order, name: str) -> None:
    model = make_model(4, 5, 1, 16, order=order, **variant)
    check_same_as_naive(model, make_mask(name, 4, 5), batch=2)


def test_given_a_class(make_model: MakeModel, variant: dict[str, Any]) -> None:
    model = make_model(4, 5, 1, 16, num_classes=3, **variant)
    check_same_as_naive(model, everything(model), labels=torch.tensor([2, 0, 1]))


@pytest.mark.parametrize("architecture", ["row_lstm", "diagonal_bilstm", "gated_pixel_cnn", "pixel_cnn"])
@pytest.mark.parametrize(("height", "width"), [(1, 1), (1, 5), (5, 1)])
def test_the_smallest_images(make_model: MakeModel, architecture: str, height: int, width: int) -> None:
    for channels in (1, 3):
        model = make_model(height, width, channels, 16, architecture=architecture, dilations=(3, 9), extra_column=True)
        check_same_as_naive(model, everything(model))


@pytest.mark.parametrize("architecture", ["row_lstm", "diagonal_bilstm", "gated_pixel_cnn", "pixel_cnn"])
@pytest.mark.parametrize("levels", [2, 256])
def test_single_precision(make_model: MakeModel, architecture: str, levels: int) -> None:
    model = make_model(
        9, 8, 1, levels, dtype=torch.float32, architecture=architecture, num_layers=3, hidden_channels=16, skip=True
    )
    check_same_as_naive(model, everything(model), batch=4)


def test_a_layer_alone(make_model: MakeModel, variant: dict[str, Any]) -> None:
    for num_layers in (0, 1) if "context_layers" not in variant else (1,):
        model = make_model(3, 5, 1, 16, **(variant | {"num_layers": num_layers}))
        check_same_as_naive(model, everything(model))


def test_samples_follow_the_models_distribution(make_model: MakeModel, variant: dict[str, Any], order: Order) -> None:
    """Pearson's chi-squared statistic over all 16 binary images of 2x2."""
    model, count = make_model(2, 2, order=order, **variant), 20_000
    _, noise = images_and_noise(model, count)
    drawn = draw(model, torch.zeros(noise.shape, dtype=torch.uint8), everything(model), noise)
    images = torch.tensor(list(itertools.product((0, 1), repeat=4)), dtype=torch.uint8).view(-1, 1, 2, 2)
    expected = count * model.log_likelihood(images).flatten(1).sum(1).exp()
    found = torch.stack([(drawn == image).flatten(1).all(1).sum() for image in images])
    # With 15 degrees of freedom it exceeds 45 with probability 0.0001.
    assert ((found - expected) ** 2 / expected).sum() < 45


def test_what_lies_under_the_mask_does_not_matter(make_model: MakeModel, variant: dict[str, Any]) -> None:
    model, mask = make_model(4, 5, 3, 16, **variant), make_mask("centre", 4, 5)
    pixels, noise = images_and_noise(model, 2)
    other = torch.where(mask, 15 - pixels, pixels)
    assert torch.equal(draw(model, pixels, mask, noise), draw(model, other, mask, noise))


def test_known_pixels_matter_where_they_come_before_the_mask(
    make_model: MakeModel, variant: dict[str, Any], order: Order
) -> None:
    model, mask = make_model(4, 5, 1, 256, order=order, **variant), make_mask("centre", 4, 5)
    pixels, noise = images_and_noise(model, 2)
    place = order_index(order, 4, 5)
    before, after = place < place[mask].min(), place > place[mask].max()
    drawn = draw(model, pixels, mask, noise)[..., mask]
    # Or after it, with a context.
    unchanged = torch.equal(draw(model, torch.where(after, 255 - pixels, pixels), mask, noise)[..., mask], drawn)
    assert unchanged == (model.context is None)
    assert not torch.equal(draw(model, torch.where(before, 255 - pixels, pixels), mask, noise)[..., mask], drawn)


def test_an_image_does_not_depend_on_the_others_in_its_batch(make_model: MakeModel, variant: dict[str, Any]) -> None:
    model = make_model(3, 4, 3, 16, **variant)
    pixels, noise = images_and_noise(model, 3)
    together = draw(model, pixels, everything(model), noise)
    alone = [draw(model, pixels[i : i + 1], everything(model), noise[i : i + 1]) for i in range(3)]
    assert torch.equal(together, torch.cat(alone))


@pytest.mark.parametrize(("order", "rows"), [("raster", 3), ("rotated", 3), ("transposed", 5)])
def test_progress_is_called_for_every_row(make_model: MakeModel, order: Order, rows: int) -> None:
    model = make_model(3, 5, order=order)
    pixels, noise = images_and_noise(model, 1)
    calls = []
    draw(model, pixels, everything(model), noise, progress=lambda: calls.append(None))
    assert len(calls) == rows


ROW_LSTMS: dict[str, dict[str, Any]] = {
    "plain": {},
    "dilated, extra column, skip": {"dilations": (2, 1, 4), "extra_column": True, "skip": True, "num_layers": 3},
    "no residual, skip": {"residual": False, "skip": True},
    "no residual": {"residual": False},
    "mixture": {"output": "logistic_mixture", "components": 4, "extra_column": True, "skip": True},
    "channels in eights": {"hidden_channels": 16, "skip": True},
    "context": {"context_layers": 2, "skip": True, "extra_column": True},
}


@pytest.mark.parametrize("batch", [1, 8, 11])
@pytest.mark.parametrize("config", ROW_LSTMS.values(), ids=ROW_LSTMS.keys())
def test_compiled_layers_are_those_in_torchs_operations(
    make_model: MakeModel, config: dict[str, Any], batch: int
) -> None:
    """A pixel may be run twice, with other features the second time; what a context adds differs by row."""
    model = make_model(3, 5, dtype=torch.float32, architecture="row_lstm", **config).requires_grad_(False)
    columns = 5 + model.config.extra_column
    forms = _CompiledRowLSTMs(model, columns, batch), _LayerByLayer(model, columns, batch)
    generator = torch.Generator().manual_seed(0)
    for row in range(3):
        size = (model.config.num_layers, 2 * model.config.hidden_channels, columns, batch)
        seen = torch.randn(size, generator=generator) if model.context else None
        for form in forms:
            form.begin_row(row, seen)
        for column in [0, 0, *range(1, columns), columns - 1]:
            x = torch.randn(2 * model.config.hidden_channels, batch, generator=generator)
            found, expected = (form.run(column, x) for form in forms)
            torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("config", ROW_LSTMS.values(), ids=ROW_LSTMS.keys())
def test_compiled_layers_draw_the_naive_samplers_images(
    make_model: MakeModel, order: Order, config: dict[str, Any]
) -> None:
    model = make_model(4, 5, 3, 4, dtype=torch.float32, architecture="row_lstm", order=order, **config)
    check_same_as_naive(model, make_mask("every other pixel", 4, 5))


def test_layers_are_compiled_for_a_row_lstm_in_single_precision(make_model: MakeModel) -> None:
    def layers(architecture: str, dtype: torch.dtype) -> type:
        model = make_model(3, 3, dtype=dtype, architecture=architecture).requires_grad_(False)
        return type(_Network(model, 2, None)._layers)

    assert layers("row_lstm", torch.float32) is _CompiledRowLSTMs
    assert layers("row_lstm", torch.float64) is _LayerByLayer
    assert layers("gated_pixel_cnn", torch.float32) is _LayerByLayer
    assert layers("pixel_cnn", torch.float32) is _LayerByLayer
