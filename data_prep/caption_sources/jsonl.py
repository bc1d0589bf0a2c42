"""Captions as JSON lines: one object per line with an image, a caption or list of captions, and optionally a split."""

from collections.abc import Iterator
from pathlib import Path

from data_prep.caption_sources.caption_files import find_files, read_each, read_json_lines
from data_prep.caption_sources.captioned_rows import CaptionedRows
from data_prep.caption_sources.record import CaptionRecord, Skipped

PATTERNS = ("*.jsonl", "*.ndjson", "metadata.jsonl")


def read_jsonl(source: Path, image_root: Path | None, skipped: Skipped) -> Iterator[CaptionRecord]:
    """Yield one record per line; see `CaptionedRows` for the splits."""

    def read(path: Path) -> Iterator[CaptionRecord]:
        return CaptionedRows(path, source, image_root).records(read_json_lines(path, skipped), skipped)

    return read_each(find_files(source, PATTERNS), read, skipped)
