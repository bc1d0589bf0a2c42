"""Captions in a table with a header row, one caption per row; the delimiter is comma, tab, or Flickr30k's `|`."""

import csv
import io
from collections.abc import Iterator, Sequence
from pathlib import Path

from data_prep.caption_sources.caption_files import CAPTION_COLUMNS, SPLIT_COLUMN, find_files
from data_prep.caption_sources.image_finder import ImageFinder
from data_prep.caption_sources.record import CaptionRecord
from data_prep.columns import IMAGE_COLUMNS, find_column
from data_prep.splits import SPLIT_NAMES, parse_split
from vision_rnn.errors import UserError
from vision_rnn.files import read_text

PATTERNS = ("*.csv", "*.tsv", "captions.txt")
DELIMITERS = ("|", "\t", ",")


def read_csv(source: Path, image_root: Path | None) -> Iterator[CaptionRecord]:
    """Yield one record per row; without a split column, a file named after a split (`train.csv`) determines it."""
    for path in find_files(source, PATTERNS):
        images = ImageFinder(image_root, path.parent)
        for where, row in read_rows(path, IMAGE_COLUMNS):
            name, image = images.find(row[find_column(row, IMAGE_COLUMNS, where)])
            split = parse_split(row.get(SPLIT_COLUMN), where) or SPLIT_NAMES.get(path.stem.lower())
            yield CaptionRecord(name, image, [row[find_column(row, CAPTION_COLUMNS, where)]], split, where)


def read_rows(path: Path, image_columns: Sequence[str]) -> Iterator[tuple[str, dict[str, str]]]:
    """Yield the place and the cells of each row; missing cells at the end of a row are empty.

    Args:
        path: Table with a header row.
        image_columns: Accepted names of the image column; the table also needs one of `CAPTION_COLUMNS`.

    Raises:
        UserError: The file is not a table with these columns; the message names the line.
    """
    text = read_text(path)
    header = text.partition("\n")[0]
    delimiter = next((mark for mark in DELIMITERS if mark in header), ",")
    # Flickr30k's file has quotation marks inside captions and never quotes a cell.
    quoting = csv.QUOTE_NONE if delimiter == "|" else csv.QUOTE_MINIMAL
    rows = csv.reader(
        io.StringIO(text, newline=""), delimiter=delimiter, quoting=quoting, skipinitialspace=True, strict=True
    )
    try:
        columns = [column.strip().lower() for column in next(rows, [])]
        find_column(columns, image_columns, f"{path}, line 1")
        find_column(columns, CAPTION_COLUMNS, f"{path}, line 1")
        for row in filter(None, rows):
            where = f"{path}, line {rows.line_num}"
            if len(row) > len(columns):
                raise UserError(f"{where}: {len(row)} cells, but {len(columns)} columns; quote the caption")
            cells = [cell.strip() for cell in row] + [""] * (len(columns) - len(row))
            yield where, dict(zip(columns, cells, strict=True))
    except csv.Error as error:
        raise UserError(f"{path}, line {rows.line_num}: not valid CSV ({error}); fix the quotation marks") from None
