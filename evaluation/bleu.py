"""Corpus BLEU-1..4 as the COCO caption evaluation computes it.

K. Papineni et al., "BLEU: a Method for Automatic Evaluation of Machine Translation", ACL 2002, section 2.3; X. Chen
et al., "Microsoft COCO Captions", 2015, arXiv:1504.00325, section 3.2. Each candidate is held against the reference
closest to it in length; of two equally close, the shorter.
"""

import math
from collections import Counter
from collections.abc import Hashable, Sequence
from dataclasses import dataclass

from nltk.util import ngrams

_ORDERS = (1, 2, 3, 4)


@dataclass(frozen=True)
class Bleu:
    """BLEU of a corpus, with the sums that it is made of.

    Attributes:
        correct: Candidate n-grams found in the references, clipped to the largest count in one reference; for n = 1..4.
        guess: Candidate n-grams, for n = 1..4.
        candidate_length: Tokens in all candidates.
        reference_length: Sum of the length of each candidate's closest reference.
    """

    correct: tuple[int, ...]
    guess: tuple[int, ...]
    candidate_length: int
    reference_length: int

    @property
    def brevity_penalty(self) -> float:
        """Factor in 0..1 that lowers the scores of candidates shorter than their references."""
        if self.candidate_length == 0:
            return 0.0
        return math.exp(min(0.0, 1 - self.reference_length / self.candidate_length))

    @property
    def scores(self) -> tuple[float, ...]:
        """BLEU-1 to BLEU-4, each in 0..1; BLEU-n is 0 where no n-gram is correct."""
        scores = []
        product = 1.0
        for order, correct, guess in zip(_ORDERS, self.correct, self.guess, strict=True):
            product *= correct / guess if guess else 0.0
            scores.append(self.brevity_penalty * product ** (1 / order))
        return tuple(scores)


def corpus_bleu(candidates: Sequence[Sequence[Hashable]], references: Sequence[Sequence[Sequence[Hashable]]]) -> Bleu:
    """Score one candidate an image against the image's references.

    Args:
        candidates: The tokens of each image's candidate.
        references: For each image, the tokens of its references; at least one.

    Raises:
        ValueError: The two differ in length, or an image has no reference.
    """
    correct = dict.fromkeys(_ORDERS, 0)
    guess = dict.fromkeys(_ORDERS, 0)
    reference_length = 0
    for candidate, image_references in zip(candidates, references, strict=True):
        reference_length += _closest_length(len(candidate), image_references)
        for order in _ORDERS:
            counts = Counter(ngrams(candidate, order))
            largest = Counter[tuple[Hashable, ...]]()
            for reference in image_references:
                largest |= Counter(ngrams(reference, order))
            correct[order] += (counts & largest).total()
            guess[order] += counts.total()
    return Bleu(
        correct=tuple(correct.values()),
        guess=tuple(guess.values()),
        candidate_length=sum(map(len, candidates)),
        reference_length=reference_length,
    )


def _closest_length(length: int, references: Sequence[Sequence[Hashable]]) -> int:
    return min((len(reference) for reference in references), key=lambda other: (abs(other - length), other))
