"""Frequencies have the right sum, are close to the probabilities, and do not depend on the last digits of logits."""

import math
from collections.abc import Callable
from decimal import Decimal, getcontext
from fractions import Fraction

import numpy as np
import pytest
import torch

from pixelrnn.coding.frequencies import (
    _EXPONENTIALS,
    _INVERSE_SCALES,
    _NARROWEST,
    _SIGMOIDS,
    GRID,
    TOTAL,
    frequencies,
)
from pixelrnn.level_distribution import NARROWEST, WIDEST, Categorical, LogisticMixture


def categorical(levels: int) -> Categorical:
    """Distribution of one channel, for logits of this many levels (1 stands for 2, by the logit of level 1)."""
    return Categorical(1, max(2, levels))


@pytest.mark.parametrize("levels", [1, 2, 4, 256])
@pytest.mark.parametrize("scale", [0.1, 3, 100])
def test_every_level_has_a_share_and_all_are_the_whole(levels: int, scale: float) -> None:
    logits = scale * torch.randn(50, levels, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    counts = frequencies(categorical(levels), logits)
    assert counts.shape == (50, max(2, levels))
    assert (counts >= 1).all()
    assert (counts.sum(axis=1) == TOTAL).all()


@pytest.mark.parametrize("levels", [1, 4, 256])
def test_the_cost_of_rounding_is_small(levels: int) -> None:
    logits = 3 * torch.randn(500, levels, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    whole = torch.cat([torch.zeros_like(logits), logits], dim=1) if levels == 1 else logits
    expected = whole.softmax(1)
    counted = torch.from_numpy(frequencies(categorical(levels), logits) / TOTAL)
    divergence = (expected * (expected.log() - counted.log())).sum(1)
    # Part of it comes from the minimum of 1 / TOTAL per level, which costs most for 256 levels.
    assert 0 <= divergence.mean() < 1e-7 + 2 * levels / TOTAL


def test_logits_of_one_point_of_the_grid_are_one() -> None:
    logits = torch.tensor([[0.3, -2.0, 5.0]], dtype=torch.float64)
    rounded = (logits / GRID).round() * GRID
    for nudge in (0.49, -0.49):
        assert np.array_equal(frequencies(categorical(3), rounded + nudge * GRID), frequencies(categorical(3), logits))
    # Adding a constant to all logits makes no difference either.
    assert np.array_equal(frequencies(categorical(3), logits + 8), frequencies(categorical(3), logits))


def test_the_layout_is_row_by_row_whatever_that_of_the_logits() -> None:
    logits = torch.randn(4, 6, dtype=torch.float64)
    found = frequencies(categorical(4), logits.t())
    assert found.flags.c_contiguous
    assert np.array_equal(found, frequencies(categorical(4), logits.t().contiguous()))


def mixtures(mixture: LogisticMixture, number: int, seed: int = 0) -> torch.Tensor:
    """Parameters of one channel, with scales and means of all sizes, some outside the levels."""
    outputs = 2 * torch.randn(
        number, mixture.outputs, dtype=torch.float64, generator=torch.Generator().manual_seed(seed)
    )
    middle = torch.full((number, 1), (mixture.levels - 1) / 2, dtype=torch.float64)
    return mixture.given(outputs, middle, middle)[:, 0]


@pytest.mark.parametrize("levels", [2, 5, 256])
def test_frequencies_of_mixtures_are_their_probabilities(levels: int) -> None:
    """The extra code length for the rounding is below a thousandth of a per cent of eight bits."""
    mixture = LogisticMixture(1, levels, 6)
    parameters = mixtures(mixture, 2000)
    counts = frequencies(mixture, parameters)
    assert counts.shape == (2000, levels)
    assert counts.flags.c_contiguous
    assert counts.min() >= 1
    assert (counts.sum(axis=1) == TOTAL).all()
    expected = mixture.log_probabilities(parameters)
    divergence = (expected.exp() * (expected - torch.from_numpy(counts / TOTAL).log())).sum(1)
    assert divergence.min() > -1e-12
    assert divergence.mean() < 5e-5


def test_mixtures_far_from_all_levels_and_at_the_bounds_of_the_scales() -> None:
    mixture = LogisticMixture(1, 256, 1)
    log_scales = [math.log(NARROWEST), math.log(WIDEST * 256)]
    means = [-1e12, -300.0, 128.0, 1e12]
    parameters = torch.tensor([[0.0, mean, log] for mean in means for log in log_scales], dtype=torch.float64)
    counts = frequencies(mixture, parameters)
    assert counts.min() >= 1
    assert (counts.sum(axis=1) == TOTAL).all()
    likeliest = counts.argmax(axis=1).tolist()
    assert likeliest[:3] == [0, 0, 0]
    assert likeliest[4] == 128
    assert likeliest[6:] == [255, 255]


def test_mixtures_of_one_point_of_the_grid_are_one() -> None:
    """Differences as between two batch sizes change nothing."""
    mixture = LogisticMixture(1, 256, 6)
    parameters = mixtures(mixture, 500)
    noise = 1e-12 * torch.randn(parameters.shape, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    assert np.array_equal(frequencies(mixture, parameters + noise), frequencies(mixture, parameters))


@pytest.mark.parametrize(
    ("table", "exact"),
    [
        (_SIGMOIDS[:-2], lambda x: 2**32 / (1 + (-x).exp())),
        (_INVERSE_SCALES, lambda x: (-(x + _NARROWEST * Decimal(GRID))).exp() * 2**24 + Decimal("0.5")),
    ],
    ids=["sigmoids", "inverse scales"],
)
def test_the_tables_of_mixtures_are_exact_however_the_library_rounds(
    table: np.ndarray, exact: Callable[[Decimal], Decimal]
) -> None:
    getcontext().prec = 40
    for step, value in enumerate(table.tolist()):
        expected = exact(Decimal(step) * Decimal(GRID))
        assert int(expected) == value
        # Two float64 roundings are within 2^-51 of the value: too little to reach the next integer.
        distance = abs(expected - expected.to_integral_value())
        assert distance > expected / 2**51 or expected == expected.to_integral_value()


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
        frequencies(categorical(2), torch.zeros(1, 2))
    with pytest.raises(ValueError, match="finite"):
        frequencies(categorical(2), torch.tensor([[float("nan")]], dtype=torch.float64))
