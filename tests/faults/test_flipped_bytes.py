"""One byte of a file changes: a reader gives the right result, or says in one line what is damaged."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from captioning.captioner_config import EncoderConfig
from captioning.network.encoder import GridEncoder
from captioning.training.features import grid_features
from data_prep.captions import prepare_captions
from data_prep.pixels import prepare_pixels
from data_prep.prepared_captions import PreparedCaptions
from data_prep.prepared_pixels import PreparedPixels
from vision_rnn import checksums
from vision_rnn.errors import UserError
from vision_rnn.run_folder import read_checkpoint

EARLIER = Path(__file__).parents[1] / "earlier"
FLIPS = 60  # of each file


def captions(folder: Path) -> list[Any]:
    data = PreparedCaptions.open(folder)
    return [data.manifest, data.vocabulary.words, *(list(data.split(split)) for split in data.manifest["splits"])]


def pixels(folder: Path) -> list[Any]:
    data = PreparedPixels.open(folder)
    splits = [data.split(split) for split in data.manifest["splits"]]
    return [data.manifest, *((rows.pixels.tolist(), rows.labels) for rows in splits)]


def features(folder: Path) -> list[Any]:
    torch.manual_seed(0)
    encoder = GridEncoder(EncoderConfig(backbone="timm:test_resnet", image_size=64))
    return [np.array(grid_features(encoder, PreparedCaptions.open(folder), "test")).tolist()]


def checkpoint(folder: Path) -> list[Any]:
    values = read_checkpoint(folder / "checkpoints" / "best.ckpt", "model", "a pixel model")
    tensors = {name: tensor.tolist() for name, tensor in values.pop("state_dict").items()}
    return [tensors, values["model"], values["epoch"], values["global_step"], repr(values["optimizer_states"])]


@pytest.fixture
def prepared(request: pytest.FixtureRequest, synthetic_captions: Path, tmp_path: Path) -> tuple[Callable, Path]:
    read, folder = request.param, tmp_path / "folder"
    if read is checkpoint:
        shutil.copytree(EARLIER / "pixelrnn-run", folder)
    elif read is pixels:
        values = np.random.default_rng(0).integers(256, size=(60, 5, 5), dtype=np.uint8)
        np.savez(tmp_path / "pixels.npz", train=values[:40], valid=values[40:50], test=values[50:])
        prepare_pixels(tmp_path / "pixels.npz", folder)
    else:
        prepare_captions(synthetic_captions, folder, min_count=1)
    return read, folder


@pytest.mark.parametrize(
    "prepared", [captions, pixels, features, checkpoint], indirect=True, ids=lambda read: read.__name__
)
def test_a_changed_byte_is_noticed_or_changes_nothing(prepared: tuple[Callable, Path], monkeypatch: pytest.MonkeyPatch):
    read, folder = prepared
    monkeypatch.setattr(checksums, "_digest", checksums._digest.__wrapped__)  # Times of files are coarse.
    expected = read(folder)
    generator = np.random.default_rng(0)
    refused = right = 0
    pattern = {features: "features/*/*.npy", checkpoint: "checkpoints/best.ckpt"}.get(read, "**/*")
    for path in [path for path in sorted(folder.glob(pattern)) if path.is_file()]:
        content = path.read_bytes()
        for place in {0, len(content) - 1, *generator.integers(len(content), size=FLIPS).tolist()}:
            flipped = bytearray(content)
            flipped[place] ^= 1 << int(generator.integers(8))
            path.write_bytes(flipped)
            try:
                assert read(folder) == expected, f"{path}, byte {place}: another result"
                right += 1
            except UserError:
                refused += 1
            if read is features:
                assert path.read_bytes() == content, "not computed again"
            path.write_bytes(content)
    # In a checkpoint of a tiny model much is padding.
    assert (right if read is features else refused) > FLIPS / 2
