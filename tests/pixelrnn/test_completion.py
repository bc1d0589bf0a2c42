"""Reading files, drawn and known pixels of completions, and the likelihood of the masked pixels."""

import itertools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from pixelrnn import completion
from pixelrnn.completion import (
    complete,
    conditioning,
    conditioning_note,
    inverted,
    is_binary,
    is_likelier_inverted,
    load_levels,
    masked_nats,
    nats_by_pixel,
    quantized,
    sample,
)
from pixelrnn.mask import read_mask
from pixelrnn.model import PixelModel, order_index
from pixelrnn.pixel_config import ImageShape, ModelConfig, Order
from vision_rnn.errors import UserError

GREY, RGB = ImageShape(height=4, width=6), ImageShape(height=4, width=6, channels=3, levels=256)


def save(path: Path, height: int, width: int) -> np.ndarray:
    image = np.random.default_rng(0).integers(256, size=(height, width, 3), dtype=np.uint8)
    Image.fromarray(image).save(path)
    return image


# From a file to pixels


def test_an_image_of_the_models_kind_is_unchanged(tmp_path: Path) -> None:
    image = save(tmp_path / "image.png", 4, 6)
    levels = load_levels(tmp_path / "image.png", RGB)
    assert np.array_equal(levels, image)
    assert np.array_equal(quantized(levels, RGB).numpy(), image.transpose(2, 0, 1))


def test_colours_become_grey_by_their_luma(tmp_path: Path) -> None:
    image = save(tmp_path / "image.png", 4, 6)
    levels = load_levels(tmp_path / "image.png", GREY)
    np.testing.assert_allclose(levels[..., 0], image @ [0.299, 0.587, 0.114], atol=1)


def test_an_image_of_another_size_is_refused_or_cut_and_scaled(tmp_path: Path) -> None:
    path = tmp_path / "image.png"
    image = save(path, 10, 12)
    with pytest.raises(UserError, match="10x12 pixels, but the model's images have 4x6; add --resize"):
        load_levels(path, RGB)
    levels = load_levels(path, RGB, resize=True)
    # The middle 8 x 12 of the 10 x 12 pixels have the aspect ratio of 4 x 6: one block of 2 x 2 per pixel.
    blocks = image[1:9].reshape(4, 2, 6, 2, 3).mean(axis=(1, 3))
    np.testing.assert_allclose(levels, blocks, atol=1)


def test_binary_pixels_are_thresholded() -> None:
    levels = np.array([0, 127, 128, 255], np.uint8).reshape(2, 2, 1)
    assert quantized(levels, GREY).tolist() == [[[0, 0], [1, 1]]]
    assert not is_binary(levels)
    assert is_binary(np.array([0, 255], np.uint8))


# Completions


@pytest.mark.parametrize(("channels", "levels", "num_classes"), [(1, 2, 0), (1, 2, 3), (3, 256, 0)])
def test_known_pixels_are_unchanged_and_the_rest_is_drawn(
    make_model: Callable[..., PixelModel], order: Order, channels: int, levels: int, num_classes: int
) -> None:
    model = make_model(6, 7, channels, levels, num_classes, order=order)
    pixels = torch.randint(levels, (2, channels, 6, 7), generator=torch.Generator().manual_seed(1)).to(torch.uint8)
    mask = read_mask("center", 6, 7)
    label = 2 if num_classes else None
    before, drawn = pixels.clone(), complete(model, pixels, mask, 5, seed=3, label=label)
    assert drawn.shape == (2, 5, channels, 6, 7)
    assert (drawn[..., ~mask] == pixels[:, None][..., ~mask]).all()
    assert torch.equal(pixels, before)
    # Levels under the mask are ignored, and the completions are not all the same.
    other = torch.where(mask, levels - 1 - pixels, pixels)
    assert torch.equal(complete(model, other, mask, 5, seed=3, label=label), drawn)
    assert len({tuple(completion.flatten().tolist()) for completion in drawn[0]}) > 2


