"""Rows that name an image and its captions, as tables, JSON lines and JSON lists hold them."""

import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from data_prep.caption_sources.caption_files import SPLIT_COLUMN, captions_in, field
from data_prep.caption_sources.image_finder import ImageFinder, split_of_folder
from data_prep.caption_sources.record import CaptionRecord, Skipped
from data_prep.columns import IMAGE_COLUMNS, find_column
from data_prep.splits import SPLIT_NAMES, parse_split
from vision_rnn.errors import UserError

ID_COLUMN = "image_id"


class CaptionedRows:
    """Turns the rows of one file into records.

    The split of a row is, in this order: its split column, a word of the file's name (`train.csv`,
    `coco_karpathy_train.json`), the folder of the file within the source (`train/metadata.jsonl`), or the top folder of
    the image's name (`train/a.jpg`). A folder that determines the split is no part of the record's name, so that all
    these layouts give the same data set.

    Args:
        path: File with the rows.
        source: Source that contains the file, or the file itself.
        image_root: Folder of the images, if not beside the file.
    """

    def __init__(self, path: Path, source: Path, image_root: Path | None) -> None:
        self._path = path
        self._images = ImageFinder(image_root, path.parent)
        words = re.split(r"[^a-z]+", path.stem.lower())
        self._file_split = next((SPLIT_NAMES[word] for word in words if word in SPLIT_NAMES), None)
        folder = path.parent.relative_to(source).as_posix() if source.is_dir() else "."
        self._folder = "" if folder == "." else f"{folder}/"

    def records(self, rows: Iterable[tuple[str, Any]], skipped: Skipped) -> Iterator[CaptionRecord]:
        """Yield one record per row, given its place; list those that cannot be read."""
        for where, row in rows:
            with skipped.on_error(where):
                yield self._record(where, row)
        self._images.note_approximate(self._path)

    def _record(self, where: str, row: Any) -> CaptionRecord:
        if not isinstance(row, dict):
            raise UserError(f"{where}: not a JSON object; write one object per entry")
        found, image = self._images.find(field(row, find_column(row, IMAGE_COLUMNS, where), str, where))
        split = parse_split(field(row, SPLIT_COLUMN, str, where), where) if row.get(SPLIT_COLUMN) else None
        split = split or self._file_split
        name = f"{self._folder}{found}"
        folder_split, below = split_of_folder(name)
        if split in (None, folder_split):
            split, name = folder_split, below
        key = row.get(ID_COLUMN)
        return CaptionRecord(name, image, captions_in(row, where), split, where, None if key is None else str(key))
