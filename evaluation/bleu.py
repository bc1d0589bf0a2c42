"""Corpus BLEU-1..4 as the COCO caption evaluation computes it.

K. Papineni et al., "BLEU: a Method for Automatic Evaluation of Machine Translation", ACL 2002, section 2.3; X. Chen
et al., "Microsoft COCO Captions", 2015, arXiv:1504.00325, section 3.2. The length of each candidate is compared with
that of the closest reference; of two equally close references, the shorter one is used.
"""

from collections import Counter
from collections.abc import Hashable, Sequence
from dataclasses import dataclass

import numpy as np

from evaluation.ngrams import ngrams

_ORDERS = (1, 2, 3, 4)


@dataclass(frozen=True)
class Bleu:
    """BLEU of a corpus, with the sums that it is computed from.

    Attributes:
        correct: Number of candidate n-grams found in the references, for n = 1..4; the count of each is clipped to its
            largest count in one reference.
        guess: Number of candidate n-grams, for n = 1..4.
        candidate_length: Number of tokens in all candidates.
        reference_length: Sum of the length of each candidate's closest reference.
    """

    correct: tuple[int, ...]
    guess: tuple[int, ...]
    candidate_length: int
    reference_length: int

    @classmethod
    def of_sums(cls, sums: Sequence[int]) -> "Bleu":
        """Create from the sums over a corpus of the counts that `bleu_counts` returns for each image."""
        numbers = [int(number) for number in sums]
        return cls(tuple(numbers[:4]), tuple(numbers[4:8]), numbers[8], numbers[9])

    @property
    def brevity_penalty(self) -> float:
        """Factor in 0..1 that lowers the scores of candidates shorter than their references."""
        return _brevity_penalty(np.array(float(self.candidate_length)), np.array(float(self.reference_length))).item()

    @property
    def scores(self) -> tuple[float, ...]:
        """BLEU-1 to BLEU-4, each in 0..1; BLEU-n is 0 if no n-gram is correct."""
        sums = [*self.correct, *self.guess, self.candidate_length, self.reference_length]
        return tuple(bleu_scores(np.array(sums)).tolist())


def bleu_scores(sums: np.ndarray) -> np.ndarray:
    """Return BLEU-1 to BLEU-4, (..., 4), from the sums over a corpus of the counts of each image.

    Args:
        sums: Sums over the images of the results of `bleu_counts`, (..., 10).
    """
    correct, guess, candidate_length, reference_length = np.split(sums.astype(float), [4, 8, 9], axis=-1)
    precisions = np.divide(correct, guess, out=np.zeros_like(correct), where=guess > 0)
    means = np.cumprod(precisions, axis=-1) ** (1 / np.array(_ORDERS))
    return _brevity_penalty(candidate_length, reference_length) * means


def bleu_counts(candidate: Sequence[Hashable], references: Sequence[Sequence[Hashable]]) -> tuple[int, ...]:
    """Return the counts that corpus BLEU sums over the images: correct and guess for n = 1..4, and the two lengths.

    Args:
        candidate: Tokens of the candidate of an image.
        references: Tokens of each of its references; at least one reference.
    """
    correct, guess = [], []
    for order in _ORDERS:
        counts = Counter(ngrams(candidate, order))
        largest = Counter[tuple[Hashable, ...]]()
        for reference in references:
            largest |= Counter(ngram for ngram in ngrams(reference, order) if ngram in counts)
        correct.append((counts & largest).total())
        guess.append(counts.total())
    return (*correct, *guess, len(candidate), _closest_length(len(candidate), references))


def corpus_bleu(candidates: Sequence[Sequence[Hashable]], references: Sequence[Sequence[Sequence[Hashable]]]) -> Bleu:
    """Score one candidate per image against the references of the image.

    Args:
        candidates: Tokens of the candidate of each image.
        references: Tokens of each reference of each image; at least one reference per image.

    Raises:
        ValueError: The arguments differ in length, or an image has no reference.
    """
    counts = [bleu_counts(*pair) for pair in zip(candidates, references, strict=True)]
    return Bleu.of_sums(np.sum(counts, axis=0) if counts else [0] * 10)


def _brevity_penalty(candidate_length: np.ndarray, reference_length: np.ndarray) -> np.ndarray:
    # Infinite for empty candidates, so that their penalty is 0.
    infinite = np.full_like(reference_length, np.inf)
    ratio = np.divide(reference_length, candidate_length, out=infinite, where=candidate_length > 0)
    return np.exp(np.minimum(0.0, 1 - ratio))


def _closest_length(length: int, references: Sequence[Sequence[Hashable]]) -> int:
    return min((len(reference) for reference in references), key=lambda other: (abs(other - length), other))
