"""Statistics of a set of captions that do not depend on the images: vocabulary, lengths, repetitions, broken ends."""

from collections import Counter
from collections.abc import Collection, Hashable, Sequence
from dataclasses import dataclass
from statistics import fmean

from evaluation.ngrams import ngrams

# No English sentence ends on one of these. Other prepositions can be adverbs ("a boy looks up").
_NEVER_LAST = frozenset(
    (
        "a",
        "an",
        "the",
        "and",
        "or",
        "of",
        "in",
        "on",
        "at",
        "to",
        "with",
        "for",
        "from",
        "into",
        "onto",
        "by",
        "as",
        "while",
        "is",
        "are",
        "its",
        "their",
    )
)


@dataclass(frozen=True)
class Diversity:
    """Diversity of a set of captions.

    Attributes:
        vocabulary: Number of different tokens.
        mean_length: Mean number of tokens per caption.
        distinct_1: Different tokens as a share of all tokens, 0..1 (Li et al., 2016, arXiv 1510.03055, section 5.2).
        distinct_2: Different pairs of adjacent tokens as a share of all such pairs, 0..1.
        different: Different captions as a share of all captions, 0..1.
        most_frequent: Number of captions that are equal to the most frequent one.
        empty: Number of captions without tokens.
        repeating: Number of captions in which a triple of adjacent tokens occurs twice.
        broken_off: Number of captions that end on a word that ends no sentence, such as an article.
        never_seen: Share of the captions that are not training captions, 0..1; None without training captions.
    """

    vocabulary: int
    mean_length: float
    distinct_1: float
    distinct_2: float
    different: float
    most_frequent: int
    empty: int
    repeating: int
    broken_off: int
    never_seen: float | None


def diversity(
    captions: Sequence[Sequence[Hashable]], training_captions: Collection[Sequence[Hashable]] = ()
) -> Diversity:
    """Compute the diversity of a set of captions.

    Args:
        captions: Tokens of each caption; at least one caption.
        training_captions: Tokens of each caption that the model was trained on, if known.

    Raises:
        ValueError: There are no captions.
    """
    if not captions:
        raise ValueError("no captions to count")
    whole = [tuple(caption) for caption in captions]
    counts = Counter(whole)
    seen = {tuple(caption) for caption in training_captions}
    return Diversity(
        vocabulary=len({token for caption in whole for token in caption}),
        mean_length=fmean(map(len, whole)),
        distinct_1=_distinct(whole, 1),
        distinct_2=_distinct(whole, 2),
        different=len(counts) / len(whole),
        most_frequent=max(counts.values()),
        empty=counts[()],
        repeating=sum(len(found := [*ngrams(caption, 3)]) > len(set(found)) for caption in whole),
        broken_off=sum(caption[-1] in _NEVER_LAST for caption in whole if caption),
        never_seen=sum(caption not in seen for caption in whole) / len(whole) if seen else None,
    )


def _distinct(captions: Sequence[tuple[Hashable, ...]], order: int) -> float:
    found = [ngram for caption in captions for ngram in ngrams(caption, order)]
    return len(set(found)) / len(found) if found else 0.0
