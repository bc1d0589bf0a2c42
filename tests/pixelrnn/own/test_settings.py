"""The shape of the images, the model to start from and the training, chosen by the pictures."""

from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from pixelrnn.own.picture_source import Survey
from pixelrnn.own.settings import Settings, check_splits, choose_shape, choose_start, choose_training
from pixelrnn.pixel_config import BUNDLED, ImageShape, ModelConfig, TrainingConfig
from vision_rnn.errors import UserError

SOURCE = Path("album")
DIGITS = ImageShape(height=28, width=28)


def survey(*sizes: tuple[int, int], in_colour: int = 0, is_binary: bool = False, is_fixed: bool = False) -> Survey:
    splits = Counter(train=8, validation=1, test=1)
    return Survey(Counter(sizes), in_colour, is_binary, is_fixed, splits, has_labels=False, seconds=1.0)


@pytest.mark.parametrize(
    ("found", "size", "shape"),
    [
        (survey((20, 30)), None, (20, 30, 1, 256)),
        (survey((20, 30), in_colour=1), None, (20, 30, 3, 256)),
        (survey((20, 30), is_binary=True), None, (20, 30, 1, 2)),
        (survey((20, 30), (900, 700), is_binary=True), 16, (16, 16, 1, 2)),
        (survey((64, 10)), None, (64, 10, 1, 256)),
        (survey((900, 700)), 100, (100, 100, 1, 256)),
        (survey((8, 8), is_binary=True, is_fixed=True), 8, (8, 8, 1, 2)),
    ],
)
def test_the_shape_is_that_of_the_pictures_or_of_the_size_asked_for(
    found: Survey, size: int | None, shape: tuple[int, int, int, int]
):
    height, width, channels, levels = shape
    assert choose_shape(found, SOURCE, size) == ImageShape(height=height, width=width, channels=channels, levels=levels)


@pytest.mark.parametrize(
    ("found", "size", "named"),
    [
        (survey((20, 30), (4, 9), (8, 8)), None, "album: pictures of 3 sizes, from 4x9 to 20x30 pixels.*--size"),
        (survey((65, 10)), None, "album: pictures of 65x10 pixels are too large.*--size"),
        (survey((8, 8), is_binary=True, is_fixed=True), 4, "numbers 0 and 1 cannot be resized; omit --size"),
    ],
)
def test_pictures_that_need_a_size_or_cannot_have_one_are_refused(found: Survey, size: int | None, named: str):
    with pytest.raises(UserError, match=named):
        choose_shape(found, SOURCE, size)


@pytest.mark.parametrize("split", ["train", "validation"])
def test_a_split_without_pictures_is_named(split: str):
    lacking = survey((8, 8))
    del lacking.splits[split]
    with pytest.raises(UserError, match=f"album: no picture in the split {split}"):
        check_splits(lacking, SOURCE)


@pytest.mark.parametrize(
    ("shape", "options", "start"),
    [
        (DIGITS, {}, BUNDLED),
        (DIGITS, {"from_scratch": True}, None),
        (DIGITS, {"given": ModelConfig(hidden_channels=8)}, None),
        (DIGITS, {"init_from": "mine"}, "mine"),
        (replace(DIGITS, levels=256), {}, None),
        (replace(DIGITS, width=27), {}, None),
        (replace(DIGITS, channels=3), {"init_from": "mine"}, "mine"),
    ],
)
def test_training_starts_from_the_bundled_model_only_for_images_of_its_kind(
    shape: ImageShape, options: dict[str, Any], start: str | None
):
    defaults = {"init_from": None, "from_scratch": False, "given": ModelConfig()}
    assert choose_start(shape, **defaults | options) == start


def test_a_model_to_start_from_must_fit():
    with pytest.raises(UserError, match=r"row-lstm: is for grey images of 28x28 pixels and 2 levels, but .* 256"):
        Settings.choose(replace(DIGITS, levels=256), 100, None, BUNDLED, ModelConfig())
    with pytest.raises(UserError, match=r"model\.hidden_channels: 5 differs from 32 of bundled:row-lstm"):
        Settings.choose(DIGITS, 100, None, BUNDLED, ModelConfig(hidden_channels=5))
    assert Settings.choose(DIGITS, 100, None, BUNDLED, ModelConfig()).model.dilations == (1, 2, 4, 8)


@pytest.mark.parametrize(
    ("number", "side", "epochs", "epochs_of_trained"),
    [(10, 28, 40, 8), (400, 28, 20, 4), (800, 28, 10, 2), (5_000, 28, 4, 2), (60_000, 28, 1, 1), (800, 64, 5, 2)],
)
def test_epochs_are_more_for_few_pictures_and_fewer_for_many_or_large_ones(
    number: int, side: int, epochs: int, epochs_of_trained: int
):
    shape = ImageShape(height=side, width=side)
    assert choose_training(number, shape, from_scratch=True) == TrainingConfig(epochs=epochs, batch_size=16)
    trained = choose_training(number, shape, from_scratch=False)
    assert trained.epochs == epochs_of_trained
    assert trained.learning_rate < TrainingConfig().learning_rate
