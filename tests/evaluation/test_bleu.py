"""BLEU on cases calculated by hand."""

import math

import pytest

from evaluation.bleu import corpus_bleu


def test_worked_example_of_the_paper_clips_counts() -> None:
    # Papineni et al., section 2.1, example 2: "the" occurs at most twice in one reference.
    bleu = corpus_bleu(
        [["the", "the", "the", "the", "the", "the", "the"]],
        [[["the", "cat", "is", "on", "the", "mat"], ["there", "is", "a", "cat", "on", "the", "mat"]]],
    )
    assert bleu.correct == (2, 0, 0, 0)
    assert bleu.guess == (7, 6, 5, 4)
    assert bleu.scores == (pytest.approx(2 / 7), 0, 0, 0)


def test_scores_are_cumulative_geometric_means_over_the_corpus() -> None:
    bleu = corpus_bleu(
        [["a", "b", "c", "d", "e"], ["a", "x"]],
        [[["a", "b", "c", "d", "f"]], [["a", "y"], ["a", "z"]]],
    )
    assert bleu.correct == (5, 3, 2, 1)
    assert bleu.guess == (7, 5, 3, 2)
    assert bleu.scores == pytest.approx(
        (5 / 7, (5 / 7 * 3 / 5) ** (1 / 2), (5 / 7 * 3 / 5 * 2 / 3) ** (1 / 3), (5 / 7 * 3 / 5 * 2 / 3 / 2) ** (1 / 4))
    )


def test_brevity_penalty_compares_the_sums_of_the_lengths() -> None:
    bleu = corpus_bleu([["a"], ["a", "b", "c"]], [[["a", "b", "c"]], [["a", "b", "c"]]])
    assert (bleu.candidate_length, bleu.reference_length) == (4, 6)
    assert bleu.brevity_penalty == pytest.approx(math.exp(1 - 6 / 4))
    assert bleu.scores[0] == pytest.approx(math.exp(-0.5))


def test_long_candidates_get_no_bonus() -> None:
    assert corpus_bleu([["a", "b", "c"]], [[["a", "b"]]]).brevity_penalty == 1


@pytest.mark.parametrize(("lengths", "closest"), [((2, 6), 2), ((6, 2), 2), ((1, 5), 5), ((4, 9), 4)])
def test_of_two_equally_close_references_the_shorter_counts(lengths: tuple[int, int], closest: int) -> None:
    assert corpus_bleu([["a"] * 4], [[["a"] * length for length in lengths]]).reference_length == closest


@pytest.mark.parametrize("candidate", [[], ["x"], ["x"] * 6])
def test_no_match_scores_zero(candidate: list[str]) -> None:
    assert corpus_bleu([candidate], [[["a", "b"]]]).scores == (0, 0, 0, 0)


def test_unequal_lengths_are_refused() -> None:
    with pytest.raises(ValueError, match="shorter"):
        corpus_bleu([["a"], ["b"]], [[["a"]]])
