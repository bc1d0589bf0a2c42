"""Karpathy's JSON files with the captions and splits of Flickr8k, Flickr30k and COCO.

Karpathy and Fei-Fei, "Deep Visual-Semantic Alignments for Generating Image Descriptions", 2015, arXiv:1412.2306.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from data_prep.caption_sources.caption_files import field, find_files, read_each
from data_prep.caption_sources.image_finder import ImageFinder
from data_prep.caption_sources.record import CaptionRecord, Skipped
from data_prep.splits import parse_split
from vision_rnn.files import read_json

PATTERNS = ("dataset*.json",)


def read_karpathy(source: Path, image_root: Path | None, skipped: Skipped) -> Iterator[CaptionRecord]:
    """Yield one record per image: `{"images": [{"filename", "filepath"?, "split", "sentences": [{"raw"}]}]}`."""

    def read(path: Path) -> Iterator[CaptionRecord]:
        images = ImageFinder(image_root, path.parent)
        for index, entry in enumerate(field(read_json(path), "images", list, str(path))):
            where = f"{path}, images[{index}]"
            with skipped.on_error(where):
                yield _record(entry, where, images)
        images.note_approximate(path)

    return read_each(find_files(source, PATTERNS), read, skipped)


def _record(entry: Any, where: str, images: ImageFinder) -> CaptionRecord:
    file_name = field(entry, "filename", str, where)
    names = [f"{entry['filepath']}/{file_name}", file_name] if entry.get("filepath") else [file_name]
    name, image = images.find(*names)
    captions = [field(sentence, "raw", str, where) for sentence in field(entry, "sentences", list, where)]
    split = parse_split(field(entry, "split", str, where), where)
    # The file for COCO has COCO's own ids in addition to its own.
    key = entry.get("cocoid", entry.get("imgid"))
    return CaptionRecord(name, image, captions, split, where, None if key is None else str(key))