def test_randomness_is_that_of_the_seed_and_differs_between_images(make_model: Callable[..., PixelModel]) -> None:
    model = make_model(6, 7)
    pixels = torch.randint(2, (2, 1, 6, 7), generator=torch.Generator().manual_seed(1)).to(torch.uint8)
    mask = read_mask("lower-half", 6, 7)
    alike = pixels[[0, 0, 1]]
    drawn = complete(model, alike, mask, 4, seed=5)
    assert torch.equal(complete(model, alike, mask, 4, seed=5), drawn)
    assert torch.equal(complete(model, pixels[:1], mask, 4, seed=5)[0], drawn[0])
    assert not torch.equal(drawn[1], drawn[0])
    assert not torch.equal(complete(model, alike, mask, 4, seed=6), drawn)


def test_samples_follow_the_models_distribution(make_model: Callable[..., PixelModel]) -> None:
    model = make_model(2, 2, num_classes=2)
    images = torch.tensor(list(itertools.product((0, 1), repeat=4)), dtype=torch.uint8).view(16, 1, 2, 2)
    drawn = sample(model, 4000, seed=1, label=1)
    counts = (drawn[:, None] == images).flatten(2).all(2).sum(0).double()
    with torch.no_grad():
        expected = 4000 * model.log_likelihood(images, torch.ones(16, dtype=torch.int64)).sum((1, 2, 3)).exp()
    # Chi-squared with 15 degrees of freedom exceeds 37.7 with probability 0.001; the seed is fixed.
    assert ((counts - expected) ** 2 / expected).sum() < 37.7


def test_progress_is_reported_row_by_row(make_model: Callable[..., PixelModel]) -> None:
    calls: list[int] = []
    sample(make_model(3, 5, order="transposed"), 1, progress=lambda: calls.append(1))
    assert len(calls) == 5


# Likelihood of the masked pixels


@pytest.mark.parametrize("name", ["lower-half", "upper-half", "left-half", "center"])
def test_probabilities_of_all_fillings_sum_to_one(
    make_model: Callable[..., PixelModel], variant: dict[str, Any], order: Order, name: str
) -> None:
    model, mask = make_model(4, 3, **variant, order=order), read_mask(name, 4, 3)
    size = int(mask.sum())
    images = torch.zeros(2**size, 1, 4, 3, dtype=torch.uint8)
    images[:, :, 0, 0] = images[:, :, 3, 1] = 1
    images[:, 0, mask] = torch.tensor(list(itertools.product((0, 1), repeat=size)), dtype=torch.uint8)
    assert (-masked_nats(model, images, mask)).exp().sum().item() == pytest.approx(1, abs=1e-9)


def test_nats_of_masked_pixels_and_of_the_rest_are_those_of_the_image(make_model: Callable[..., PixelModel]) -> None:
    model = make_model(5, 4, 3, 256)
    pixels = torch.randint(256, (3, 3, 5, 4), generator=torch.Generator().manual_seed(0)).to(torch.uint8)
    mask = read_mask("center", 5, 4)
    with torch.no_grad():
        whole = -model.log_likelihood(pixels).sum((1, 2, 3))
    torch.testing.assert_close(masked_nats(model, pixels, mask) + masked_nats(model, pixels, ~mask), whole)


# What is conditioned on


@given(
    st.sampled_from(["raster", "rotated", "transposed"]),
    st.integers(1, 6),
    st.integers(1, 6),
    st.integers(0, 2**36 - 1),
)
def test_conditioning_counts_pairs(order: Order, height: int, width: int, bits: int) -> None:
    size = height * width
    mask = torch.tensor([bits >> index & 1 for index in range(size)]).bool().view(height, width)
    if not 0 < mask.sum() < size:
        return
    place = order_index(order, height, width)
    drawn = place[mask].tolist()
    later_drawn = [sum(other > known for other in drawn) for known in place[~mask].tolist()]
    config = ModelConfig(order=order)
    counts = conditioning(config, mask)
    assert counts.by_all == later_drawn.count(len(drawn))
    assert counts.by_none == later_drawn.count(0)
    assert counts.by_some == len(later_drawn) - counts.by_all - counts.by_none
    note = conditioning_note(config, mask)
    if note is None:
        assert sum(later_drawn) == len(later_drawn) * len(drawn)
    else:
        assert f"({sum(later_drawn) / (len(later_drawn) * len(drawn)):.0%} of all pairs" in note


