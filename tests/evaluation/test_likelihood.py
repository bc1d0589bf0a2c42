"""Likelihood sums on numbers calculated by hand, and against textbook formulas."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from evaluation.likelihood import summarize_likelihood


def test_three_images() -> None:
    likelihood = summarize_likelihood(np.array([80.0, 90.0, 70.0]), dimensions=784)
    assert (likelihood.images, likelihood.dimensions, likelihood.sum) == (3, 784, 240)
    assert likelihood.nats_per_image == 80
    assert likelihood.bits_per_dimension == pytest.approx(80 / 784 / math.log(2))
    assert likelihood.standard_error == pytest.approx(10 / math.sqrt(3))


def test_nats_of_the_paper_in_bits() -> None:
    """79.20 nats for a binary MNIST digit are 0.1457 bits per pixel."""
    assert summarize_likelihood(np.array([79.20]), 784).bits_per_dimension == pytest.approx(0.1457, abs=5e-5)


def test_a_fair_coin_costs_one_bit() -> None:
    coins = np.full(10, 28 * 28 * math.log(2))
    likelihood = summarize_likelihood(coins, 784)
    assert likelihood.bits_per_dimension == pytest.approx(1)
    assert likelihood.standard_error == pytest.approx(0, abs=1e-5)


def test_a_single_image_has_no_standard_error() -> None:
    assert math.isnan(summarize_likelihood(np.array([80.0]), 784).standard_error)


@given(st.lists(st.floats(0, 1e4), min_size=2, max_size=50))
def test_mean_and_error_are_those_of_the_sample(nats: list[float]) -> None:
    likelihood = summarize_likelihood(np.array(nats), 10)
    assert likelihood.nats_per_image == pytest.approx(np.mean(nats))
    expected = np.std(nats, ddof=1) / math.sqrt(len(nats))
    assert likelihood.standard_error == pytest.approx(expected, rel=1e-6, abs=1e-3)


def test_single_precision_is_summed_in_double() -> None:
    """A running sum of ten million in single precision would lose these tenths."""
    nats = np.full(100_000, 100.1, np.float32)
    assert summarize_likelihood(nats, 784).nats_per_image == pytest.approx(float(np.float32(100.1)), rel=1e-14)


@pytest.mark.parametrize("nats", [[], [80.0, math.nan]])
def test_no_image_or_no_number_is_an_error(nats: list[float]) -> None:
    with pytest.raises(ValueError, match="likelihood"):
        summarize_likelihood(np.array(nats), 784)


def test_an_impossible_image_is_infinitely_unlikely() -> None:
    assert summarize_likelihood(np.array([80.0, math.inf]), 784).nats_per_image == math.inf
