"""Image captioning: a CNN encoder with an attention-based LSTM decoder."""

from typing import TYPE_CHECKING

from vision_rnn import __version__
from vision_rnn.lazy import lazy_attributes

if TYPE_CHECKING:
    from captioning.caption_generator import Caption as Caption
    from captioning.captioner import Captioner as Captioner
    from captioning.captioner_config import SearchConfig as SearchConfig
    from captioning.loading import load_captioner as load_captioner

__all__ = ["Caption", "Captioner", "SearchConfig", "__version__", "load_captioner"]

__getattr__ = lazy_attributes(
    __name__,
    {
        "Caption": "captioning.caption_generator",
        "Captioner": "captioning.captioner",
        "SearchConfig": "captioning.captioner_config",
        "load_captioner": "captioning.loading",
    },
)
