"""The whole model: one contract for all kinds, probabilities that sum to one, orders, options, descriptions."""

import itertools
import json
import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from pixelrnn.model import PixelModel, order_index
from pixelrnn.pixel_config import ModelConfig, Order
from vision_rnn.errors import UserError

MakeModel = Callable[..., PixelModel]

SHAPES = [(3, 4, 1, 2), (5, 2, 1, 256), (2, 3, 3, 256), (1, 4, 3, 4), (4, 1, 3, 2)]


def random_pixels(model: PixelModel, batch: int = 2) -> Tensor:
    shape, generator = model.shape, torch.Generator().manual_seed(0)
    size = (batch, shape.channels, shape.height, shape.width)
    return torch.randint(shape.levels, size, generator=generator, dtype=torch.uint8)


def all_images(model: PixelModel) -> Tensor:
    shape = model.shape
    levels = itertools.product(range(shape.levels), repeat=shape.channels * shape.height * shape.width)
    return torch.tensor(list(levels), dtype=torch.uint8).view(-1, shape.channels, shape.height, shape.width)


@pytest.mark.pairwise
@pytest.mark.parametrize(("height", "width", "channels", "levels"), SHAPES)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_forward(
    make_model: MakeModel,
    variant: dict[str, Any],
    order: Order,
    height: int,
    width: int,
    channels: int,
    levels: int,
    dtype: torch.dtype,
) -> None:
    model = make_model(height, width, channels, levels, dtype=dtype, order=order, **variant)
    pixels = random_pixels(model)
    logits = model(pixels)
    of_softmax = 1 if levels == 2 else levels
    parameters = 3 * model.config.components if model.config.output == "logistic_mixture" else of_softmax
    assert logits.shape == (2, channels, parameters, height, width)
    assert logits.dtype == dtype
    assert logits.isfinite().all()
    log_likelihood = model.log_likelihood(pixels)
    assert log_likelihood.shape == pixels.shape
    assert (log_likelihood <= 0).all()
    torch.testing.assert_close(model(pixels.to(dtype)), logits, rtol=0, atol=0)


@pytest.mark.pairwise
@pytest.mark.parametrize(("channels", "levels"), [(1, 2), (3, 4)])
def test_every_parameter_receives_a_gradient(
    make_model: MakeModel, variant: dict[str, Any], order: Order, channels: int, levels: int
) -> None:
    model = make_model(5, 6, channels, levels, num_classes=3, order=order, **variant)
    mask = torch.ones(5, 6, dtype=torch.bool)
    mask[-1, -1] = model.context is None  # A context has nothing to read unless a pixel is known.
    model.log_likelihood(random_pixels(model), torch.tensor([0, 2]), mask).sum().backward()
    without = [
        name
        for name, parameter in model.named_parameters()
        if parameter.grad is None or not parameter.grad.isfinite().all() or not parameter.grad.any()
    ]
    assert without == []


def test_probabilities_of_all_binary_images_sum_to_one(
    make_model: MakeModel, variant: dict[str, Any], order: Order
) -> None:
    model = make_model(3, 3, order=order, **variant)
    images = all_images(model)
    assert len(images) == 2**9
    total = model.log_likelihood(images).flatten(1).sum(1).exp().sum().item()
    assert total == pytest.approx(1, abs=1e-9)


@pytest.mark.pairwise
@pytest.mark.parametrize(
    ("height", "width", "channels", "levels"),
    [(1, 2, 3, 3), (2, 1, 3, 3), (1, 2, 3, 2), (2, 2, 1, 4), (3, 1, 1, 6), (1, 1, 1, 256)],
)
def test_probabilities_of_all_images_of_few_levels_sum_to_one(
    make_model: MakeModel,
    variant: dict[str, Any],
    order: Order,
    height: int,
    width: int,
    channels: int,
    levels: int,
) -> None:
    model = make_model(height, width, channels, levels, order=order, **variant)
    total = model.log_likelihood(all_images(model)).flatten(1).sum(1).exp().sum().item()
    assert total == pytest.approx(1, abs=1e-9)


def test_probabilities_given_a_class_sum_to_one(make_model: MakeModel, variant: dict[str, Any]) -> None:
    model = make_model(2, 3, num_classes=4, **variant)
    images = all_images(model)
    probabilities = [
        model.log_likelihood(images, torch.full((len(images),), label)).flatten(1).sum(1).exp() for label in range(4)
    ]
    assert [each.sum().item() for each in probabilities] == pytest.approx([1, 1, 1, 1], abs=1e-9)
    for one, other in itertools.combinations(probabilities, 2):
        assert (one - other).abs().max() > 1e-4


def test_likelihood_of_binary_pixels(make_model: MakeModel) -> None:
    model = make_model(2, 3)
    pixels = random_pixels(model)
    of_one = 1 / (1 + (-model(pixels).squeeze(2)).exp())
    expected = torch.where(pixels == 1, of_one, 1 - of_one).log()
    torch.testing.assert_close(model.log_likelihood(pixels), expected, rtol=1e-12, atol=1e-12)


def test_likelihood_of_levels(make_model: MakeModel) -> None:
    model = make_model(2, 3, 3, 5)
    pixels = random_pixels(model)
    weights, log_likelihood = model(pixels).exp().detach(), model.log_likelihood(pixels)
    for place in itertools.product(range(2), range(3), range(2), range(3)):
        image, channel, row, column = place
        of_levels = weights[image, channel, :, row, column]
        expected = math.log(of_levels[int(pixels[place])] / of_levels.sum())
        assert log_likelihood[place].item() == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize(
    ("levels", "pixels", "expected"), [(2, [0, 1], [0, 1]), (4, [0, 3], [0, 1]), (256, [51], [0.2])]
)
def test_levels_are_scaled_to_one(make_model: MakeModel, levels: int, pixels: list[int], expected: list[float]) -> None:
    scaled = make_model(1, 1, 1, levels).scaled(torch.tensor(pixels, dtype=torch.uint8))
    torch.testing.assert_close(scaled, torch.tensor(expected, dtype=torch.float64))


