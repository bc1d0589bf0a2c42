"""A prepared pixel data set on disk, as written by `data-prep pixels` and read by the pixel models."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from data_prep.prepared_folder import check_files, damaged, load_rows, read_manifest
from vision_rnn.files import MANIFEST

KIND = "pixels"
PIXELS, LABEL = "pixels", "label"
_MANIFEST_KEYS = frozenset(
    {"source", "format", "splits", "height", "width", "channels", "levels", "binarization"}
    | {"num_classes", "left_out", "in_several_splits", "content_hash"}
)


@dataclass(frozen=True, eq=False)
class PixelSplit:
    """The images of one split, in the order of the source.

    Attributes:
        pixels: (N, H, W, C) uint8, values 0..levels-1.
        labels: (N,) int64, values 0..num_classes-1; None if the source has none.
    """

    pixels: np.ndarray
    labels: np.ndarray | None


@dataclass(frozen=True)
class PreparedPixels:
    """Images of one size, as numbers.

    Attributes:
        folder: Folder of the data set.
        manifest: Source, options, size, counts, skipped images, content hash.
    """

    folder: Path
    manifest: dict[str, Any]

    @classmethod
    def open(cls, folder: str | Path) -> "PreparedPixels":
        """Open a prepared data set; the splits are read only on request.

        Raises:
            UserError: The folder is not a prepared pixel data set, or it is damaged.
        """
        folder = Path(folder)
        manifest = read_manifest(folder, KIND, _MANIFEST_KEYS)
        check_files(folder, KIND, MANIFEST)
        return cls(folder, manifest)

    @property
    def height(self) -> int:
        """Height of every image in pixels."""
        return self.manifest["height"]

    @property
    def width(self) -> int:
        """Width of every image in pixels."""
        return self.manifest["width"]

    @property
    def channels(self) -> int:
        """1 for grey images, 3 for RGB."""
        return self.manifest["channels"]

    @property
    def levels(self) -> int:
        """Number of values that a pixel can take: 2 for binary images, else 256."""
        return self.manifest["levels"]

    @property
    def binarization(self) -> str:
        """Description of how the pixels were binarized; `none` if they were not."""
        return self.manifest["binarization"]

    @property
    def num_classes(self) -> int:
        """Number of classes of the labels; 0 if there are no labels."""
        return self.manifest["num_classes"]

    @property
    def content_hash(self) -> str:
        """SHA-256 of the splits, the pixels and the labels, in hexadecimal."""
        return self.manifest["content_hash"]

    def split(self, name: str) -> PixelSplit:
        """Read one split into memory.

        Raises:
            UserError: The data set has no such split, or its files are damaged.
        """
        rows = load_rows(self.folder, self.manifest, name)
        shape = (len(rows), self.height, self.width, self.channels)
        try:
            table: Any = rows.with_format("arrow")[:]
            # Arrow stores the rows in chunks, each of which is a view of the file.
            pieces = [piece.flatten().to_numpy() for piece in table.column(PIXELS).chunks]
            pixels = np.concatenate(pieces).reshape(shape)
            labels = table.column(LABEL).to_numpy() if LABEL in rows.column_names else None
        except (OSError, ValueError, KeyError) as error:
            raise damaged(self.folder / name, KIND, error) from error
        return PixelSplit(pixels, labels)
