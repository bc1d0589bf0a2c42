"""Helpers that find the caption files of a source and read fields of entries, with errors that name the place."""

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, TypeVar

from vision_rnn.errors import UserError
from vision_rnn.files import read_text

CAPTION_COLUMNS = ("caption", "captions", "comment", "text", "sentence", "sentences")
SPLIT_COLUMN = "split"

Field = TypeVar("Field")


def find_files(source: Path, patterns: Sequence[str]) -> list[Path]:
    """Return `source` itself if it is a file, else the files in it that match one of the glob patterns, sorted.

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
    """List the files of a folder that match one of the glob patterns, sorted."""
    return sorted({path for pattern in patterns for path in folder.glob(pattern) if path.is_file()})


def field(entry: Any, key: str, kind: type[Field], where: str) -> Field:
    """Return `entry[key]`, which must be of type `kind`.

    Raises:
        UserError: `entry` is not a JSON object, the key is missing, or its value is of another type.
    """
    if not isinstance(entry, dict) or key not in entry or not isinstance(entry[key], kind):
        raise UserError(f"{where}: must be an object with '{key}' ({kind.__name__}); fix the entry")
    return entry[key]


def read_json_lines(path: Path) -> Iterator[tuple[str, Any]]:
    """Yield the place and the value of every non-blank line of a JSON lines file.

    Raises:
        UserError: As for `read_text`, or a line is not JSON; the message names the line.
    """
    for number, line in read_lines(path):
        where = f"{path}, line {number}"
        try:
            yield where, json.loads(line)
        except json.JSONDecodeError as error:
            raise UserError(f"{where}: not valid JSON ({error.msg}); write one object per line") from None


def read_lines(path: Path) -> Iterator[tuple[int, str]]:
    """Yield the non-blank lines of a UTF-8 text file with their numbers, starting at 1.

    Raises:
        UserError: As for `read_text`.
    """
    for number, line in enumerate(read_text(path).split("\n"), start=1):
        if line.strip():
            yield number, line.rstrip("\r")
