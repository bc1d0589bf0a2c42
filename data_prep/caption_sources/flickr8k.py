"""Flickr8k in the layout of its authors (Hodosh, Young, Hockenmaier, JAIR 47, 2013), or all in one folder.

Flickr30k (Young et al., TACL 2, 2014) has the same kind of caption file, `results_20130124.token`.
"""

from collections.abc import Iterator
from pathlib import Path

from data_prep.caption_sources.caption_files import read_lines, require_utf8
from data_prep.caption_sources.image_finder import ImageFinder
from data_prep.caption_sources.record import CaptionRecord, Skipped
from vision_rnn.errors import UserError
from vision_rnn.files import read_text

CAPTION_FILE = "Flickr8k.token.txt"
SUFFIXES = (".token", ".token.txt")
SPLIT_FILES = {
    "train": ("Flickr_8k.trainImages.txt", "train.txt"),
    "validation": ("Flickr_8k.devImages.txt", "val.txt"),
    "test": ("Flickr_8k.testImages.txt", "test.txt"),
}


def find_caption_file(source: Path) -> Path | None:
    """Return the caption file of a folder in this layout, or `source` if it is one; else None.

    Raises:
        UserError: A folder has several.
    """
    if source.name.endswith(SUFFIXES) and source.is_file():
        return source
    candidates = (source / "Flickr8k_text" / CAPTION_FILE, source / CAPTION_FILE)
    if usual := next((path for path in candidates if path.is_file()), None):
        return usual
    others = [path for suffix in SUFFIXES for path in sorted(source.glob(f"*{suffix}")) if path.is_file()]
    if len(others) > 1:
        raise UserError(f"{source}: contains {len(others)} caption files, such as {others[0].name}; name one of them")
    return others[0] if others else None


def read_flickr8k(source: Path, image_root: Path | None, skipped: Skipped) -> Iterator[CaptionRecord]:
    """Yield one record per line `NAME.jpg#K<TAB>caption`; images in no split list have no split."""
    captions = find_caption_file(source)
    if captions is None:
        raise UserError(f"{source}: contains no {CAPTION_FILE}, nor *.token; name the caption file itself")
    splits = dict(_read_split_lists(captions.parent))
    images = ImageFinder(image_root, source if source.is_dir() else source.parent, captions.parent.parent)
    for where, line in read_lines(captions):
        with skipped.on_error(where):
            require_utf8(line, where)
            key, tab, caption = line.partition("\t")
            if not tab:
                raise UserError(f"{where}: no tab between image and caption; write NAME.jpg#0<TAB>caption")
            name, image = images.find(key.rpartition("#")[0] or key)
            yield CaptionRecord(name, image, [caption], splits.get(Path(name).stem), where)


def _read_split_lists(folder: Path) -> Iterator[tuple[str, str]]:
    """Yield the name without suffix and the split of each listed image: Flickr30k's lists omit the suffix."""
    for split, file_names in SPLIT_FILES.items():
        for path in (folder / name for name in file_names):
            if path.is_file():
                yield from ((Path(name).stem, split) for name in read_text(path).split())
