"""A data set with an image and a caption column on the Hugging Face hub."""

import hashlib
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from data_prep.caption_sources.caption_files import CAPTION_COLUMNS, SPLIT_COLUMN
from data_prep.caption_sources.jsonl import captions_of
from data_prep.caption_sources.record import CaptionRecord
from data_prep.columns import IMAGE_COLUMNS, find_column
from data_prep.hub import PREFIX, encoded_image, find_image_column, load_hub, undecoded
from data_prep.splits import parse_split

if TYPE_CHECKING:
    from datasets import Dataset


@dataclass(frozen=True)
class HubImage:
    """An image in a row of a hub data set, read from disk on request. Two images are equal if their bytes are."""

    rows: "Dataset" = field(compare=False, repr=False)
    index: int = field(compare=False)
    column: str = field(compare=False)
    digest: str

    def __str__(self) -> str:
        return f"image of row {self.index}"

    def read_bytes(self) -> bytes:
        """Read the encoded image."""
        row: dict[str, Any] = self.rows[self.index]
        return encoded_image(row[self.column])


def read_hub(source: str) -> Iterator[CaptionRecord]:
    """Yield one record per row of every split of the data set `hub:owner/name` or `owner/name`.

    Raises:
        UserError: There is no such data set, no network, or no image or caption column.
    """
    name = f"{PREFIX}{source.removeprefix(PREFIX)}"
    for split, rows in load_hub(source).items():
        yield from _read_split(f"{name}, split {split}", str(split), rows)


def _read_split(where: str, split: str, rows: "Dataset") -> Iterator[CaptionRecord]:
    from datasets import ClassLabel, Image

    image_column = find_image_column(rows, where)
    numbered = [column for column in rows.column_names if re.fullmatch(r"caption_?\d+", column)]
    caption_columns = numbered or [find_column(rows.column_names, CAPTION_COLUMNS, where)]
    texts = [column for column, feature in rows.features.items() if not isinstance(feature, Image)]
    name_columns = [column for column in IMAGE_COLUMNS if column in texts]
    split_feature = rows.features.get(SPLIT_COLUMN)
    split_names = split_feature.names if isinstance(split_feature, ClassLabel) else []
    rows = undecoded(rows, image_column)
    for index in range(len(rows)):
        row: dict[str, Any] = rows[index]
        place = f"{where}, row {index}"
        image = HubImage(rows, index, image_column, hashlib.sha256(encoded_image(row[image_column])).hexdigest())
        path = row[image_column] and row[image_column]["path"]
        names = [row[column] for column in name_columns] + [Path(path or f"{index:08d}").name]
        captions = [caption for column in caption_columns for caption in captions_of(row[column], place)]
        # Some data sets have a single split on the hub, and the actual splits in a column.
        row_split = parse_split(_split_name(row.get(SPLIT_COLUMN), split_names), place) or parse_split(split, place)
        yield CaptionRecord(str(names[0]), image, captions, row_split, place)


def _split_name(cell: str | int | None, names: list[str]) -> str:
    """Return the split in a cell, which is a name or an index into `names`; empty if there is none."""
    if isinstance(cell, int) and 0 <= cell < len(names):
        return names[cell]
    return "" if cell is None else str(cell)
