"""Independent pixels: known answers, and probabilities that sum to 1 for levels that were never seen too."""

import itertools
import math

import numpy as np
import pytest

from evaluation.independent_pixels import IndependentPixels


def test_frequencies_of_a_place_with_pseudo_counts_of_all_places():
    """Two places, two levels, two images: by hand."""
    images = np.array([[[[0], [1]]], [[[0], [0]]]], np.uint8)  # The places are 0, 0 and 1, 0.
    # In all places the level 0 occurs 3 times and 1 once; with one more each, 4 : 2, so the pseudo-counts are 4/3, 2/3.
    model = IndependentPixels.fit(images, 2)
    left, right = (2 / 3) / 4, (1 + 2 / 3) / 4
    assert np.exp(model.log_probabilities[0, :, 0, 1]) == pytest.approx([left, right])
    nats = model.nats(np.array([[[[1], [1]]], [[[0], [1]]]], np.uint8))
    assert nats == pytest.approx([-math.log(left * right), -math.log((1 - left) * right)])


def test_the_probabilities_of_all_images_sum_to_1():
    images = np.random.default_rng(0).integers(3, size=(4, 1, 2, 2), dtype=np.uint8)
    everything = np.array(list(itertools.product(range(3), repeat=4)), np.uint8).reshape(-1, 1, 2, 2)
    assert np.exp(-IndependentPixels.fit(images, 3).nats(everything)).sum() == pytest.approx(1)


def test_more_images_than_a_batch_are_all_counted():
    images = np.zeros((1500, 1, 1, 1), np.uint8)
    images[1100:] = 1
    model = IndependentPixels.fit(images, 2)
    assert np.exp(model.log_probabilities[0, 0, 0]) == pytest.approx([1100 / 1500, 400 / 1500], abs=1e-3)
