"""Nearest images, against comparing pair by pair."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pixelrnn import nearest_images as module
from pixelrnn.nearest_images import chunks, nearest_images


@given(st.integers(0, 2**32 - 1), st.sampled_from([2, 256]), st.integers(1, 9), st.sampled_from([1, 3]))
def test_it_finds_the_first_of_the_nearest(seed: int, levels: int, number: int, channels: int) -> None:
    generator = np.random.default_rng(seed)
    images = generator.integers(levels, size=(4, 2, 3, channels), dtype=np.uint8)
    training = generator.integers(levels, size=(number, 2, 3, channels), dtype=np.uint8)
    differences = images[:, None].astype(int) - training[None].astype(int)
    squared = (differences**2).sum((2, 3, 4))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "_CHUNK", 4)
        calls: list[int] = []
        indices, distances = nearest_images(images, training, lambda: calls.append(1))
        assert len(calls) == chunks(number)
    assert indices.tolist() == squared.argmin(1).tolist()
    assert distances.tolist() == squared.min(1).tolist()


def test_the_largest_distances_are_exact() -> None:
    """In single precision the sums of large images are rounded, and a copy would not have the distance 0."""
    training = np.full((3, 64, 64, 3), 255, np.uint8)
    training[1, 0, 0, 0] = 254
    training[2, 0, 0, 0] = 253
    indices, distances = nearest_images(training[[1, 2]], training)
    assert (indices.tolist(), distances.tolist()) == ([1, 2], [0, 0])
    assert nearest_images(training[[0]], training[1:])[1].tolist() == [1]
