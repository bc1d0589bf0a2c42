"""Finding the caption files of a source, and reading fields of their entries with errors that name the place."""

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
        UserError: There is none.
    """
    if source.is_file():
        return [source]
    files = matching_files(source, patterns)
    if not files:
        raise UserError(f"{source}: holds no {' or '.join(patterns)}; name the caption file itself")
    return files


def matching_files(folder: Path, patterns: Sequence[str]) -> list[Path]:
    """List the files of a folder that match one of the glob patterns, sorted."""
    return sorted({path for pattern in patterns for path in folder.glob(pattern) if path.is_file()})


def field(entry: Any, key: str, kind: type[Field], where: str) -> Field:
    """Return `entry[key]`, which must be of type `kind`.

    Raises:
        UserError: `entry` is no JSON object, the key is missing, or its value is of another type.
    """
    if not isinstance(entry, dict) or key not in entry or not isinstance(entry[key], kind):
        raise UserError(f"{where}: must be an object with '{key}' ({kind.__name__}); mend the entry")
    return entry[key]


def read_json_lines(path: Path) -> Iterator[tuple[str, Any]]:
    """Yield the place and the value of every line of a JSON lines file that is not blank.

    Raises:
        UserError: As `read_text` does, or a line is not JSON; the message names it.
    """
    for number, line in read_lines(path):
        where = f"{path}, line {number}"
        try:
            yield where, json.loads(line)
        except json.JSONDecodeError as error:
            raise UserError(f"{where}: not valid JSON ({error.msg}); write one object a line") from None


def read_lines(path: Path) -> Iterator[tuple[int, str]]:
    """Yield the lines of a UTF-8 text file that are not blank, with their numbers from 1.

    Raises:
        UserError: As `read_text` does.
    """
    for number, line in enumerate(read_text(path).split("\n"), start=1):
        if line.strip():
            yield number, line.rstrip("\r")
