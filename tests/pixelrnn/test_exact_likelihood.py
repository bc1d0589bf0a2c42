"""Evaluation: exact likelihoods of known models over whole splits."""

import math
from collections.abc import Callable

import numpy as np
import pytest
import torch

from data_prep.prepared_pixels import PreparedPixels
from pixelrnn.exact_likelihood import evaluate
from pixelrnn.model import PixelModel
from vision_rnn.errors import UserError

RANDOM = np.random.default_rng(0)
MakeModel = Callable[..., PixelModel]
MakeData = Callable[..., PreparedPixels]


def random_images(count: int, *shape: int, levels: int = 2) -> np.ndarray:
    images = RANDOM.integers(0, levels, (count, *shape), dtype=np.uint8)
    images[0].flat[:2] = 0, levels - 1  # So that the number of levels is detected.
    return images


@pytest.fixture(scope="module")
def binary(make_data: MakeData) -> PreparedPixels:
    """Seven test images: only the batch sizes 1 and 7 divide them evenly."""
    return make_data(train=random_images(4, 4, 5), valid=random_images(2, 4, 5), test=random_images(7, 4, 5))


@pytest.fixture(scope="module")
def labelled(make_data: MakeData) -> PreparedPixels:
    arrays = {"x_train": random_images(4, 4, 5), "y_train": np.array([0, 1, 2, 2])}
    return make_data(**arrays, x_test=random_images(3, 4, 5), y_test=np.array([2, 0, 1]))


def without_output(model: PixelModel) -> PixelModel:
    """Make all levels equally probable."""
    last = model.output[-1]
    torch.nn.init.zeros_(last.weight)
    torch.nn.init.zeros_(last.bias)
    return model


def test_a_uniform_model_needs_one_bit_per_pixel(make_data: MakeData, make_model: MakeModel):
    data = make_data(train=random_images(3, 28, 28), test=random_images(5, 28, 28))
    document = evaluate(without_output(make_model(28, 28, num_layers=1)), data, "test")
    assert document["nats_per_image"] == pytest.approx(784 * math.log(2))
    assert document["bits_per_dimension"] == pytest.approx(1.0)
    assert document["sum_nats"] == pytest.approx(5 * 784 * math.log(2))
    assert document["standard_error"] == pytest.approx(0, abs=1e-4)
    assert (document["images"], document["dimensions"], document["levels"]) == (5, 784, 2)
    assert document["content_hash"] == data.content_hash
    for fact in ("all 5 images of the split test", "28x28x1", "fixed by the source", "raster order", "2 levels"):
        assert fact in document["protocol"]


def test_256_equally_probable_levels_need_eight_bits(make_data: MakeData, make_model: MakeModel):
    data = make_data(train=random_images(3, 3, 4, 3, levels=256), test=random_images(2, 3, 4, 3, levels=256))
    document = evaluate(without_output(make_model(3, 4, channels=3, levels=256, hidden_channels=6)), data, "test")
    assert document["bits_per_dimension"] == pytest.approx(8.0)
    assert document["dimensions"] == 36


def test_the_batch_size_does_not_matter_and_no_image_is_omitted(binary: PreparedPixels, make_model: MakeModel):
    model = make_model(4, 5)
    together = evaluate(model, binary, "test", batch_size=7)
    images = torch.tensor(binary.split("test").pixels).permute(0, 3, 1, 2)
    nats = np.array([-model.log_likelihood(image[None]).sum().item() for image in images])
    assert together["nats_per_image"] == pytest.approx(nats.mean())
    assert together["standard_error"] == pytest.approx(nats.std(ddof=1) / math.sqrt(7))
    assert together["bits_standard_error"] == pytest.approx(nats.std(ddof=1) / math.sqrt(7) / 20 / math.log(2))
    for size in (1, 3, 5, 100):
        document = evaluate(model, binary, "test", batch_size=size)
        assert document["sum_nats"] == pytest.approx(together["sum_nats"], rel=1e-12)
        assert document["images"] == 7


def test_a_single_image_has_no_standard_error(make_data: MakeData, make_model: MakeModel):
    data = make_data(train=random_images(3, 4, 5), test=random_images(1, 4, 5))
    document = evaluate(make_model(4, 5), data, "test")
    assert (document["images"], document["standard_error"], document["bits_standard_error"]) == (1, None, None)


def test_a_conditional_model_gets_the_class_of_each_image(labelled: PreparedPixels, make_model: MakeModel):
    model = make_model(4, 5, num_classes=3)
    split = labelled.split("test")
    images = torch.tensor(split.pixels).permute(0, 3, 1, 2)
    nats = -model.log_likelihood(images, torch.tensor(split.labels)).sum()
    document = evaluate(model, labelled, "test", batch_size=2)
    assert document["sum_nats"] == pytest.approx(nats.item())
    assert "the image's class" in document["protocol"]
    # An unconditional model ignores labels.
    assert evaluate(make_model(4, 5), labelled, "test")["images"] == 3


def test_a_conditional_model_needs_labels(
    binary: PreparedPixels, labelled: PreparedPixels, make_data: MakeData, make_model: MakeModel
):
    with pytest.raises(UserError, match="has no labels, but the model is class-conditional"):
        evaluate(make_model(4, 5, num_classes=3), binary, "test")
    with pytest.raises(UserError, match=r"in 3 classes, but the model is for .* in 4 classes"):
        evaluate(make_model(4, 5, num_classes=4), labelled, "test")
    partly = make_data(x_train=random_images(3, 4, 5), y_train=np.array([0, 1, 2]), x_test=random_images(3, 4, 5))
    with pytest.raises(UserError, match="split test: has no labels"):
        evaluate(make_model(4, 5, num_classes=3), partly, "test")


@pytest.mark.parametrize("shape", [{"height": 5}, {"width": 4}, {"channels": 3}, {"levels": 256}])
def test_images_of_another_shape_are_refused_in_one_line(
    binary: PreparedPixels, make_model: MakeModel, shape: dict[str, int]
):
    model = make_model(**({"height": 4, "width": 5} | shape))
    with pytest.raises(UserError, match=r"^[^\n]*grey images of 4x5 pixels and 2 levels, but the model is for[^\n]*$"):
        evaluate(model, binary, "test")


def test_an_unknown_split_is_named(binary: PreparedPixels, make_model: MakeModel):
    with pytest.raises(UserError, match="no split 'tests'; choose one of"):
        evaluate(make_model(4, 5), binary, "tests")


@pytest.mark.parametrize("regions", [False, True])
def test_weights_that_give_no_numbers_are_said(binary: PreparedPixels, make_model: MakeModel, regions: bool):
    model = make_model(4, 5)
    with torch.no_grad():
        list(model.parameters())[-1].fill_(torch.nan)
    with pytest.raises(UserError, match=r"split test: the model gives probabilities that are not numbers"):
        evaluate(model, binary, "test", regions=regions)
