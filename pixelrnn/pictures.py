"""Pictures of the images that a pixel model draws, with a square per pixel, and of its field of view."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image, ImageDraw
from torch import Tensor

from vision_rnn.files import atomic_path

if TYPE_CHECKING:
    from pixelrnn.studies.causality import Certificate

GAP = 2
MASK_COLOUR = (160, 200, 240)
SEPARATOR_COLOUR = (112, 112, 112)
TITLE_PIXELS = 16
_CELL_PIXELS = 84
_DOTS_PER_INCH = 110
_KINDS = {
    "seen": "#4c9f70",
    "seen by some channels": "#b5d99c",
    "not seen": "#edae49",
    "not in the past": "#e4e4e4",
    "the pixel itself": "black",
    "leak": "#e0002b",
}


@dataclass(frozen=True)
class CompletionRow:
    """One image with its completions.

    Attributes:
        original: (C, H, W) uint8, values 0..levels-1.
        samples: (S, C, H, W) uint8, values 0..levels-1.
    """

    original: Tensor
    samples: Tensor


def image_of(pixels: Tensor, levels: int) -> Image.Image:
    """Return one image as a grey or RGB picture of the same size.

    Args:
        pixels: (C, H, W) uint8, values 0..levels-1; C is 1 (grey) or 3 (RGB).
        levels: Number of levels, 2 or 256.
    """
    displayed = pixels.permute(1, 2, 0).numpy() * np.uint8(255 // (levels - 1))
    return Image.fromarray(displayed[..., 0] if len(pixels) == 1 else displayed)


def grid_image(pixels: Tensor, levels: int, columns: int, scale: int) -> Image.Image:
    """Arrange images in a grid, row by row, with thin lines between them.

    Args:
        pixels: (N, C, H, W) uint8, values 0..levels-1; C is 1 (grey) or 3 (RGB).
        levels: Number of levels, 2 or 256.
        columns: Number of images per row.
        scale: Side of the square drawn for a pixel, in pixels of the picture.

    Returns:
        RGB picture, `columns` images wide even if there are fewer images.
    """
    return _tiled(_displayed(pixels.numpy(), levels), columns, scale)


def cell_scale(height: int, width: int) -> int:
    """Return the `scale` at which an image of this size in pixels fills a cell of the grid."""
    return max(1, _CELL_PIXELS // max(height, width))


def completion_picture(rows: Sequence[CompletionRow], mask: Tensor, levels: int, path: str | Path) -> None:
    """Write the picture of `completion_image`.

    Args:
        rows: One or more rows, all with the same number of samples.
        mask: (H, W) bool, True where pixels were drawn.
        levels: Number of levels, 2 or 256.
        path: Path of the picture, whose suffix sets the format; an existing file is overwritten.

    Raises:
        UserError: The picture cannot be written.
    """
    save_picture(completion_image(rows, mask, levels), path)


def completion_image(rows: Sequence[CompletionRow], mask: Tensor, levels: int) -> Image.Image:
    """Draw one row per image: the original, the known pixels, the completions and their mean.

    Args:
        rows: One or more rows, all with the same number of samples.
        mask: (H, W) bool, True where pixels were drawn; these have a flat colour in the second column.
        levels: Number of levels, 2 or 256.
    """
    cells = []
    for row in rows:
        original = _displayed(row.original[None].numpy(), levels)
        samples = _displayed(row.samples.numpy(), levels)
        mean = np.rint(samples.mean(axis=0, keepdims=True)).astype(np.uint8)
        given = original.copy()
        given[:, mask.numpy()] = MASK_COLOUR
        cells += [original, given, samples, mean]
    height, width = mask.shape
    titles = ["original", "given", *(f"sample {number + 1}" for number in range(len(rows[0].samples))), "mean"]
    scale = cell_scale(height, width)
    table = _tiled(np.concatenate(cells), len(titles), scale)
    picture = Image.new("RGB", (table.width, table.height + TITLE_PIXELS), "white")
    picture.paste(table, (0, TITLE_PIXELS))
    for column, title in enumerate(titles):
        # A separate picture clips titles that are wider than the column.
        label = Image.new("RGB", (width * scale, TITLE_PIXELS), "white")
        ImageDraw.Draw(label).text((0, 1), title, fill="black")
        picture.paste(label, (GAP + column * (width * scale + GAP), 0))
    return picture


def coverage_picture(certificate: "Certificate", path: str | Path) -> None:
    """Draw how often each pixel is not seen, and the fields of view of three pixels: left, middle and right.

    Args:
        certificate: Result of `certify`.
        path: Path of the picture, whose suffix sets the format; an existing file is overwritten.

    Raises:
        UserError: The picture cannot be written.
    """
    # Figure without pyplot: no GUI backend is selected, and no global state is left behind.
    from matplotlib.colors import ListedColormap
    from matplotlib.figure import Figure
    from matplotlib.patches import Patch

    height, width = certificate.sees.shape[:2]
    figure = Figure((14, 4.2), layout="compressed")
    figure.suptitle(
        f"The model sees {certificate.seen_pairs:,} of {certificate.past_pairs:,} pairs of an output and an earlier "
        f"input ({certificate.coverage:.2%}); {certificate.num_leaks:,} leaks"
    )
    missed, *views = figure.subplots(1, 4)
    missed.set_title("later pixels that do not see it")
    heat = missed.imshow(100 * certificate.missed.numpy(), cmap="viridis", vmin=0, vmax=100)
    figure.colorbar(heat, ax=missed, format="%d%%", shrink=0.7)
    row = height // 2
    for panel, column in zip(views, (0, width // 2, width - 1), strict=True):
        panel.set_title(f"what pixel ({row}, {column}) sees")
        panel.imshow(_kinds(certificate, row, column), cmap=ListedColormap([*_KINDS.values()]), vmin=0, vmax=5)
    for panel in (missed, *views):
        panel.set_xticks([])
        panel.set_yticks([])
    legend = [Patch(facecolor=colour, label=kind) for kind, colour in _KINDS.items()]
    figure.legend(handles=legend, loc="outside lower center", ncols=len(legend))
    with atomic_path(path) as staged:
        figure.savefig(staged, dpi=_DOTS_PER_INCH)


def _kinds(certificate: "Certificate", row: int, column: int) -> np.ndarray:
    """Return the index in `_KINDS` of each input pixel (H, W) for the output pixel at (row, column)."""
    view = certificate.field_of_view(row, column)
    kinds = np.where(view.isnan(), 3, np.where(view == 1, 0, np.where(view > 0, 1, 2)))
    kinds[row, column] = 4
    leaks = certificate.sees & ~certificate.past
    kinds[leaks[row, column].any(dim=3).any(dim=0).numpy()] = 5
    return kinds


def heat_image(values: np.ndarray, top: float) -> Image.Image:
    """Colour a map (H, W) from dark at 0 to the brightest colour at `top` and above."""
    from matplotlib import colormaps

    coloured = colormaps["viridis"](np.clip(values / top, 0, 1), bytes=True)
    return Image.fromarray(coloured[..., :3])


def save_picture(picture: Image.Image, path: str | Path) -> None:
    """Write a picture atomically, in the format of the path's suffix.

    Raises:
        UserError: The picture cannot be written.
    """
    with atomic_path(path) as staged:
        picture.save(staged)


def _displayed(pixels: np.ndarray, levels: int) -> np.ndarray:
    """Scale images (N, C, H, W) from 0..levels-1 to 0..255, as (N, H, W, 3) uint8."""
    scaled = np.rint(pixels.transpose(0, 2, 3, 1) * (255 / (levels - 1))).astype(np.uint8)
    return np.broadcast_to(scaled, (*scaled.shape[:3], 3))


def _tiled(images: np.ndarray, columns: int, scale: int) -> Image.Image:
    """Arrange images (N, H, W, 3) uint8 in rows of `columns`, with scale x scale pixels for each pixel."""
    count, height, width, _ = images.shape
    enlarged = images.repeat(scale, axis=1).repeat(scale, axis=2)
    down, right = height * scale + GAP, width * scale + GAP
    sheet = np.empty((-(-count // columns) * down + GAP, columns * right + GAP, 3), np.uint8)
    sheet[:] = SEPARATOR_COLOUR
    for index, image in enumerate(enlarged):
        top, left = GAP + index // columns * down, GAP + index % columns * right
        sheet[top : top + height * scale, left : left + width * scale] = image
    return Image.fromarray(sheet)
