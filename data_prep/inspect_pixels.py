"""Summary of a prepared pixel data set: statistics and a contact sheet."""

from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageDraw

from data_prep.prepared_pixels import PixelSplit, PreparedPixels
from vision_rnn.errors import UserError
from vision_rnn.files import atomic_path

SHEET_COLUMNS, SHEET_ROWS = 10, 4
CELL_PIXELS = 80
GAP = 2
TITLE_PIXELS = 16


def summarize(prepared: PreparedPixels) -> dict[str, Any]:
    """Count images and classes, and compute statistics of the pixels.

    Returns:
        `splits`: for each split `images`, `mean` (over all pixels, 0..levels-1; for binary images the share of ones),
        `min`, `max`, and `images_per_class` (one count per class; None without labels); `height`, `width`, `channels`,
        `levels`, `binarization`, `num_classes`, `source`, `format`, `left_out`, `in_several_splits` and `content_hash`
        as in the manifest.
    """
    kept = ("source", "format", "height", "width", "channels", "levels", "binarization", "num_classes")
    kept += ("left_out", "in_several_splits", "content_hash")
    splits = {
        split: _summarize_split(prepared.split(split), prepared.num_classes) for split in prepared.manifest["splits"]
    }
    return {"splits": splits, **{key: prepared.manifest[key] for key in kept}}


def _summarize_split(split: PixelSplit, num_classes: int) -> dict[str, Any]:
    labels = split.labels
    return {
        "images": len(split.pixels),
        "mean": round(float(split.pixels.mean()), 4),
        "min": int(split.pixels.min()),
        "max": int(split.pixels.max()),
        "images_per_class": None if labels is None else np.bincount(labels, minlength=num_classes).tolist(),
    }


def describe(summary: dict[str, Any]) -> str:
    """Format the result of `summarize` as lines of text."""
    mean = "ones" if summary["levels"] == 2 else "mean"
    lines = [f"source      {summary['source']} ({summary['format']})"]
    lines += [f"content     {summary['content_hash']}"]
    lines += [f"images      {summary['height']}x{summary['width']}, channels: {summary['channels']}"]
    lines += [f"levels      {summary['levels']}, binarization: {summary['binarization']}"]
    lines += [f"{'split':<12}{'images':>8}{mean:>10}{'min':>5}{'max':>5}  images per class"]
    for split, counts in summary["splits"].items():
        measured = f"{counts['mean']:.2%}" if summary["levels"] == 2 else f"{counts['mean']:.2f}"
        of_classes = counts["images_per_class"]
        lines += [
            f"{split:<12}{counts['images']:>8}{measured:>10}{counts['min']:>5}{counts['max']:>5}  "
            + ("no labels" if of_classes is None else " ".join(map(str, of_classes)))
        ]
    lines += [f"in several splits: {summary['in_several_splits']} images"] if summary["in_several_splits"] else []
    lines += [f"skipped     {entry['name']}: {entry['reason']}" for entry in summary["left_out"]]
    return "\n".join(lines)


def write_contact_sheet(prepared: PreparedPixels, target: Path, seed: int = 0) -> None:
    """Draw random images of every split into a PNG file, with every pixel enlarged.

    Raises:
        UserError: `target` cannot be written, or does not end in `.png`.
    """
    if target.suffix.lower() != ".png":
        raise UserError(f"{target}: the contact sheet is a PNG file; end its name in .png")
    scale = max(1, CELL_PIXELS // max(prepared.height, prepared.width))
    generator = np.random.default_rng(seed)
    blocks = []
    for split in prepared.manifest["splits"]:
        pixels = prepared.split(split).pixels
        chosen = generator.choice(len(pixels), min(len(pixels), SHEET_COLUMNS * SHEET_ROWS), replace=False)
        grid = _grid(pixels[chosen] * np.uint8(255 // (prepared.levels - 1)), scale)
        blocks += [_title(split, grid.shape[1]), grid]
    with atomic_path(target) as staged:
        Image.fromarray(np.concatenate(blocks)).save(staged)


def _grid(images: np.ndarray, scale: int) -> np.ndarray:
    """Arrange images (N, H, W, C) in rows of SHEET_COLUMNS, each pixel scale x scale large; empty cells are white.

    Returns:
        (height, width, 3) uint8.
    """
    enlarged = images.repeat(scale, axis=1).repeat(scale, axis=2)
    count, height, width, _ = enlarged.shape
    num_rows = -(-count // SHEET_COLUMNS)
    sheet = np.full((num_rows * (height + GAP), SHEET_COLUMNS * (width + GAP), 3), 255, np.uint8)
    for index, image in enumerate(enlarged):
        top, left = index // SHEET_COLUMNS * (height + GAP), index % SHEET_COLUMNS * (width + GAP)
        sheet[top : top + height, left : left + width] = image
    return sheet


def _title(split: str, width: int) -> np.ndarray:
    title = Image.new("RGB", (width, TITLE_PIXELS), "white")
    ImageDraw.Draw(title).text((2, 2), split, fill="black")
    return np.asarray(title)
