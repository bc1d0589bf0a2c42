"""Captions in a table with a header row, one caption per row; the delimiter is comma, tab, or Flickr30k's `|`."""

import csv
import io
from collections.abc import Iterator, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any

from data_prep.caption_sources.caption_files import (
    CAPTION_COLUMNS,
    NUMBERED_CAPTION,
    find_files,
    read_each,
    require_utf8,
)
from data_prep.caption_sources.captioned_rows import CaptionedRows
from data_prep.caption_sources.record import CaptionRecord, Skipped
from data_prep.columns import IMAGE_COLUMNS, find_column
from vision_rnn.errors import UserError
from vision_rnn.files import read_text

PATTERNS = ("*.csv", "*.tsv", "captions.txt", "metadata.csv")
DELIMITERS = ("|", "\t", ",")


def read_csv(source: Path, image_root: Path | None, skipped: Skipped) -> Iterator[CaptionRecord]:
    """Yield one record per row; see `CaptionedRows` for the splits."""

    def read(path: Path) -> Iterator[CaptionRecord]:
        return CaptionedRows(path, source, image_root).records(read_rows(path, IMAGE_COLUMNS, skipped), skipped)

    return read_each(find_files(source, PATTERNS), read, skipped)


def read_rows(
    path: Path, image_columns: Sequence[str], skipped: Skipped | None = None
) -> Iterator[tuple[str, dict[str, str]]]:
    """Yield the place and the cells of each row; missing cells at the end of a row are empty.

    Args:
        path: Table with a header row.
        image_columns: Accepted names of the image column; the table also needs one of `CAPTION_COLUMNS`, or numbered
            ones.
        skipped: Lists the rows that cannot be read; if None, they are an error.

    Raises:
        UserError: The file is not a table with these columns, a quotation is not closed, or a row cannot be read; the
            message names the line.
    """
    text = read_text(path, "surrogateescape")
    header = text.partition("\n")[0]
    delimiter = next((mark for mark in DELIMITERS if mark in header), ",")
    # Flickr30k's file has quotation marks inside captions and never quotes a cell.
    quoting = csv.QUOTE_NONE if delimiter == "|" else csv.QUOTE_MINIMAL
    rows = csv.reader(
        io.StringIO(text, newline=""), delimiter=delimiter, quoting=quoting, skipinitialspace=True, strict=True
    )
    places = _parse(rows, path)
    where, first = next(places, (f"{path}, line 1", []))
    require_utf8(header, where)
    columns = [column.lower() for column in _stripped(first)]
    find_column(columns, image_columns, where)
    if not any(map(NUMBERED_CAPTION.fullmatch, columns)):
        find_column(columns, CAPTION_COLUMNS, where)
    for where, row in places:
        if row:
            with skipped.on_error(where) if skipped else nullcontext():
                yield where, _cells(row, columns, where)


def _parse(rows: Any, path: Path) -> Iterator[tuple[str, list[str] | UserError]]:
    """Yield the place of each row with its cells, or with the error if it is not valid CSV."""
    while True:
        where = f"{path}, line {rows.line_num + 1}"
        try:
            row = next(rows)
        except StopIteration:
            return
        except csv.Error as error:
            # An open quotation takes in all that follows, which is no single bad row.
            if str(error) == "unexpected end of data":
                raise UserError(
                    f"{where}: not valid CSV (a quotation mark opens a cell that never ends); fix it"
                ) from None
            row = UserError(f"{where}: not valid CSV ({error}); fix the quotation marks")
        yield where, row


def _cells(row: list[str] | UserError, columns: list[str], where: str) -> dict[str, str]:
    cells = _stripped(row)
    require_utf8("".join(cells), where)
    if len(cells) > len(columns):
        raise UserError(f"{where}: {len(cells)} cells, but {len(columns)} columns; quote the caption")
    return dict(zip(columns, cells + [""] * (len(columns) - len(cells)), strict=True))


def _stripped(row: list[str] | UserError) -> list[str]:
    if isinstance(row, UserError):
        raise row
    return [cell.strip() for cell in row]
