"""Captions in one JSON document: a list of objects, or an object that maps the names of images to captions.

The annotation files of BLIP (Li et al., 2022, arXiv:2201.12086) and LAVIS are such lists:
`[{"image": "val2014/a.jpg", "caption": "..." or ["...", ...], "image_id"?}]`.
"""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from data_prep.caption_sources.caption_files import find_files, read_each
from data_prep.caption_sources.captioned_rows import CaptionedRows
from data_prep.caption_sources.record import CaptionRecord, Skipped
from data_prep.columns import IMAGE_COLUMNS
from data_prep.image_files import PHOTO_SUFFIXES
from vision_rnn.errors import UserError
from vision_rnn.files import read_json

PATTERNS = ("*.json", "annotations/*.json")


def looks_like_captions(text: str) -> bool:
    """Whether a JSON text starts with an object that names an image, or maps the name of an image to something."""
    decoder, text = json.JSONDecoder(), text.lstrip()
    try:
        first, _ = decoder.raw_decode(text[1:].lstrip())
    except json.JSONDecodeError:
        return False
    if text.startswith("["):
        return isinstance(first, dict) and bool(set(first) & set(IMAGE_COLUMNS))
    return text.startswith("{") and isinstance(first, str) and Path(first).suffix.lower() in PHOTO_SUFFIXES


def read_json_captions(source: Path, image_root: Path | None, skipped: Skipped) -> Iterator[CaptionRecord]:
    """Yield one record per entry; see `CaptionedRows` for the splits."""

    def read(path: Path) -> Iterator[CaptionRecord]:
        return CaptionedRows(path, source, image_root).records(_entries(read_json(path), path), skipped)

    return read_each(find_files(source, PATTERNS), read, skipped)


def _entries(document: Any, path: Path) -> Iterator[tuple[str, Any]]:
    if isinstance(document, dict):
        for name, captions in document.items():
            yield f"{path}, '{name}'", {"image": name, "caption": captions}
    elif isinstance(document, list):
        for index, entry in enumerate(document):
            yield f"{path}, entry {index}", entry
    else:
        raise UserError(f"{path}: neither a list of captions nor an object that maps images to captions; fix it")
