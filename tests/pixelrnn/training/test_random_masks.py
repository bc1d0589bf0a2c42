"""Random regions: each has a pixel, all kinds and all places occur, and the generator alone determines them."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from pixelrnn.training.random_masks import random_masks


@given(st.integers(0, 2**32), st.integers(1, 9), st.integers(1, 9))
def test_every_region_has_a_pixel(seed: int, height: int, width: int) -> None:
    masks = random_masks(np.random.default_rng(seed), 20, height, width)
    assert (masks.shape, masks.dtype) == ((20, 1, height, width), torch.bool)
    assert masks.flatten(1).any(1).all()


def test_the_generator_determines_the_regions() -> None:
    first, again, other = (random_masks(np.random.default_rng(seed), 50, 28, 28) for seed in (1, 1, 2))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def test_kinds_have_their_shares() -> None:
    """Told apart by their form: whole images, parts beside a cut (equal rows or equal columns), and others."""
    masks = random_masks(np.random.default_rng(0), 8000, 28, 28)[:, 0]
    whole = masks.flatten(1).all(1)
    rows_equal, columns_equal = (masks == masks[:, :1]).flatten(1).all(1), (masks == masks[..., :1]).flatten(1).all(1)
    cut = (rows_equal | columns_equal) & ~whole
    assert float(whole.float().mean()) == pytest.approx(1 / 8, abs=0.03)
    assert float(cut.float().mean()) == pytest.approx(3 / 8, abs=0.03)
    # The part above a cut, below it, and to the left and right of it.
    for corner in ((0, 0, 0, -1), (-1, 0, -1, -1), (0, 0, -1, 0), (0, -1, -1, -1)):
        first, second = masks[:, corner[0], corner[1]], masks[:, corner[2], corner[3]]
        opposite = masks[:, -1 - corner[0], -1 - corner[1]] | masks[:, -1 - corner[2], -1 - corner[3]]
        assert float((cut & first & second & ~opposite).float().mean()) == pytest.approx(3 / 32, abs=0.02)
    scattered = ((masks[..., 1:] != masks[..., :-1]).flatten(1).sum(1) > 100).float().mean()
    assert 0.08 < float(scattered) < 0.15
    by_place = masks.float().mean(0)
    assert 0.3 < float(by_place.min()) < float(by_place.max()) < 0.7
