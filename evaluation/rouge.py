"""ROUGE-L as the COCO caption evaluation computes it.

C.-Y. Lin, "ROUGE: A Package for Automatic Evaluation of Summaries", ACL 2004 workshop, section 3.1; X. Chen et al.,
"Microsoft COCO Captions", 2015, arXiv:1504.00325, section 3.3. As in the evaluation, the best precision and the best
recall over the references are combined, even if they come from different references.
"""

from collections.abc import Hashable, Sequence

from evaluation.image_scores import ImageScores

# Weight of recall relative to precision.
_BETA = 1.2


def rouge_l(
    candidates: Sequence[Sequence[Hashable]], references: Sequence[Sequence[Sequence[Hashable]]]
) -> ImageScores:
    """Score one candidate per image against the references of the image by ROUGE-L, in 0..1.

    Args:
        candidates: Tokens of the candidate of each image.
        references: Tokens of each reference of each image; at least one reference per image.

    Raises:
        ValueError: The arguments differ in length, or an image has no reference.
    """
    return ImageScores(tuple(_score(*pair) for pair in zip(candidates, references, strict=True)))


def _score(candidate: Sequence[Hashable], references: Sequence[Sequence[Hashable]]) -> float:
    common = [_longest_common_subsequence(candidate, reference) for reference in references]
    if max(common) == 0:
        return 0.0
    precision = max(common) / len(candidate)
    recall = max(length / len(reference) for length, reference in zip(common, references, strict=True) if length)
    return (1 + _BETA**2) * precision * recall / (recall + _BETA**2 * precision)


def _longest_common_subsequence(first: Sequence[Hashable], second: Sequence[Hashable]) -> int:
    """Return the length of the longest common subsequence, computing one row of the usual table at a time.

    H. Hyyro, "Bit-parallel LCS-length computation revisited", AWOCA 2004, section 3: bit j of `row` is 0 where the row
    of the table increases at token j of `second`, and one addition updates the whole row.
    """
    places: dict[Hashable, int] = {}
    for j, token in enumerate(second):
        places[token] = places.get(token, 0) | 1 << j
    row = whole = (1 << len(second)) - 1
    for token in first:
        matched = row & places.get(token, 0)
        row = (row + matched | row - matched) & whole
    return len(second) - row.bit_count()
