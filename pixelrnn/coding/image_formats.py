"""Sizes of images in common lossless formats (PNG, WebP, JPEG XL), for comparison with a proved likelihood.

The headers of a file take about fifty bytes, more than the content of a small image. Each format is therefore measured
twice: with one file per image, and with all images tiled on sheets, which favours the format as much as possible.
"""

import io
import math
from collections.abc import Callable, Iterator

import numpy as np
import torch
from PIL import Image

from pixelrnn.pictures import image_of
from vision_rnn.console import Progress

# Largest width and height of a WebP file.
_LARGEST_SIDE = 16383

# Function of a picture (H, W, C) uint8 with values 0..levels-1, and of the number of levels.
_Encoder = Callable[[np.ndarray, int], bytes]


def format_sizes(pictures: np.ndarray, levels: int) -> dict[str, dict[str, int]]:
    """Measure pictures in every format at its strongest setting (JPEG XL: second strongest, as the last is very slow).

    Args:
        pictures: (N, H, W, C) uint8, values 0..levels-1; C is 1 (grey) or 3 (RGB).
        levels: Number of levels, 2 or 256.

    Returns:
        Total size in bytes for each format, as `files` and as `sheets`. JPEG XL is omitted if imagecodecs is not
        installed.
    """
    encoders = _encoders()
    sizes = {name: {"files": 0, "sheets": 0} for name in encoders}
    with Progress(len(pictures), "coding in other formats", "image") as progress:
        for picture in pictures:
            for name, encode in encoders.items():
                sizes[name]["files"] += len(encode(picture, levels))
            progress.update()
    for sheet in _sheets(pictures):
        for name, encode in encoders.items():
            sizes[name]["sheets"] += len(encode(sheet, levels))
    return sizes


def _encoders() -> dict[str, _Encoder]:
    encoders: dict[str, _Encoder] = {"PNG": _png, "WebP": _webp}
    try:
        from imagecodecs import jpegxl_encode
    except ImportError:
        return encoders

    def jpeg_xl(picture: np.ndarray, levels: int) -> bytes:
        bits = int(math.log2(levels))
        return bytes(jpegxl_encode(np.ascontiguousarray(picture), lossless=True, effort=9, bitspersample=bits))

    return {**encoders, "JPEG XL": jpeg_xl}


def _png(picture: np.ndarray, levels: int) -> bytes:
    image = _displayed(picture, levels)
    return _saved(image.convert("1") if levels == 2 and image.mode == "L" else image, format="PNG", optimize=True)


def _webp(picture: np.ndarray, levels: int) -> bytes:
    image = _displayed(picture, levels).convert("RGB")
    return _saved(image, format="WebP", lossless=True, quality=100, method=6)


def _displayed(picture: np.ndarray, levels: int) -> Image.Image:
    return image_of(torch.tensor(picture).movedim(-1, 0), levels)


def _saved(image: Image.Image, **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, **options)  # pyright: ignore[reportArgumentType]
    return buffer.getvalue()


def _sheets(pictures: np.ndarray) -> Iterator[np.ndarray]:
    """Tile (N, H, W, C) on sheets that are as square as possible; the rest of the last sheet is black."""
    number, height, width, channels = pictures.shape
    columns = min(math.ceil(math.sqrt(number)), _LARGEST_SIDE // width)
    room = columns * (_LARGEST_SIDE // height)
    for start in range(0, number, room):
        part = pictures[start : start + room]
        rows = math.ceil(len(part) / columns)
        sheet = np.zeros((rows * columns, height, width, channels), np.uint8)
        sheet[: len(part)] = part
        in_rows = sheet.reshape(rows, columns, height, width, channels).swapaxes(1, 2)
        yield in_rows.reshape(rows * height, columns * width, channels)
