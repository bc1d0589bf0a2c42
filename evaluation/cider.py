"""CIDEr-D as the COCO caption evaluation computes it, and CIDEr as its paper defines it.

R. Vedantam, C. L. Zitnick, D. Parikh, "CIDEr: Consensus-based Image Description Evaluation", CVPR 2015,
arXiv:1411.5726. CIDEr (equations 1 to 3) is the cosine of the captions' TF-IDF n-gram vectors, averaged over n = 1..4
and the references. CIDEr-D clips the candidate's weights to the reference's and damps by a Gaussian of the difference
in length, so that neither repetition nor length raises the score. The evaluation prints CIDEr-D as "CIDEr".
Deviations, all from the evaluation: words are not stemmed, both scores are 10 times as large as in the paper, and a
term frequency is a plain count (the cosine cancels the caption's length, but the clipping then applies to counts).
"""

import math
from collections import Counter
from collections.abc import Callable, Container, Hashable, Sequence
from dataclasses import dataclass
from itertools import chain
from statistics import fmean
from typing import NamedTuple, TypeAlias

from evaluation.image_scores import ImageScores
from evaluation.ngrams import ngrams

_Ngram: TypeAlias = tuple[Hashable, ...]

_ORDERS = (1, 2, 3, 4)
_SIGMA = 6.0
_SCALE = 10.0


class DocumentFrequencies:
    """Number of images whose references contain each n-gram: a phrase that fits every image says little about one.

    Args:
        references: Tokens of each reference of each image: the references under evaluation for a score to report, those
            of the training split for a training reward. At least one image; with exactly one, every weight is 0.

    Raises:
        ValueError: There are no images.
    """

    def __init__(self, references: Sequence[Sequence[Sequence[Hashable]]]):
        if not references:
            raise ValueError("no references to count document frequencies in")
        images_with = Counter(chain.from_iterable(_ngrams_of(captions) for captions in references))
        self._unseen = math.log(len(references))
        # An n-gram of one image weighs as much as one of none, and most are of one.
        self._inverse = {ngram: self._unseen - math.log(count) for ngram, count in images_with.items() if count > 1}

    def weights(self, caption: Sequence[Hashable], order: int) -> dict[_Ngram, float]:
        """TF-IDF of a caption's n-grams of one order: count x log(images / max(1, images with the n-gram))."""
        counts = Counter(ngrams(caption, order))
        return {ngram: count * self._inverse.get(ngram, self._unseen) for ngram, count in counts.items()}

    def all_zero(self, references: Sequence[Sequence[Sequence[Hashable]]]) -> bool:
        """Whether every n-gram of the references has weight 0, so that CIDEr is 0 whatever the candidates are."""
        captions = chain.from_iterable(references)
        return not any(
            weight for caption in captions for order in _ORDERS for weight in self.weights(caption, order).values()
        )


class _Posting(NamedTuple):
    """One reference that contains an n-gram."""

    reference: int
    weight: float
    unit_weight: float  # the weight divided by the norm of the reference's vector


@dataclass(frozen=True)
class _References:
    """The references of one image, indexed by n-gram, since a candidate shares few n-grams with them."""

    lengths: list[int]
    postings: dict[_Ngram, list[_Posting]]


class CiderDScorer:
    """CIDEr-D for any number of candidates of images, a few at a time.

    Args:
        references_by_image: Tokens of each reference of each image; at least one reference per image. They are read
            once for the document frequencies, and again for the images that are asked for.

    Raises:
        ValueError: There are no images.
    """

    def __init__(self, references_by_image: Sequence[Sequence[Sequence[Hashable]]]):
        self._frequencies = DocumentFrequencies(references_by_image)
        self._references = references_by_image

    def scores(self, image_index: int, candidates: Sequence[Sequence[Hashable]]) -> list[float]:
        """CIDEr-D, in 0..10, of candidates for the image at `image_index` of `references_by_image`.

        Raises:
            ValueError: The image has no reference.
        """
        image = _index(self._references[image_index], self._frequencies, _ngrams_of(candidates))
        return [_damped(image, candidate, self._frequencies) for candidate in candidates]


