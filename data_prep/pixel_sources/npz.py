"""Arrays in a NumPy .npz file: an array of images and one of labels per split, or for all images.

An array is recognised by the words of its name: a split (`train`), what it contains (`x`, `images`, `labels`), or both
in either order, as in Keras's `x_train` and MedMNIST's `train_images` (Yang et al., 2023, arXiv:2110.14795).

The fixed binarization of MNIST (Larochelle and Murray, AISTATS 2011) is packed, with eight pixels per byte.
"""

import math
import zipfile
import zlib
from pathlib import Path
from typing import BinaryIO

import numpy as np

from data_prep.packed import largest_unpacked, too_large
from data_prep.pixel_sources.source import PixelSource, source_of_arrays
from data_prep.splits import SPLIT_NAMES
from vision_rnn.console import note
from vision_rnn.errors import UserError
from vision_rnn.files import check_no_device

IMAGES = frozenset({"", "x", "image", "images", "img", "imgs", "data"})
LABELS = frozenset({"y", "label", "labels", "target", "targets"})


def read_npz(source: Path) -> PixelSource:
    """Read a .npz file, or the only one in a folder.

    Images are N x H x W, N x H x W x C or N x C x H x W with C 1 or 3, or N x D with D = H x H. A two-dimensional
    uint8 array is read as `np.packbits` of 0/1 images along axis 1 if 8 x D is a square number and D is not. Labels are
    N integers.

    Raises:
        UserError: The file is not a .npz file, is corrupt, or its arrays are not images.
    """
    path = _only_file(source) if source.is_dir() else source
    arrays = _load(path)
    images, labels, unused = {}, {}, []
    for key, array in arrays.items():
        split, content = _words(key)
        if content not in ("images", "labels"):
            unused.append(key)
            continue
        of_kind = images if content == "images" else labels
        if split in of_kind:
            named = f"the {split} split" if split else "no split"
            raise UserError(f"{path}: two arrays of {content} of {named}; keep one")
        of_kind[split] = _to_images(array, f"{path}, array '{key}'") if content == "images" else array
    if not images and len(unused) == 1:
        key = unused.pop()
        images[None] = _to_images(arrays[key], f"{path}, array '{key}'")
    if None in images and len(images) > 1:
        raise UserError(f"{path}: an array of images of no split beside others of splits; name its split, or omit it")
    unused += [f"labels of {split or 'no split'}" for split in labels if split not in images]
    if images and unused:
        note(f"{path}: not read: {', '.join(unused)}")
    if not images:
        raise UserError(
            f"{path}: no array is named after a split (arrays: {', '.join(arrays) or 'none'}); "
            "name them train, test or x_train, y_train, ..."
        )
    return source_of_arrays(images, labels, str(path))


def _words(key: str) -> tuple[str | None, str | None]:
    """Return the split in the name of an array, and its content: `images`, `labels`, or None if it is neither."""
    words = key.lower().split("_")
    splits = [SPLIT_NAMES[word] for word in words if word in SPLIT_NAMES]
    rest = "_".join(word for word in words if word not in SPLIT_NAMES)
    content = "images" if rest in IMAGES else "labels" if rest in LABELS else None
    return (splits[0] if splits else None), content if len(splits) <= 1 else None


def _only_file(folder: Path) -> Path:
    files = sorted(folder.glob("*.npz"))
    if len(files) != 1:
        raise UserError(f"{folder}: contains {len(files)} .npz files; name one file")
    return files[0]


def _load(path: Path) -> dict[str, np.ndarray]:
    try:
        check_no_device(path)
        # Opened here, since NumPy does not close a file that it cannot read.
        with path.open("rb") as file:
            if zipfile.is_zipfile(file):
                _check_size(file, path)
            file.seek(0)
            with np.load(file, allow_pickle=False) as arrays:
                return dict(arrays)
    # A .npy array is not a context manager (TypeError); the other errors come from zip, zlib and NumPy's reader.
    except (TypeError, OSError, ValueError, EOFError, KeyError, zipfile.BadZipFile, zlib.error) as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        raise UserError(f"{path}: not a .npz file of plain arrays ({reason}); save it with np.savez") from error


def _check_size(file: BinaryIO, path: Path) -> None:
    """Check what a file unpacks to, which zip files tell in advance and do not exceed."""
    packed = path.stat().st_size
    with zipfile.ZipFile(file) as archive:
        unpacked = sum(member.file_size for member in archive.infolist())
    if unpacked > largest_unpacked(packed):
        raise too_large(path, packed, f"{unpacked / 1e9:.1f} GB", "if you trust it, save it again with np.savez")


def _to_images(array: np.ndarray, where: str) -> np.ndarray:
    """Return (N, H, W, C), with the number type of the array."""
    if array.dtype.kind not in "biuf":
        raise UserError(f"{where}: contains {array.dtype}, not numbers; save pixels as uint8")
    if array.ndim == 2:
        if not _is_square(array.shape[1]) and _is_square(8 * array.shape[1]) and array.dtype == np.uint8:
            array = np.unpackbits(array, axis=1)
        if _is_square(array.shape[1]):
            side = math.isqrt(array.shape[1])
            return array.reshape(-1, side, side, 1)
    if array.ndim == 3:
        return array[..., np.newaxis]
    if array.ndim == 4 and array.shape[3] in (1, 3):
        return array
    if array.ndim == 4 and array.shape[1] in (1, 3):
        return array.transpose(0, 2, 3, 1)
    raise UserError(f"{where}: shape {array.shape}; give N x H x W, N x H x W x 1 or 3, or N x (H x H)")


def _is_square(number: int) -> bool:
    return math.isqrt(number) ** 2 == number