@pytest.mark.parametrize(
    ("name", "order"), [("lower-half", "raster"), ("upper-half", "rotated"), ("right-half", "transposed")]
)
def test_each_half_has_its_order_which_the_others_name(name: str, order: Order) -> None:
    mask = read_mask(name, 28, 28)
    assert conditioning_note(ModelConfig(order=order), mask) is None
    for other in ("raster", "rotated", "transposed"):
        if other != order:
            note = conditioning_note(ModelConfig(order=other), mask)
            assert note is not None
            assert f"`order: {order}` reaches 100%" in note


def test_a_context_is_named_where_no_order_is_enough() -> None:
    mask = read_mask("left-half", 28, 28)
    note = conditioning_note(ModelConfig(order="raster"), mask)
    assert note is not None
    assert "`context_layers` reaches 100%" in note
    given = ModelConfig(order="raster", context_layers=1)
    assert conditioning_note(given, mask) is None
    assert vars(conditioning(given, mask)) == {"by_all": 392, "by_some": 0, "by_none": 0}


def test_many_images_are_drawn_and_measured_in_batches(
    make_model: Callable[..., PixelModel], monkeypatch: pytest.MonkeyPatch
) -> None:
    model, mask = make_model(4, 3, levels=16), read_mask("lower-half", 4, 3)
    pixels = torch.randint(16, (7, 1, 4, 3), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
    whole = complete(model, pixels, mask, 5, seed=2), masked_nats(model, pixels, mask)
    sizes, drawing, measuring = [], completion.draw, PixelModel.log_likelihood

    def draw(model: PixelModel, known: torch.Tensor, *rest: Any) -> torch.Tensor:
        sizes.append(len(known))
        return drawing(model, known, *rest)

    def log_likelihood(self: PixelModel, known: torch.Tensor, *rest: Any) -> torch.Tensor:
        sizes.append(len(known))
        return measuring(self, known, *rest)

    monkeypatch.setattr(completion, "BATCH_SIZE", 4)
    monkeypatch.setattr(completion, "draw", draw)
    monkeypatch.setattr(PixelModel, "log_likelihood", log_likelihood)
    assert torch.equal(complete(model, pixels, mask, 5, seed=2), whole[0])
    torch.testing.assert_close(masked_nats(model, pixels, mask), whole[1])
    assert sizes == [4] * 8 + [3] + [4, 3]


def test_an_image_is_likelier_inverted_by_its_known_pixels(make_dark_model: Callable[[], PixelModel]) -> None:
    """Each white pixel costs three nats more than a black one: with w of 32 known pixels white, 3 w and 3 (32 - w)."""
    model, mask = make_dark_model(), read_mask("lower-half", 8, 8)
    whites = [0, 16, 22, 24, 32]
    pixels = torch.zeros(len(whites), 1, 8, 8, dtype=torch.uint8)
    for image, white in zip(pixels, whites, strict=True):
        image.view(-1)[:white] = 1
    pixels[0, ..., 4:, :] = 1  # what is not known does not count
    base = 32 * np.log1p(np.exp(-3))
    expected = [base + 3 * w > 2 * (base + 3 * (32 - w)) + 10 for w in whites]
    assert expected == [False, False, False, True, True]
    nats, of_inverted = (nats_by_pixel(model, each) for each in (pixels, 1 - pixels))
    assert is_likelier_inverted(nats, of_inverted, mask).tolist() == expected
    # A single known pixel proves nothing.
    mask = torch.ones(8, 8, dtype=torch.bool)
    mask[0, 0] = False
    assert not is_likelier_inverted(nats, of_inverted, mask).any()


@pytest.mark.parametrize("levels", [2, 256])
def test_inverting_twice_changes_nothing(levels: int) -> None:
    pixels = torch.arange(levels, dtype=torch.uint8)
    assert torch.equal(inverted(pixels, levels), pixels.flip(0))
    assert torch.equal(inverted(inverted(pixels, levels), levels), pixels)
