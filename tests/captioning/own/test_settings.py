"""The settings chosen by the amount of data, stored, and compared."""

import json
from pathlib import Path

import pytest

from captioning.captioner_config import EncoderConfig, SearchConfig, TrainingConfig
from captioning.own.settings import Settings, choose_training
from vision_rnn.errors import UserError


@pytest.mark.parametrize(
    ("captions", "min_count", "epochs"),
    [(1, 2, 12), (400, 2, 12), (1_200, 2, 4), (1_600, 2, 3), (4_000, 2, 3), (10_000, 3, 3), (30_000, 5, 3)],
)
def test_about_4800_captions_are_read_in_3_to_12_epochs(captions: int, min_count: int, epochs: int):
    count, training = choose_training(captions, from_scratch=False)
    assert (count, training.epochs, training.patience) == (min_count, epochs, epochs)


def test_without_a_model_to_start_from_training_is_longer_and_faster():
    for captions in (400, 8_000, 30_000):
        (count, tuned), (same, trained) = (choose_training(captions, from_scratch) for from_scratch in (False, True))
        assert count == same
        assert trained.epochs > tuned.epochs
        assert trained.learning_rate > tuned.learning_rate
    assert [choose_training(captions, True)[1].epochs for captions in (100, 9_000, 30_000, 600_000)] == [40, 20, 6, 6]


def test_settings_are_read_as_they_were_written():
    settings = Settings(init_from=None, min_count=3, encoder=EncoderConfig(mean=(0.1, 0.2, 0.3)))
    assert Settings.from_document(json.loads(json.dumps(settings.document()))) == settings


def test_only_settings_that_differ_from_their_defaults_replace_the_chosen_ones():
    settings = Settings(init_from="m", min_count=2, training=TrainingConfig(epochs=7, batch_size=3))
    given = {"training": TrainingConfig(epochs=9), "search": SearchConfig()}
    assert settings.override(given).training == TrainingConfig(epochs=9, batch_size=3)
    settings.check_same({"training": TrainingConfig()}, "m", Path("run"))
    with pytest.raises(UserError, match="run: was started with another training"):
        settings.check_same(given, "m", Path("run"))
    with pytest.raises(UserError, match="run: was started with another init_from"):
        settings.check_same({}, None, Path("run"))
