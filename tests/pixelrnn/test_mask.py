"""Masks by name and by picture, and the masks that are refused."""

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from pixelrnn.mask import NAMES, read_mask
from vision_rnn.errors import UserError

SIDES = st.integers(2, 40)


def picture(rows: list[str]) -> torch.Tensor:
    return torch.tensor([[cell == "#" for cell in row] for row in rows])


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("lower-half", ["....", "....", "....", "####", "####"]),
        ("upper-half", ["####", "####", "####", "....", "...."]),
        ("left-half", ["##..", "##..", "##..", "##..", "##.."]),
        ("right-half", ["..##", "..##", "..##", "..##", "..##"]),
        ("center", ["....", "....", ".##.", ".##.", "...."]),
    ],
)
def test_a_name_is_the_part_that_is_drawn(name: str, expected: list[str]) -> None:
    assert torch.equal(read_mask(name, 5, 4), picture(expected))


def test_the_center_is_half_of_each_side() -> None:
    expected = torch.zeros(28, 32, dtype=torch.bool)
    expected[7:21, 8:24] = True
    assert torch.equal(read_mask("center", 28, 32), expected)


@given(SIDES, SIDES)
def test_halves_make_up_the_image_without_overlap(height: int, width: int) -> None:
    for first, second in (("upper-half", "lower-half"), ("left-half", "right-half")):
        assert torch.equal(read_mask(first, height, width), ~read_mask(second, height, width))


@given(SIDES, SIDES, st.sampled_from(NAMES))
def test_every_name_suits_every_size(height: int, width: int, name: str) -> None:
    mask = read_mask(name, height, width)
    assert mask.shape == (height, width)
    assert 0 < mask.sum() < height * width


@pytest.mark.parametrize("mode", ["1", "L", "RGB", "RGBA", "P"])
def test_white_is_drawn_and_black_is_known(tmp_path: Path, mode: str) -> None:
    expected = torch.rand(6, 9, generator=torch.Generator().manual_seed(0)) < 0.5
    Image.fromarray(expected.numpy().astype(np.uint8) * 255).convert(mode).save(tmp_path / "mask.png")
    assert torch.equal(read_mask(tmp_path / "mask.png", 6, 9), expected)


@pytest.mark.parametrize(
    ("levels", "reason"),
    [
        (np.full((6, 9), 255), "masks all pixels"),
        (np.zeros((6, 9)), "masks no pixel"),
        (np.eye(6, 8) * 255, "has 6x8 pixels, but the model's images have 6x9"),
        (np.eye(6, 9) * 254, "has colours other than black and white"),
        (np.stack([np.eye(6, 9) * 255, np.zeros((6, 9)), np.zeros((6, 9))], axis=2), "has colours other than"),
    ],
)
def test_a_mask_that_makes_no_sense_is_refused(tmp_path: Path, levels: np.ndarray, reason: str) -> None:
    path = tmp_path / "mask.png"
    Image.fromarray(levels.astype(np.uint8)).save(path)
    with pytest.raises(UserError, match=reason) as refused:
        read_mask(path, 6, 9)
    assert str(refused.value).startswith(f"{path}: ")


@pytest.mark.parametrize("opacity", [0, 254, 255])
@pytest.mark.parametrize("mode", ["RGBA", "LA", "P"])
def test_a_transparent_pixel_is_neither_drawn_nor_known(tmp_path: Path, mode: str, opacity: int) -> None:
    mask = Image.new("LA", (9, 6), (0, 255))
    mask.paste((255, 255), (0, 3, 9, 6))
    mask.putpixel((0, 0), (0, opacity))
    mask.convert("RGBA").convert(mode).save(tmp_path / "mask.png")
    if opacity == 255:
        assert int(read_mask(tmp_path / "mask.png", 6, 9).sum()) == 27
        return
    with pytest.raises(UserError, match=r"mask\.png: has transparent pixels; make those to draw white"):
        read_mask(tmp_path / "mask.png", 6, 9)


def test_a_mask_with_much_text_is_read_as_an_image_is(tmp_path: Path) -> None:
    """Pillow refuses to open it, for its text alone."""
    text = PngInfo()
    text.add_text("Comment", "x" * 2_000_000, zip=True)
    Image.linear_gradient("L").point(lambda level: 255 * (level > 99)).save(tmp_path / "mask.png", pnginfo=text)
    with pytest.raises(ValueError, match="too large"), Image.open(tmp_path / "mask.png"):
        pass
    assert int(read_mask(tmp_path / "mask.png", 256, 256).sum()) == 256 * 156


def test_an_unknown_name_lists_the_known_ones() -> None:
    with pytest.raises(UserError, match="bottom: no such mask; give an image file or one of: lower-half, upper-half"):
        read_mask("bottom", 6, 9)


def test_a_mask_that_is_not_an_image_is_refused(tmp_path: Path) -> None:
    (tmp_path / "mask.png").write_text("white")
    with pytest.raises(UserError, match="not an image"):
        read_mask(tmp_path / "mask.png", 6, 9)


def test_one_pixel_has_no_mask() -> None:
    with pytest.raises(UserError, match="upper-half: masks all pixels"):
        read_mask("upper-half", 1, 1)
