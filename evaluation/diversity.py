"""What a set of captions is like, whatever it says of the images: its words, its lengths, its repetitions."""

from collections import Counter
from collections.abc import Collection, Hashable, Sequence
from dataclasses import dataclass
from statistics import fmean

from evaluation.ngrams import ngrams


@dataclass(frozen=True)
class Diversity:
    """How various captions are.

    Attributes:
        vocabulary: Different tokens.
        mean_length: Tokens a caption.
        distinct_1: Different tokens, as a share 0..1 of all (Li et al., 2016, arXiv 1510.03055, section 5.2).
        distinct_2: The same of the pairs of neighbours.
        different: Different captions, as a share 0..1 of all.
        most_frequent: How many captions are like the most frequent one.
        empty: How many captions have no token.
        never_seen: Share 0..1 of the captions that are none of the training captions; None without these.
    """

    vocabulary: int
    mean_length: float
    distinct_1: float
    distinct_2: float
    different: float
    most_frequent: int
    empty: int
    never_seen: float | None


def diversity(
    captions: Sequence[Sequence[Hashable]], training_captions: Collection[Sequence[Hashable]] = ()
) -> Diversity:
    """Count what captions are made of.

    Args:
        captions: The tokens of each; at least one caption.
        training_captions: The tokens of those that their writer learned from, if known.

    Raises:
        ValueError: There is no caption.
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
        never_seen=sum(caption not in seen for caption in whole) / len(whole) if seen else None,
    )


def _distinct(captions: Sequence[tuple[Hashable, ...]], order: int) -> float:
    found = [ngram for caption in captions for ngram in ngrams(caption, order)]
    return len(set(found)) / len(found) if found else 0.0
