"""Captions scored and compared, with signatures."""

import numpy as np
import pytest

from captioning.scoring.captioned import Captioned
from captioning.scoring.file import Corpus, Scored, compare, describe, signature
from data_prep.references import Reference
from data_prep.tokenizer import tokenize
from evaluation.caption_scores import score_captions


def test_scores_are_those_of_the_evaluation_within_their_intervals(
    known: list[Reference], sentences: list[str]
) -> None:
    captioned = Captioned(known[:3], sentences, "test")
    document = describe(Scored.of(captioned), ["Children play ."])
    expected = score_captions(
        [tokenize(caption) for caption in sentences],
        [[tokenize(text) for text in image.captions] for image in known[:3]],
    ).as_dict()
    for name, found in document["scores"].items():
        assert found["score"] == pytest.approx(expected[name])
        assert found["low"] <= found["score"] <= found["high"]
    assert document["captions"]["never_seen"] == pytest.approx(2 / 3)
    assert (document["images"], document["references"], document["split"]) == (3, 5, "test")


def test_a_signature_says_what_a_score_is(known: list[Reference], sentences: list[str]) -> None:
    parts = signature("BLEU-4", Captioned(known[:3], sentences, "test")).split("|")
    assert parts[:-1] == [
        "BLEU-4",
        "protocol:coco",
        "tokens:ptb-lower-nopunct",
        "references:1-2",
        "images:3",
        "split:test",
    ]
    assert signature("CIDEr", Captioned(known[3:], ["a"], None)).split("|")[3:6] == [
        "references:1",
        "images:1",
        "split:all",
    ]


def test_a_signature_and_the_document_say_that_a_part_is_scored(known: list[Reference], sentences: list[str]) -> None:
    part = Captioned(known[:2], sentences[:2], "test", subset_of=3)
    assert "|images:2/3|" in signature("CIDEr-D", part)
    assert describe(Scored.of(part))["subset_of"] == 3
    assert describe(Scored.of(Captioned(known[:3], sentences, "test")))["subset_of"] is None


def test_better_captions_are_told_from_worse_ones() -> None:
    generator = np.random.default_rng(0)
    words = [f"w{number}" for number in range(50)]
    sentences = [" ".join(generator.choice(words, 8)) for _ in range(60)]
    images = [Reference(f"{number}.jpg", None, None, [text]) for number, text in enumerate(sentences)]
    good = Captioned(images, sentences, None)
    half = Captioned(images, [text if number % 2 else "w1 w2" for number, text in enumerate(sentences)], None)
    for found in compare(Scored.of(good), Scored.of(half)).values():
        assert found["difference"]["low"] > 0
        assert found["p_value"] < 0.01
    for found in compare(Scored.of(half), Scored.of(half)).values():
        assert (found["difference"]["score"], found["p_value"]) == (0, 1)


def test_document_frequencies_of_another_corpus_change_cider_and_its_signature_alone(
    known: list[Reference], sentences: list[str]
) -> None:
    captioned = Captioned(known[:3], sentences, "test")
    own, other = (describe(Scored.of(captioned, corpus)) for corpus in (None, Corpus.of("folder/all.json", known)))
    for name in own["scores"]:
        (of_own, of_other) = (document["scores"][name] for document in (own, other))
        assert (of_own["score"] != of_other["score"]) == name.startswith("CIDEr")
        assert ("|frequencies:all.json(4)|" in of_other["signature"]) == name.startswith("CIDEr")
    assert "of the corpus all.json(4)" in other["protocol"]
    # Counted in the references, they are those of the protocol.
    same = describe(Scored.of(captioned, Corpus.of("x", known[:3])))
    assert [found["score"] for found in same["scores"].values()] == [found["score"] for found in own["scores"].values()]
