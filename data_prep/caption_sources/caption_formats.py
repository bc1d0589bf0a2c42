"""The caption formats by name, and the detection of the format of a source."""

import re
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from data_prep.caption_sources import (
    coco,
    csv_table,
    flickr8k,
    json_captions,
    jsonl,
    karpathy,
    parquet_captions,
    sidecar,
)
from data_prep.caption_sources.caption_files import matching_files
from data_prep.caption_sources.record import CaptionRecord, Skipped
from data_prep.hub import is_on_hub
from data_prep.image_files import list_images
from data_prep.outside import inside
from vision_rnn.console import note
from vision_rnn.errors import UserError
from vision_rnn.files import read_text

READERS = {
    "flickr8k": flickr8k.read_flickr8k,
    "karpathy": karpathy.read_karpathy,
    "coco": coco.read_coco,
    "csv": csv_table.read_csv,
    "jsonl": jsonl.read_jsonl,
    "json": json_captions.read_json_captions,
    "parquet": parquet_captions.read_parquet,
    "sidecar": sidecar.read_sidecar,
}
FORMATS = ("auto", *READERS, "hub")
FILE_PATTERNS = {
    "coco": coco.PATTERNS,
    "karpathy": karpathy.PATTERNS,
    "jsonl": jsonl.PATTERNS,
    "csv": csv_table.PATTERNS,
    "json": json_captions.PATTERNS,
    "parquet": parquet_captions.PATTERNS,
}
SUFFIX_FORMATS = {
    **{".jsonl": "jsonl", ".ndjson": "jsonl", ".parquet": "parquet"},
    **{".csv": "csv", ".tsv": "csv", ".txt": "csv"},
}


def resolve_format(source: str, format: str) -> str:
    """Return the format of `source`: the given format or, for `auto`, the detected one.

    Hub data sets are not detected: they are written `hub:owner/name`, or the format is `hub`.

    Raises:
        UserError: There is no such source, it is a pipe, or its format is not recognised.
    """
    if is_on_hub(source, format):
        return "hub"
    if Path(source).is_fifo():
        raise UserError(
            f"{source}: a pipe, which can be read only once and has no suffix to tell its format; write it to a file "
            "and name that"
        )
    return _recognise(Path(source)) if format == "auto" else format


def read_captions(
    source: str, format: str, image_root: Path | None, skipped: Skipped, allow_outside: bool = False
) -> Iterator[CaptionRecord]:
    """Read a source in a format that is not `auto`; inputs that cannot be read are added to `skipped`.

    Args:
        source: File, folder or `hub:owner/name`.
        format: Its format.
        image_root: Folder of its images, if not beside its captions.
        skipped: Takes the inputs that cannot be read.
        allow_outside: Whether images may lie outside `image_root`, or without it the source's own folder; otherwise
            such an image is a `data_prep.outside.OutsideImage`, which fails when it is read.

    Raises:
        UserError: The source does not have that format; the message names the file.
    """
    if format != "hub":
        records = READERS[format](Path(source), image_root, skipped)
        if allow_outside:
            return records
        folders = _folders(Path(source), format) if image_root is None else [image_root]
        return (replace(record, image=inside(record.image, folders, "captions")) for record in records)
    if image_root is not None:
        raise UserError(f"{source}: a hub data set contains its images; omit --image-root")
    return parquet_captions.read_hub(source, skipped)


def _folders(source: Path, format: str) -> list[Path]:
    """Return the folder that a source's images lie in: its own, or that around COCO's `annotations`."""
    folder = source if source.is_dir() else source.parent
    return [folder.parent if format == "coco" and folder.name == "annotations" else folder]


def _recognise(source: Path) -> str:
    if flickr8k.find_caption_file(source):
        recognised = "flickr8k"
    elif source.is_dir():
        recognised = _recognise_folder(source)
    elif source.suffix.lower() == ".json":
        recognised = _recognise_json(read_text(source))
    else:
        recognised = SUFFIX_FORMATS.get(source.suffix.lower())
    if recognised is None and source.is_dir():
        raise UserError(
            f"{source}: no captions found; looked for .txt and .caption files beside images, captions.csv and "
            "other .csv, .tsv, .jsonl, .json and .parquet files, and Flickr8k's layout; check the path, or name a file"
        )
    if recognised is None:
        raise UserError(f"{source}: the format is not recognised; name it with --format {'|'.join(FORMATS[1:])}")
    return recognised


def _recognise_json(text: str) -> str | None:
    # Search for the keys in the text: COCO's files are large, and the reader parses them anyway.
    if re.search(r'"images"\s*:', text):
        return "coco" if re.search(r'"annotations"\s*:', text) else "karpathy"
    return "json" if json_captions.looks_like_captions(text) else None


def _recognise_folder(folder: Path) -> str | None:
    with_text = sidecar.share_with_text(folder)
    found = {format: files for format, patterns in FILE_PATTERNS.items() if (files := _files(folder, format, patterns))}
    # Such a folder may also contain a table of captions that was created from it.
    if with_text > 0.5:
        return _chosen("sidecar", found, folder)
    if found:
        return _chosen(next(iter(found)), found, folder)
    if with_text:
        return "sidecar"
    try:
        list_images(folder, recursive=True)
    except UserError:
        return None
    raise UserError(
        f"{folder}: contains images, but no captions; write those of a.jpg to a.txt, one per line, or all to "
        "captions.csv with the columns image and caption"
    )


def _files(folder: Path, format: str, patterns: Sequence[str]) -> list[Path]:
    files = matching_files(folder, patterns)
    if format == "json":
        return [path for path in files if json_captions.looks_like_captions(read_text(path, "surrogateescape"))]
    return files


def _chosen(format: str, found: dict[str, list[Path]], folder: Path) -> str:
    """Return `format`; name the files of other formats, which are not read."""
    others = [path for other, files in found.items() if other != format for path in files]
    used = set(found.get(format, []))
    if others := [path.relative_to(folder).as_posix() for path in others if path not in used]:
        note(f"{folder}: read as {format}; not read: {', '.join(others)} (name a file to read it)")
    return format
