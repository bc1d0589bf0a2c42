"""Images that a source names outside its own folder: by an absolute path, by `../`, or by a link.

A source that someone else made could draw any picture of this machine into a data set so. They are read only if the
user allows it.
"""

import functools
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from data_prep.images import ImageError, ImageFile


@dataclass(frozen=True)
class OutsideImage:
    """An image that is not read, since it lies outside the folder of its source.

    Attributes:
        path: Its path.
        kind: What `data-prep` prepares such a source as, `captions` or `pixels`.
    """

    path: Path
    kind: str

    def __str__(self) -> str:
        """Return its path."""
        return str(self.path)

    def read_bytes(self) -> bytes:
        """Refuse to read it."""
        raise ImageError(
            f"{self.path}: lies outside the source's folder; if you trust the source, use data-prep {self.kind} "
            "--allow-outside"
        )


def inside(image: ImageFile, folders: Sequence[Path], kind: str) -> ImageFile:
    """Return an image as it is if it lies in or below one of some folders, all links followed.

    Args:
        image: The image.
        folders: The folders.
        kind: See `OutsideImage`, which is returned otherwise.
    """
    # What is not there, or is no path at all, is explained when it is read.
    if not isinstance(image, Path) or not image.exists():
        return image
    real = _real(image) if image.is_symlink() else Path(_real(image.parent), image.name)
    return image if any(real.is_relative_to(_real(folder)) for folder in folders) else OutsideImage(image, kind)


def _real(path: Path) -> Path:
    # A relative path is another one after a change of the working directory.
    return _resolved(path.absolute())


@functools.lru_cache(maxsize=1000)
def _resolved(path: Path) -> Path:
    return Path(os.path.realpath(path))
