"""The file format of losslessly coded images, written by `pixelrnn compress` and read by `pixelrnn decompress`.

Little-endian: 4 bytes `VRNN`, one byte with the version of the format, the first 16 bytes of the SHA-256 of the model's
description and weights, the number of images, their class (-1 for none), the batch size, the CRC-32 of all pixels and
the length of the names; the names of the images, each terminated by a zero byte; the number of words of each batch; all
words; and the CRC-32 of everything before it. The last checksum detects a damaged file before anything is decoded, and
the checksum of the pixels detects a wrong result of decoding.
"""

import hashlib
import json
import struct
import zlib
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from pixelrnn.coding.codec import BATCH_SIZE, Undecodable, batch_slices, decode, double, encode
from pixelrnn.model import PixelModel, PixelNetwork
from vision_rnn.errors import UserError
from vision_rnn.files import atomic_path, check_no_device

_MAGIC, _VERSION = b"VRNN", 1
_HEADER = struct.Struct("<4sB16sIhHII")
_CHECKSUM = struct.Struct("<I")
_HASH_BYTES = 16
# A file that someone else made may name any number of images to be decoded at once.
_LARGEST_BATCH = 1000


@dataclass(frozen=True)
class CodedImages:
    """The content of a file of coded images.

    Attributes:
        model_hash: Hash of the model that coded the images.
        names: Names of the images, without folder and suffix.
        label: Class of all images; None for an unconditional model.
        batch_size: Number of images of each stream except the last.
        checksum: CRC-32 of all pixels.
        streams: One stream per batch, each (words,) uint32.
    """

    model_hash: bytes
    names: list[str]
    label: int | None
    batch_size: int
    checksum: int
    streams: list[np.ndarray]


def compress(
    model: PixelModel,
    pixels: Tensor,
    names: Sequence[str],
    label: int | None = None,
    progress: Callable[[], object] | None = None,
) -> CodedImages:
    """Code images without loss.

    Args:
        model: Pixel model, in any precision.
        pixels: (N, C, H, W) uint8, values 0..levels-1; at least one image.
        names: Names of the images, without folder and suffix, all different.
        label: Class of all images, for a class-conditional model.
        progress: Callback after each row of each batch (for the order `transposed`: each column).

    Raises:
        UserError: Two images have the same name.
    """
    if len(set(names)) < len(names):
        twice = next(name for index, name in enumerate(names) if name in names[:index])
        raise UserError(f"{twice}: two images have this name; rename one, or code them into separate files")
    exact = double(model)
    parts = [pixels[part] for part in batch_slices(len(pixels), BATCH_SIZE)]
    streams = [encode(exact, part, exact.labels(len(part), label), progress) for part in parts]
    return CodedImages(model_hash(model), list(names), label, BATCH_SIZE, _crc(pixels), streams)


def decompress(model: PixelModel, coded: CodedImages, progress: Callable[[], object] | None = None) -> Tensor:
    """Decode images.

    Args:
        model: Model that coded the images, in any precision.
        coded: Coded images.
        progress: Callback after each row of each batch (for the order `transposed`: each column).

    Returns:
        (N, C, H, W) uint8, values 0..levels-1.

    Raises:
        UserError: Another model coded the images, or decoding does not give the coded pixels.
    """
    if model_hash(model) != coded.model_hash:
        other, this = (digest.hex()[:12] for digest in (coded.model_hash, model_hash(model)))
        raise UserError(f"coded by another model ({other}), not by this one ({this}); choose it with --model")
    exact = double(model)
    numbers = [part.stop - part.start for part in batch_slices(len(coded.names), coded.batch_size)]
    try:
        parts = [
            decode(exact, words, number, exact.labels(number, coded.label), progress)
            for number, words in zip(numbers, coded.streams, strict=True)
        ]
    except Undecodable as error:
        raise _undecodable(str(error)) from error
    pixels = torch.cat(parts).cpu()
    if _crc(pixels) != coded.checksum:
        raise _undecodable("the checksum of the pixels differs")
    return pixels


