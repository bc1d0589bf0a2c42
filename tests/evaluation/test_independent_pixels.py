"""Independent pixels: known answers, and probabilities that sum to 1 for levels that were never seen too."""

import itertools
import math

import numpy as np
import pytest

from evaluation.independent_pixels import IndependentPixels


def test_places_that_say_nothing_get_the_frequencies_of_all_places():
    """Two places, two levels, two images: by hand."""
    images = np.array([[[[0], [1]]], [[[0], [0]]]], np.uint8)  # The places are 0, 1 and 0, 0.
    # In all places the level 0 occurs 3 times and 1 once; with one more each, 4 : 2. With a pseudo-counts, the sum for
    # each image by the other is 2 ln (1 + 2a/3) + ln (2a/3) + ln (a/3) - 4 ln (1 + a), which grows with a: 2048.
    model = IndependentPixels.fit(images, 2)
    left, right = (2048 / 3) / 2050, (1 + 2048 / 3) / 2050
    assert np.exp(model.log_probabilities[0, :, 0, 1]) == pytest.approx([left, right])
    nats = model.nats(np.array([[[[1], [1]]], [[[0], [1]]]], np.uint8))
    assert nats == pytest.approx([-math.log(left * right), -math.log((1 - left) * right)])


def test_places_that_differ_get_their_own_frequencies():
    images = np.zeros((50, 1, 2, 1), np.uint8)
    images[:, :, 1] = 1
    model = IndependentPixels.fit(images, 2)
    # The fewest pseudo-counts, one of each level.
    assert np.exp(model.log_probabilities[0, :, 0, 1]) == pytest.approx([1 / 52, 51 / 52])


def test_noise_costs_hardly_more_than_its_entropy():
    images = np.random.default_rng(0).integers(256, size=(300, 6, 6, 1), dtype=np.uint8)
    bits = IndependentPixels.fit(images[:200], 256).nats(images[200:]).mean() / (36 * math.log(2))
    assert 8 <= bits < 8.1


def test_the_probabilities_of_all_images_sum_to_1():
    images = np.random.default_rng(0).integers(3, size=(4, 1, 2, 2), dtype=np.uint8)
    everything = np.array(list(itertools.product(range(3), repeat=4)), np.uint8).reshape(-1, 1, 2, 2)
    assert np.exp(-IndependentPixels.fit(images, 3).nats(everything)).sum() == pytest.approx(1)


def test_more_images_than_a_batch_are_all_counted():
    images = np.zeros((1500, 1, 1, 1), np.uint8)
    images[1100:] = 1
    model = IndependentPixels.fit(images, 2)
    assert np.exp(model.log_probabilities[0, 0, 0]) == pytest.approx([1100 / 1500, 400 / 1500], abs=1e-3)
