"""BLEU, ROUGE-L and CIDEr-D against the COCO caption evaluation's own scorers, on generated captions."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

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
    """The captions as the oracle wants them: references and candidates, each as strings by image."""
    return (
        {i: [" ".join(reference) for reference in refs] for i, (_, refs) in enumerate(images)},
        {i: [" ".join(candidate)] for i, (candidate, _) in enumerate(images)},
    )


@given(caption_sets)
def test_bleu(images: CaptionSet) -> None:
    scorer = bleu_scorer.BleuScorer()
    for candidate, refs in images:
        scorer += (" ".join(candidate), [" ".join(reference) for reference in refs])
    expected, _ = scorer.compute_score(option="closest")

    result = corpus_bleu(*zip(*images, strict=True))

    assert result.correct == tuple(sum(image["correct"][n] for image in scorer.ctest) for n in range(4))
    assert result.guess == tuple(sum(image["guess"][n] for image in scorer.ctest) for n in range(4))
    assert (result.candidate_length, result.reference_length) == (scorer.testlen("closest"), scorer.reflen("closest"))
    for correct, score, oracle_score in zip(result.correct, result.scores, expected, strict=True):
        # The oracle adds 1e-15 to every count, which leaves a small score where nothing matches: ours is 0 there.
        assert score == (pytest.approx(oracle_score, abs=1e-6) if correct else 0)


@given(caption_sets)
def test_rouge_l(images: CaptionSet) -> None:
    mean, scores = rouge_scorer.Rouge().compute_score(*oracle_input(images))
    result = rouge_l(*zip(*images, strict=True))
    assert result.scores == pytest.approx(scores)
    assert result.score == pytest.approx(mean)


@given(caption_sets)
def test_cider_d(images: CaptionSet) -> None:
    mean, scores = cider_scorer.Cider().compute_score(*oracle_input(images))
    result = cider_d(*zip(*images, strict=True))
    assert result.scores == pytest.approx(scores, abs=1e-9)
    assert result.score == pytest.approx(mean, abs=1e-9)
