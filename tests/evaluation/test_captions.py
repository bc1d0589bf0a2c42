"""The known answers of Flickr8k's human captions, and properties of all scores together."""

import json
import os
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from data_prep.tokenizer import tokenize
from evaluation.captions import SCORES, score_captions

captions = st.lists(st.sampled_from(["a", "dog", "cat", "runs", "on", "grass"]), min_size=4, max_size=9)
caption_sets = st.lists(st.tuples(captions, st.lists(captions, min_size=1, max_size=4)), min_size=1, max_size=6)


@pytest.fixture(scope="module")
def flickr8k_test_tokens() -> list[list[list[str]]]:
    """The tokens of the five captions of each image of the test split."""
    if "VISION_RNN_DATA" not in os.environ:
        pytest.skip("set VISION_RNN_DATA to the folder that holds flickr8k/")
    texts = Path(os.environ["VISION_RNN_DATA"]) / "flickr8k/Flickr8k_text"
    by_image: dict[str, list[str]] = {}
    for line in (texts / "Flickr8k.token.txt").read_text(encoding="utf-8").splitlines():
        name, caption = line.split("\t", 1)
        by_image.setdefault(name.split("#")[0], []).append(caption)
    names = (texts / "Flickr_8k.testImages.txt").read_text(encoding="utf-8").split()
    return [[tokenize(caption) for caption in by_image[name]] for name in names]


# Computed with pycocoevalcap: its Java tokenizer and its scorers.
@pytest.mark.data
@pytest.mark.parametrize(
    ("human", "counts", "scores"),
    [
        (
            0,
            {
                "correct": [7075, 3159, 1308, 548],
                "guess": [11117, 10117, 9117, 8117],
                "candidate_length": 11117,
                "reference_length": 10751,
            },
            {
                "BLEU-1": 0.636413,
                "BLEU-2": 0.445778,
                "BLEU-3": 0.305490,
                "BLEU-4": 0.209457,
                "ROUGE-L": 0.487548,
                "CIDEr-D": 0.788597,
            },
        ),
        (
            1,
            {
                "correct": [7227, 3471, 1478, 625],
                "guess": [10906, 9906, 8906, 7906],
                "candidate_length": 10906,
                "reference_length": 10554,
            },
            {"BLEU-4": 0.234931, "CIDEr-D": 0.838612},
        ),
    ],
)
def test_a_human_against_four_others(
    flickr8k_test_tokens: list[list[list[str]]], human: int, counts: dict[str, Any], scores: dict[str, float]
) -> None:
    candidates = [image[human] for image in flickr8k_test_tokens]
    references = [image[:human] + image[human + 1 :] for image in flickr8k_test_tokens]

    result = score_captions(candidates, references).as_dict()

    assert (result["images"], result["references"]) == (1000, 4000)
    assert {name: result[name] for name in counts} == counts
    # The answers are given to six places.
    assert {name: result[name] for name in scores} == pytest.approx(scores, abs=6e-7)


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
