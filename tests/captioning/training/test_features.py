"""The feature cache: correct values, computed once, and never used for another encoder or other images."""

import itertools
import shutil
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image, ImageOps

from captioning.captioner_config import EncoderConfig, FeatureBits
from captioning.network.encoder import GridEncoder
from captioning.training import features
from captioning.training.features import as_tensor, compute_part, grid_features
from captioning.training.views import PLAIN, View
from data_prep.captions import prepare_captions
from data_prep.prepared_captions import PreparedCaptions
from vision_rnn.alone import LOCK
from vision_rnn.errors import UserError
from vision_rnn.locks import take_lock
from vision_rnn.shard import Shard


@pytest.fixture(scope="module")
def source(synthetic_captions: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The synthetic captions; their images have a mark on the left, so that mirroring changes them."""
    folder = shutil.copytree(synthetic_captions, tmp_path_factory.mktemp("source") / "marked")
    for path in (folder / "images").iterdir():
        image = Image.open(path)
        image.paste((255, 255, 255), (0, 0, 8, 24))
        image.save(path)
    return folder


@pytest.fixture(scope="module")
def prepared(source: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("prepared") / "synthetic"
    prepare_captions(source, folder, min_count=1)
    return folder


@pytest.fixture
def data(prepared: Path, tmp_path: Path) -> PreparedCaptions:
    """A separate copy of the prepared data set per test, because it contains the cache."""
    return PreparedCaptions.open(shutil.copytree(prepared, tmp_path / "data"))


def make_encoder(**config: Any) -> GridEncoder:
    torch.manual_seed(0)
    return GridEncoder(EncoderConfig(backbone="timm:test_resnet", image_size=64, **config))


@pytest.fixture
def encoder() -> GridEncoder:
    return make_encoder()


@pytest.fixture
def batches_encoded(encoder: GridEncoder, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The sizes of the batches that were encoded, at most four images each."""
    monkeypatch.setattr(features, "BATCH_SIZE", 4)
    seen: list[int] = []
    encoder.register_forward_hook(lambda module, inputs, output: seen.append(len(inputs[0])))
    return seen


def cached_files(data: PreparedCaptions) -> list[Path]:
    return sorted(path for path in (data.folder / "features").rglob("*") if path.is_file())


def encode_one_by_one(
    encoder: GridEncoder, data: PreparedCaptions, folder: Path, change: Callable[[Image.Image], Image.Image]
) -> np.ndarray:
    """Features of the training images from the source, in half precision."""
    with torch.inference_mode():
        grids = [
            encoder(encoder.preprocess(change(Image.open(folder / "images" / Path(name).name))).unsqueeze(0))[0]
            for name in data.split("train")["name"]
        ]
    return torch.stack(grids).half().numpy()


@pytest.mark.parametrize("view", [PLAIN, View(mirrored=True)])
def test_values_are_the_encoders_in_half_precision(
    encoder: GridEncoder, data: PreparedCaptions, source: Path, view: View
) -> None:
    change = ImageOps.mirror if view.mirrored else Image.Image.copy
    expected = encode_one_by_one(encoder, data, source, change)
    grids = grid_features(encoder, data, "train", view)
    assert grids.dtype == np.float16
    assert np.ptp(expected) > 0.1
    np.testing.assert_allclose(grids, expected, rtol=2e-3, atol=1e-3)
    assert len(np.unique(grids.reshape(len(grids), -1), axis=0)) == 16, "images share their features"


def test_eight_bits_keep_a_510th_of_the_range_of_each_location(encoder: GridEncoder, data: PreparedCaptions) -> None:
    with torch.no_grad():
        encoder.register_forward_hook(lambda module, inputs, output: output.index_fill(1, torch.tensor([2]), 0.75))
    exact = grid_features(encoder, data, "train").astype(np.float32)
    grids = as_tensor(grid_features(encoder, data, "train", bits=8))
    assert grids.dtype == torch.float32
    low, high = exact.min(-1, keepdims=True), exact.max(-1, keepdims=True)
    error = np.abs(grids.numpy() - exact)
    # The bounds of the range are rounded to half precision, as the exact values are.
    rounding = 2e-3 * np.maximum(np.abs(low), np.abs(high))
    assert (error <= (high - low) / 510 + rounding).all()
    assert (grids[:, 2] == 0.75).all(), "a location whose values are equal"
    assert error.max() > 0
    torch.testing.assert_close(as_tensor(grid_features(encoder, data, "train", bits=8)[3]), grids[3], rtol=0, atol=0)
    sizes = {path.name: path.stat().st_size for path in cached_files(data)}
    assert sizes["train-8-bit.npy"] < 0.55 * sizes["train.npy"]
    assert len(sizes) == 2


def test_each_view_and_precision_has_a_place_of_its_own(encoder: GridEncoder, data: PreparedCaptions) -> None:
    views = [PLAIN, View(mirrored=True), View(crop=1), View(crop=2)]
    found = [grid_features(encoder, data, "train", view) for view in views]
    rounded = grid_features(encoder, data, "train", bf16=True)
    for one, other in itertools.combinations([*found, rounded], 2):
        assert not np.array_equal(one, other)
    for view, grids in zip(views, found, strict=True):
        np.testing.assert_array_equal(grids, grid_features(encoder, data, "train", view))
    np.testing.assert_allclose(rounded, found[0], atol=0.05 * float(np.abs(found[0]).max()))


def test_they_are_computed_once_and_memory_mapped(
    encoder: GridEncoder, data: PreparedCaptions, batches_encoded: list[int]
) -> None:
    first = grid_features(encoder, data, "train")
    assert batches_encoded == [4, 4, 4, 4]
    second = grid_features(encoder, data, "train")
    assert batches_encoded == [4, 4, 4, 4]
    assert isinstance(second, np.memmap)
    np.testing.assert_array_equal(first, second)
    grid_features(make_encoder(), data, "train")  # an equal encoder, as built by another process
    assert len(cached_files(data)) == 1
    grid_features(encoder, data, "validation")
    assert sum(batches_encoded) == 16 + 4


def test_what_they_depend_on_makes_them_new(encoder: GridEncoder, data: PreparedCaptions) -> None:
    original = grid_features(encoder, data, "test")
    fine_tuned = make_encoder()
    with torch.no_grad():
        next(fine_tuned.backbone.parameters())[0] += 1.0
    other_statistics = make_encoder()
    next(buffer for name, buffer in other_statistics.named_buffers() if name.endswith("running_mean")).add_(1)
    for count, other in enumerate((make_encoder(mean=(0.1, 0.2, 0.3)), fine_tuned, other_statistics), start=2):
        assert not np.array_equal(grid_features(other, data, "test"), original)
        assert len(cached_files(data)) == count
    other_images = replace(data, manifest=data.manifest | {"content_hash": "0" * 64})
    grid_features(encoder, other_images, "test")
    assert len(cached_files(data)) == 5


def test_an_interruption_leaves_nothing_and_a_later_call_works(
    encoder: GridEncoder, data: PreparedCaptions, batches_encoded: list[int]
) -> None:
    def interrupt(*arguments: object) -> None:
        if len(batches_encoded) == 2:
            raise KeyboardInterrupt

    handle = encoder.register_forward_hook(interrupt)
    with pytest.raises(KeyboardInterrupt):
        grid_features(encoder, data, "train")
    assert cached_files(data) == []
    handle.remove()
    grids = grid_features(encoder, data, "train")
    assert sum(batches_encoded) == 2 * 4 + 16
    assert bool((np.abs(grids).max((1, 2)) > 0).all())


def test_a_disk_without_room_is_told_before_any_work(
    encoder: GridEncoder, data: PreparedCaptions, batches_encoded: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    needed = 16 * encoder.grid_size**2 * encoder.channels * 2
    monkeypatch.setattr(shutil, "disk_usage", lambda path: SimpleNamespace(free=needed - 1))
    with pytest.raises(UserError, match=r"train\.npy: needs .* free some space"):
        grid_features(encoder, data, "train")
    assert (cached_files(data), batches_encoded) == ([], [])


def test_what_a_killed_process_left_is_removed_also_of_another_encoder(encoder: GridEncoder, data: PreparedCaptions):
    remains = data.folder / "features" / "0123456789abcdef" / ".train.npy.unfinished"
    remains.mkdir(parents=True)
    (remains / "train.npy").write_bytes(b"half")
    grid_features(encoder, data, "test")
    assert not remains.exists()


def test_what_another_process_is_computing_is_waited_for(
    encoder: GridEncoder,
    data: PreparedCaptions,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
):
    expected = np.array(grid_features(encoder, data, "test"))
    (path,) = cached_files(data)
    path.rename(data.folder / "computed")
    lock = take_lock(path.parent / LOCK)
    assert lock
    monkeypatch.setattr(features, "_compute", lambda *_: pytest.fail("computed twice"))
    with ThreadPoolExecutor() as executor:
        waiting = executor.submit(grid_features, encoder, data, "test")
        while "another process is working there; waiting for it" not in capsys.readouterr().err:
            time.sleep(0.01)
        (data.folder / "computed").rename(path)
        lock.file.close()
        np.testing.assert_array_equal(waiting.result(), expected)


def test_features_of_an_earlier_version_are_used_with_a_note_unless_their_shape_is_another(
    encoder: GridEncoder, data: PreparedCaptions, capsys: pytest.CaptureFixture[str]
):
    expected = np.array(grid_features(encoder, data, "test"))
    (path,) = cached_files(data)
    np.save(path, expected)
    capsys.readouterr()
    np.testing.assert_array_equal(grid_features(encoder, data, "test"), expected)
    assert "test.npy: has no checksum, since an earlier version wrote it" in capsys.readouterr().err
    for other in (expected[:-1], expected.astype(np.float32)):
        np.save(path, other)
        np.testing.assert_array_equal(grid_features(encoder, data, "test"), expected)
        assert "test.npy: damaged; these features are computed again" in capsys.readouterr().err


def in_parts(encoder: GridEncoder, data: PreparedCaptions, parts: int, numbers: list[int], **how: Any) -> list[int]:
    """Compute some of several parts of the training images, and return how many images each encoded."""
    return [compute_part(encoder, data, "train", Shard(number, parts), **how) for number in numbers]


@pytest.mark.parametrize("bits", [8, 16])
@pytest.mark.parametrize("view", [PLAIN, View(crop=1)])
def test_parts_that_were_computed_apart_are_joined_without_encoding_an_image_again(
    encoder: GridEncoder, data: PreparedCaptions, batches_encoded: list[int], bits: FeatureBits, view: View
):
    at_once = np.array(grid_features(encoder, data, "train", view, bits=bits))
    (path,) = cached_files(data)
    expected = path.read_bytes()
    path.unlink()
    batches_encoded.clear()
    assert in_parts(encoder, data, 3, [3, 1, 2], view=view, bits=bits) == [8, 4, 4]
    assert len(cached_files(data)) == 3
    np.testing.assert_array_equal(grid_features(encoder, data, "train", view, bits=bits), at_once)
    assert batches_encoded == [4, 4, 4, 4]
    assert cached_files(data) == [path], "parts are left"
    assert path.read_bytes() == expected


def test_what_no_part_holds_is_computed(
    encoder: GridEncoder, data: PreparedCaptions, batches_encoded: list[int], capsys: pytest.CaptureFixture[str]
):
    expected = np.array(grid_features(encoder, data, "train"))
    (path,) = cached_files(data)
    path.unlink()
    assert in_parts(encoder, data, 4, [1, 3, 4]) == [4, 4, 4]
    damaged = path.with_name("train.part-3-of-4.npy")
    content = bytearray(damaged.read_bytes())
    content[len(content) // 2] ^= 1
    damaged.write_bytes(content)
    batches_encoded.clear()
    np.testing.assert_array_equal(grid_features(encoder, data, "train"), expected)
    assert batches_encoded == [4, 4]
    told = capsys.readouterr().err
    assert f"{damaged}: damaged; these features are computed again" in told
    assert f"{path}: of 16 images, 8 are in 2 parts computed before" in told


def test_a_part_is_computed_once_and_not_where_the_whole_is(
    encoder: GridEncoder, data: PreparedCaptions, batches_encoded: list[int]
):
    # Of nine parts, four hold one of the four batches.
    assert sorted(in_parts(encoder, data, 9, list(range(1, 10)))) == [0] * 5 + [4] * 4
    assert in_parts(encoder, data, 9, list(range(1, 10))) == [0] * 9
    grid_features(encoder, data, "train")
    assert in_parts(encoder, data, 2, [1, 2]) == [0, 0]
    assert batches_encoded == [4, 4, 4, 4]


def test_a_short_last_batch_is_in_the_last_part(
    encoder: GridEncoder, data: PreparedCaptions, batches_encoded: list[int], monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(features, "BATCH_SIZE", 5)
    expected = np.array(grid_features(encoder, data, "train"))
    shutil.rmtree(data.folder / "features")
    batches_encoded.clear()
    assert in_parts(encoder, data, 2, [1, 2]) == [10, 6]
    np.testing.assert_array_equal(grid_features(encoder, data, "train"), expected)
    assert batches_encoded == [5, 5, 5, 1]
