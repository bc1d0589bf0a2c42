"""Feature grids of a data set, computed once and cached on disk in half precision or in 8 bits.

A frozen encoder computes the same grid in every epoch, and this costs far more than training the decoder on it. The
cache is memory-mapped, so that it need not fit in memory. Its key depends on everything that determines the features:
the encoder's weights, its preprocessing, the precision and the images; each view of the images has its own file. Every
file ends in its checksum; a damaged one is computed again.

Machines that do not train together can compute parts of a file apart, each a range of the batches. Who needs the whole
joins them, and computes what no part holds.
"""

import contextlib
import hashlib
import json
import re
import shutil
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import IO, NamedTuple

import numpy as np
import torch
from torch import Tensor

from captioning.captioner_config import FeatureBits
from captioning.network.encoder import GridEncoder
from captioning.training.feature_file import FeatureArray, is_whole
from captioning.training.views import PLAIN, View
from data_prep.images import load_image
from data_prep.prepared_captions import PreparedCaptions
from vision_rnn.alone import alone_in
from vision_rnn.checksums import digest
from vision_rnn.console import Progress, counted, note
from vision_rnn.errors import UserError
from vision_rnn.files import atomic_path, settle_in
from vision_rnn.processes import gathered, is_first_process, num_processes, rank
from vision_rnn.shard import Shard

BATCH_SIZE = 16
_COPIED = 2**24  # bytes at once


def grid_features(
    encoder: GridEncoder,
    data: PreparedCaptions,
    split: str,
    view: View = PLAIN,
    bf16: bool = False,
    bits: FeatureBits = 16,
) -> np.ndarray:
    """Return the grids of a split for `as_tensor`, memory-mapped; compute them if they are not cached.

    They are (images, L, C) float16; or, in 8 bits, (images, L) of a type with fields: `levels`, (C,) from 0 to 255, and
    `low` and `step`, which make them values. This halves the file, and changes each value by at most a 510th of the
    range of its location.

    Args:
        encoder: The encoder; its weights must not change afterwards.
        data: The prepared data set; its folder contains the cache, `features/`.
        split: Name of the split.
        view: How each image is seen.
        bf16: Compute in mixed precision, two to three times as fast where the hardware multiplies bf16.
        bits: Bits of a value on disk.

    Raises:
        UserError: The disk has too little free space for the features.
    """
    source = _Source(encoder, data, split, view, bf16)
    path, array = _cached_at(source, bits)
    # Of several processes the first finds out for all, and each computes a share.
    if not gathered(is_first_process() and is_whole(path, array))[0]:
        with contextlib.ExitStack() as stack:
            if is_first_process():
                settle_in(data.folder / "features")
                stack.enter_context(alone_in(path.parent, wait=True))
            # Another training may just have computed them.
            if not gathered(is_first_process() and is_whole(path, array))[0]:
                parts = gathered(_parts(path, array) if is_first_process() else {})[0]
                _compute(source, path, array, range(array.images), parts)
    if is_first_process():
        for part in path.parent.glob(_part_of(path, "*")):
            part.unlink(missing_ok=True)
    return np.load(path, mmap_mode="r")


def compute_part(
    encoder: GridEncoder,
    data: PreparedCaptions,
    split: str,
    shard: Shard,
    view: View = PLAIN,
    bf16: bool = False,
    bits: FeatureBits = 16,
) -> int:
    """Compute one part of the features, unless it or the whole is cached; `grid_features` then finds it.

    Args:
        encoder: As of `grid_features`.
        data: As of `grid_features`.
        split: As of `grid_features`.
        shard: Which part: a range of the batches of images.
        view: As of `grid_features`.
        bf16: As of `grid_features`.
        bits: As of `grid_features`.

    Returns:
        How many images were encoded.

    Raises:
        UserError: As for `grid_features`; or another process computes the same part.
    """
    source = _Source(encoder, data, split, view, bf16)
    path, array = _cached_at(source, bits)
    images = _images_of(shard, array.images)
    part = path.with_name(_part_of(path, f"{shard.number}-of-{shard.shards}"))
    of_part = array._replace(images=len(images))
    if not images or is_whole(path, array) or is_whole(part, of_part):
        return 0
    _compute(source, part, of_part, images, {})
    return len(images)


def as_tensor(grids: np.ndarray) -> Tensor:
    """Return some of the grids that `grid_features` gives, (..., L, C) float32."""
    if not grids.dtype.names:
        return torch.from_numpy(grids.astype(np.float32))
    low, step, levels = (torch.from_numpy(grids[name].astype(np.float32)) for name in ("low", "step", "levels"))
    return levels.mul_(step.unsqueeze(-1)).add_(low.unsqueeze(-1))


class _Source(NamedTuple):
    """What features are computed from."""

    encoder: GridEncoder
    data: PreparedCaptions
    split: str
    view: View
    bf16: bool


