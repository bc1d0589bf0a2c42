"""Files of coded images are decoded exactly or refused in one line, even if they were damaged or forged."""

import hashlib
import json
import struct
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from pixelrnn.coding.coded_file import compress, decompress, model_hash, read_coded, write_coded
from pixelrnn.model import PixelModel
from vision_rnn.errors import UserError

MakeModel = Callable[..., PixelModel]
NUMBER = 3


@pytest.fixture
def model(make_model: MakeModel) -> PixelModel:
    return make_model(3, 3, dtype=torch.float32, num_layers=1, hidden_channels=2)


@pytest.fixture
def pixels() -> torch.Tensor:
    return torch.randint(2, (NUMBER, 1, 3, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))


@pytest.fixture
def file(model: PixelModel, pixels: torch.Tensor, tmp_path: Path) -> Path:
    write_coded(tmp_path / "coded", compress(model, pixels, ["a", "b", "\u00e9"]))
    return tmp_path / "coded"


def test_a_file_comes_back(model: PixelModel, pixels: torch.Tensor, file: Path) -> None:
    coded = read_coded(file)
    assert coded.names == ["a", "b", "\u00e9"]
    assert coded.label is None
    assert torch.equal(decompress(model, coded), pixels)


def test_a_hash_of_a_softmax_model_is_that_of_the_first_version(model: PixelModel) -> None:
    """Files that were coded before a setting existed can still be decoded."""
    config, shape = (dict(model.describe()[name]) for name in ("config", "shape"))
    assert config.pop("output") == "softmax"
    assert config.pop("context_layers") == 0
    del config["components"]
    assert set(config) == {
        *("architecture", "order", "num_layers", "hidden_channels", "output_channels", "residual", "skip"),
        *("dilations", "extra_column", "conditional"),
    }
    digest = hashlib.sha256(json.dumps([config, shape], sort_keys=True).encode())
    for name, tensor in sorted(model.state_dict().items()):
        digest.update(name.encode() + tensor.half().numpy().tobytes())
    assert model_hash(model) == digest.digest()[:16]


def test_models_that_differ_in_their_components_alone_differ(make_model: MakeModel) -> None:
    first, second = (make_model(3, 3, 3, 256, output="logistic_mixture", components=k) for k in (2, 3))
    assert model_hash(first) != model_hash(second)


def test_several_batches_and_a_class_come_back(
    make_model: MakeModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = make_model(3, 3, num_classes=4)
    pixels = torch.randint(2, (7, 1, 3, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    monkeypatch.setattr("pixelrnn.coding.coded_file.BATCH_SIZE", 3)
    write_coded(tmp_path / "coded", compress(model, pixels, list("abcdefg"), label=2))
    coded = read_coded(tmp_path / "coded")
    assert (len(coded.streams), coded.label) == (3, 2)
    assert torch.equal(decompress(model, coded), pixels)


def test_ten_thousand_damaged_files_are_refused_or_give_the_images(
    model: PixelModel, pixels: torch.Tensor, file: Path
) -> None:
    content, generator = file.read_bytes(), np.random.default_rng(0)
    refused = 0
    for trial in range(10_000):
        damaged = bytearray(content)
        kind = trial % 3
        if kind == 0:
            del damaged[generator.integers(len(content)) :]
        else:
            for place in generator.integers(8 * len(content), size=1 if kind == 1 else 5):
                damaged[place // 8] ^= 1 << (place % 8)
        file.write_bytes(damaged)
        try:
            decoded = decompress(model, read_coded(file))
        except UserError:
            refused += 1
        else:
            assert torch.equal(decoded, pixels)
    assert refused > 9_990


def test_a_file_made_to_mislead_is_refused(model: PixelModel, pixels: torch.Tensor, file: Path) -> None:
    """With a valid checksum there is no crash, no name outside the folder, and no wrong pixel."""
    content, generator = file.read_bytes()[:-4], np.random.default_rng(0)
    for _ in range(100):
        forged = bytearray(content)
        place = generator.integers(len(content))
        forged[place] = generator.integers(256)
        file.write_bytes(bytes(forged) + struct.pack("<I", zlib.crc32(bytes(forged))))
        try:
            coded = read_coded(file)
            assert all(Path(name).name == name for name in coded.names)
            assert torch.equal(decompress(model, coded), pixels)
        except UserError:
            continue


@pytest.mark.parametrize(("place", "format", "number"), [(21, "<I", 2**32 - 1), (27, "<H", 1001)])
def test_numbers_that_need_endless_memory_are_refused(place: int, format: str, number: int, file: Path) -> None:
    """The number of images, and that of a batch."""
    resource = pytest.importorskip("resource")
    forged = bytearray(file.read_bytes()[:-4])
    struct.pack_into(format, forged, place, number)
    struct.pack_into("<H", forged, 27, number if place == 27 else 1)
    file.write_bytes(bytes(forged) + struct.pack("<I", zlib.crc32(forged)))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(UserError, match="inconsistent content"):
        read_coded(file)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 2**18  # KiB


def test_a_name_with_a_folder_is_refused(model: PixelModel, pixels: torch.Tensor, tmp_path: Path) -> None:
    write_coded(tmp_path / "coded", compress(model, pixels, ["../../a", "b", "c"]))
    with pytest.raises(UserError, match="inconsistent content"):
        read_coded(tmp_path / "coded")


def test_another_model_is_refused(make_model: MakeModel, model: PixelModel, file: Path) -> None:
    other = make_model(3, 3, dtype=torch.float32, num_layers=2, hidden_channels=2)
    with pytest.raises(UserError, match="coded by another model"):
        decompress(other, read_coded(file))
    # A model with one different weight is another model; a model with another training history is not.
    changed = make_model(3, 3, dtype=torch.float32, num_layers=1, hidden_channels=2)
    changed.history = [{"data": "other"}]
    assert model_hash(changed) == model_hash(model)
    next(changed.parameters()).data[0, 0] += 1
    assert model_hash(changed) != model_hash(model)


def test_two_images_of_one_name_are_refused(model: PixelModel, pixels: torch.Tensor) -> None:
    with pytest.raises(UserError, match="a: two images have this name"):
        compress(model, pixels, ["a", "b", "a"])


@pytest.mark.parametrize(
    ("content", "message"),
    [(b"", "not a file of coded images"), (b"GIF89a", "not a file"), (b"VRNN\x01", "damaged or incomplete")],
)
def test_other_files_are_refused(content: bytes, message: str, tmp_path: Path) -> None:
    (tmp_path / "other").write_bytes(content)
    with pytest.raises(UserError, match=message):
        read_coded(tmp_path / "other")
    with pytest.raises(UserError, match="cannot be read"):
        read_coded(tmp_path / "none")
