"""A prepared pixel data set as it lies on disk: what `data-prep pixels` writes and the pixel models read."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from data_prep.prepared_folder import damaged, load_rows, read_manifest

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
        folder: Where the data set lies.
        manifest: Source, options, size, counts, images left out, content hash.
    """

    folder: Path
    manifest: dict[str, Any]

    @classmethod
    def open(cls, folder: str | Path) -> "PreparedPixels":
        """Open a prepared data set; the splits are read only when asked for.

        Raises:
            UserError: The folder holds no prepared pixel data set, or a damaged one.
        """
        folder = Path(folder)
        return cls(folder, read_manifest(folder, KIND, _MANIFEST_KEYS))

    @property
    def height(self) -> int:
        """Rows of pixels of every image."""
        return self.manifest["height"]

    @property
    def width(self) -> int:
        """Columns of pixels of every image."""
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
        """How the pixels became binary, in words; `none` if they are not."""
        return self.manifest["binarization"]

    @property
    def num_classes(self) -> int:
        """Number of classes that the labels tell; 0 if there are no labels."""
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
            # Arrow keeps the rows in pieces, each of which is a view of the file.
            pieces = [piece.flatten().to_numpy() for piece in table.column(PIXELS).chunks]
            pixels = np.concatenate(pieces).reshape(shape)
            labels = table.column(LABEL).to_numpy() if LABEL in rows.column_names else None
        except (OSError, ValueError, KeyError) as error:
            raise damaged(self.folder / name, KIND, error) from error
        return PixelSplit(pixels, labels)
