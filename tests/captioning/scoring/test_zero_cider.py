"""The note about a CIDEr of 0 comes exactly when no captions could score more."""

import pytest

from captioning.scoring.zero_cider import note_if_cider_is_zero
from evaluation.caption_scores import score_captions
from evaluation.cider import DocumentFrequencies


def words(*captions: str) -> list[list[str]]:
    return [caption.split() for caption in captions]


@pytest.mark.parametrize(
    ("references", "corpus", "expected"),
    [
        ([words("two cats sleep", "cats")], None, "in the only image and has the weight log(1/1) = 0"),
        ([words("a b c")] * 3, None, "in all 3 images and has the weight log(3/3) = 0"),
        ([words("a b"), words("b a")], None, None),
        # One image, scored with the frequencies of others, and the opposite.
        ([words("a b c")], [words("a b"), words("c d")], None),
        ([words("a b"), words("a")], [words("a b")], "in all images of --document-frequencies"),
    ],
)
def test_a_zero_by_definition_is_explained(
    references: list[list[list[str]]],
    corpus: list[list[list[str]]] | None,
    expected: str | None,
    capsys: pytest.CaptureFixture[str],
) -> None:
    frequencies = DocumentFrequencies(corpus) if corpus else None
    for candidates in (references, [words("none of them") for _ in references]):
        tokens = [captions[0] for captions in candidates]
        scores = score_captions(tokens, references, frequencies)
        note_if_cider_is_zero(scores, references, frequencies)
        printed = capsys.readouterr().err
        assert expected in printed if expected else printed == "", printed
        assert scores.cider == 0 or expected is None
