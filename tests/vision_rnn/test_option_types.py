"""Numbers of settings: a range has both ends, and NaN is in none."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vision_rnn.errors import UserError
from vision_rnn.option_types import check_range


@given(st.floats(allow_nan=True), st.floats(-100, 0), st.floats(0, 100))
def test_exactly_the_numbers_of_the_range_pass(value: float, least: float, most: float):
    if not math.isnan(value) and least <= value and value <= most:
        check_range("part.name", value, least, most)
        return
    with pytest.raises(UserError, match=r"^part.name: .* is out of range; give at (least|most)"):
        check_range("part.name", value, least, most)


@pytest.mark.parametrize(
    ("value", "fix"), [(0, "at least 1"), (math.nan, "at least 1"), (math.inf, "at most 9"), (10, "at most 9")]
)
def test_the_end_that_was_missed_is_named(value: float, fix: str):
    with pytest.raises(UserError, match=f"^part.name: {value} is out of range; give {fix}$"):
        check_range("part.name", value, 1, 9)
