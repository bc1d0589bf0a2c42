"""Known scores of Flickr8k's human captions, and properties of all scores together."""

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from data_prep.tokenizer import tokenize
from evaluation.caption_scores import SCORES, score_captions

captions = st.lists(st.sampled_from(["a", "dog", "cat", "runs", "on", "grass"]), min_size=4, max_size=9)
caption_sets = st.lists(st.tuples(captions, st.lists(captions, min_size=1, max_size=4)), min_size=1, max_size=6)


@pytest.fixture(scope="module")
def flickr8k_test_tokens(flickr8k: Path) -> list[list[list[str]]]:
    """The tokens of the five captions of each image of the test split."""
    texts = flickr8k / "Flickr8k_text"
    by_image: dict[str, list[str]] = {}
    for line in (texts / "Flickr8k.token.txt").read_text(encoding="utf-8").splitlines():
        name, caption = line.split("\t", 1)
        by_image.setdefault(name.split("#")[0], []).append(caption)
    names = (texts / "Flickr_8k.testImages.txt").read_text(encoding="utf-8").split()
    return [[tokenize(caption) for caption in by_image[name]] for name in names]


# Computed with pycocoevalcap (its Java tokenizer and its scorers): correct and guessed n-grams, candidate and reference
# length, BLEU-1 to BLEU-4, ROUGE-L and CIDEr-D.
@pytest.mark.data
@pytest.mark.parametrize(
    ("human", "correct", "guess", "lengths", "scores"),
    [
        (
            0,
            [7075, 3159, 1308, 548],
            [11117, 10117, 9117, 8117],
            (11117, 10751),
            (0.636413, 0.445778, 0.305490, 0.209457, 0.487548, 0.788597),
        ),
        (
            1,
            [7227, 3471, 1478, 625],
            [10906, 9906, 8906, 7906],
            (10906, 10554),
            (0.662663, 0.481864, 0.337764, 0.234931, 0.514798, 0.838612),
        ),
        (
            2,
            [7188, 3365, 1418, 566],
            [10738, 9738, 8738, 7740],
            (10738, 10377),
            (0.669398, 0.480950, 0.334828, 0.228894, 0.516525, 0.865824),
        ),
        (
            3,
            [6954, 3133, 1262, 480],
            [10741, 9741, 8741, 7742],
            (10741, 10493),
            (0.647426, 0.456324, 0.310944, 0.207782, 0.497156, 0.820916),
        ),
        (
            4,
            [6627, 2767, 1077, 428],
            [10709, 9709, 8709, 7709],
            (10709, 10403),
            (0.618825, 0.419954, 0.279394, 0.186541, 0.460609, 0.787560),
        ),
    ],
)
def test_a_human_against_four_others(
    flickr8k_test_tokens: list[list[list[str]]],
    human: int,
    correct: list[int],
    guess: list[int],
    lengths: tuple[int, int],
    scores: tuple[float, ...],
) -> None:
    candidates = [image[human] for image in flickr8k_test_tokens]
    references = [image[:human] + image[human + 1 :] for image in flickr8k_test_tokens]

    result = score_captions(candidates, references).as_dict()

    assert (result["images"], result["references"]) == (1000, 4000)
    assert (result["correct"], result["guess"]) == (correct, guess)
    assert (result["candidate_length"], result["reference_length"]) == lengths
    # The expected scores have six decimal places.
    names = ("BLEU-1", "BLEU-2", "BLEU-3", "BLEU-4", "ROUGE-L", "CIDEr-D")
    assert [result[name] for name in names] == pytest.approx(scores, abs=6e-7)


def test_as_dict_survives_json() -> None:
    document = score_captions([["a", "dog"]], [[["a", "dog"], ["dog"]]]).as_dict()
    assert json.loads(json.dumps(document)) == document
    assert (document["images"], document["references"]) == (1, 2)


@given(caption_sets)
def test_scores_stay_in_their_ranges(images: list[tuple[list[str], list[list[str]]]]) -> None:
    candidates, references = zip(*images, strict=True)
    result = score_captions(candidates, references)
    assert all(0 <= score <= 1 for score in (*result.bleu.scores, result.rouge_l))
    assert 0 <= result.cider_d <= 10 + 1e-9


@given(caption_sets)
def test_sums_of_the_statistics_give_every_score(images: list[tuple[list[str], list[list[str]]]]) -> None:
    result = score_captions(*zip(*images, strict=True))
    document = result.as_dict()
    for name, score in SCORES.items():
        assert score(result.statistics.sum(0), len(images)).item() == pytest.approx(document[name])


@given(st.lists(st.lists(captions, min_size=1, max_size=4), min_size=1, max_size=6))
def test_repeating_a_reference_gives_full_bleu_and_rouge(references: list[list[list[str]]]) -> None:
    result = score_captions([image_references[-1] for image_references in references], references)
    assert result.bleu.scores == pytest.approx((1, 1, 1, 1))
    assert result.rouge_l == pytest.approx(1)


@given(caption_sets, st.randoms(use_true_random=False))
def test_order_of_images_and_references_does_not_matter(
    images: list[tuple[list[str], list[list[str]]]], random: Any
) -> None:
    candidates, references = zip(*images, strict=True)
    shuffled = [(candidate, random.sample(refs, len(refs))) for candidate, refs in random.sample(images, len(images))]
    shuffled_candidates, shuffled_references = zip(*shuffled, strict=True)
    result, expected = score_captions(shuffled_candidates, shuffled_references), score_captions(candidates, references)
    assert result.bleu == expected.bleu
    assert (result.rouge_l, result.cider_d) == pytest.approx((expected.rouge_l, expected.cider_d))


@pytest.mark.parametrize(
    ("candidates", "references", "reason"),
    [
        ([], [], "no candidates"),
        ([["a"], ["b"]], [[["a"]]], "2 candidates for the references of 1 images"),
        ([["a"], ["b"]], [[["a"]], []], "index 1 has no references"),
        (["a dog"], [[["a", "dog"]]], "index 0 is a string"),
        ([["a", "dog"]], [["a dog"]], "index 0 is a string"),
    ],
)
def test_what_cannot_be_scored_is_named(candidates: Any, references: Any, reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        score_captions(candidates, references)
