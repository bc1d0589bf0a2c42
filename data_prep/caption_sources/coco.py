"""COCO caption annotations (Chen et al., 2015, arXiv:1504.00325): `captions_*.json`, one file per split."""

import re
from collections.abc import Hashable, Iterator
from pathlib import Path
from typing import Any

from data_prep.caption_sources.caption_files import field, find_files, read_each
from data_prep.caption_sources.image_finder import ImageFinder
from data_prep.caption_sources.record import CaptionRecord, Skipped
from data_prep.splits import parse_split
from vision_rnn.console import note
from vision_rnn.errors import UserError
from vision_rnn.files import read_json

PATTERNS = ("captions_*.json", "annotations/captions_*.json")


def read_coco(source: Path, image_root: Path | None, skipped: Skipped) -> Iterator[CaptionRecord]:
    """Yield one record per image; the split is the word in the file name that starts with `train`, `val` or `test`.

    An entry that repeats another one, id and all, is used once and counted. An image without a file name, as in the
    ground truth of LAVIS, is named by its id, which suffices to score captions.
    """

    def read(path: Path) -> Iterator[CaptionRecord]:
        document = read_json(path)
        images = ImageFinder(image_root, path.parent, path.parent.parent)
        captions = _captions_by_image(document, path, skipped)
        split_name = re.search("(?<![a-z])(train|val|test)", path.name)
        split = parse_split(split_name and split_name.group(), str(path))
        for key, (file_name, where) in _images_by_id(document, path, skipped).items():
            name, image = images.find(file_name)
            yield CaptionRecord(name, image, captions.pop(key, []), split, where, key)
        for key, texts in captions.items():
            skipped.add(f"{path}, image_id {key}", f"no image has this id (captions: {len(texts)}); add it to 'images'")
        images.note_approximate(path)

    return read_each(find_files(source, PATTERNS), read, skipped)


def _images_by_id(document: Any, path: Path, skipped: Skipped) -> dict[str, tuple[str, str]]:
    """Return the file name and the place of each image."""
    images: dict[str, tuple[str, str]] = {}
    repeated = 0
    for index, entry in enumerate(field(document, "images", list, str(path))):
        where = f"{path}, images[{index}]"
        with skipped.on_error(where):
            key = str(field(entry, "id", Hashable, where))
            file_name = field(entry, "file_name", str, where) if entry.get("file_name") else key
            known, known_where = images.setdefault(key, (file_name, where))
            if known != file_name:
                raise UserError(f"{where}: id {key} is also that of {known} at {known_where}; number them differently")
            repeated += known_where != where
    if repeated:
        note(f"{path}: {repeated} entries of 'images' repeat another one and were used once")
    return images


def _captions_by_image(document: Any, path: Path, skipped: Skipped) -> dict[str, list[str]]:
    captions: dict[str, list[str]] = {}
    seen: set[Any] = set()
    repeated = 0
    for index, annotation in enumerate(field(document, "annotations", list, str(path))):
        where = f"{path}, annotations[{index}]"
        with skipped.on_error(where):
            key = str(field(annotation, "image_id", Hashable, where))
            caption = field(annotation, "caption", str, where)
            # Two people may have written the same caption, under two ids.
            identity = (annotation.get("id"), key, caption)
            if identity[0] is not None and identity in seen:
                repeated += 1
                continue
            seen.add(identity)
            captions.setdefault(key, []).append(caption)
    if repeated:
        note(f"{path}: {repeated} annotations repeat another one, id and all, and were used once")
    return captions
