"""Sizes in common formats: of files that hold exactly the same images."""

import io
import sys

import numpy as np
import pytest
from PIL import Image

from pixelrnn.coding import image_formats
from pixelrnn.coding.image_formats import _encoders, _sheets, format_sizes

imagecodecs = pytest.importorskip("imagecodecs", reason="imagecodecs, which codes JPEG XL, is not installed")


@pytest.mark.parametrize(("channels", "levels"), [(1, 2), (1, 256), (3, 256)])
@pytest.mark.parametrize("name", ["PNG", "WebP", "JPEG XL"])
def test_every_format_is_lossless(name: str, channels: int, levels: int) -> None:
    picture = np.random.default_rng(0).integers(levels, size=(9, 13, channels), dtype=np.uint8)
    content = _encoders()[name](picture, levels)
    if name == "JPEG XL":
        found = imagecodecs.jpegxl_decode(content).reshape(picture.shape)
    else:
        mode = "L" if channels == 1 else "RGB"
        decoded = np.asarray(Image.open(io.BytesIO(content)).convert(mode)).reshape(picture.shape)
        found = decoded // (255 // (levels - 1))
    np.testing.assert_array_equal(found, picture)


def test_sheets_hold_every_image_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(image_formats, "_LARGEST_SIDE", 10)
    pictures = np.random.default_rng(0).integers(1, 256, size=(17, 3, 2, 1), dtype=np.uint8)
    sheets = list(_sheets(pictures))
    assert [sheet.shape for sheet in sheets] == [(9, 10, 1), (3, 10, 1)]
    cells = [sheet[y : y + 3, x : x + 2] for sheet in sheets for y in range(0, len(sheet), 3) for x in range(0, 10, 2)]
    np.testing.assert_array_equal(cells[:17], pictures)
    assert not np.any(cells[17:])


def test_sizes_are_those_of_the_files() -> None:
    images = np.random.default_rng(0).integers(2, size=(5, 7, 6, 1), dtype=np.uint8)
    sizes = format_sizes(images, 2)
    assert list(sizes) == ["PNG", "WebP", "JPEG XL"]
    for name, encode in _encoders().items():
        assert sizes[name]["files"] == sum(len(encode(image, 2)) for image in images)
        assert 0 < sizes[name]["sheets"] < sizes[name]["files"]


def test_without_imagecodecs_jpeg_xl_is_omitted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "imagecodecs", None)
    assert list(format_sizes(np.zeros((1, 2, 2, 1), np.uint8), 2)) == ["PNG", "WebP"]
