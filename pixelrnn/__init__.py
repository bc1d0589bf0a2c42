"""Pixel prediction with row-wise deep recurrent networks and exact likelihoods."""

from typing import TYPE_CHECKING

from vision_rnn import __version__
from vision_rnn.lazy import lazy_attributes

if TYPE_CHECKING:
    from pixelrnn.completion import complete as complete
    from pixelrnn.completion import sample as sample
    from pixelrnn.model import PixelModel as PixelModel
    from pixelrnn.model import PixelNetwork as PixelNetwork
    from pixelrnn.model import load_pixel_model as load_pixel_model

__all__ = ["PixelModel", "PixelNetwork", "__version__", "complete", "load_pixel_model", "sample"]

__getattr__ = lazy_attributes(
    __name__,
    {
        "PixelModel": "pixelrnn.model",
        "PixelNetwork": "pixelrnn.model",
        "complete": "pixelrnn.completion",
        "load_pixel_model": "pixelrnn.model",
        "sample": "pixelrnn.completion",
    },
)
