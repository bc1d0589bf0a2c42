"""The file format of cached features: an npy array, then its checksum."""

import io
from pathlib import Path
from typing import NamedTuple

import numpy as np

from captioning.captioner_config import FeatureBits
from vision_rnn.checksums import DIGEST_BYTES, digest
from vision_rnn.console import note

_LARGEST_LEVEL = 255


class FeatureArray(NamedTuple):
    """What a file of features holds."""

    images: int
    locations: int
    channels: int
    bits: FeatureBits

    @property
    def _type(self) -> np.dtype:
        """The type of the elements of an array of images and locations."""
        if self.bits == 16:
            return np.dtype((np.float16, (self.channels,)))
        return np.dtype([("low", np.float16), ("step", np.float16), ("levels", np.uint8, (self.channels,))])

    @property
    def image_bytes(self) -> int:
        """Bytes of an image's features."""
        return self.locations * self._type.itemsize

    @property
    def num_bytes(self) -> int:
        """Bytes of all images' features."""
        return self.images * self.image_bytes

    def header(self) -> bytes:
        """Return the first bytes of the file."""
        header = io.BytesIO()
        np.lib.format.write_array_header_1_0(
            header,
            {
                "descr": np.lib.format.dtype_to_descr(self._type.base),
                "fortran_order": False,
                "shape": (self.images, self.locations, *self._type.shape),
            },
        )
        return header.getvalue()

    def encode(self, grids: np.ndarray) -> bytes:
        """Return grids, (B, L, C) float32, as the file holds them."""
        if self.bits == 16:
            return grids.astype(np.float16).tobytes()
        encoded = np.empty(grids.shape[:2], self._type)
        encoded["low"] = grids.min(-1)
        low = encoded["low"].astype(np.float32)
        encoded["step"] = (grids.max(-1) - low) / _LARGEST_LEVEL
        step = encoded["step"].astype(np.float32)
        step[step == 0] = 1  # All values of a location are equal.
        levels = (grids - low[..., np.newaxis]) / step[..., np.newaxis]
        encoded["levels"] = levels.round().clip(0, _LARGEST_LEVEL)
        return encoded.tobytes()


def is_whole(path: Path, array: FeatureArray) -> bool:
    """Return whether a file holds such features, as they were written; say so if that cannot be known."""
    if not path.is_file():
        return False
    header = array.header()
    content, size = len(header) + array.num_bytes, path.stat().st_size
    with open(path, "rb") as file:
        is_whole = file.read(len(header)) == header and size in (content, content + DIGEST_BYTES)
        file.seek(content)
        checksum = file.read()
    if is_whole and not checksum:
        note(f"{path}: has no checksum, since an earlier version wrote it, and is not checked for damage")
        return True
    if is_whole and digest(path, content) == checksum:
        return True
    note(f"{path}: damaged; these features are computed again")
    return False
