"""A file of losslessly coded images: what `pixelrnn compress` writes and `pixelrnn decompress` reads.

Little-endian: 4 bytes `VRNN`, a byte with the version of the format, the first 16 bytes of the SHA-256 over the model's
description and weights, the number of images, their class (-1 for none), the size of a batch and the CRC-32 of all
pixels; the images' names, each ended by a zero byte, with their length before them; for each batch the number of its
words; all words; and last the CRC-32 of everything before it. So a damaged file is known before anything is decoded,
and whatever the decoder makes of a sound one is known to be right or wrong.
"""

import hashlib
import json
import struct
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from pixelrnn.coding.codec import BATCH_SIZE, Undecodable, batch_slices, decode, double, encode
from pixelrnn.model import PixelModel
from vision_rnn.errors import UserError
from vision_rnn.files import atomic_path

_MAGIC, _VERSION = b"VRNN", 1
_HEADER = struct.Struct("<4sB16sIhHII")
_CHECKSUM = struct.Struct("<I")
_HASH_BYTES = 16


@dataclass(frozen=True)
class CodedImages:
    """What such a file holds.

    Attributes:
        model_hash: Of the model that coded them.
        names: Of the images, without folder and suffix.
        label: Their class; None if the model was told none.
        batch_size: Images of every stream but the last.
        checksum: CRC-32 of all pixels.
        streams: (words,) uint32 each.
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
    """Code images.

    Args:
        model: The model, in any precision.
        pixels: (N, C, H, W) uint8, values 0..levels-1; at least one image.
        names: Of the images, without folder and suffix, all different.
        label: Their class, for a conditional model.
        progress: Called after each row of each batch (of a transposed order: column).

    Raises:
        UserError: Two images have one name, or a name holds a zero byte.
    """
    if len(set(names)) < len(names):
        twice = next(name for index, name in enumerate(names) if name in names[:index])
        raise UserError(f"{twice}: the name of two images; code them into two files, or rename one")
    exact = double(model)
    parts = [pixels[part] for part in batch_slices(len(pixels), BATCH_SIZE)]
    streams = [encode(exact, part, exact.labels(len(part), label), progress) for part in parts]
    return CodedImages(model_hash(model), list(names), label, BATCH_SIZE, _crc(pixels), streams)


def decompress(model: PixelModel, coded: CodedImages, progress: Callable[[], object] | None = None) -> Tensor:
    """Decode images, (N, C, H, W) uint8.

    Args:
        model: The model that coded them, in any precision.
        coded: What it coded.
        progress: Called after each row of each batch (of a transposed order: column).

    Raises:
        UserError: It was another model, or what comes out is not what was coded.
    """
    if model_hash(model) != coded.model_hash:
        other, this = (digest.hex()[:12] for digest in (coded.model_hash, model_hash(model)))
        raise UserError(f"coded by another model ({other}), not by this one ({this}); name that one with --model")
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
        raise _undecodable("the pixels have another checksum")
    return pixels


def write_coded(path: str | Path, coded: CodedImages) -> None:
    """Write the file, whole or not at all."""
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
    """Read the file.

    Raises:
        UserError: It is no such file, of a newer version, or damaged.
    """
    try:
        content = Path(path).read_bytes()
    except OSError as error:
        raise UserError(
            f"{path}: cannot be read ({error.strerror}); name a file that pixelrnn compress wrote"
        ) from None
    if not content.startswith(_MAGIC):
        raise UserError(f"{path}: no file of coded images; name one that pixelrnn compress wrote")
    body, checksum = content[: -_CHECKSUM.size], content[-_CHECKSUM.size :]
    if len(content) < _HEADER.size + _CHECKSUM.size or _CHECKSUM.pack(zlib.crc32(body)) != checksum:
        raise UserError(f"{path}: damaged, or not whole; copy it again")
    _, version, hash_, number, label, batch_size, pixels_checksum, names_length = _HEADER.unpack_from(body)
    if version != _VERSION:
        raise UserError(f"{path}: version {version} of the format, and this program knows {_VERSION}; update it")
    number_of_streams = len(batch_slices(number, batch_size)) if batch_size else 0
    places = [_HEADER.size, _HEADER.size + names_length, _HEADER.size + names_length + 4 * number_of_streams]
    names = [name.decode("utf-8", "surrogateescape") for name in body[places[0] : places[1]].split(b"\0")[:-1]]
    numbers, words = body[places[1] : places[2]], body[places[2] :]
    lengths = np.frombuffer(numbers[: len(numbers) // 4 * 4], "<u4").astype(np.int64)
    # Only who makes a file to mislead gets past the checksum and fails here.
    if (
        not (number and batch_size)
        or len(names) != number
        or not all(map(_is_file_name, names))
        or len(lengths) != number_of_streams
        or 4 * lengths.sum() != len(words)
    ):
        raise UserError(f"{path}: its parts contradict each other; make it anew")
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
    """Return a hash of all that a model's probabilities depend on: architecture, images, weights in half precision."""
    described = model.describe()
    digest = hashlib.sha256(json.dumps([described["config"], described["shape"]], sort_keys=True).encode())
    for name, tensor in sorted(model.state_dict().items()):
        digest.update(name.encode() + tensor.cpu().half().contiguous().numpy().tobytes())
    return digest.digest()[:_HASH_BYTES]


def _is_file_name(name: str) -> bool:
    """Whether a name stays in the folder that it is joined to."""
    return name not in ("", ".", "..") and Path(name).name == name


def _crc(pixels: Tensor) -> int:
    return zlib.crc32(pixels.cpu().contiguous().numpy().tobytes())


def _undecodable(reason: str) -> UserError:
    return UserError(
        f"not decoded: {reason}; this computer's probabilities differ from those that coded the images, or the model "
        "looks ahead (see pixelrnn verify)"
    )
