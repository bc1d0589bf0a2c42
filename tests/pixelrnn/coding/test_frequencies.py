"""Frequencies have the right sum, are close to the probabilities, and do not depend on the last digits of logits."""

from decimal import Decimal, getcontext
from fractions import Fraction

import numpy as np
import pytest
import torch

from pixelrnn.coding.frequencies import _EXPONENTIALS, GRID, TOTAL, frequencies


@pytest.mark.parametrize("levels", [1, 2, 4, 256])
@pytest.mark.parametrize("scale", [0.1, 3, 100])
def test_every_level_has_a_share_and_all_are_the_whole(levels: int, scale: float) -> None:
    logits = scale * torch.randn(50, levels, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    counts = frequencies(logits)
    assert counts.shape == (50, max(2, levels))
    assert (counts >= 1).all()
    assert (counts.sum(axis=1) == TOTAL).all()


@pytest.mark.parametrize("levels", [1, 4, 256])
def test_the_cost_of_rounding_is_small(levels: int) -> None:
    logits = 3 * torch.randn(500, levels, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    whole = torch.cat([torch.zeros_like(logits), logits], dim=1) if levels == 1 else logits
    expected = whole.softmax(1)
    counted = torch.from_numpy(frequencies(logits) / TOTAL)
    divergence = (expected * (expected.log() - counted.log())).sum(1)
    # Part of it comes from the minimum of 1 / TOTAL per level, which costs most for 256 levels.
    assert 0 <= divergence.mean() < 1e-7 + 2 * levels / TOTAL


def test_logits_of_one_point_of_the_grid_are_one() -> None:
    logits = torch.tensor([[0.3, -2.0, 5.0]], dtype=torch.float64)
    rounded = (logits / GRID).round() * GRID
    for nudge in (0.49, -0.49):
        assert np.array_equal(frequencies(rounded + nudge * GRID), frequencies(logits))
    # Adding a constant to all logits makes no difference either.
    assert np.array_equal(frequencies(logits + 8), frequencies(logits))


def test_the_layout_is_row_by_row_whatever_that_of_the_logits() -> None:
    logits = torch.randn(4, 6, dtype=torch.float64)
    assert frequencies(logits.t()).flags.c_contiguous
    assert np.array_equal(frequencies(logits.t()), frequencies(logits.t().contiguous()))


def test_the_table_of_exponentials_is_exact_however_the_library_rounds() -> None:
    getcontext().prec = 40
    for step in range(0, len(_EXPONENTIALS) - 1):
        exact = (-Decimal(step) * Decimal(GRID)).exp() * 2**32
        assert int(exact) == _EXPONENTIALS[step]
        # A float64 exponential is within 2^-50 of its value: too little to reach the next integer.
        distance = abs(exact - exact.to_integral_value())
        assert step == 0 or Fraction(distance) > Fraction(exact) / 2**50


def test_what_is_not_finite_or_not_double_is_refused() -> None:
    with pytest.raises(ValueError, match="float64"):
        frequencies(torch.zeros(1, 2))
    with pytest.raises(ValueError, match="finite"):
        frequencies(torch.tensor([[float("nan")]], dtype=torch.float64))
