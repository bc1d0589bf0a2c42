"""The settings of a captioner, beyond those of a single number."""

import math

import pytest

from captioning.captioner_config import EncoderConfig
from vision_rnn.errors import UserError


@pytest.mark.parametrize(
    ("name", "values"), [("mean", (0.5, 0.5)), ("mean", (0.5, math.nan, 0.5)), ("std", (0.2, 0.2, 0.0)), ("std", ())]
)
def test_normalisation_needs_three_numbers(name: str, values: tuple[float, ...]):
    with pytest.raises(UserError, match=rf"^encoder.{name}: \[.*\] is out of range; give three numbers"):
        EncoderConfig(**{name: values})  # type: ignore[arg-type]
