"""Pictures: every pixel is in its place, and the table of completions has the known and drawn pixels and the mean."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from data_prep.images import load_image
from pixelrnn.model import PixelModel
from pixelrnn.pictures import (
    GAP,
    MASK_COLOUR,
    SEPARATOR_COLOUR,
    TITLE_PIXELS,
    CompletionRow,
    cell_scale,
    completion_picture,
    coverage_picture,
    grid_image,
)
from pixelrnn.studies.causality import Certificate, certify
from vision_rnn.errors import UserError

LEAK = (224, 0, 43)


def random_pixels(*size: int, levels: int) -> torch.Tensor:
    return torch.randint(levels, size, generator=torch.Generator().manual_seed(0)).to(torch.uint8)


def cells(sheet: np.ndarray, height: int, width: int, scale: int) -> np.ndarray:
    """Split a sheet into its cells, (rows, columns, H, W, 3), one pixel per square; check that squares are uniform."""
    down, right = height * scale + GAP, width * scale + GAP
    rows, columns = (sheet.shape[0] - GAP) // down, (sheet.shape[1] - GAP) // right
    assert sheet.shape == (rows * down + GAP, columns * right + GAP, 3)
    found = np.empty((rows, columns, height, width, 3), np.uint8)
    for row in range(rows):
        for column in range(columns):
            top, left = row * down + GAP, column * right + GAP
            cell = sheet[top : top + height * scale, left : left + width * scale]
            found[row, column] = cell[::scale, ::scale]
            assert np.array_equal(cell, found[row, column].repeat(scale, axis=0).repeat(scale, axis=1))
    return found


@given(
    st.integers(1, 7),
    st.integers(1, 5),
    st.integers(1, 5),
    st.integers(1, 4),
    st.integers(1, 3),
    st.sampled_from([1, 3]),
    st.sampled_from([2, 256]),
)
def test_a_grid_holds_every_pixel(
    number: int, height: int, width: int, columns: int, scale: int, channels: int, levels: int
) -> None:
    pixels = random_pixels(number, channels, height, width, levels=levels)
    sheet = np.asarray(grid_image(pixels, levels, columns, scale))
    found = cells(sheet, height, width, scale).reshape(-1, height, width, 3)
    expected = pixels.permute(0, 2, 3, 1).expand(-1, -1, -1, 3).numpy() * (255 if levels == 2 else 1)
    assert np.array_equal(found[:number], expected)
    assert (found[number:] == SEPARATOR_COLOUR).all()
    assert (sheet[:GAP] == SEPARATOR_COLOUR).all()
    assert (sheet[:, -GAP:] == SEPARATOR_COLOUR).all()


@pytest.mark.parametrize(("channels", "levels"), [(1, 2), (1, 256), (3, 256)])
def test_a_row_is_original_given_samples_and_mean(tmp_path: Path, channels: int, levels: int) -> None:
    height, width = 5, 6
    originals = random_pixels(2, channels, height, width, levels=levels)
    samples = random_pixels(2, 4, channels, height, width, levels=levels)
    mask = torch.arange(height * width).view(height, width) % 3 == 0
    rows = [CompletionRow(original, drawn) for original, drawn in zip(originals, samples, strict=True)]
    completion_picture(rows, mask, levels, tmp_path / "out.png")

    picture = np.asarray(load_image(tmp_path / "out.png"))
    found = cells(picture[TITLE_PIXELS:], height, width, cell_scale(height, width)).astype(float)
    assert found.shape[:2] == (2, 1 + 1 + 4 + 1)
    scaled = originals.permute(0, 2, 3, 1).expand(-1, -1, -1, 3).numpy() * (255 if levels == 2 else 1)
    assert np.array_equal(found[:, 0], scaled)
    assert np.array_equal(found[:, 1][:, ~mask.numpy()], scaled[:, ~mask.numpy()])
    assert (found[:, 1][:, mask.numpy()] == MASK_COLOUR).all()
    drawn = samples.permute(0, 1, 3, 4, 2).expand(-1, -1, -1, -1, 3).numpy() * (255.0 if levels == 2 else 1)
    assert np.array_equal(found[:, 2:6], drawn)
    np.testing.assert_allclose(found[:, 6], drawn.mean(axis=1), atol=0.5)
    assert (picture[:TITLE_PIXELS] < 100).any()  # There are titles.


def test_a_picture_that_cannot_be_written_is_refused(tmp_path: Path) -> None:
    (tmp_path / "out.png").mkdir()
    row = CompletionRow(torch.zeros(1, 2, 2, dtype=torch.uint8), torch.zeros(1, 1, 2, 2, dtype=torch.uint8))
    with pytest.raises(UserError, match="cannot be written"):
        completion_picture([row], torch.eye(2).bool(), 2, tmp_path / "out.png")


@pytest.mark.parametrize(("height", "width", "channels"), [(4, 6, 1), (1, 1, 1), (3, 2, 3)])
def test_coverage_is_drawn_and_a_leak_is_marked(
    tmp_path: Path, make_model: Callable[..., PixelModel], height: int, width: int, channels: int
) -> None:
    certificate = certify(make_model(height, width, channels, levels=256))
    leaking = Certificate(certificate.sees.clone(), certificate.past)
    leaking.sees[height // 2, 0, 0, height - 1, width - 1, 0] = True
    marked = []
    for found in (certificate, leaking):
        coverage_picture(found, tmp_path / "coverage.png")
        picture = np.asarray(Image.open(tmp_path / "coverage.png").convert("RGB"))
        marked.append(int((picture == LEAK).all(axis=2).sum()))
    # Without a leak, the colour is only in the legend.
    assert 0 < marked[0] < marked[1] - 100
