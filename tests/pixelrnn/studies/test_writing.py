"""Handwriting: the class of a character, the seed of a hand, and the page."""

from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor

from pixelrnn.model import PixelModel
from pixelrnn.pictures import cell_scale
from pixelrnn.pixel_config import ImageShape
from pixelrnn.sampling import draw_naively
from pixelrnn.studies.writing import classes_of, page, write
from vision_rnn.errors import UserError

DIGITS = ImageShape(height=8, width=8, num_classes=10)


def test_a_digit_is_the_class_of_its_number():
    assert classes_of("0123456789", DIGITS) == list(range(10))
    assert classes_of("2026", DIGITS) == [2, 0, 2, 6]


@pytest.mark.parametrize(
    ("text", "num_classes", "reason"),
    [
        ("20a6", 10, "'a': the model has no class for this character; use only 0123456789"),
        ("20 26", 10, "' ': the model has no class"),
        ("2\n", 10, r"'\\n': the model has no class"),
        ("²", 10, "'²': the model has no class"),
        ("٣", 10, "the model has no class"),
        ("123", 3, "'3': the model has no class for this character; use only 012"),
        ("", 10, "TEXT: is empty"),
        ("2026", 0, "this model is not class-conditional"),
    ],
)
def test_what_cannot_be_written_is_said(text: str, num_classes: int, reason: str):
    with pytest.raises(UserError, match=reason):
        classes_of(text, ImageShape(height=8, width=8, num_classes=num_classes))


def test_every_character_is_of_its_class(make_parity_model: Callable[[int], PixelModel]):
    classes = [0, 1, 4, 9, 9, 2, 7]
    drawn = write(make_parity_model(10), classes, num_hands=3)
    assert drawn.shape == (3, 7, 1, 8, 8)
    expected = torch.tensor(classes).view(7, 1, 1, 1) % 2
    assert torch.equal(drawn, expected.expand(drawn.shape).to(torch.uint8))


@pytest.fixture(scope="module")
def model(make_model: Callable[..., PixelModel]) -> PixelModel:
    return make_model(4, 5, num_classes=3)


def naive_hand(model: PixelModel, classes: list[int], seed: int) -> Tensor:
    """Draw one hand with a full forward pass per pixel, from the noise of its own seed."""
    pixels = torch.zeros(len(classes), 1, 4, 5, dtype=torch.uint8)
    noise = torch.rand(pixels.shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return draw_naively(model, pixels, torch.ones(4, 5, dtype=torch.bool), noise, torch.tensor(classes))


def test_a_hand_is_a_seed(model: PixelModel):
    classes = [2, 0, 1, 2]
    drawn = write(model, classes, num_hands=3, seed=5)
    for hand in range(3):
        assert torch.equal(drawn[hand], naive_hand(model, classes, 5 + hand))
    assert torch.equal(write(model, classes[:2], num_hands=2, seed=6), drawn[1:, :2])
    assert not torch.equal(drawn[0], drawn[1])
    assert not torch.equal(drawn[0, 0], drawn[0, 3]), "a repeated digit is drawn again, not copied"


def test_progress_counts_the_rows(model: PixelModel):
    calls: list[None] = []
    write(model, [0, 1], num_hands=2, progress=lambda: calls.append(None))
    assert len(calls) == 4


@pytest.mark.parametrize(("channels", "levels"), [(1, 2), (1, 256), (3, 256)])
def test_a_page_is_dark_on_white_with_a_line_for_each_hand(channels: int, levels: int):
    height, width = 3, 4
    shape = (2, 3, channels, height, width)
    drawn = np.random.default_rng(0).integers(levels, size=shape, dtype=np.uint8)
    picture = np.asarray(page(torch.tensor(drawn), levels))
    picture = picture.reshape(*picture.shape[:2], channels)
    scale = cell_scale(height, width)
    assert picture.shape == (2 * height * scale, 3 * width * scale, channels)
    for hand, place, channel, row, column in np.ndindex(shape):
        top, left = (hand * height + row) * scale, (place * width + column) * scale
        square = picture[top : top + scale, left : left + scale, channel]
        brightness = drawn[hand, place, channel, row, column] / (levels - 1)
        assert (square == round(255 * (1 - brightness))).all()
