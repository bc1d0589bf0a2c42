"""COCO caption annotations (Chen et al., 2015, arXiv:1504.00325): `captions_*.json`, one file per split."""

import re
from collections import defaultdict
from collections.abc import Hashable, Iterator
from pathlib import Path
from typing import Any

from data_prep.caption_sources.caption_files import field, find_files
from data_prep.caption_sources.image_finder import ImageFinder
from data_prep.caption_sources.record import CaptionRecord
from data_prep.splits import parse_split
from vision_rnn.errors import UserError
from vision_rnn.files import read_json

PATTERNS = ("captions_*.json", "annotations/captions_*.json")


def read_coco(source: Path, image_root: Path | None) -> Iterator[CaptionRecord]:
    """Yield one record per image; the split is the word in the file name that starts with `train`, `val` or `test`."""
    for path in find_files(source, PATTERNS):
        document = read_json(path)
        images = ImageFinder(image_root, path.parent, path.parent.parent)
        captions = _captions_by_image(document, path)
        split_name = re.search("(?<![a-z])(train|val|test)", path.name)
        split = parse_split(split_name and split_name.group(), str(path))
        for index, entry in enumerate(field(document, "images", list, str(path))):
            where = f"{path}, images[{index}]"
            name, image = images.find(field(entry, "file_name", str, where))
            key = field(entry, "id", Hashable, where)
            yield CaptionRecord(name, image, captions.pop(key, []), split, where, str(key))
        if captions:
            raise UserError(f"{path}: captions of the unknown image_id {next(iter(captions))}; add it to 'images'")


def _captions_by_image(document: Any, path: Path) -> dict[object, list[str]]:
    captions = defaultdict(list)
    for index, annotation in enumerate(field(document, "annotations", list, str(path))):
        where = f"{path}, annotations[{index}]"
        captions[field(annotation, "image_id", Hashable, where)].append(field(annotation, "caption", str, where))
    return captions
