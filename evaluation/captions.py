"""All scores of the COCO caption evaluation that this project reports, in one call."""

from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import Any

from evaluation.bleu import Bleu, corpus_bleu
from evaluation.cider import cider_d
from evaluation.rouge import rouge_l


@dataclass(frozen=True)
class CaptionScores:
    """Scores of a set of captions.

    Attributes:
        bleu: Corpus BLEU-1..4, each in 0..1, with its counts.
        rouge_l: Mean ROUGE-L, in 0..1.
        cider_d: Mean CIDEr-D, in 0..10; a human against four others has about 0.8.
        num_images: Images scored, with one candidate each.
        num_references: References of all images together.
    """

    bleu: Bleu
    rouge_l: float
    cider_d: float
    num_images: int
    num_references: int

    def as_dict(self) -> dict[str, Any]:
        """The scores, counts and lengths under their usual names, ready for JSON."""
        return {
            **{f"BLEU-{order}": score for order, score in enumerate(self.bleu.scores, start=1)},
            "ROUGE-L": self.rouge_l,
            "CIDEr-D": self.cider_d,
            "images": self.num_images,
            "references": self.num_references,
            "correct": list(self.bleu.correct),
            "guess": list(self.bleu.guess),
            "candidate_length": self.bleu.candidate_length,
            "reference_length": self.bleu.reference_length,
        }


def score_captions(
    candidates: Sequence[Sequence[Hashable]], references: Sequence[Sequence[Sequence[Hashable]]]
) -> CaptionScores:
    """Score one candidate an image against the image's references, by the COCO caption evaluation's protocol.

    Args:
        candidates: The tokens of each image's candidate, without start, end or padding tokens. The numbers compare with
            published ones only if `data_prep.tokenizer.tokenize` made the tokens of both sides.
        references: For each image, the tokens of its references.

    Raises:
        ValueError: There is nothing to score, the two differ in length, an image has no reference, or a caption is a
            string (its letters would be scored as tokens).
    """
    if not candidates:
        raise ValueError("no candidates to score")
    if len(candidates) != len(references):
        raise ValueError(f"{len(candidates)} candidates for the references of {len(references)} images")
    for index, (candidate, image_references) in enumerate(zip(candidates, references, strict=True)):
        if not image_references:
            raise ValueError(f"the image at index {index} has no references")
        if any(isinstance(caption, str) for caption in (candidate, *image_references)):
            raise ValueError(f"a caption of the image at index {index} is a string; cut it into tokens first")
    return CaptionScores(
        bleu=corpus_bleu(candidates, references),
        rouge_l=rouge_l(candidates, references).score,
        cider_d=cider_d(candidates, references).score,
        num_images=len(candidates),
        num_references=sum(map(len, references)),
    )
