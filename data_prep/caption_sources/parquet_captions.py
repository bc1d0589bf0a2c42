"""Captions in rows with an image column: Parquet files, and data sets on the Hugging Face hub."""

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from data_prep.caption_sources.caption_files import SPLIT_COLUMN, captions_in, find_files, read_each
from data_prep.caption_sources.captioned_rows import CaptionedRows
from data_prep.caption_sources.record import CaptionRecord, Skipped
from data_prep.columns import IMAGE_COLUMNS
from data_prep.hub import (
    PREFIX,
    downloads,
    encoded_image,
    find_image_column,
    load_hub,
    parquet_rows,
    split_of_file,
    undecoded,
)
from data_prep.splits import parse_split
from vision_rnn.errors import UserError

if TYPE_CHECKING:
    from datasets import Dataset

PATTERNS = ("*.parquet", "data/*.parquet", "metadata.parquet")


@dataclass(frozen=True)
class ImageCell:
    """An image in a row of a data set, read from disk on request. Two images are equal if their bytes are."""

    rows: "Dataset" = field(compare=False, repr=False)
    index: int = field(compare=False)
    column: str = field(compare=False)
    folders: Sequence[Path] = field(compare=False)
    digest: str

    def __str__(self) -> str:
        return f"image of row {self.index}"

    def read_bytes(self) -> bytes:
        """Read the encoded image."""
        row: dict[str, Any] = self.rows[self.index]
        return encoded_image(row[self.column], self.folders)


def read_parquet(source: Path, image_root: Path | None, skipped: Skipped) -> Iterator[CaptionRecord]:
    """Yield one record per row of a Parquet file, or of all files in a folder.

    The image column contains encoded images, or names of files as in a table (see `CaptionedRows`). A row without a
    split has that of a word such as `train` in the file's path.
    """

    def read(path: Path) -> Iterator[CaptionRecord]:
        rows = parquet_rows([path], str(path))
        try:
            find_image_column(rows, str(path))
        except UserError:
            places = ((f"{path}, row {index}", row) for index, row in enumerate(rows))
            return CaptionedRows(path, source, image_root).records(places, skipped)
        return _read_rows(str(path), split_of_file(path, source), rows, skipped, folders=())

    return read_each(find_files(source, PATTERNS), read, skipped)


def read_hub(source: str, skipped: Skipped) -> Iterator[CaptionRecord]:
    """Yield one record per row of every split of the data set `hub:owner/name` or `owner/name`.

    Raises:
        UserError: There is no such data set, no network, or no image or caption column.
    """
    data = {str(split): rows for split, rows in load_hub(source).items()}

    def read(split: str) -> Iterator[CaptionRecord]:
        where = f"{PREFIX}{source.removeprefix(PREFIX)}, split {split}"
        return _read_rows(where, parse_split(split, where), data[split], skipped, folders=downloads())

    return read_each(data, read, skipped)


def _read_rows(
    where: str, split: str | None, rows: "Dataset", skipped: Skipped, folders: Sequence[Path]
) -> Iterator[CaptionRecord]:
    """Yield one record per row; `split` is that of rows without one of their own."""
    from datasets import ClassLabel, Image

    image_column = find_image_column(rows, where)
    texts = [name for name, feature in rows.features.items() if name != image_column and not isinstance(feature, Image)]
    split_feature = rows.features.get(SPLIT_COLUMN)
    split_names = split_feature.names if isinstance(split_feature, ClassLabel) else []
    rows = undecoded(rows, image_column)
    # Checked before the first row: a data set without captions is no data set with bad rows.
    captions_in({column: "" for column in rows.column_names}, where)
    for index in range(len(rows)):
        row: dict[str, Any] = rows[index]
        place = f"{where}, row {index}"
        with skipped.on_error(place):
            captions = captions_in(row, place)
            # Some data sets have a single split, and the actual splits in a column.
            row_split = parse_split(_split_name(row.get(SPLIT_COLUMN), split_names), place) or split
            digest = hashlib.sha256(encoded_image(row[image_column], folders)).hexdigest()
            image = ImageCell(rows, index, image_column, folders, digest)
            yield CaptionRecord(_name(row, image_column, texts, index), image, captions, row_split, place)


def _name(row: Mapping[str, Any], image_column: str, texts: list[str], index: int) -> str:
    """Return the name in a column of names, else the name of the file that was encoded, else the number of the row."""
    path = row[image_column] and row[image_column]["path"]
    names = (row[column] for column in IMAGE_COLUMNS if column in texts and row[column])
    return str(next(names, Path(path or f"{index:08d}").name))


def _split_name(cell: str | int | None, names: list[str]) -> str:
    """Return the split in a cell, which is a name or an index into `names`; empty if there is none."""
    if isinstance(cell, int) and 0 <= cell < len(names):
        return names[cell]
    return "" if cell is None else str(cell)
