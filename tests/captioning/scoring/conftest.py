"""References of a few images, and captions for those of the split test."""

import pytest

from data_prep.references import Reference


@pytest.fixture
def known() -> list[Reference]:
    return [
        Reference("x/a.jpg", "1", "test", ["A dog runs on grass .", "A brown dog runs ."]),
        Reference("b.jpg", "2", "test", ["A man rides a wave .", "A surfer on a big wave ."]),
        Reference("c.jpg", "3", "test", ["Two children play ."]),
        Reference("d.jpg", "4", "train", ["A cat sleeps ."]),
    ]


@pytest.fixture
def sentences() -> list[str]:
    return ["a dog runs on the grass", "a man on a wave", "children play"]
