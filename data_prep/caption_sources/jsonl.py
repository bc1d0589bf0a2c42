"""Captions as JSON lines: one object per line with an image, a caption or list of captions, and optionally a split."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from data_prep.caption_sources.caption_files import CAPTION_COLUMNS, SPLIT_COLUMN, field, find_files, read_json_lines
from data_prep.caption_sources.image_finder import ImageFinder
from data_prep.caption_sources.record import CaptionRecord
from data_prep.columns import IMAGE_COLUMNS, find_column
from data_prep.splits import SPLIT_NAMES, parse_split
from vision_rnn.errors import UserError

PATTERNS = ("*.jsonl",)


def read_jsonl(source: Path, image_root: Path | None) -> Iterator[CaptionRecord]:
    """Yield one record per line; without a split field, a file named after a split (`train.jsonl`) determines it."""
    for path in find_files(source, PATTERNS):
        images = ImageFinder(image_root, path.parent)
        for where, row in read_json_lines(path):
            yield _read_row(row, where, images, SPLIT_NAMES.get(path.stem.lower()))


def _read_row(row: Any, where: str, images: ImageFinder, file_split: str | None) -> CaptionRecord:
    if not isinstance(row, dict):
        raise UserError(f"{where}: not a JSON object; write one object per line")
    name, image = images.find(field(row, find_column(row, IMAGE_COLUMNS, where), str, where))
    captions = captions_of(row[find_column(row, CAPTION_COLUMNS, where)], where)
    split = parse_split(field(row, SPLIT_COLUMN, str, where), where) if row.get(SPLIT_COLUMN) else file_split
    return CaptionRecord(name, image, captions, split, where)


def captions_of(value: object, where: str) -> list[str]:
    """Return the captions in a cell: a string or a list of strings.

    Raises:
        UserError: The cell contains anything else.
    """
    cells = value if isinstance(value, list) else [value]
    captions = [caption for caption in cells if isinstance(caption, str)]
    if len(captions) != len(cells):
        raise UserError(f"{where}: the captions must be a string or a list of strings; fix the entry")
    return captions
