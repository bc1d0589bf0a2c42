"""Diversity of captions counted by hand."""

import pytest

from evaluation.diversity import diversity


def test_counts_by_hand() -> None:
    captions = [["a", "dog", "runs"], ["a", "dog"], ["a", "dog"], []]
    found = diversity(captions, [["a", "dog"], ["a", "cat"]])
    assert found.vocabulary == 3
    assert found.mean_length == 7 / 4
    assert found.distinct_1 == 3 / 7
    assert found.distinct_2 == 2 / 4
    assert found.different == 3 / 4
    assert (found.most_frequent, found.empty) == (2, 1)
    assert found.never_seen == 2 / 4


def test_repetitions_and_broken_ends_are_counted() -> None:
    found = diversity([text.split() for text in ("a dog in a dog in a", "a dog in a field", "a boy looks up", "the")])
    assert found.repeating == 1  # "a dog in" twice
    assert found.broken_off == 2


def test_without_training_captions_nothing_is_said_of_them() -> None:
    assert diversity([["a"]]).never_seen is None


def test_captions_without_pairs_have_none_that_differ() -> None:
    assert diversity([["a"], []]).distinct_2 == 0


def test_no_captions_are_refused() -> None:
    with pytest.raises(ValueError, match="no captions"):
        diversity([])
