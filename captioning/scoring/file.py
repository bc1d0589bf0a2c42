"""Scores of the captions in a file, from any source, for `captioning score`.

Every score follows the COCO caption protocol and has a bootstrap interval over the images. The document frequencies of
CIDEr are fixed while images are resampled: they belong to the protocol, not to the sample.
"""

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from captioning.scoring.captioned import Captioned
from captioning.scoring.zero_cider import note_if_cider_is_zero
from data_prep.references import Reference
from data_prep.tokenizer import tokenize
from evaluation.bootstrap import bootstrap, paired_bootstrap
from evaluation.caption_scores import SCORES, CaptionScores, score_captions
from evaluation.cider import DocumentFrequencies
from evaluation.diversity import diversity
from vision_rnn.version import tool_version

LEVEL = 0.95
PROTOCOL = (
    "COCO caption protocol: PTB tokens in lower case without punctuation, corpus BLEU with brevity penalty and closest "
    "reference length, ROUGE-L with beta 1.2, CIDEr-D and CIDEr with document frequencies of {}. "
    f"Intervals: {100 * LEVEL:.0f} %, percentiles of 1000 bootstrap samples of the images."
)


def tokens_of(captions: Iterable[Sequence[str]]) -> list[list[list[str]]]:
    """Tokenise the captions of each image."""
    return [[tokenize(caption) for caption in of_image] for of_image in captions]


@dataclass(frozen=True)
class Corpus:
    """Captions of other images, which provide the document frequencies of CIDEr.

    Attributes:
        name: Name of the corpus in signatures.
        frequencies: Document frequencies of its captions.
    """

    name: str
    frequencies: DocumentFrequencies

    @classmethod
    def of(cls, source: str | Path, references: Sequence[Reference]) -> "Corpus":
        """Count the captions of all images of a source."""
        tokens = tokens_of(image.captions for image in references)
        return cls(f"{Path(source).name}({len(tokens)})", DocumentFrequencies(tokens))


@dataclass(frozen=True)
class Scored:
    """Captions with their scores.

    Attributes:
        captioned: Captions and references before tokenisation.
        candidates: Tokens of the captions.
        references: Tokens of each reference of each image.
        scores: Scores of the captions.
        corpus: Source of the document frequencies of CIDEr; None for the references.
    """

    captioned: Captioned
    candidates: list[list[str]]
    references: list[list[list[str]]]
    scores: CaptionScores
    corpus: Corpus | None

    @classmethod
    def of(cls, captioned: Captioned, corpus: Corpus | None = None) -> "Scored":
        """Score captions."""
        candidates = [tokenize(caption) for caption in captioned.captions]
        references = tokens_of(captioned.references)
        scores = score_captions(candidates, references, corpus.frequencies if corpus else None)
        return cls(captioned, candidates, references, scores, corpus)


def describe(scored: Scored, training_captions: Sequence[str] = ()) -> dict[str, Any]:
    """Return scores with intervals and signatures, counts, and the diversity of the captions.

    If CIDEr is 0 for any captions, the reason is printed.

    Args:
        scored: The scored captions.
        training_captions: Captions of the training split, if known.
    """
    captioned, scores, corpus = scored.captioned, scored.scores, scored.corpus
    note_if_cider_is_zero(scores, scored.references, corpus.frequencies if corpus else None)
    like = diversity(scored.candidates, [tokenize(caption) for caption in training_captions])
    return {
        "protocol": PROTOCOL.format(f"the corpus {corpus.name}" if corpus else "the evaluated references"),
        "split": captioned.split,
        "subset_of": captioned.subset_of,
        "scores": {
            name: {
                **asdict(bootstrap(scores.statistics, of_sums, level=LEVEL)),
                "signature": signature(name, captioned, corpus),
            }
            for name, of_sums in SCORES.items()
        },
        **{name: value for name, value in scores.as_dict().items() if name not in SCORES},
        "captions": asdict(like),
    }


def compare(first: Scored, second: Scored) -> dict[str, Any]:
    """Compare two sets of captions of the same images; return the difference, interval and p-value of each score."""
    return {
        name: asdict(paired_bootstrap(first.scores.statistics, second.scores.statistics, of_sums, level=LEVEL))
        for name, of_sums in SCORES.items()
    }


def signature(name: str, captioned: Captioned, corpus: Corpus | None = None) -> str:
    """Return a one-line description of a score that allows it to be reproduced."""
    numbers = sorted({len(references) for references in captioned.references})
    references = str(numbers[0]) if len(numbers) == 1 else f"{numbers[0]}-{numbers[-1]}"
    images = str(len(captioned.images)) + (f"/{captioned.subset_of}" if captioned.subset_of else "")
    return "|".join(
        [
            name,
            "protocol:coco",
            "tokens:ptb-lower-nopunct",
            f"references:{references}",
            f"images:{images}",
            f"split:{captioned.split or 'all'}",
            *([f"frequencies:{corpus.name}"] if corpus and name.startswith("CIDEr") else []),
            f"vision-rnn:{tool_version()}",
        ]
    )
