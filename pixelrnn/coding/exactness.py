"""Checks which image files a model can code without loss, and gives the reason for those that it cannot."""

from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np
from PIL import Image

from data_prep.images import ImageError, load_image, read_encoded, read_image, to_image
from pixelrnn.pixel_config import ImageShape
from vision_rnn.console import note, problem

# Formats for which Pillow shows whether a channel had more than 8 bits before the reduction to 8.
_FORMATS = frozenset({"BMP", "GIF", "JPEG", "PNG", "PPM", "TIFF", "WEBP"})
_MODES = frozenset({"1", "L", "P", "RGB"})
_ORIENTATION = 0x0112


def exact_or_converted(paths: Iterable[Path], shape: ImageShape, convert: bool) -> Iterator[Path]:
    """Yield the images that can be coded without loss; report the others, and yield them only if `convert` is set.

    Files that cannot be read are yielded too: the code that reads them reports them.

    Args:
        paths: Paths of image files.
        shape: Shape of the model's images.
        convert: Whether to accept images that lose information when they are converted.
    """
    converted: dict[str, list[Path]] = {}
    for path in paths:
        reason = loss(path, shape)
        if reason and not convert:
            problem(f"{path}: skipped, because coding it would not be lossless ({reason}); add --convert to convert it")
            continue
        if reason:
            converted.setdefault(reason, []).append(path)
        yield path
    for reason, of_reason in converted.items():
        note(f"images converted: {len(of_reason)}, such as {of_reason[0]} ({reason})")


def loss(path: Path, shape: ImageShape) -> str | None:
    """Return the reason why coding an image would lose information; None if it would not, or if it cannot be read.

    The size of the image is ignored. A grey image loses nothing if the model is for RGB images.

    Args:
        path: Path of the image file.
        shape: Shape of the model's images.
    """
    try:
        encoded = read_encoded(path)
        stored, levels = read_image(encoded, str(path), _loss_and_levels)
    except ImageError:
        try:
            load_image(path)
        except ImageError:
            return None
        return "parts of its file other than the pixels are broken"
    if stored:
        return stored
    if shape.channels == 1 and (levels != levels[..., :1]).any():
        return "it has colours, but the model is for grey images"
    if shape.levels == 2 and not np.isin(levels, (0, 255)).all():
        return "it has grey levels, but the model is for black and white images"
    return None


def _loss_and_levels(image: Image.Image) -> tuple[str | None, np.ndarray]:
    """Return the property of a file that 8-bit grey or RGB pixels cannot represent, and its pixels, (H, W, 3)."""
    stored = _loss_of_storage(image)
    image.load()
    # The EXIF of a PNG file may follow the pixels.
    if not stored and _orientation(image) != 1:
        stored = "it is stored rotated"
    return stored, np.asarray(to_image(image))


def _loss_of_storage(image: Image.Image) -> str | None:
    """Return such a property that is known before the pixels are decoded."""
    frames = getattr(image, "n_frames", 1)
    if frames > 1:
        return f"it has {frames} frames"
    if image.format not in _FORMATS:
        return f"its format, {image.format}, may have more than 8 bits per channel"
    if image.has_transparency_data:
        return "it has transparency"
    if image.mode not in _MODES or _bits(image) > 8:
        return f"it has more than 8 bits per channel, or is neither grey nor RGB (mode {image.mode})"
    return None


def _orientation(image: Image.Image) -> int:
    try:
        return image.getexif().get(_ORIENTATION, 1)
    except Exception:
        # As in `load_image`, broken metadata do not matter; their errors are as varied as those of the decoders.
        return 1


def _bits(image: Image.Image) -> int:
    """Return the bits per channel of the file, which Pillow silently reduces to 8 in some modes."""
    for tile in getattr(image, "tile", []):
        arguments = tile[3] if isinstance(tile[3], tuple) else (tile[3],)
        for argument in arguments:
            if (isinstance(argument, str) and ";16" in argument) or (isinstance(argument, int) and argument > 255):
                return 16
    return 8