def _cached_at(source: _Source, bits: FeatureBits) -> tuple[Path, FeatureArray]:
    """Return the file of features, and what it holds."""
    encoder, data, split, view, bf16 = source
    name = f"{split}{view.suffix}{'-8-bit' if bits == 8 else ''}.npy"
    array = FeatureArray(len(data.split(split)), encoder.grid_size**2, encoder.channels, bits)
    return data.folder / "features" / _key(encoder, data, bf16)[:16] / name, array


def _part_of(path: Path, part: str) -> str:
    """Return the name of a part of a file of features."""
    return f"{path.stem}.part-{part}{path.suffix}"


def _images_of(shard: Shard, images: int) -> range:
    """Return the positions of the images of a part: whole batches, and thus those of a single process."""
    batches = shard.range_of(-(-images // BATCH_SIZE))
    return range(images)[batches.start * BATCH_SIZE : batches.stop * BATCH_SIZE]


def _parts(path: Path, array: FeatureArray) -> dict[Path, range]:
    """Return the parts that are there, each with the positions of its images."""
    parts = {}
    for part in sorted(path.parent.glob(_part_of(path, "*"))):
        if found := re.search(r"\.part-([0-9]+)-of-([0-9]+)\.npy$", part.name, re.ASCII):
            images = _images_of(Shard(*map(int, found.groups())), array.images)
            if is_whole(part, array._replace(images=len(images))):
                parts[part] = images
    if parts:
        held = len({image for images in parts.values() for image in images})
        note(f"{path}: of {array.images} images, {held} are in {counted(len(parts), 'part')} computed before")
    return parts


def _key(encoder: GridEncoder, data: PreparedCaptions, bf16: bool) -> str:
    digest = hashlib.sha256(json.dumps(asdict(encoder.config), sort_keys=True).encode())
    digest.update(b"bf16" if bf16 else b"")
    digest.update(data.content_hash.encode())
    for name, tensor in encoder.state_dict().items():
        digest.update(name.encode())
        digest.update(tensor.cpu().numpy().tobytes())
    return digest.hexdigest()


@torch.inference_mode()
def _compute(source: _Source, path: Path, array: FeatureArray, images: range, parts: Mapping[Path, range]) -> None:
    """Write the features of a range of images, and take those that parts hold from there."""
    encoder, data, split, view, bf16 = source
    needed, free = array.num_bytes, shutil.disk_usage(data.folder).free
    if needed > free:
        raise UserError(f"{path}: needs {needed / 1e9:.1f} GB, but {free / 1e9:.1f} GB are free; free some space")
    rows, device, header = data.split(split)["image"], encoder.mean.device, array.header()
    # Shares are whole batches, and thus those of a single process.
    left = [start for start in images[::BATCH_SIZE] if not any(start in held for held in parts.values())]
    starts = left[rank() :: num_processes()]
    with contextlib.ExitStack() as stack:
        # All processes write to one file, each its own batches; the first completes it.
        staged = stack.enter_context(atomic_path(path)) if is_first_process() else None
        if staged:
            staged.write_bytes(header)
        staged = gathered(staged)[0]
        assert staged is not None
        # Not through a memory map: if the disk fills meanwhile, a write to the map kills the process without a message.
        with open(staged, "r+b") as file:
            for part, held in parts.items() if is_first_process() else ():
                file.seek(len(header) + (held.start - images.start) * array.image_bytes)
                _copy_content(part, array._replace(images=len(held)), file)
            label = f"features of {split}{view.suffix.replace('-', ' ')}"
            progress = stack.enter_context(Progress(BATCH_SIZE * len(starts), label, "image"))
            for start in starts:
                batch = enumerate(rows[start : min(start + BATCH_SIZE, images.stop)], start)
                seen = [encoder.preprocess(view.of(load_image(image["bytes"]), index)) for index, image in batch]
                with torch.autocast(device.type, torch.bfloat16, enabled=bf16):
                    grids = encoder(torch.stack(seen).to(device))
                file.seek(len(header) + (start - images.start) * array.image_bytes)
                file.write(array.encode(grids.float().cpu().numpy()))
                progress.update(len(seen))
        gathered(None)  # All have written.
        if is_first_process():
            checksum = digest(staged)
            with open(staged, "ab") as file:
                # Behind the array, where readers of the format do not look.
                file.write(checksum)
    gathered(None)  # The file has its name.


def _copy_content(part: Path, array: FeatureArray, target: IO[bytes]) -> None:
    """Copy what a part holds, without its header and its checksum."""
    left = array.num_bytes
    with open(part, "rb") as file:
        file.seek(len(array.header()))
        while block := file.read(min(left, _COPIED)):
            target.write(block)
            left -= len(block)
