"""ROUGE-L on cases calculated by hand, and its subsequence against an exhaustive search."""

from itertools import combinations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from evaluation.rouge import rouge_l


def f_measure(precision: float, recall: float) -> float:
    return (1 + 1.44) * precision * recall / (recall + 1.44 * precision)


def test_a_subsequence_may_have_gaps() -> None:
    result = rouge_l([["police", "kill", "the", "gunman"]], [[["police", "killed", "the", "tall", "gunman"]]])
    assert result.scores == (pytest.approx(f_measure(3 / 4, 3 / 5)),)


def test_best_precision_and_best_recall_may_come_from_two_references() -> None:
    candidate = ["a", "b", "c", "d"]
    long, short = ["a", "b", "c", "x", "x", "x"], ["a", "b"]
    assert rouge_l([candidate], [[long, short]]).scores == (pytest.approx(f_measure(3 / 4, 2 / 2)),)


def test_mean_is_over_images() -> None:
    result = rouge_l([["a"], ["b"]], [[["a"]], [["a"]]])
    assert result.scores == (1, 0)
    assert result.score == 0.5


@pytest.mark.parametrize(("candidate", "reference"), [([], ["a"]), (["a"], []), ([], [])])
def test_empty_captions_score_zero(candidate: list[str], reference: list[str]) -> None:
    assert rouge_l([candidate], [[reference]]).scores == (0,)


@given(st.text("abc", min_size=1, max_size=6), st.text("abc", min_size=1, max_size=6))
def test_subsequence_agrees_with_exhaustive_search(candidate: str, reference: str) -> None:
    def subsequences(text: str) -> set[tuple[str, ...]]:
        return {chosen for length in range(len(text) + 1) for chosen in combinations(text, length)}

    longest = max(map(len, subsequences(candidate) & subsequences(reference)))
    expected = f_measure(longest / len(candidate), longest / len(reference)) if longest else 0
    assert rouge_l([list(candidate)], [[list(reference)]]).scores == (pytest.approx(expected),)
