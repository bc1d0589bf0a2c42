"""The settings of both models: every number has a range with two ends."""

import math
from typing import Any

import pytest

from captioning import captioner_config
from pixelrnn import pixel_config
from vision_rnn.errors import UserError

PARTS: list[tuple[str, Any]] = [
    ("encoder", captioner_config.EncoderConfig),
    ("decoder", captioner_config.DecoderConfig),
    ("search", captioner_config.SearchConfig),
    ("training", captioner_config.TrainingConfig),
    ("model", pixel_config.ModelConfig),
    ("training", pixel_config.TrainingConfig),
]
NUMBERS = [
    (part, config, name)
    for part, config in PARTS
    for name, value in vars(config()).items()
    if isinstance(value, int | float) and not isinstance(value, bool)
]


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf, -1, 10**20])
@pytest.mark.parametrize(("part", "config", "name"), NUMBERS)
def test_a_number_out_of_its_range_is_named(part: str, config: Any, name: str, value: float):
    with pytest.raises(UserError, match=rf"^{part}\.{name}: .*{value} is (out of range|too large); give "):
        config(**{name: value})
