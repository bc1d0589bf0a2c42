"""A folder of images, each beside a text file of the same name with one caption per line."""

from collections.abc import Iterator
from pathlib import Path

from data_prep.caption_sources.caption_files import read_lines, require_utf8
from data_prep.caption_sources.image_finder import split_of_folder
from data_prep.caption_sources.record import CaptionRecord, Skipped
from data_prep.image_files import find_images, list_images
from vision_rnn.console import note
from vision_rnn.errors import UserError

# In the order of preference; the second is what kohya's scripts write.
SUFFIXES = (".txt", ".caption")


def share_with_text(folder: Path) -> float:
    """Share of the images in and below a folder that have a text file, 0..1; 0 if there are no images."""
    try:
        images = list_images(folder, recursive=True).images
    except UserError:
        return 0.0
    texts = _TextFiles()
    return sum(bool(texts.beside(image)) for image in images) / len(images)


def read_sidecar(source: Path, image_root: Path | None, skipped: Skipped) -> Iterator[CaptionRecord]:
    """Yield one record per image; subfolders `train`, `validation` and `test` determine the splits.

    The texts of `a.jpg` are in `a.txt`, `a.caption`, `a.jpg.txt` or `a.jpg.caption`, in any case; the first is used.
    """
    if image_root is not None:
        raise UserError(f"{source}: sidecar captions are beside their images; omit --image-root")
    texts = _TextFiles()
    with_several: list[list[Path]] = []
    for image in find_images(source, recursive=True):
        split, name = split_of_folder(image.relative_to(source).as_posix())
        found = texts.beside(image)
        where = str(found[0] if found else image.with_suffix(SUFFIXES[0]))
        with skipped.on_error(where):
            yield CaptionRecord(name, image, _captions(found[0]) if found else [], split, where)
        if len(found) > 1:
            with_several.append(found)
    if with_several:
        used, *others = with_several[0]
        note(
            f"{source}: {len(with_several)} images have several text files, and the first was used, such as "
            f"{used.name} in place of {', '.join(path.name for path in others)}"
        )


def _captions(path: Path) -> list[str]:
    captions = []
    for where, line in read_lines(path):
        require_utf8(line, where)
        captions.append(line)
    return captions


class _TextFiles:
    """Finds the text files beside images, whatever the case of their suffixes; lists each folder once."""

    def __init__(self) -> None:
        self._by_name: dict[Path, dict[str, Path]] = {}

    def beside(self, image: Path) -> list[Path]:
        """Return the text files of an image, the preferred one first."""
        folder = image.parent
        if folder not in self._by_name:
            texts = (path for path in sorted(folder.iterdir()) if path.suffix.lower() in SUFFIXES and path.is_file())
            self._by_name[folder] = {f"{path.stem}{path.suffix.lower()}": path for path in texts}
        names = [f"{stem}{suffix}" for stem in (image.stem, image.name) for suffix in SUFFIXES]
        return [self._by_name[folder][name] for name in names if name in self._by_name[folder]]
