"""CIDEr-D on cases calculated by hand, and the parts that training reuses."""

import itertools
import math

import numpy as np
import pytest

from evaluation.cider import CiderDScorer, DocumentFrequencies, cider, cider_d

REFERENCES = [
    [["a", "dog", "runs", "on", "grass"], ["a", "brown", "dog", "runs"]],
    [["a", "man", "rides", "a", "wave"], ["a", "surfer", "on", "a", "big", "wave"]],
    [["two", "children", "play"]],
]


def test_a_candidate_equal_to_its_only_reference_scores_ten() -> None:
    captions = [["u", "v", "w", "x"], ["p", "q", "r", "s"]]
    assert cider_d(captions, [[caption] for caption in captions]).scores == pytest.approx((10, 10))


def test_weights_lose_the_log_of_the_document_frequency() -> None:
    frequencies = DocumentFrequencies(REFERENCES)
    # "a" occurs in two of three images, and its number in each does not matter; "cat" in none, which counts as one.
    assert frequencies.weights(["a", "a", "dog", "cat"], 1) == {
        ("a",): pytest.approx(2 * math.log(3 / 2)),
        ("dog",): pytest.approx(math.log(3)),
        ("cat",): pytest.approx(math.log(3)),
    }


def test_length_penalty_and_clipping_by_hand() -> None:
    # "x x x" against "x": only the 1-grams match; their weights are 3 log 2, clipped to log 2, and log 2.
    score = cider_d([["x"] * 3, ["y"]], [[["x"]], [["y"]]]).scores[0]
    assert score == pytest.approx(10 / 4 * (1 / 3) * math.exp(-(2**2) / (2 * 6**2)))


def test_plain_cider_neither_clips_nor_damps() -> None:
    # The same captions: the cosine of the 1-grams is 1, independent of their number.
    assert cider([["x"] * 3, ["y"]], [[["x"]], [["y"]]]).scores[0] == pytest.approx(10 / 4)


def test_plain_cider_is_the_mean_cosine_of_tf_idf_vectors() -> None:
    candidates = [["a", "dog", "runs", "on", "a", "wave"], ["a", "wave"], ["two", "two", "children", "play"]]

    def grams(caption: list[str], order: int) -> list[str]:
        return [" ".join(caption[start : start + order]) for start in range(len(caption) - order + 1)]

    expected = []
    for candidate, references in zip(candidates, REFERENCES, strict=True):
        cosines = []
        for reference, order in itertools.product(references, (1, 2, 3, 4)):
            known = sorted({*grams(candidate, order), *grams(reference, order)})
            seen = [sum(any(gram in grams(ref, order) for ref in refs) for refs in REFERENCES) for gram in known]
            weights = np.log(3 / np.maximum(seen, 1))
            first, second = (
                np.array([grams(caption, order).count(gram) for gram in known]) * weights
                for caption in (candidate, reference)
            )
            norms = np.linalg.norm(first) * np.linalg.norm(second)
            cosines.append(first @ second / norms if norms else 0.0)
        expected.append(10 * np.mean(cosines))
    assert cider(candidates, REFERENCES).scores == pytest.approx(expected)


def test_score_is_the_mean_over_the_references() -> None:
    candidates = [["a", "dog", "runs"], ["a", "wave"], ["children"]]
    frequencies = DocumentFrequencies(REFERENCES)
    both = cider_d(candidates[:1], REFERENCES[:1], frequencies).score
    first, second = (cider_d(candidates[:1], [[reference]], frequencies).score for reference in REFERENCES[0])
    assert both == pytest.approx((first + second) / 2)


def test_frequencies_from_elsewhere_change_the_score_and_default_ones_do_not() -> None:
    candidates = [["a", "dog", "runs"], ["a", "wave"], ["children"]]
    own = cider_d(candidates, REFERENCES)
    assert cider_d(candidates, REFERENCES, DocumentFrequencies(REFERENCES)) == own
    assert cider_d(candidates, REFERENCES, DocumentFrequencies([*REFERENCES, [["dog"]]])) != own


def test_scorer_scores_any_image_in_any_order_and_several_candidates_at_once() -> None:
    candidates = [["a", "dog", "runs"], ["a", "wave"], ["children"]]
    expected = cider_d(candidates, REFERENCES).scores
    scorer = CiderDScorer(REFERENCES)
    assert [scorer.scores(index, [candidates[index]]) for index in (2, 0, 0, 1)] == [
        [expected[index]] for index in (2, 0, 0, 1)
    ]
    frequencies = DocumentFrequencies(REFERENCES)
    assert scorer.scores(1, candidates) == [
        cider_d([candidate], REFERENCES[1:2], frequencies).score for candidate in candidates
    ]


def test_token_indices_score_as_words_do() -> None:
    indices = {word: i for i, word in enumerate({word for refs in REFERENCES for ref in refs for word in ref})}
    candidates = [["a", "dog", "runs"], ["a", "wave"], ["two", "children"]]
    encoded = [[[indices[word] for word in ref] for ref in refs] for refs in REFERENCES]
    assert cider_d([[indices[word] for word in candidate] for candidate in candidates], encoded).scores == (
        pytest.approx(cider_d(candidates, REFERENCES).scores)
    )


@pytest.mark.parametrize("candidate", [[], ["unheard"], ["unheard"] * 9])
def test_no_match_scores_zero(candidate: list[str]) -> None:
    assert CiderDScorer(REFERENCES).scores(0, [candidate]) == [0]


def test_an_ngram_of_every_image_is_worth_nothing() -> None:
    assert cider_d([["a"], ["a"]], [[["a"]], [["a"]]]).scores == (0, 0)


def test_what_cannot_be_scored_is_refused() -> None:
    with pytest.raises(ValueError, match="shorter"):
        cider_d([["a"]], REFERENCES)
    with pytest.raises(ValueError, match="no references"):
        cider_d([], [])
