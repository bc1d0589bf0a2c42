"""Flickr8k in the layout of its authors (Hodosh, Young, Hockenmaier, JAIR 47, 2013), or all in one folder."""

from collections.abc import Iterator
from pathlib import Path

from data_prep.caption_sources.caption_files import read_lines
from data_prep.caption_sources.image_finder import ImageFinder
from data_prep.caption_sources.record import CaptionRecord
from vision_rnn.errors import UserError
from vision_rnn.files import read_text

CAPTION_FILE = "Flickr8k.token.txt"
SPLIT_FILES = {
    "train": "Flickr_8k.trainImages.txt",
    "validation": "Flickr_8k.devImages.txt",
    "test": "Flickr_8k.testImages.txt",
}


def find_caption_file(source: Path) -> Path | None:
    """Return the caption file of a folder in Flickr8k's layout, or `source` if it is that file; else None."""
    if source.name == CAPTION_FILE and source.is_file():
        return source
    candidates = (source / "Flickr8k_text" / CAPTION_FILE, source / CAPTION_FILE)
    return next((path for path in candidates if path.is_file()), None)


def read_flickr8k(source: Path, image_root: Path | None) -> Iterator[CaptionRecord]:
    """Yield one record per line `NAME.jpg#K<TAB>caption`; images in no split list have no split."""
    captions = find_caption_file(source)
    if captions is None:
        raise UserError(f"{source}: contains no {CAPTION_FILE}; name the folder above Flickr8k_text")
    splits = dict(_read_split_lists(captions.parent))
    images = ImageFinder(image_root, source if source.is_dir() else source.parent, captions.parent.parent)
    for number, line in read_lines(captions):
        where = f"{captions}, line {number}"
        key, tab, caption = line.partition("\t")
        if not tab:
            raise UserError(f"{where}: no tab between image and caption; write NAME.jpg#0<TAB>caption")
        name, image = images.find(key.rpartition("#")[0] or key)
        yield CaptionRecord(name, image, [caption], splits.get(name), where)


def _read_split_lists(folder: Path) -> Iterator[tuple[str, str]]:
    for split, file_name in SPLIT_FILES.items():
        if (folder / file_name).is_file():
            yield from ((name, split) for name in read_text(folder / file_name).split())
