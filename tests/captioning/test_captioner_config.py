"""The settings: every number has a range with two ends."""

import math
from typing import Any

import pytest

from captioning.captioner_config import DecoderConfig, EncoderConfig, SearchConfig, TrainingConfig
from vision_rnn.errors import UserError

PARTS: dict[str, Any] = {
    "encoder": EncoderConfig,
    "decoder": DecoderConfig,
    "search": SearchConfig,
    "training": TrainingConfig,
}
NUMBERS = [
    (part, name)
    for part, config in PARTS.items()
    for name, value in vars(config()).items()
    if isinstance(value, int | float) and not isinstance(value, bool)
]


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf, -1, 10**20])
@pytest.mark.parametrize(("part", "name"), NUMBERS)
def test_a_number_out_of_its_range_is_named(part: str, name: str, value: float):
    with pytest.raises(UserError, match=rf"^{part}\.{name}: .*{value} is (out of range|too large); give "):
        PARTS[part](**{name: value})


@pytest.mark.parametrize(
    ("name", "values"), [("mean", (0.5, 0.5)), ("mean", (0.5, math.nan, 0.5)), ("std", (0.2, 0.2, 0.0)), ("std", ())]
)
def test_normalisation_needs_three_numbers(name: str, values: tuple[float, ...]):
    with pytest.raises(UserError, match=rf"^encoder.{name}: \[.*\] is out of range; give three numbers"):
        EncoderConfig(**{name: values})  # type: ignore[arg-type]
