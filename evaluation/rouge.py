"""ROUGE-L as the COCO caption evaluation computes it.

C.-Y. Lin, "ROUGE: A Package for Automatic Evaluation of Summaries", ACL 2004 workshop, section 3.1; X. Chen et al.,
"Microsoft COCO Captions", 2015, arXiv:1504.00325, section 3.3. As there, the best precision and the best recall over
the references are combined, even where they come from two references.
"""

from collections.abc import Hashable, Sequence

from evaluation.image_scores import ImageScores

# Recall weighs this many times as much as precision.
_BETA = 1.2


def rouge_l(
    candidates: Sequence[Sequence[Hashable]], references: Sequence[Sequence[Sequence[Hashable]]]
) -> ImageScores:
    """Score one candidate an image against the image's references: ROUGE-L, in 0..1.

    Args:
        candidates: The tokens of each image's candidate.
        references: For each image, the tokens of its references; at least one.

    Raises:
        ValueError: The two differ in length, or an image has no reference.
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
    """Return the length of the longest common subsequence, a row of the usual table at once.

    H. Hyyro, "Bit-parallel LCS-length computation revisited", AWOCA 2004, section 3: bit j of `row` is 0 where the row
    of the table rises at the token j of `second`, and an addition carries all rises along.
    """
    places: dict[Hashable, int] = {}
    for j, token in enumerate(second):
        places[token] = places.get(token, 0) | 1 << j
    row = whole = (1 << len(second)) - 1
    for token in first:
        matched = row & places.get(token, 0)
        row = (row + matched | row - matched) & whole
    return len(second) - row.bit_count()
