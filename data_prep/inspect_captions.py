"""Summary of a prepared caption data set: statistics and a contact sheet."""

import math
import random
import textwrap
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from data_prep.images import load_image
from data_prep.prepared_captions import PreparedCaptions, images_by_source
from vision_rnn.errors import UserError
from vision_rnn.files import atomic_path

if TYPE_CHECKING:
    from matplotlib.axes import Axes

SHEET_CELLS, SHEET_COLUMNS = 20, 5
CELL_INCHES = (2.7, 3.3)
SHEET_DPI = 110
CAPTION_WIDTH = 36


def summarize(prepared: PreparedCaptions) -> dict[str, Any]:
    """Count images, captions and words.

    Returns:
        `splits`: for each split `images`, `captions`, `caption_tokens` (mean, min, median, percentile_95 and max of
        the number of tokens per caption) and `coverage` (share of the running tokens in the vocabulary, 0..1);
        `vocabulary`: `size` (special tokens included) and `min_count`; `left_out`, `without_split` and `content_hash`
        as in the manifest, and `sources` if there are several.
    """
    splits = {split: _summarize_split(prepared, split) for split in prepared.manifest["splits"]}
    kept = ("source", "format", "vocabulary", "left_out", "without_split", "content_hash", "sources")
    return {"splits": splits, **{key: prepared.manifest[key] for key in kept if key in prepared.manifest}}


def _summarize_split(prepared: PreparedCaptions, split: str) -> dict[str, Any]:
    rows = prepared.split(split)
    token_lists = [tokens for of_image in rows["tokens"] for tokens in of_image]
    lengths = np.array([len(tokens) for tokens in token_lists])
    return {
        "images": len(rows),
        "captions": len(token_lists),
        "caption_tokens": {
            "mean": round(float(lengths.mean()), 2),
            "min": int(lengths.min()),
            "median": float(np.median(lengths)),
            "percentile_95": float(np.percentile(lengths, 95)),
            "max": int(lengths.max()),
        },
        "coverage": round(prepared.vocabulary.coverage(token_lists), 4),
    }


def describe(summary: dict[str, Any]) -> str:
    """Format the result of `summarize` as lines of text."""
    lines = [f"source      {summary['source']} ({summary['format']})"]
    lines += [f"content     {summary['content_hash']}"]
    vocabulary = summary["vocabulary"]
    lines += [f"vocabulary  {vocabulary['size']} tokens (words that occur at least {vocabulary['min_count']} times)"]
    lines += [f"{'split':<12}{'images':>8}{'captions':>10}  tokens: mean  min  median  95 %  max   known"]
    for split, counts in summary["splits"].items():
        length = counts["caption_tokens"]
        lines += [
            f"{split:<12}{counts['images']:>8}{counts['captions']:>10}{length['mean']:>14.2f}{length['min']:>5}"
            f"{length['median']:>8g}{length['percentile_95']:>6g}{length['max']:>5}{counts['coverage']:>8.2%}"
        ]
    if "sources" in summary:
        lines += [f"{split:<12}{images_by_source(summary, split)}" for split in summary["splits"]]
    lines += [f"no split    {summary['without_split']} images"] if summary["without_split"] else []
    lines += [f"skipped     {entry['name']}: {entry['reason']}" for entry in summary["left_out"]]
    return "\n".join(lines)


def write_contact_sheet(prepared: PreparedCaptions, target: Path, seed: int = 0) -> None:
    """Draw random images of all splits into a PNG file, each with its split and first caption.

    Raises:
        UserError: `target` cannot be written, or does not end in `.png`.
    """
    if target.suffix.lower() != ".png":
        raise UserError(f"{target}: the contact sheet is a PNG file; end its name in .png")
    from matplotlib.figure import Figure

    splits = {split: prepared.split(split) for split in prepared.manifest["splits"]}
    places = [(split, index) for split, rows in splits.items() for index in range(len(rows))]
    chosen = random.Random(seed).sample(places, min(len(places), SHEET_CELLS))
    num_rows = math.ceil(len(chosen) / SHEET_COLUMNS)
    figure = Figure(figsize=(SHEET_COLUMNS * CELL_INCHES[0], num_rows * CELL_INCHES[1]))
    grid = {"left": 0.01, "right": 0.99, "bottom": 0.25 / num_rows, "top": 1 - 0.02 / num_rows, "hspace": 0.32}
    cells = figure.subplots(num_rows, SHEET_COLUMNS, squeeze=False, gridspec_kw=grid)
    for cell in cells.flat:
        cell.axis("off")
    for cell, (split, index) in zip(cells.flat, chosen, strict=False):
        _draw_cell(cell, split, splits[split][index])
    with atomic_path(target) as staged:
        figure.savefig(staged, dpi=SHEET_DPI)


def _draw_cell(cell: "Axes", split: str, row: dict[str, Any]) -> None:
    image = load_image(row["image"]["bytes"], row["name"])
    image.thumbnail((SHEET_DPI * 3, SHEET_DPI * 3))
    cell.imshow(np.asarray(image))
    cell.set_anchor("S")
    caption = textwrap.shorten(row["captions"][0], width=4 * CAPTION_WIDTH, placeholder=" ...")
    text = textwrap.fill(f"[{split}] {caption}", width=CAPTION_WIDTH)
    # Dollar signs in a caption, such as "$5 and $6", do not delimit a formula.
    cell.text(0.5, -0.03, text, transform=cell.transAxes, ha="center", va="top", fontsize=9, parse_math=False)
