"""A folder of image files; its subfolders may determine the splits, and their subfolders the classes."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from data_prep.image_files import list_images, note_skipped
from data_prep.images import read_encoded
from data_prep.outside import inside
from data_prep.pixel_sources.encoded import decode
from data_prep.pixel_sources.source import PixelSource, SourceSplit
from data_prep.splits import SPLIT_NAMES
from vision_rnn.console import note
from vision_rnn.errors import UserError


@dataclass(frozen=True)
class ImageFiles:
    """Image files that are read on request.

    Attributes:
        paths: The files.
        folder: The folder outside which they are not read; None if they may lie anywhere.
    """

    paths: Sequence[Path]
    folder: Path | None

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: int) -> np.ndarray:
        return decode(self.encoded(index), str(self.paths[index]))

    def encoded(self, index: int) -> bytes:
        """Read the content of a file."""
        path = self.paths[index]
        return read_encoded(inside(path, [self.folder], "pixels") if self.folder else path)


def read_folder(source: Path, allow_outside: bool = False) -> PixelSource:
    """Read a folder of images, sorted by path; subfolders such as `train` and `test`, if any, are its splits.

    If every image of a split is in a subfolder, the subfolders are the classes, numbered in alphabetical order; if only
    some are, the split has no labels, which is noted.

    Args:
        source: The folder.
        allow_outside: Whether links to images outside the folder are read; otherwise these cannot be read.

    Raises:
        UserError: There is no such folder, two of its subfolders are the same split, or one contains no image.
    """
    roots = _split_folders(source) or {None: source}
    listings = {split: list_images(root, recursive=True) for split, root in roots.items()}
    note_skipped(list(listings.values()))
    paths = {split: listing.images for split, listing in listings.items()}
    classes = {split: [_class_of(path, roots[split]) for path in of_split] for split, of_split in paths.items()}
    names = sorted({name for of_split in classes.values() for name in of_split if name})
    numbers = {name: number for number, name in enumerate(names)}
    for split, of_split in classes.items():
        if any(of_split) and not all(of_split):
            where, outside = f"{source}, {split}" if split else str(source), of_split.count("")
            note(f"{where}: no labels, as {outside} of {len(of_split)} images are in no subfolder")
    splits = {
        split: SourceSplit(
            ImageFiles(of_split, None if allow_outside else source),
            [path.relative_to(source).as_posix() for path in of_split],
            np.array([numbers[name] for name in classes[split]]) if all(classes[split]) else None,
        )
        for split, of_split in paths.items()
    }
    return PixelSource(splits, 256)


def _split_folders(source: Path) -> dict[str | None, Path]:
    found: dict[str | None, Path] = {}
    for path in sorted(source.iterdir()) if source.is_dir() else []:
        split = SPLIT_NAMES.get(path.name.lower())
        if split and path.is_dir():
            if split in found:
                raise UserError(f"{path}: the {split} split is also in {found[split]}; keep one")
            found[split] = path
    return found


def _class_of(path: Path, root: Path) -> str:
    """Return the top-level subfolder of an image; empty if it is in none."""
    top, *rest = path.relative_to(root).parts
    return top if rest else ""