def cider_d(
    candidates: Sequence[Sequence[Hashable]],
    references: Sequence[Sequence[Sequence[Hashable]]],
    frequencies: DocumentFrequencies | None = None,
) -> ImageScores:
    """Score one candidate per image by CIDEr-D, in 0..10; a human caption against four others scores about 0.8.

    Args:
        candidates: Tokens of the candidate of each image.
        references: Tokens of each reference of each image; at least one reference per image.
        frequencies: Document frequencies (default: those of `references`, as in the evaluation's protocol).

    Raises:
        ValueError: The arguments differ in length, there are no images, or an image has no reference.
    """
    return _scores([_damped], candidates, references, frequencies)[0]


def cider(
    candidates: Sequence[Sequence[Hashable]],
    references: Sequence[Sequence[Sequence[Hashable]]],
    frequencies: DocumentFrequencies | None = None,
) -> ImageScores:
    """Score by plain CIDEr, in 0..10; arguments and errors as for `cider_d`."""
    return _scores([_plain], candidates, references, frequencies)[0]


def cider_d_and_cider(
    candidates: Sequence[Sequence[Hashable]],
    references: Sequence[Sequence[Sequence[Hashable]]],
    frequencies: DocumentFrequencies | None = None,
) -> list[ImageScores]:
    """Score by CIDEr-D and plain CIDEr in little more time than by one; arguments and errors as for `cider_d`."""
    return _scores([_damped, _plain], candidates, references, frequencies)


def _scores(
    measures: Sequence[Callable[[_References, Sequence[Hashable], DocumentFrequencies], float]],
    candidates: Sequence[Sequence[Hashable]],
    references: Sequence[Sequence[Sequence[Hashable]]],
    frequencies: DocumentFrequencies | None,
) -> list[ImageScores]:
    """Return the scores by each measure."""
    known = frequencies or DocumentFrequencies(references)
    rows = []
    # One image at a time: the vectors of all images would fill the memory and slow down the garbage collector.
    for captions, candidate in zip(references, candidates, strict=True):
        image = _index(captions, known, _ngrams_of([candidate]))
        rows.append([measure(image, candidate, known) for measure in measures])
    return [ImageScores(scores) for scores in zip(*rows, strict=True)]


def _damped(image: _References, candidate: Sequence[Hashable], frequencies: DocumentFrequencies) -> float:
    """Return the CIDEr-D score of a candidate."""
    cosines = _cosines(image, candidate, frequencies, clipped=True)
    return _SCALE * fmean(
        cosine * math.exp(-((len(candidate) - length) ** 2) / (2 * _SIGMA**2))
        for cosine, length in zip(cosines, image.lengths, strict=True)
    )


def _plain(image: _References, candidate: Sequence[Hashable], frequencies: DocumentFrequencies) -> float:
    """Return the plain CIDEr score of a candidate."""
    return _SCALE * fmean(_cosines(image, candidate, frequencies, clipped=False))


def _cosines(
    image: _References, candidate: Sequence[Hashable], frequencies: DocumentFrequencies, clipped: bool
) -> list[float]:
    """Return the cosine with each reference, averaged over the orders."""
    cosines = [0.0] * len(image.lengths)
    for order in _ORDERS:
        weights = frequencies.weights(candidate, order)
        norm = math.hypot(*weights.values())
        for ngram, weight in weights.items():
            for reference, reference_weight, unit_weight in image.postings.get(ngram, ()):
                counted = min(weight, reference_weight) if clipped else weight
                cosines[reference] += counted * unit_weight / norm
    return [cosine / len(_ORDERS) for cosine in cosines]


def _ngrams_of(captions: Sequence[Sequence[Hashable]]) -> set[_Ngram]:
    return {ngram for caption in captions for order in _ORDERS for ngram in ngrams(caption, order)}


def _index(
    references: Sequence[Sequence[Hashable]], frequencies: DocumentFrequencies, asked: Container[_Ngram]
) -> _References:
    """Index those of the n-grams of an image's references that are in `asked`."""
    postings: dict[_Ngram, list[_Posting]] = {}
    for index, reference in enumerate(references):
        for order in _ORDERS:
            weights = frequencies.weights(reference, order)
            norm = math.hypot(*weights.values())
            for ngram, weight in weights.items():
                if weight > 0 and ngram in asked:
                    postings.setdefault(ngram, []).append(_Posting(index, weight, weight / norm))
    return _References([len(reference) for reference in references], postings)
