"""The caption formats by name, and the detection of the format of a source."""

import re
from collections.abc import Iterator
from pathlib import Path

from data_prep.caption_sources import coco, csv_table, flickr8k, hub_captions, jsonl, karpathy, sidecar
from data_prep.caption_sources.caption_files import matching_files
from data_prep.caption_sources.record import CaptionRecord
from data_prep.hub import is_on_hub
from vision_rnn.errors import UserError
from vision_rnn.files import read_text

READERS = {
    "flickr8k": flickr8k.read_flickr8k,
    "karpathy": karpathy.read_karpathy,
    "coco": coco.read_coco,
    "csv": csv_table.read_csv,
    "jsonl": jsonl.read_jsonl,
    "sidecar": sidecar.read_sidecar,
}
FORMATS = ("auto", *READERS, "hub")
FILE_PATTERNS = {
    "coco": coco.PATTERNS,
    "karpathy": karpathy.PATTERNS,
    "jsonl": jsonl.PATTERNS,
    "csv": csv_table.PATTERNS,
}
SUFFIX_FORMATS = {".jsonl": "jsonl", ".ndjson": "jsonl", ".csv": "csv", ".tsv": "csv", ".txt": "csv"}


def resolve_format(source: str, format: str) -> str:
    """Return the format of `source`: the given format or, for `auto`, the detected one.

    Hub data sets are not detected: they are written `hub:owner/name`, or the format is `hub`.

    Raises:
        UserError: There is no such source, or its format is not recognised.
    """
    if is_on_hub(source, format):
        return "hub"
    return _recognise(Path(source)) if format == "auto" else format


def read_captions(source: str, format: str, image_root: Path | None) -> Iterator[CaptionRecord]:
    """Read a source in a format that is not `auto`.

    Raises:
        UserError: The source does not have that format; the message names the file and the line or entry.
    """
    if format != "hub":
        return READERS[format](Path(source), image_root)
    if image_root is not None:
        raise UserError(f"{source}: a hub data set contains its images; omit --image-root")
    return hub_captions.read_hub(source)


def _recognise(source: Path) -> str:
    if flickr8k.find_caption_file(source):
        recognised = "flickr8k"
    elif source.is_dir():
        recognised = _recognise_folder(source)
    elif source.suffix.lower() == ".json":
        recognised = _recognise_json(read_text(source))
    else:
        recognised = SUFFIX_FORMATS.get(source.suffix.lower())
    if recognised is None:
        raise UserError(f"{source}: the format is not recognised; name it with --format {'|'.join(FORMATS[1:])}")
    return recognised


def _recognise_json(text: str) -> str | None:
    # Search for the keys in the text: COCO's files are large, and the reader parses them anyway.
    if not re.search(r'"images"\s*:', text):
        return None
    return "coco" if re.search(r'"annotations"\s*:', text) else "karpathy"


def _recognise_folder(folder: Path) -> str | None:
    with_text = sidecar.share_with_text(folder)
    # Such a folder may also contain a table of captions that was created from it.
    if with_text > 0.5:
        return "sidecar"
    for format, patterns in FILE_PATTERNS.items():
        if matching_files(folder, patterns):
            return format
    return "sidecar" if with_text else None