def test_order_index() -> None:
    assert order_index("raster", 2, 3).tolist() == [[0, 1, 2], [3, 4, 5]]
    assert order_index("rotated", 2, 3).tolist() == [[5, 4, 3], [2, 1, 0]]
    assert order_index("transposed", 2, 3).tolist() == [[0, 2, 4], [1, 3, 5]]


@pytest.mark.parametrize("channels", [1, 3])
def test_another_order_is_the_same_model_of_a_turned_image(
    make_model: MakeModel, variant: dict[str, Any], channels: int
) -> None:
    rotated = make_model(3, 5, channels, 4, order="rotated", **variant)
    raster = make_model(3, 5, channels, 4, **variant)
    pixels = random_pixels(rotated)
    torch.testing.assert_close(rotated(pixels), raster(pixels.flip(2, 3)).flip(3, 4), rtol=0, atol=0)
    transposed = make_model(3, 5, channels, 4, order="transposed", **variant)
    raster = make_model(5, 3, channels, 4, **variant)
    torch.testing.assert_close(transposed(pixels), raster(pixels.mT).mT, rtol=0, atol=0)


@pytest.mark.parametrize("architecture", ["row_lstm", "diagonal_bilstm", "gated_pixel_cnn", "pixel_cnn"])
@pytest.mark.parametrize(("residual", "skip"), [(True, False), (False, False), (True, True), (False, True)])
def test_residuals_and_skips_are_added_once(
    make_model: MakeModel, architecture: str, residual: bool, skip: bool
) -> None:
    """Layer l adds 2^l to the residual stream and 100 times that to the skip connections, for any input."""
    model = make_model(3, 4, architecture=architecture, num_layers=3, residual=residual, skip=skip)
    for rises, scale in ((model.up, 1), (model.skips or [], 100)):
        for index, rise in enumerate(rises):
            rise.weight.data.zero_()
            rise.bias.data.fill_(scale * 2**index)
    seen = {}
    model.first.register_forward_hook(lambda module, inputs, features: seen.update(first=features))
    model.output.register_forward_pre_hook(lambda module, inputs: seen.update(last=inputs[0]))
    model(random_pixels(model))
    expected = seen["first"] + 1 + 2 + 4 if residual else torch.full_like(seen["first"], 4)
    torch.testing.assert_close(seen["last"], expected + 700 * skip)


def test_dilations_are_taken_in_turn(make_model: MakeModel) -> None:
    model = make_model(2, 3, num_layers=5, dilations=(1, 4))
    assert [layer.dilation for layer in model.layers] == [1, 4, 1, 4, 1]


def test_the_paper_counts_as_the_paper_does(make_model: MakeModel) -> None:
    """Number of parameters of the paper's Row LSTM for MNIST, L = 7 and h = 16, counted from table 1."""
    model = make_model(28, 28, num_layers=7, hidden_channels=16, output_channels=32)
    first, h = 32 * 49 + 32, 16
    layer = 4 * h * 2 * 2 * h + 4 * h * 3 * h + 4 * h + 2 * 28 * h + (2 * h * h + 2 * h)
    output = 2 * (32 * 32 + 32) + 32 + 1
    assert sum(parameter.numel() for parameter in model.parameters()) == first + 7 * layer + output


def test_inner_matrices(make_model: MakeModel, variant: dict[str, Any]) -> None:
    """The matrices that Muon updates: all kernels except those that read pixels or classes or write the output."""
    model = make_model(3, 4, num_classes=2, **variant)
    names = model.inner_matrices()
    kernels = {name for name, parameter in model.named_parameters() if parameter.ndim == 2}
    states = {name for name in kernels if "initial" in name}
    assert names == kernels - states - {"first.weight", "classes.weight", "output.5.weight"}


def test_description_survives_json(make_model: MakeModel, variant: dict[str, Any], order: Order) -> None:
    model = make_model(3, 4, 3, 4, num_classes=2, order=order, **variant)
    model.history.append({"data": "somewhere"})
    again = PixelModel.from_description(json.loads(json.dumps(model.describe())))
    assert (again.config, again.shape, again.history) == (model.config, model.shape, [{"data": "somewhere"}])
    again.double().load_state_dict(model.state_dict())
    pixels, labels = random_pixels(model), torch.tensor([0, 1])
    assert torch.equal(again(pixels, labels), model(pixels, labels))


def test_unknown_keys_of_a_description_are_refused(make_model: MakeModel) -> None:
    description = make_model(3, 4).describe()
    description["config"]["depth"] = 3
    with pytest.raises(TypeError, match="depth"):
        PixelModel.from_description(description)


def test_defaults_are_the_papers() -> None:
    config = ModelConfig()
    assert (config.architecture, config.num_layers, config.hidden_channels) == ("row_lstm", 7, 16)
    assert (config.residual, config.skip, config.dilations, config.extra_column) == (True, False, (1,), False)


@pytest.mark.parametrize(
    ("option", "value"), [("num_layers", -1), ("hidden_channels", 0), ("output_channels", -1), ("dilations", (1, 0))]
)
def test_numbers_that_no_model_can_have_are_refused_by_name(option: str, value: object) -> None:
    with pytest.raises(UserError, match=f"model.{option}: "):
        ModelConfig(**{option: value})  # type: ignore[arg-type]
