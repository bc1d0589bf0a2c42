"""Feature grids of a data set, computed once and cached on disk in half precision or in 8 bits.

A frozen encoder computes the same grid in every epoch, and this costs far more than training the decoder on it. The
cache is memory-mapped, so that it need not fit in memory. Its key depends on everything that determines the features:
the encoder's weights, its preprocessing, the precision and the images; each view of the images has its own file. Every
file ends in its checksum; a damaged one is computed again.
"""

import contextlib
import hashlib
import io
import json
import shutil
from dataclasses import asdict
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from captioning.captioner_config import FeatureBits
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
_LARGEST_LEVEL = 255


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
    key = _key(encoder, data, bf16)
    name = f"{split}{view.suffix}{'-8-bit' if bits == 8 else ''}.npy"
    path = data.folder / "features" / key[:16] / name
    array = _Array(len(data.split(split)), encoder.grid_size**2, encoder.channels, bits)
    # Of several processes the first finds out for all, and each computes a share.
    if not gathered(is_first_process() and _is_cached(path, array))[0]:
        with contextlib.ExitStack() as stack:
            if is_first_process():
                settle_in(data.folder / "features")
                stack.enter_context(alone_in(path.parent, wait=True))
            # Another training may just have computed them.
            if not gathered(is_first_process() and _is_cached(path, array))[0]:
                _compute(encoder, data, split, view, bf16, path, array)
    return np.load(path, mmap_mode="r")


def as_tensor(grids: np.ndarray) -> Tensor:
    """Return some of the grids that `grid_features` gives, (..., L, C) float32."""
    if not grids.dtype.names:
        return torch.from_numpy(grids.astype(np.float32))
    low, step, levels = (torch.from_numpy(grids[name].astype(np.float32)) for name in ("low", "step", "levels"))
    return levels.mul_(step.unsqueeze(-1)).add_(low.unsqueeze(-1))


class _Array(NamedTuple):
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
        return self.locations * self._type.itemsize

    @property
    def num_bytes(self) -> int:
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


def _is_cached(path: Path, array: _Array) -> bool:
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
    array: _Array,
) -> None:
    needed, free = array.num_bytes, shutil.disk_usage(data.folder).free
    if needed > free:
        raise UserError(f"{path}: needs {needed / 1e9:.1f} GB, but {free / 1e9:.1f} GB are free; free some space")
    images, device, header = data.split(split)["image"], encoder.mean.device, array.header()
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
                file.seek(len(header) + start * array.image_bytes)
                file.write(array.encode(grids.float().cpu().numpy()))
                progress.update(len(seen))
        gathered(None)  # All have written.
        if is_first_process():
            checksum = digest(staged)
            with open(staged, "ab") as file:
                # Behind the array, where readers of the format do not look.
                file.write(checksum)
    gathered(None)  # The file has its name.
