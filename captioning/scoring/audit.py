"""Scores of the same captions under other protocols, and oddities of the captions: why a published score differs.

The usual mistakes raise BLEU by up to a fifth, or halve it. This module makes each of them on purpose with the scored
captions, so that a claimed score can be compared with all of them.
"""

import math
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, cast

from nltk.translate.bleu_score import SmoothingFunction, corpus_bleu, sentence_bleu

from captioning.scoring.captioned import Captioned
from captioning.scoring.file import tokens_of
from data_prep.references import Reference
from data_prep.tokenizer import tokenize
from data_prep.vocabulary import Vocabulary
from evaluation.caption_scores import SCORES, score_captions
from evaluation.diversity import diversity
from vision_rnn.errors import UserError

# Minimum number of occurrences of a vocabulary word in most captioners.
_MIN_COUNT = 5
_BLEU_WEIGHTS = [tuple(1 / order for _ in range(order)) for order in (1, 2, 3, 4)]
# Share of the captions above which an oddity needs an explanation.
_MUCH = 0.2

Tokens = list[str] | list[int]


@dataclass(frozen=True)
class Protocol:
    """The scores of the captions under one protocol.

    Attributes:
        name: Difference from the COCO caption evaluation.
        scores: Scores by name; only BLEU if the protocol defines no other score.
    """

    name: str
    scores: dict[str, float]


def check_claim(claimed: str) -> None:
    """Check that a claimed score is a number, before anything is scored.

    Raises:
        UserError: The claimed score is not a number.
    """
    try:
        number = float(claimed)
    except ValueError:
        number = math.nan
    if not math.isfinite(number):
        raise UserError(f"--claimed {claimed}: not a number; give the score as published, such as 0.2345")


def audit_document(captioned: Captioned, training: Sequence[Reference], claimed: str | None = None) -> dict[str, Any]:
    """Return the scores under all protocols, the suspicions and, for a claimed score, the matching protocols.

    Args:
        captioned: Captions with their references.
        training: References of the training split, if known.
        claimed: Claimed score, as published.
    """
    protocols = recompute(captioned, training)
    document = {
        "protocols": {protocol.name: protocol.scores for protocol in protocols},
        "suspicions": suspicions(captioned, training),
    }
    return document | ({"claimed": claimed, "matching": matching(protocols, claimed)} if claimed else {})


def recompute(captioned: Captioned, training: Sequence[Reference]) -> list[Protocol]:
    """Score captions by the COCO caption protocol and by the usual wrong protocols.

    Args:
        captioned: Captions with their references.
        training: References of the training split, for a vocabulary; if empty, the protocol of unknown words is
            omitted.
    """
    cut: dict[str, Callable[[str], Tokens]] = {
        "COCO caption protocol": tokenize,
        "final stop kept": _with_stop,
        "all punctuation kept": lambda caption: caption.lower().split(),
        "start and end tokens kept": lambda caption: ["<start>", *tokenize(caption), "<end>"],
    }
    if training:
        vocabulary = Vocabulary.build((tokenize(text) for image in training for text in image.captions), _MIN_COUNT)
        cut[f"words seen under {_MIN_COUNT} times as one token"] = lambda text: vocabulary.encode(tokenize(text))
    protocols = [Protocol(name, _scores(captioned, tokens)) for name, tokens in cut.items()]
    first = [captions[:1] for captions in captioned.references]
    protocols.append(Protocol("first reference only", _scores(captioned, tokenize, first)))
    candidates = [tokenize(caption) for caption in captioned.captions]
    references = tokens_of(captioned.references)
    with warnings.catch_warnings():
        # If no n-gram is correct the score is 0, which needs no warning here.
        warnings.filterwarnings("ignore", r"\nThe hypothesis contains 0 counts")
        # With a list of weights it returns a list, but its annotations do not say so.
        of_corpus = cast("list[float]", corpus_bleu(references, candidates, _BLEU_WEIGHTS))
    protocols.append(Protocol("nltk's corpus_bleu", _bleu(of_corpus)))
    smoothing = SmoothingFunction().method1
    of_sentences = [
        sentence_bleu(given, candidate, _BLEU_WEIGHTS, smoothing)
        for candidate, given in zip(candidates, references, strict=True)
    ]
    means = [sum(scores) / len(of_sentences) for scores in zip(*of_sentences, strict=True)]
    protocols.append(Protocol("mean of sentence BLEU (nltk, smoothing 1)", _bleu(means)))
    return protocols


def matching(protocols: Sequence[Protocol], claimed: str) -> list[tuple[str, str]]:
    """Return the protocols and scores that round to a claimed number, in the order of the protocols.

    Args:
        protocols: Result of `recompute`.
        claimed: Claimed score as published, 0..1 or as a percentage, with all its digits.

    Raises:
        ValueError: The claimed score is not a number.
    """
    number, digits = float(claimed), len(claimed.partition(".")[2])
    found = []
    for protocol in protocols:
        for name, score in protocol.scores.items():
            half = 0.5 * 10**-digits * (1 + 1e-9)
            if any(abs(scale * score - number) <= half for scale in (1, 100)):
                found.append((protocol.name, name))
    return found


def suspicions(captioned: Captioned, training: Sequence[Reference]) -> list[str]:
    """Return the oddities of captions, one sentence each; an empty list if there are none.

    Args:
        captioned: Captions with their references.
        training: References of the training split, if known.
    """
    candidates = [tokenize(caption) for caption in captioned.captions]
    like, number = diversity(candidates), len(candidates)
    found = []
    if like.empty:
        found.append(f"{like.empty} of {number} captions {_are(like.empty)} empty")
    if like.most_frequent > max(1, _MUCH * number):
        found.append(f"{like.most_frequent} of {number} images have the same caption")
    copied = sum(
        candidate in [tokenize(text) for text in captions]
        for candidate, captions in zip(candidates, captioned.references, strict=True)
        if candidate
    )
    if copied > _MUCH * number:
        found.append(f"{copied} of {number} captions {_are(copied)} identical to a reference of their image")
    if training:
        learned = {token for image in training for text in image.captions for token in tokenize(text)}
        evaluated = {token for captions in captioned.references for text in captions for token in tokenize(text)}
        foreign = sorted({token for candidate in candidates for token in candidate} & (evaluated - learned))
        if foreign:
            words, occur = ("word", "occurs") if len(foreign) == 1 else ("words", "occur")
            named = f"{len(foreign)} {words} of the captions, such as {', '.join(foreign[:5])}"
            found.append(f"{named}, {occur} in the evaluated references but not in the training captions")
    return found


def _are(number: int) -> str:
    return "is" if number == 1 else "are"


def _scores(
    captioned: Captioned, cut: Callable[[str], Tokens], references: Sequence[Sequence[str]] | None = None
) -> dict[str, float]:
    given = captioned.references if references is None else references
    scores = score_captions(
        [cut(caption) for caption in captioned.captions], [[cut(text) for text in captions] for captions in given]
    ).as_dict()
    return {name: scores[name] for name in SCORES}


def _bleu(scores: Sequence[float]) -> dict[str, float]:
    return {f"BLEU-{order}": float(score) for order, score in enumerate(scores, start=1)}


def _with_stop(caption: str) -> list[str]:
    return [*tokenize(caption), *["."] * caption.rstrip().endswith(".")]
