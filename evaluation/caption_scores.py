"""All scores of the COCO caption evaluation that this project reports, in one call."""

from collections.abc import Hashable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np

from evaluation.bleu import Bleu, bleu_counts, bleu_scores
from evaluation.bootstrap import Score
from evaluation.cider import DocumentFrequencies, cider_d_and_cider
from evaluation.rouge import rouge_l

# The columns of the statistics: BLEU's counts, then the scores that are means over the images.
_COUNTS = 10
_MEANS = ("ROUGE-L", "CIDEr-D", "CIDEr")


@dataclass(frozen=True)
class CaptionScores:
    """Scores of a set of captions.

    Attributes:
        bleu: Corpus BLEU-1..4, each in 0..1, with its counts.
        rouge_l: Mean ROUGE-L, in 0..1.
        cider_d: Mean CIDEr-D, in 0..10; a human caption against four others scores about 0.8.
        cider: Mean plain CIDEr, in 0..10.
        num_images: Number of images scored, with one candidate each.
        num_references: Number of references of all images together.
        statistics: Statistics of each image, (images, 13); the scores are functions of their sums, for
            `evaluation.bootstrap`.
    """

    bleu: Bleu
    rouge_l: float
    cider_d: float
    cider: float
    num_images: int
    num_references: int
    statistics: np.ndarray = field(compare=False, repr=False)

    def as_dict(self) -> dict[str, Any]:
        """The scores, counts and lengths under their usual names, ready for JSON."""
        return {
            **{f"BLEU-{order}": score for order, score in enumerate(self.bleu.scores, start=1)},
            "ROUGE-L": self.rouge_l,
            "CIDEr-D": self.cider_d,
            "CIDEr": self.cider,
            "images": self.num_images,
            "references": self.num_references,
            "correct": list(self.bleu.correct),
            "guess": list(self.bleu.guess),
            "candidate_length": self.bleu.candidate_length,
            "reference_length": self.bleu.reference_length,
        }


def _bleu(sums: np.ndarray, _: int, order: int) -> np.ndarray:
    return bleu_scores(sums[..., :_COUNTS])[..., order - 1]


def _mean(sums: np.ndarray, images: int, column: int) -> np.ndarray:
    return sums[..., column] / images


# Each score as a function of the sums of `CaptionScores.statistics`, for `evaluation.bootstrap`.
SCORES: dict[str, Score] = {
    **{f"BLEU-{order}": partial(_bleu, order=order) for order in (1, 2, 3, 4)},
    **{name: partial(_mean, column=column) for column, name in enumerate(_MEANS, start=_COUNTS)},
}


def score_captions(
    candidates: Sequence[Sequence[Hashable]],
    references: Sequence[Sequence[Sequence[Hashable]]],
    frequencies: DocumentFrequencies | None = None,
) -> CaptionScores:
    """Score one candidate per image against the references of the image, by the COCO caption evaluation's protocol.

    Args:
        candidates: Tokens of the candidate of each image, without start, end or padding tokens. The scores are
            comparable with published ones only if candidates and references are tokenized by
            `data_prep.tokenizer.tokenize`.
        references: Tokens of each reference of each image.
        frequencies: Document frequencies for CIDEr (default: those of `references`, as in the protocol).

    Raises:
        ValueError: There is nothing to score, the arguments differ in length, an image has no reference, or a caption
            is a string (its letters would be scored as tokens).
    """
    if not candidates:
        raise ValueError("no candidates to score")
    if len(candidates) != len(references):
        raise ValueError(f"{len(candidates)} candidates for the references of {len(references)} images")
    for index, (candidate, image_references) in enumerate(zip(candidates, references, strict=True)):
        if not image_references:
            raise ValueError(f"the image at index {index} has no references")
        if any(isinstance(caption, str) for caption in (candidate, *image_references)):
            raise ValueError(f"a caption of the image at index {index} is a string; tokenize it first")
    counts = np.array([bleu_counts(*pair) for pair in zip(candidates, references, strict=True)])
    of_cider = [found.scores for found in cider_d_and_cider(candidates, references, frequencies)]
    statistics = np.column_stack([counts, rouge_l(candidates, references).scores, *of_cider])
    return CaptionScores(
        Bleu.of_sums(counts.sum(0)),
        *statistics[:, _COUNTS:].mean(0).tolist(),
        num_images=len(candidates),
        num_references=sum(map(len, references)),
        statistics=statistics,
    )
