"""The pictures of a source, as they are on the disk now."""

import hashlib
import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from data_prep.image_files import list_images
from data_prep.images import ImageError
from data_prep.pixel_sources.pixel_formats import read_pixels, recognise
from data_prep.pixel_sources.source import EncodedImages, Images, PixelSource
from data_prep.pixels import places_by_split
from data_prep.prepared_folder import check_unprepared
from vision_rnn.console import Progress
from vision_rnn.errors import UserError


@dataclass(frozen=True)
class Survey:
    """What the pictures of a source are like; those that cannot be read are not counted.

    Attributes:
        sizes: Number of pictures by height and width.
        in_colour: Number of pictures that are not grey.
        is_binary: Whether all pixels of all pictures are black or white.
        is_fixed: Whether these are the numbers 0 and 1 in the source, which cannot be resized.
        splits: Number of pictures by split, as preparation will use them; 0 for a split without any.
        has_labels: Whether the pictures are labelled.
        seconds: What it took to read them all.
    """

    sizes: Mapping[tuple[int, int], int]
    in_colour: int
    is_binary: bool
    is_fixed: bool
    splits: Counter[str]
    has_labels: bool
    seconds: float

    @property
    def number(self) -> int:
        """Number of pictures."""
        return sum(self.sizes.values())


@dataclass(frozen=True)
class PictureSource:
    """A source of pictures in any format that `data_prep.pixels.prepare_pixels` reads, except the hub.

    Attributes:
        path: Folder or file.
        format: Its format.
        data: What was read from it; picture files are opened only on request.
    """

    path: Path
    format: str
    data: PixelSource

    @classmethod
    def read(cls, path: Path) -> "PictureSource":
        """Read a source.

        Raises:
            UserError: There is no such source, or no picture in it.
        """
        check_unprepared(path, "pixels")
        format = recognise(path)
        if format is None:
            if path.is_dir():
                list_images(path, recursive=True)  # Its error names what looks like a picture.
            raise UserError(f"{path}: no file of many pictures; name a folder, or an IDX, .npz or Parquet file")
        return cls(path, format, read_pixels(str(path), format))

    def digests(self) -> dict[str, str]:
        """Return a digest of every picture that can be read, with its label, by its name."""
        found, number = {}, sum(len(part.names) for part in self.data.splits.values())
        with Progress(number, "checking pictures", "picture") as progress:
            for split, part in self.data.splits.items():
                for index, name in enumerate(part.names):
                    progress.update()
                    try:
                        content = _content(part.images, index)
                    except ImageError:
                        continue
                    label = b"" if part.labels is None else f"{part.labels[index]} ".encode()
                    # The split that the source gives: one that is drawn depends on the other pictures.
                    found[f"{name} of {split}" if split else name] = hashlib.sha256(label + content).hexdigest()
        return found

    def survey(self) -> Survey:
        """Look at every picture."""
        places, _, _ = places_by_split(self.data, seed=0, max_images=None)
        sizes, splits, in_colour, is_binary, is_fixed = Counter(), Counter(), 0, True, self.data.levels == 2
        start = time.perf_counter()
        with Progress(sum(map(len, places.values())), "looking at pictures", "picture") as progress:
            for split, of_split in places.items():
                for part, index in of_split:
                    progress.update()
                    try:
                        picture = part.images[index]
                    except ImageError:  # Preparation names it.
                        continue
                    splits[split] += 1
                    sizes[picture.shape[:2]] += 1
                    in_colour += picture.shape[2] == 3
                    is_black_and_white = picture.shape[2] == 1 and bool(np.isin(picture, (0, 255)).all())
                    is_binary = is_fixed or (is_binary and is_black_and_white)
        has_labels = any(part.labels is not None for part in self.data.splits.values())
        return Survey(sizes, in_colour, is_binary, is_fixed, splits, has_labels, time.perf_counter() - start)


def _content(images: Images, index: int) -> bytes:
    if isinstance(images, EncodedImages):
        return images.encoded(index)
    picture = images[index]
    return f"{picture.shape} ".encode() + picture.tobytes()
