"""BLEU, ROUGE-L and CIDEr-D against the COCO caption evaluation's scorers: generated captions and all of Flickr8k."""

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from data_prep.references import read_references
from data_prep.tokenizer import tokenize
from evaluation.bleu import corpus_bleu
from evaluation.cider import cider_d
from evaluation.rouge import rouge_l

REASON = "pycocoevalcap, the oracle, is not installed"
bleu_scorer = pytest.importorskip("pycocoevalcap.bleu.bleu_scorer", reason=REASON)
cider_scorer = pytest.importorskip("pycocoevalcap.cider.cider", reason=REASON)
rouge_scorer = pytest.importorskip("pycocoevalcap.rouge.rouge", reason=REASON)

# Few words, so that n-grams of every order match, repeat and are shared between images.
words = st.sampled_from(["a", "dog", "cat", "runs"])
references = st.lists(st.lists(words, min_size=1, max_size=12), min_size=1, max_size=5)
caption_sets = st.lists(st.tuples(st.lists(words, max_size=12), references), min_size=1, max_size=8)

CaptionSet = list[tuple[list[str], list[list[str]]]]


def oracle_input(images: CaptionSet) -> tuple[dict[int, list[str]], dict[int, list[str]]]:
    """The captions as the oracle expects them: references and candidates, each as strings by image."""
    return (
        {i: [" ".join(reference) for reference in refs] for i, (_, refs) in enumerate(images)},
        {i: [" ".join(candidate)] for i, (candidate, _) in enumerate(images)},
    )


@pytest.fixture(scope="module")
def flickr8k_tokens(flickr8k: Path) -> list[list[list[str]]]:
    """The tokens of the five captions of each of the 8,091 images."""
    references = read_references(flickr8k / "Flickr8k_text/Flickr8k.token.txt")
    return [[tokenize(caption) for caption in image.captions] for image in references]


def check_bleu(images: CaptionSet) -> None:
    scorer = bleu_scorer.BleuScorer()
    for candidate, refs in images:
        scorer += (" ".join(candidate), [" ".join(reference) for reference in refs])
    expected, _ = scorer.compute_score(option="closest")

    result = corpus_bleu(*zip(*images, strict=True))

    assert result.correct == tuple(sum(image["correct"][n] for image in scorer.ctest) for n in range(4))
    assert result.guess == tuple(sum(image["guess"][n] for image in scorer.ctest) for n in range(4))
    assert (result.candidate_length, result.reference_length) == (scorer.testlen("closest"), scorer.reflen("closest"))
    # The oracle adds 1e-9 to its divisor, so with fewer than four words in total its own error is larger than that.
    tolerance = 1e-9 * max(1, 4 / max(1, result.candidate_length))
    for correct, score, oracle_score in zip(result.correct, result.scores, expected, strict=True):
        # It also adds 1e-15 to every count, which gives a small score without matches, where ours is 0.
        assert score == (pytest.approx(oracle_score, rel=0, abs=tolerance) if correct else 0)


def check_rouge_l(images: CaptionSet) -> None:
    mean, scores = rouge_scorer.Rouge().compute_score(*oracle_input(images))
    result = rouge_l(*zip(*images, strict=True))
    assert result.scores == pytest.approx(scores, rel=0, abs=1e-9)
    assert result.score == pytest.approx(mean, rel=0, abs=1e-9)


def check_cider_d(images: CaptionSet) -> None:
    mean, scores = cider_scorer.Cider().compute_score(*oracle_input(images))
    result = cider_d(*zip(*images, strict=True))
    assert result.scores == pytest.approx(scores, rel=0, abs=1e-9)
    assert result.score == pytest.approx(mean, rel=0, abs=1e-9)


@pytest.mark.slow
@settings(max_examples=max(1_000, settings.default.max_examples), deadline=None)
@given(caption_sets)
def test_generated_captions(images: CaptionSet) -> None:
    check_bleu(images)
    check_rouge_l(images)
    check_cider_d(images)


@pytest.mark.slow
@pytest.mark.data
@pytest.mark.parametrize("human", range(5) if settings.default.max_examples >= 10_000 else [0])
def test_all_of_flickr8k(flickr8k_tokens: list[list[list[str]]], human: int) -> None:
    images = [(image[human], image[:human] + image[human + 1 :]) for image in flickr8k_tokens]
    check_bleu(images)
    check_rouge_l(images)
    check_cider_d(images)
