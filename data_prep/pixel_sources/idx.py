"""IDX, the format of MNIST (LeCun, Cortes, Burges, "The MNIST database of handwritten digits", 1998).

A file consists of two zero bytes, the type of the values (8: unsigned bytes), the number of dimensions, each size as
four bytes (big-endian), and the values (the last dimension varies fastest).
"""

import gzip
import io
import math
import re
import zlib
from pathlib import Path

import numpy as np

from data_prep.packed import largest_unpacked, too_large
from data_prep.pixel_sources.source import PixelSource, source_of_arrays
from data_prep.splits import SPLIT_NAMES
from vision_rnn.errors import UserError
from vision_rnn.files import read_file

IMAGE_FILE = re.compile(r"(?P<split>[a-z0-9]+)-images[-.]idx[34]-ubyte(\.gz)?$")
UNSIGNED_BYTE = 8
GZIP_MAGIC = b"\x1f\x8b"


def find_image_files(source: Path) -> dict[str | None, Path]:
    """Return the IDX image file of each split: `source` itself, or the files in the folder `source`.

    Raises:
        UserError: The folder contains several files of a split, as EMNIST's does, which holds several data sets.
    """
    candidates = sorted(source.iterdir()) if source.is_dir() else [source]
    found: dict[str | None, Path] = {}
    for path in candidates:
        if match := IMAGE_FILE.search(path.name):
            # MNIST names its test split "t10k". Of a file that exists with and without .gz, one is used.
            split = "test" if match["split"] == "t10k" else SPLIT_NAMES.get(match["split"])
            other = found.setdefault(split, path)
            if other.name.removesuffix(".gz") != path.name.removesuffix(".gz"):
                named = f"the {split} split" if split else "no split"
                raise UserError(
                    f"{source}: several files of {named}, such as {other.name} and {path.name}; "
                    "move those of one data set to a folder of their own"
                )
    return found


def read_idx(source: Path) -> PixelSource:
    """Read a folder with all or some of MNIST's four files, or a single file of images; gzipped or not.

    Raises:
        UserError: There is no such file, or it is not IDX, truncated or corrupt.
    """
    found = find_image_files(source) or ({None: source} if source.is_file() else {})
    if not found:
        raise UserError(f"{source}: contains no IDX images; name the folder of train-images-idx3-ubyte or its .gz")
    images = {split: _read_images(path) for split, path in found.items()}
    label_files = {split: _find_label_file(path) for split, path in found.items()}
    labels = {split: _read_array(path, (1,)) for split, path in label_files.items() if path}
    return source_of_arrays(images, labels, str(source))


def _find_label_file(image_file: Path) -> Path | None:
    if not IMAGE_FILE.search(image_file.name):
        return None
    name = re.sub(r"-images([-.])idx[34]", r"-labels\1idx1", image_file.name.removesuffix(".gz"))
    beside = (image_file.with_name(name), image_file.with_name(f"{name}.gz"))
    return next((path for path in beside if path.is_file()), None)


def _read_images(path: Path) -> np.ndarray:
    """Return (N, H, W, C) uint8."""
    images = _read_array(path, (3, 4))
    if images.ndim == 3:
        return images[..., np.newaxis]
    if images.shape[-1] not in (1, 3):
        raise UserError(f"{path}: {images.shape[-1]} channels; give 1 or 3")
    return images


def _read_array(path: Path, num_dimensions: tuple[int, ...]) -> np.ndarray:
    data = _read_bytes(path)
    if len(data) < 4 or data[:2] != b"\0\0" or data[2] != UNSIGNED_BYTE:
        raise UserError(
            f"{path}: not an IDX file of unsigned bytes (starts with {data[:4].hex(' ')}); download it again"
        )
    if data[3] not in num_dimensions:
        expected = " or ".join(map(str, num_dimensions))
        raise UserError(f"{path}: {data[3]} dimensions instead of {expected}; name the right file")
    header = 4 + 4 * data[3]
    shape = tuple(int.from_bytes(data[start : start + 4], "big") for start in range(4, header, 4))
    expected_length = header + math.prod(shape)
    if len(data) != expected_length:
        raise UserError(f"{path}: {len(data)} bytes instead of {expected_length} for shape {shape}; download it again")
    return np.frombuffer(data, np.uint8, offset=header).reshape(shape)


def _read_bytes(path: Path) -> bytes:
    data = read_file(path)
    if not data.startswith(GZIP_MAGIC):
        return data
    most = largest_unpacked(len(data))
    try:
        with gzip.GzipFile(fileobj=io.BytesIO(data)) as file:
            unpacked = file.read(most + 1)
    except (OSError, EOFError, zlib.error) as error:
        raise UserError(f"{path}: the gzip data is corrupt or truncated ({error}); download it again") from error
    if len(unpacked) > most:
        raise too_large(path, len(data), f"more than {most / 1e9:.1f} GB", "if you trust it, unpack it with gunzip")
    return unpacked
