"""Captions that somebody's model made, one an image, in the files that people keep them in."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from data_prep.caption_sources.caption_files import CAPTION_COLUMNS, read_json_lines
from data_prep.caption_sources.csv_table import read_rows
from data_prep.columns import IMAGE_COLUMNS, find_column
from vision_rnn.errors import UserError
from vision_rnn.files import read_json

KEY_COLUMNS = ("image_id", *IMAGE_COLUMNS, "id")

# The place, the image's name or id, its best caption, and whether a better one of it may stand above.
_Entry = tuple[str, str, str, bool]


def read_predictions(path: str | Path) -> dict[str, str]:
    """Read one caption an image, by the name or id that the file has for it.

    Read are COCO's results (`[{"image_id": 42, "caption": "..."}]`), what `captioning caption` and `captioning
    evaluate` write, an object of captions by image, the same as JSON lines, and CSV with a header row. Of several
    captions of an image in one entry, or in rows with a `rank`, the first is taken.

    Raises:
        UserError: The file is none of these, holds nothing, or has two captions of an image for no stated reason; the
            message names the line or entry.
    """
    path = Path(path)
    captions: dict[str, str] = {}
    for where, key, caption, ranked in _entries(path):
        if key in captions and not ranked:
            raise UserError(f"{where}: a second caption of {key}; keep one an image")
        captions.setdefault(key, caption)
    if not captions:
        raise UserError(f"{path}: holds no captions; name another file")
    return captions


def _entries(path: Path) -> Iterator[_Entry]:
    suffix = path.suffix.lower()
    if suffix in (".csv", ".tsv", ".txt"):
        rows: Iterator[tuple[str, Any]] = read_rows(path, KEY_COLUMNS)
    elif suffix in (".jsonl", ".ndjson"):
        rows = read_json_lines(path)
    else:
        document = read_json(path)
        if isinstance(document, dict):
            yield from _by_image(document.get("captions", document), str(path))
            return
        if not isinstance(document, list):
            raise UserError(f"{path}: no list of captions and no object of captions by image; mend the file")
        rows = ((f"{path}, entry {number}", row) for number, row in enumerate(document, start=1))
    for where, row in rows:
        if not isinstance(row, dict):
            raise UserError(f"{where}: not an object with an image and a caption; mend the entry")
        key = row[find_column(row, KEY_COLUMNS, where)]
        caption = row[find_column(row, CAPTION_COLUMNS, where)]
        yield where, str(key), _best(caption, where), "rank" in row


def _by_image(captions: Any, where: str) -> Iterator[_Entry]:
    if not isinstance(captions, dict):
        raise UserError(f"{where}: 'captions' is no object of captions by image; mend the file")
    for key, caption in captions.items():
        yield f"{where}, '{key}'", key, _best(caption, f"{where}, '{key}'"), False


def _best(value: Any, where: str) -> str:
    """Return the first caption of what an entry holds: text, an object with it, or a list of either."""
    if isinstance(value, list) and value:
        return _best(value[0], where)
    if isinstance(value, dict) and "caption" in value:
        return _best(value["caption"], where)
    if not isinstance(value, str):
        raise UserError(f"{where}: no caption there; write text")
    return value
