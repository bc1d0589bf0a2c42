"""Chosen settings are stored, replaced by those that are given, and compared."""

import json
from dataclasses import dataclass
from pathlib import Path

import pytest

from vision_rnn.chosen_settings import ChosenSettings
from vision_rnn.errors import UserError


@dataclass(frozen=True, kw_only=True)
class Training:
    epochs: int = 1
    batch_size: int = 1
    decay: tuple[float, ...] = (1.0,)


@dataclass(frozen=True, kw_only=True)
class Settings(ChosenSettings):
    size: int | None
    training: Training = Training()


def test_settings_are_read_as_they_were_written():
    settings = Settings(init_from=None, size=3, training=Training(decay=(0.1, 0.2)))
    assert Settings.from_document(json.loads(json.dumps(settings.document()))) == settings


def test_only_settings_that_differ_from_their_defaults_replace_the_chosen_ones():
    settings = Settings(init_from="m", size=2, training=Training(epochs=7, batch_size=3))
    given = {"training": Training(epochs=9)}
    assert settings.override(given).training == Training(epochs=9, batch_size=3)
    settings.check_same({"training": Training()}, Path("run"), init_from="m", size=2)
    with pytest.raises(UserError, match="run: was started with another training; give the same options"):
        settings.check_same(given, Path("run"), init_from="m", size=2)
    with pytest.raises(UserError, match="run: was started with another init_from"):
        settings.check_same({}, Path("run"), init_from=None, size=2)
    with pytest.raises(UserError, match="run: was started with another size"):
        settings.check_same({}, Path("run"), init_from="m", size=None)
