"""Feature grids of a data set, computed once and cached on disk in half precision.

A frozen encoder computes the same grid in every epoch, and this costs far more than training the decoder on it. The
cache is memory-mapped, so that it need not fit in memory. Its key depends on everything that determines the features:
the encoder's weights, its preprocessing, the precision and the images; each view of the images has its own file.
"""

import hashlib
import json
import shutil
from dataclasses import asdict
from pathlib import Path

import numpy as np
import torch

from captioning.network.encoder import GridEncoder
from captioning.training.views import PLAIN, View
from data_prep.images import load_image
from data_prep.prepared_captions import PreparedCaptions
from vision_rnn.console import Progress
from vision_rnn.errors import UserError
from vision_rnn.files import atomic_path

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
    if not path.is_file():
        _compute(encoder, data, split, view, bf16, path)
    return np.load(path, mmap_mode="r")


def _key(encoder: GridEncoder, data: PreparedCaptions, bf16: bool) -> str:
    digest = hashlib.sha256(json.dumps(asdict(encoder.config), sort_keys=True).encode())
    digest.update(b"bf16" if bf16 else b"")
    digest.update(data.content_hash.encode())
    for name, tensor in encoder.state_dict().items():
        digest.update(name.encode())
        digest.update(tensor.cpu().numpy().tobytes())
    return digest.hexdigest()


@torch.inference_mode()
def _compute(encoder: GridEncoder, data: PreparedCaptions, split: str, view: View, bf16: bool, path: Path) -> None:
    images = data.split(split)["image"]
    device = encoder.mean.device
    shape = (len(images), encoder.grid_size**2, encoder.channels)
    needed, free = int(np.prod(shape)) * 2, shutil.disk_usage(data.folder).free
    if needed > free:
        raise UserError(f"{path}: needs {needed / 1e9:.1f} GB, but {free / 1e9:.1f} GB are free; free some space")
    label = f"features of {split}{view.suffix.replace('-', ' ')}"
    # Not through a memory map: if the disk fills meanwhile, a write to the map kills the process without a message.
    with atomic_path(path) as staged, open(staged, "wb") as file, Progress(len(images), label, "image") as progress:
        header = {"descr": np.lib.format.dtype_to_descr(np.dtype(np.float16)), "fortran_order": False, "shape": shape}
        np.lib.format.write_array_header_1_0(file, header)
        for start in range(0, len(images), BATCH_SIZE):
            batch = enumerate(images[start : start + BATCH_SIZE], start)
            seen = [encoder.preprocess(view.of(load_image(image["bytes"]), index)) for index, image in batch]
            with torch.autocast(device.type, torch.bfloat16, enabled=bf16):
                grids = encoder(torch.stack(seen).to(device))
            file.write(grids.half().cpu().numpy().tobytes())
            progress.update(len(seen))
