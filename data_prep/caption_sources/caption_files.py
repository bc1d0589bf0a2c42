"""Helpers that find the caption files of a source and read fields of entries, with errors that name the place."""

import re
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any, TypeVar

from data_prep.caption_sources.record import CaptionRecord, Skipped
from data_prep.columns import find_column
from data_prep.splits import SPLIT_NAMES
from vision_rnn.errors import UserError
from vision_rnn.files import parse_json, read_text

CAPTION_COLUMNS = ("caption", "captions", "comment", "text", "sentence", "sentences")
NUMBERED_CAPTION = re.compile(r"caption_?\d+")
SPLIT_COLUMN = "split"

Field = TypeVar("Field")
Part = TypeVar("Part")


def find_files(source: Path, patterns: Sequence[str]) -> list[Path]:
    """Return `source` itself if it is a file, else the files that `matching_files` lists.

    Raises:
        UserError: The folder contains no such file.
    """
    if source.is_file():
        return [source]
    files = matching_files(source, patterns)
    if not files:
        raise UserError(f"{source}: contains no {' or '.join(patterns)}; name the caption file itself")
    return files


def matching_files(folder: Path, patterns: Sequence[str]) -> list[Path]:
    """List the files in a folder and in its subfolders named after splits that match one of the patterns, sorted.

    A pattern `metadata.*`, Hugging Face's name for the table of an image folder, is searched at every depth.
    """
    folders = [folder, *(path for path in sorted(folder.glob("*/")) if path.name.lower() in SPLIT_NAMES)]
    found = {path for base in folders for pattern in patterns for path in base.glob(pattern)}
    found |= {path for pattern in patterns if pattern.startswith("metadata.") for path in folder.rglob(pattern)}
    return sorted(path for path in found if path.is_file())


def read_each(
    parts: Collection[Part], read: Callable[[Part], Iterator[CaptionRecord]], skipped: Skipped
) -> Iterator[CaptionRecord]:
    """Yield the records of the parts of a source, such as its files; list a part that cannot be read if another can.

    Raises:
        UserError: No part can be read.
    """
    errors: list[UserError] = []
    for part in parts:
        try:
            yield from read(part)
        except UserError as error:
            errors.append(error)
    if errors and len(errors) == len(parts):
        raise errors[0]
    for error in errors:
        where, _, reason = str(error).partition(": ")
        skipped.add(where, reason)


def field(entry: Any, key: str, kind: type[Field], where: str) -> Field:
    """Return `entry[key]`, which must be of type `kind`.

    Raises:
        UserError: `entry` is not a JSON object, the key is missing, or its value is of another type.
    """
    if not isinstance(entry, dict) or key not in entry or not isinstance(entry[key], kind):
        raise UserError(f"{where}: must be an object with '{key}' ({kind.__name__}); fix the entry")
    return entry[key]


def captions_in(row: Mapping[str, Any], where: str) -> list[str]:
    """Return the captions in a row: those of the numbered columns (`caption_0`, `caption_1`, ...), or of the only one.

    Raises:
        UserError: There is no caption column, or a cell contains anything but captions.
    """
    numbered = [column for column in row if NUMBERED_CAPTION.fullmatch(column)]
    if not numbered:
        return captions_of(row[find_column(row, CAPTION_COLUMNS, where)], where)
    # Images have different numbers of captions, and the last columns are empty for some.
    return [caption for column in numbered if row[column] for caption in captions_of(row[column], where)]


def captions_of(value: object, where: str) -> list[str]:
    """Return the captions in a cell: a string, or a list of strings or of objects with the string under `raw`.

    Raises:
        UserError: The cell contains anything else.
    """
    cells = value if isinstance(value, list) else [value]
    cells = [cell.get("raw") if isinstance(cell, dict) else cell for cell in cells]
    captions = [caption for caption in cells if isinstance(caption, str)]
    if len(captions) != len(cells):
        raise UserError(f"{where}: the captions must be a string or a list of strings; fix the entry")
    return captions


def read_json_lines(path: Path, skipped: Skipped | None = None) -> Iterator[tuple[str, Any]]:
    """Yield the place and the value of every non-blank line of a JSON lines file.

    Args:
        path: JSON lines file.
        skipped: Lists the lines that are not JSON in UTF-8; if None, they are an error.

    Raises:
        UserError: The file cannot be read, or a line is not JSON in UTF-8; the message names the line.
    """
    for where, line in read_lines(path):
        with skipped.on_error(where) if skipped else nullcontext():
            require_utf8(line, where)
            yield where, parse_json(line, where, "write one object per line", is_line=True)


def read_lines(path: Path) -> Iterator[tuple[str, str]]:
    """Yield the place and the text of every non-blank line of a text file; `require_utf8` checks a line.

    Raises:
        UserError: The file cannot be read.
    """
    for number, line in enumerate(read_text(path, "surrogateescape").split("\n"), start=1):
        if line.strip():
            yield f"{path}, line {number}", line.rstrip("\r")


def require_utf8(text: str, where: str) -> None:
    """Check text that was read with `surrogateescape`.

    Raises:
        UserError: It was not UTF-8.
    """
    if any("\ud800" <= character <= "\udfff" for character in text):
        raise UserError(f"{where}: not UTF-8 text; save the file as UTF-8")
