"""The same captions under other protocols, and what is odd about them: why a published number differs.

The usual mistakes raise BLEU by up to a fifth, or halve it. Each is made on purpose here, with the very captions that
were scored, so that a claimed number can be held against all of them.
"""

import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, cast

from nltk.translate.bleu_score import SmoothingFunction, corpus_bleu, sentence_bleu

from captioning.scoring.file import Captioned, tokens_of
from data_prep.references import Reference
from data_prep.tokenizer import tokenize
from data_prep.vocabulary import Vocabulary
from evaluation.caption_scores import SCORES, score_captions
from evaluation.diversity import diversity
from vision_rnn.errors import UserError

# As most captioners count their vocabulary.
_MIN_COUNT = 5
_BLEU_WEIGHTS = [tuple(1 / order for _ in range(order)) for order in (1, 2, 3, 4)]
# Of all captions: what is so common needs an explanation.
_MUCH = 0.2

Tokens = list[str] | list[int]


@dataclass(frozen=True)
class Protocol:
    """What one protocol makes of the captions.

    Attributes:
        name: What is done otherwise than in the COCO caption evaluation.
        scores: By name; BLEU alone where the protocol is one of BLEU.
    """

    name: str
    scores: dict[str, float]


def check_claim(claimed: str) -> None:
    """Refuse a claimed score that is not a number, before anything is scored.

    Raises:
        UserError: It is not a number.
    """
    try:
        float(claimed)
    except ValueError:
        raise UserError(f"--claimed {claimed}: not a number; give a score as it was published") from None


def audit_document(captioned: Captioned, training: Sequence[Reference], claimed: str | None = None) -> dict[str, Any]:
    """Return the scores under all protocols, everything suspicious and, for a claimed score, the matching protocols.

    Args:
        captioned: Captions and references.
        training: References of the training images, if known.
        claimed: A score as it was published.
    """
    protocols = recompute(captioned, training)
    document = {
        "protocols": {protocol.name: protocol.scores for protocol in protocols},
        "suspicions": suspicions(captioned, training),
    }
    return document | ({"claimed": claimed, "matching": matching(protocols, claimed)} if claimed else {})


def recompute(captioned: Captioned, training: Sequence[Reference]) -> list[Protocol]:
    """Score captions by the COCO caption protocol and by the usual wrong ones.

    Args:
        captioned: Captions with their references.
        training: The references of the training split, whose words a vocabulary knows; without any, the protocol of
            unknown words is left out.
    """
    cut: dict[str, Callable[[str], Tokens]] = {
        "COCO caption protocol": tokenize,
        "final stop kept": _with_stop,
        "all punctuation kept": lambda caption: caption.lower().split(),
        "start and end tokens kept": lambda caption: ["<start>", *tokenize(caption), "<end>"],
    }
    if training:
        vocabulary = Vocabulary.build((tokenize(text) for image in training for text in image.captions), _MIN_COUNT)
        cut[f"words seen less than {_MIN_COUNT} times taken for one"] = lambda text: vocabulary.encode(tokenize(text))
    protocols = [Protocol(name, _scores(captioned, tokens)) for name, tokens in cut.items()]
    first = [captions[:1] for captions in captioned.references]
    protocols.append(Protocol("first reference alone", _scores(captioned, tokenize, first)))
    candidates = [tokenize(caption) for caption in captioned.captions]
    references = tokens_of(captioned.references)
    with warnings.catch_warnings():
        # Where no n-gram is correct the score is 0, which needs no warning here.
        warnings.filterwarnings("ignore", r"\nThe hypothesis contains 0 counts")
        # With a list of weights it returns a list, which its code says to no type checker.
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
    """Return which protocols, and which of their scores, round to a claimed number, the COCO protocol's first.

    Args:
        protocols: From `recompute`.
        claimed: A score as it was published, 0..1, or as a percentage, with all its digits.

    Raises:
        ValueError: It is no number.
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
    """Return what is odd about captions, a sentence each; nothing if all is as it should be.

    Args:
        captioned: Captions with their references.
        training: The references of the training split, if they are known.
    """
    candidates = [tokenize(caption) for caption in captioned.captions]
    like, number = diversity(candidates), len(candidates)
    found = []
    if like.empty:
        found.append(f"{like.empty} of {number} captions are empty")
    if like.most_frequent > max(1, _MUCH * number):
        found.append(f"one caption is that of {like.most_frequent} of {number} images")
    copied = sum(
        candidate in [tokenize(text) for text in captions]
        for candidate, captions in zip(candidates, captioned.references, strict=True)
        if candidate
    )
    if copied > _MUCH * number:
        found.append(f"{copied} of {number} captions are a reference of their own image, word for word")
    if training:
        learned = {token for image in training for text in image.captions for token in tokenize(text)}
        evaluated = {token for captions in captioned.references for text in captions for token in tokenize(text)}
        foreign = sorted({token for candidate in candidates for token in candidate} & (evaluated - learned))
        if foreign:
            words = f"{len(foreign)} words of the captions, such as {', '.join(foreign[:5])}"
            found.append(f"{words}, are in the evaluated references and in no training one")
    return found


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
