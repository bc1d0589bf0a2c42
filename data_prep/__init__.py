"""Preparation of captioned images and of pixels: a source in a known format becomes a self-contained data set."""

from typing import TYPE_CHECKING

from vision_rnn import __version__
from vision_rnn.lazy import lazy_attributes

if TYPE_CHECKING:
    from data_prep.captions import prepare_captions as prepare_captions
    from data_prep.pixels import prepare_pixels as prepare_pixels
    from data_prep.prepared_captions import PreparedCaptions as PreparedCaptions
    from data_prep.prepared_pixels import PreparedPixels as PreparedPixels
    from data_prep.tokenizer import tokenize as tokenize

__all__ = ["PreparedCaptions", "PreparedPixels", "__version__", "prepare_captions", "prepare_pixels", "tokenize"]

__getattr__ = lazy_attributes(
    __name__,
    {
        "PreparedCaptions": "data_prep.prepared_captions",
        "PreparedPixels": "data_prep.prepared_pixels",
        "prepare_captions": "data_prep.captions",
        "prepare_pixels": "data_prep.pixels",
        "tokenize": "data_prep.tokenizer",
    },
)
