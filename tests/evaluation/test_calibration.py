"""Reliability and rank correlation against known answers and a slow reference."""

import itertools

import numpy as np
import pytest

from evaluation.calibration import rank_correlation, reliability


def test_parts_have_equal_sizes_and_their_own_shares() -> None:
    confidences = np.array([0.9, 0.1, 0.8, 0.2, 0.7, 0.3])
    outcomes = np.array([True, False, True, True, False, False])
    low, middle, high = reliability(confidences, outcomes, bins=3)
    assert low == pytest.approx((0.15, 0.5, 2))
    assert middle == pytest.approx((0.5, 0.0, 2))
    assert high == pytest.approx((0.85, 1.0, 2))


def test_what_happens_as_often_as_predicted_lies_on_the_diagonal() -> None:
    generator = np.random.default_rng(0)
    confidences = generator.random(20_000)
    for part in reliability(confidences, generator.random(20_000) < confidences):
        assert part.size == 2000
        assert part.share == pytest.approx(part.confidence, abs=0.05)


def test_fewer_predictions_than_parts_leave_no_empty_part() -> None:
    assert len(reliability(np.array([0.5, 0.6]), np.array([True, False]), bins=5)) == 2


@pytest.mark.parametrize(
    ("second", "expected"), [([10.0, 20.0, 30.0, 40.0], 1.0), ([4.0, 3.0, 2.0, 1.0], -1.0), ([1.0, 3.0, 2.0, 4.0], 0.8)]
)
def test_known_correlations(second: list[float], expected: float) -> None:
    assert rank_correlation(np.array([0.1, 0.2, 0.7, 5.0]), np.array(second)) == pytest.approx(expected)


def test_ties_share_their_mean_rank() -> None:
    """Ranks counted one by one: how many are below, and half of those that are equal."""
    generator = np.random.default_rng(1)
    first, second = (generator.integers(0, 6, 40).astype(float) for _ in range(2))
    ranks = [
        np.array([sum((other < value) + 0.5 * (other == value) for other in values) for value in values])
        for values in (first, second)
    ]
    deviations = [values - values.mean() for values in ranks]
    expected = (deviations[0] * deviations[1]).sum() / np.sqrt(np.prod([(part**2).sum() for part in deviations]))
    assert rank_correlation(first, second) == pytest.approx(expected)


def test_equal_values_have_no_order() -> None:
    for first, second in itertools.permutations([np.ones(4), np.arange(4.0)]):
        with pytest.raises(ValueError, match="all values are equal"):
            rank_correlation(first, second)
