"""Feature grids of a data set, computed once and cached on disk in half precision.

A frozen encoder computes the same grid in every epoch, and this costs far more than training the decoder on it. The
cache is memory-mapped, so that it need not fit in memory. Its key depends on everything that determines the features:
the encoder's weights, its preprocessing, the precision and the images; each view of the images has its own file. Every
file ends in its checksum; a damaged one is computed again.
"""

import contextlib
import hashlib
import io
import json
import math
import shutil
from dataclasses import asdict
from pathlib import Path

import numpy as np
import torch

from captioning.network.encoder import GridEncoder
from captioning.training.views import PLAIN, View
from data_prep.images import load_image
from data_prep.prepared_captions import PreparedCaptions
from vision_rnn.alone import alone_in
from vision_rnn.checksums import DIGEST_BYTES, digest
from vision_rnn.console import Progress, note
from vision_rnn.errors import UserError
from vision_rnn.files import atomic_path, settle_in
from vision_rnn.processes import gathered, is_first_process, num_processes, rank

BATCH_SIZE = 16


def grid_features(
    encoder: GridEncoder, data: PreparedCaptions, split: str, view: View = PLAIN, bf16: bool = False
) -> np.ndarray:
    """Return the grids of a split, (images, L, C) float16, memory-mapped; compute them if they are not cached.

    Args:
        encoder: The encoder; its weights must not change afterwards.
        data: The prepared data set; its folder contains the cache, `features/`.
        split: Name of the split.
        view: How each image is seen.
        bf16: Compute in mixed precision, two to three times as fast where the hardware multiplies bf16.

    Raises:
        UserError: The disk has too little free space for the features.
    """
    key = _key(encoder, data, bf16)
    path = data.folder / "features" / key[:16] / f"{split}{view.suffix}.npy"
    shape = (len(data.split(split)), encoder.grid_size**2, encoder.channels)
    # Of several processes the first finds out for all, and each computes a share.
    if not gathered(is_first_process() and _is_cached(path, shape))[0]:
        with contextlib.ExitStack() as stack:
            if is_first_process():
                settle_in(data.folder / "features")
                stack.enter_context(alone_in(path.parent, wait=True))
            # Another training may just have computed them.
            if not gathered(is_first_process() and _is_cached(path, shape))[0]:
                _compute(encoder, data, split, view, bf16, path, shape)
    return np.load(path, mmap_mode="r")


def _is_cached(path: Path, shape: tuple[int, ...]) -> bool:
    """Return whether a file holds features of this shape, as they were written; say so if that cannot be known."""
    if not path.is_file():
        return False
    header = _header(shape)
    content, size = len(header) + _bytes(shape), path.stat().st_size
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


def _header(shape: tuple[int, ...]) -> bytes:
    """Return the first bytes of a file of features."""
    header = io.BytesIO()
    described = {"descr": np.lib.format.dtype_to_descr(np.dtype(np.float16)), "fortran_order": False, "shape": shape}
    np.lib.format.write_array_header_1_0(header, described)
    return header.getvalue()


def _bytes(shape: tuple[int, ...]) -> int:
    return math.prod(shape) * np.dtype(np.float16).itemsize


def _key(encoder: GridEncoder, data: PreparedCaptions, bf16: bool) -> str:
    digest = hashlib.sha256(json.dumps(asdict(encoder.config), sort_keys=True).encode())
    digest.update(b"bf16" if bf16 else b"")
    digest.update(data.content_hash.encode())
    for name, tensor in encoder.state_dict().items():
        digest.update(name.encode())
        digest.update(tensor.cpu().numpy().tobytes())
    return digest.hexdigest()


@torch.inference_mode()
def _compute(
    encoder: GridEncoder,
    data: PreparedCaptions,
    split: str,
    view: View,
    bf16: bool,
    path: Path,
    shape: tuple[int, ...],
) -> None:
    needed, free = _bytes(shape), shutil.disk_usage(data.folder).free
    if needed > free:
        raise UserError(f"{path}: needs {needed / 1e9:.1f} GB, but {free / 1e9:.1f} GB are free; free some space")
    images, device, header = data.split(split)["image"], encoder.mean.device, _header(shape)
    # Shares are whole batches, and thus those of a single process.
    starts = range(0, len(images), BATCH_SIZE)[rank() :: num_processes()]
    with contextlib.ExitStack() as stack:
        # All processes write to one file, each its own batches; the first completes it.
        staged = stack.enter_context(atomic_path(path)) if is_first_process() else None
        if staged:
            staged.write_bytes(header)
        staged = gathered(staged)[0]
        assert staged is not None
        label = f"features of {split}{view.suffix.replace('-', ' ')}"
        progress = stack.enter_context(Progress(BATCH_SIZE * len(starts), label, "image"))
        # Not through a memory map: if the disk fills meanwhile, a write to the map kills the process without a message.
        with open(staged, "r+b") as file:
            for start in starts:
                batch = enumerate(images[start : start + BATCH_SIZE], start)
                seen = [encoder.preprocess(view.of(load_image(image["bytes"]), index)) for index, image in batch]
                with torch.autocast(device.type, torch.bfloat16, enabled=bf16):
                    grids = encoder(torch.stack(seen).to(device))
                file.seek(len(header) + start * _bytes(shape[1:]))
                file.write(grids.half().cpu().numpy().tobytes())
                progress.update(len(seen))
        gathered(None)  # All have written.
        if is_first_process():
            checksum = digest(staged)
            with open(staged, "ab") as file:
                # Behind the array, where readers of the format do not look.
                file.write(checksum)
    gathered(None)  # The file has its name.