def write_coded(path: str | Path, coded: CodedImages) -> None:
    """Write a file of coded images atomically."""
    names = b"".join(name.encode("utf-8", "surrogateescape") + b"\0" for name in coded.names)
    header = _HEADER.pack(
        _MAGIC,
        _VERSION,
        coded.model_hash,
        len(coded.names),
        -1 if coded.label is None else coded.label,
        coded.batch_size,
        coded.checksum,
        len(names),
    )
    lengths = np.array([len(words) for words in coded.streams], dtype="<u4").tobytes()
    content = header + names + lengths + np.concatenate(coded.streams).astype("<u4").tobytes()
    with atomic_path(path) as staged:
        staged.write_bytes(content + _CHECKSUM.pack(zlib.crc32(content)))


def read_coded(path: str | Path) -> CodedImages:
    """Read a file of coded images.

    Raises:
        UserError: The file cannot be read, has another format or version, or is damaged.
    """
    check_no_device(Path(path))
    try:
        content = Path(path).read_bytes()
    except OSError as error:
        raise UserError(
            f"{path}: cannot be read ({error.strerror}); give a file that pixelrnn compress wrote"
        ) from None
    if not content.startswith(_MAGIC):
        raise UserError(f"{path}: not a file of coded images; give a file that pixelrnn compress wrote")
    body, checksum = content[: -_CHECKSUM.size], content[-_CHECKSUM.size :]
    if len(content) < _HEADER.size + _CHECKSUM.size or _CHECKSUM.pack(zlib.crc32(body)) != checksum:
        raise UserError(f"{path}: damaged or incomplete; copy it again")
    _, version, hash_, number, label, batch_size, pixels_checksum, names_length = _HEADER.unpack_from(body)
    if version != _VERSION:
        raise UserError(f"{path}: has format version {version}, but only {_VERSION} is supported; update vision-rnn")
    number_of_streams = -(-number // batch_size) if batch_size else 0
    places = [_HEADER.size, _HEADER.size + names_length, _HEADER.size + names_length + 4 * number_of_streams]
    names = [name.decode("utf-8", "surrogateescape") for name in body[places[0] : places[1]].split(b"\0")[:-1]]
    numbers, words = body[places[1] : places[2]], body[places[2] :]
    lengths = np.frombuffer(numbers[: len(numbers) // 4 * 4], "<u4").astype(np.int64)
    # Only a deliberately forged file passes the checksum and fails here.
    if (
        not (number and 0 < batch_size <= _LARGEST_BATCH)
        or len(names) != number
        or not all(map(_is_file_name, names))
        or len(lengths) != number_of_streams
        or 4 * lengths.sum() != len(words)
    ):
        raise UserError(f"{path}: inconsistent content; create it again with pixelrnn compress")
    streams = np.split(np.frombuffer(words, "<u4").astype(np.uint32), np.cumsum(lengths)[:-1])
    return CodedImages(
        hash_,
        names,
        None if label < 0 else label,
        batch_size,
        pixels_checksum,
        streams,
    )


def model_hash(model: PixelModel) -> bytes:
    """Return a hash of all that the probabilities depend on: architecture, image shape, weights in half precision."""
    config, shape = asdict(model.config), asdict(model.shape)
    if isinstance(model, PixelNetwork):
        # Settings that did not exist when the first files were coded, so that these can still be decoded.
        if model.config.output == "softmax":
            del config["output"], config["components"]
        if not model.config.context_layers:
            del config["context_layers"]
    digest = hashlib.sha256(json.dumps([config, shape], sort_keys=True).encode())
    for name, tensor in sorted(model.state_dict().items()):
        digest.update(name.encode() + tensor.cpu().half().contiguous().numpy().tobytes())
    return digest.digest()[:_HASH_BYTES]


def _is_file_name(name: str) -> bool:
    """Return whether a name is a plain file name, without a path to another folder."""
    return name not in ("", ".", "..") and Path(name).name == name


def _crc(pixels: Tensor) -> int:
    return zlib.crc32(pixels.cpu().contiguous().numpy().tobytes())


def _undecodable(reason: str) -> UserError:
    return UserError(
        f"cannot be decoded ({reason}): the probabilities on this computer differ from those that coded the images; "
        "decode on the computer that coded them, or check the model with pixelrnn verify"
    )
