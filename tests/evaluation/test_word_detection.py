"""Mean average precision against a slow reference and known answers."""

import numpy as np
import pytest

from evaluation.word_detection import mean_average_precision


def slow_average_precision(scores: list[float], present: list[bool]) -> float:
    """For each image with the word: which share of the images that score at least as high have it."""
    precisions = []
    for score, is_present in zip(scores, present, strict=True):
        if is_present:
            above = [other for mark, other in zip(scores, present, strict=True) if mark >= score]
            precisions.append(sum(above) / len(above))
    return sum(precisions) / len(precisions)


def test_it_is_the_mean_of_each_words_average_precision() -> None:
    generator = np.random.default_rng(0)
    scores, present = generator.normal(size=(40, 12)), generator.random((40, 12)) < 0.2
    present[:, 3] = False  # a word of no image
    expected = [
        slow_average_precision(scores[:, word].tolist(), present[:, word].tolist())
        for word in range(12)
        if present[:, word].any()
    ]
    assert len(expected) == 11
    assert mean_average_precision(scores, present) == pytest.approx(np.mean(expected), abs=1e-12)


@pytest.mark.parametrize(
    ("scores", "expected"),
    [([0.9, 0.8, 0.1, 0.0], 1.0), ([0.0, 0.1, 0.8, 0.9], (1 / 3 + 2 / 4) / 2), ([0.5, 0.1, 0.3, 0.0], (1 + 2 / 3) / 2)],
)
def test_known_answers(scores: list[float], expected: float) -> None:
    """The first two of four images have the word."""
    found = mean_average_precision(np.array(scores)[:, None], np.array([True, True, False, False])[:, None])
    assert found == pytest.approx(expected)


def test_no_word_at_all_is_an_error() -> None:
    with pytest.raises(ValueError, match="no image has any"):
        mean_average_precision(np.zeros((3, 2)), np.zeros((3, 2), dtype=bool))
