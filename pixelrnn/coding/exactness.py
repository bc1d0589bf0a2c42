"""Which image files a model can code without loss, and why the others would not come back as they are."""

from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np
from PIL import Image

from data_prep.images import ImageError, load_image
from pixelrnn.pixel_config import ImageShape
from vision_rnn.console import note, problem

# Of other formats Pillow does not tell how many bits a channel had before it was reduced to 8.
_FORMATS = frozenset({"BMP", "GIF", "JPEG", "PNG", "PPM", "TIFF", "WEBP"})
_MODES = frozenset({"1", "L", "P", "RGB"})
_ORIENTATION = 0x0112


def exact_or_converted(paths: Iterable[Path], shape: ImageShape, convert: bool) -> Iterator[Path]:
    """Yield the images that come back exactly; name the others, and yield them too if they may be converted.

    What cannot be read is yielded, for who reads it to name.

    Args:
        paths: Image files.
        shape: The model's images.
        convert: Whether images may be converted.
    """
    for path in paths:
        reason = loss(path, shape)
        if reason and not convert:
            problem(f"{path}: skipped, as it would not come back exactly ({reason}); add --convert to convert it")
            continue
        if reason:
            note(f"{path}: converted ({reason})")
        yield path


def loss(path: Path, shape: ImageShape) -> str | None:
    """Return what coding an image would lose of its pixels; None if nothing, or if the file cannot be read.

    Its size is not considered. A grey image for a model of RGB images loses nothing.

    Args:
        path: The file.
        shape: The model's images.
    """
    try:
        with Image.open(path) as image:
            stored = _loss_of_storage(image)
        levels = None if stored else np.asarray(load_image(path))
    except (ImageError, OSError, SyntaxError, ValueError, Image.DecompressionBombError):
        return None
    if levels is None:
        return stored
    if shape.channels == 1 and (levels != levels[..., :1]).any():
        return "it has colours, and the model is of grey images"
    if shape.levels == 2 and not np.isin(levels, (0, 255)).all():
        return "it has grey levels, and the model is of black and white images"
    return None


def _loss_of_storage(image: Image.Image) -> str | None:
    """Return what the file has beyond 8 bits of grey or RGB, before the pixels are decoded."""
    frames = getattr(image, "n_frames", 1)
    if frames > 1:
        return f"it has {frames} frames"
    if image.format not in _FORMATS:
        return f"its format, {image.format}, may have more than 8 bits per channel"
    if image.has_transparency_data:
        return "it has transparency"
    if image.mode not in _MODES or _bits(image) > 8:
        return f"it has more than 8 bits per channel, or is neither grey nor RGB (mode {image.mode})"
    if image.getexif().get(_ORIENTATION, 1) != 1:
        return "it is stored rotated"
    return None


def _bits(image: Image.Image) -> int:
    """Return the bits per channel of the file, which Pillow reduces to 8 in some modes without a word."""
    for tile in getattr(image, "tile", []):
        arguments = tile[3] if isinstance(tile[3], tuple) else (tile[3],)
        for argument in arguments:
            if (isinstance(argument, str) and ";16" in argument) or (isinstance(argument, int) and argument > 255):
                return 16
    return 8
