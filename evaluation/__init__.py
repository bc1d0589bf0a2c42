"""Scores of captions and likelihoods of images, as pure functions of tokens and numbers."""

from typing import TYPE_CHECKING

from vision_rnn import __version__
from vision_rnn.lazy import lazy_attributes

if TYPE_CHECKING:
    from evaluation.caption_scores import CaptionScores as CaptionScores
    from evaluation.caption_scores import score_captions as score_captions
    from evaluation.likelihood import summarize_likelihood as summarize_likelihood

__all__ = ["CaptionScores", "__version__", "score_captions", "summarize_likelihood"]

__getattr__ = lazy_attributes(
    __name__,
    {
        "CaptionScores": "evaluation.caption_scores",
        "score_captions": "evaluation.caption_scores",
        "summarize_likelihood": "evaluation.likelihood",
    },
)
