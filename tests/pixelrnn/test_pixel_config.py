"""The settings: every number has a range with two ends."""

import math
from typing import Any

import pytest

from pixelrnn.pixel_config import ModelConfig, TrainingConfig
from vision_rnn.errors import UserError

PARTS: dict[str, Any] = {"model": ModelConfig, "training": TrainingConfig}
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
