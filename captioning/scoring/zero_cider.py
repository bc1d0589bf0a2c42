"""An explanation of CIDEr scores that are 0 by definition, not because of the captions."""

from collections.abc import Hashable, Sequence

from evaluation.caption_scores import CaptionScores
from evaluation.cider import DocumentFrequencies
from vision_rnn.console import note


def note_if_cider_is_zero(
    scores: CaptionScores,
    references: Sequence[Sequence[Sequence[Hashable]]],
    frequencies: DocumentFrequencies | None = None,
) -> None:
    """Print why CIDEr is 0 if it would be 0 for any captions.

    Args:
        scores: The scores.
        references: Tokens of each reference of each image.
        frequencies: Document frequencies, if they are not those of `references`.
    """
    # One score above 0 needs one weight above 0; counting again is slow.
    if scores.cider > 0 or not (frequencies or DocumentFrequencies(references)).all_zero(references):
        return
    if frequencies:
        reason = "every n-gram of the references occurs in all images of --document-frequencies; choose another corpus"
    else:
        images = scores.num_images
        where = "in the only image" if images == 1 else f"in all {images} images"
        reason = (
            f"every n-gram of the references occurs {where} and has the weight log({images}/{images}) = 0; score more "
            "images, or count in other captions with captioning score --document-frequencies"
        )
    note(f"CIDEr-D and CIDEr are 0 for any captions: {reason}")
