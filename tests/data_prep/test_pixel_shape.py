"""Resizing, colour and binarization of single images."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from data_prep.pixel_shape import Shaper, binarized, resized, with_channels
from vision_rnn.errors import UserError

RANDOM = np.random.default_rng(0)
COLOUR = RANDOM.integers(0, 256, (6, 10, 3), dtype=np.uint8)
GREY = COLOUR[..., :1]
IMAGES = hnp.arrays(np.uint8, st.tuples(st.integers(1, 9), st.integers(1, 9), st.sampled_from([1, 3])))


@pytest.mark.parametrize("image", [COLOUR, GREY], ids=["colour", "grey"])
def test_shrinking_averages_the_largest_central_region(image):
    # 6x10 to 3x3: the central 6x6, in blocks of 2x2.
    expected = image[:, 2:8].reshape(3, 2, 3, 2, -1).mean(axis=(1, 3))
    np.testing.assert_allclose(resized(image, 3, 3), expected, atol=1)


def test_enlarging_by_a_whole_number_repeats_pixels():
    np.testing.assert_array_equal(resized(COLOUR, 18, 30), COLOUR.repeat(3, axis=0).repeat(3, axis=1))


@given(IMAGES, st.integers(1, 9), st.integers(1, 9))
def test_resizing_stays_within_the_levels_of_the_image(image, height, width):
    result = resized(image, height, width)
    assert result.shape == (height, width, image.shape[2])
    assert result.dtype == np.uint8
    assert image.min() <= result.min()
    assert result.max() <= image.max()


def test_luma_weighs_the_colours_and_grey_becomes_rgb_and_back():
    luma = COLOUR @ np.array([0.299, 0.587, 0.114])
    np.testing.assert_allclose(with_channels(COLOUR, 1)[..., 0], luma, atol=1)
    np.testing.assert_array_equal(with_channels(with_channels(GREY, 3), 1), GREY)


def test_unasked_all_images_must_be_like_the_first():
    shaper = Shaper("photos", None, None, 256)
    assert shaper(COLOUR, "a").shape == shaper.shape == (6, 10, 3)
    np.testing.assert_array_equal(shaper(GREY, "b"), GREY.repeat(3, axis=2))
    with pytest.raises(
        UserError, match=r"^photos, c: 10x6 pixels, but the first image has 6x10; resize all with --size$"
    ):
        shaper(COLOUR.transpose(1, 0, 2), "c")
    shaper = Shaper("photos", None, None, 256)
    shaper(GREY, "a")
    with pytest.raises(UserError, match=r"^photos, b: in colour, but the first image is grey; add --channels 1 or"):
        shaper(COLOUR, "b")


def test_asked_for_shape_is_made_of_all():
    shaper = Shaper("photos", (4, 5), 1, 256)
    for image in (COLOUR, GREY, COLOUR.transpose(1, 0, 2)):
        assert shaper(image, "a").shape == shaper.shape == (4, 5, 1)


@pytest.mark.parametrize("shaper", [Shaper("photos", (3, 5), None, 2), Shaper("photos", None, 3, 2)])
def test_binary_images_are_not_changed(shaper):
    assert (Shaper("photos", (6, 10), 1, 2)(GREY > 99, "a") == (GREY > 99)).all()
    with pytest.raises(UserError, match="binary images cannot be resized or converted; omit --size and --channels"):
        shaper(GREY > 99, "a")


def test_threshold_is_at_the_middle():
    levels = np.arange(256, dtype=np.uint8)
    ones = binarized(levels, "threshold", RANDOM)
    assert ones.dtype == np.uint8
    assert ones.tolist() == [0] * 128 + [1] * 128
    np.testing.assert_array_equal(binarized(levels, "none", RANDOM), levels)


def test_drawn_ones_are_as_frequent_as_the_level_says():
    draws = 20_000
    levels = np.arange(256, dtype=np.uint8)[:, np.newaxis].repeat(draws, axis=1)
    ones = binarized(levels, "stochastic", np.random.default_rng(3))
    assert ones.dtype == np.uint8
    assert set(np.unique(ones)) == {0, 1}
    probability = np.arange(256) / 255
    assert (ones[0].sum(), ones[255].sum()) == (0, draws)
    # Five standard deviations.
    tolerance = 5 * np.sqrt(probability * (1 - probability) / draws)
    assert (abs(ones.mean(axis=1) - probability) <= tolerance).all()


def test_drawing_is_the_same_in_one_piece_or_in_many():
    levels = RANDOM.integers(0, 256, (7, 5, 5, 1), dtype=np.uint8)
    whole, pieces = np.random.default_rng(1), np.random.default_rng(1)
    parts = [binarized(levels[start : start + 3], "stochastic", pieces) for start in (0, 3, 6)]
    np.testing.assert_array_equal(binarized(levels, "stochastic", whole), np.concatenate(parts))
