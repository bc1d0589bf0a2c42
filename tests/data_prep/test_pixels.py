"""The prepared pixel data set: the pixels of the source in its order, complete or absent."""

import hashlib
import itertools
import json
import os
import shutil
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from PIL import Image

from data_prep.captions import prepare_captions
from data_prep.pixel_sources.parquet import read_parquet
from data_prep.pixels import prepare_pixels
from data_prep.prepared_captions import PreparedCaptions
from data_prep.prepared_pixels import PreparedPixels
from vision_rnn.errors import UserError

RANDOM = np.random.default_rng(0)
# More than one batch, so that rows could come out of order.
COUNTS = {"train": 2100, "valid": 30, "test": 40}
GREY = {split: RANDOM.integers(0, 256, (count, 4, 5), dtype=np.uint8) for split, count in COUNTS.items()}
LABELS = {split: RANDOM.integers(0, 7, count) for split, count in COUNTS.items()}


def save(path: Path, **arrays: np.ndarray) -> Path:
    np.savez(path, **arrays)  # type: ignore[arg-type]
    return path


@pytest.fixture(scope="module")
def source(tmp_path_factory) -> Path:
    labels = {f"y_{split}": of_split for split, of_split in LABELS.items()}
    return save(tmp_path_factory.mktemp("source") / "grey.npz", **GREY, **labels)


@pytest.fixture(scope="module")
def prepared(source, tmp_path_factory) -> PreparedPixels:
    folder = tmp_path_factory.mktemp("prepared") / "grey"
    prepare_pixels(source, folder)
    return PreparedPixels.open(folder)


def pixels_of(folder: Path, split: str = "train") -> np.ndarray:
    return PreparedPixels.open(folder).split(split).pixels


def test_splits_hold_the_source_in_its_order(prepared):
    for name, split in (("train", "train"), ("valid", "validation"), ("test", "test")):
        rows = prepared.split(split)
        assert rows.pixels.dtype == np.uint8
        assert rows.labels.dtype == np.int64
        np.testing.assert_array_equal(rows.pixels, GREY[name][..., np.newaxis])
        np.testing.assert_array_equal(rows.labels, LABELS[name])
    assert (prepared.height, prepared.width, prepared.channels, prepared.levels) == (4, 5, 1, 256)
    assert (prepared.binarization, prepared.num_classes) == ("none", 7)
    assert prepared.manifest["splits"] == {
        "train": {"images": 2100},
        "validation": {"images": 30},
        "test": {"images": 40},
    }
    assert prepared.manifest["source"] == "grey.npz"
    options = {"size": None, "channels": None, "binarize": "none", "seed": 0, "split_by": "source"}
    assert prepared.manifest["options"] == options | {"max_images": None}


ARRAYS = st.one_of(
    hnp.arrays(np.uint8, st.tuples(*[st.integers(1, 4)] * 3, st.sampled_from([1, 3]))),
    hnp.arrays(np.uint8, st.tuples(*[st.integers(1, 4)] * 3, st.just(1)), elements=st.integers(0, 1)),
)


@given(ARRAYS)
@settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_round_trip(tmp_path, images):
    prepare_pixels(save(tmp_path / "a.npz", x_train=images, x_val=images[::-1]), tmp_path / "out")
    prepared = PreparedPixels.open(tmp_path / "out")
    np.testing.assert_array_equal(prepared.split("train").pixels, images)
    assert prepared.split("train").labels is None
    assert prepared.levels == (2 if images.max() <= 1 else 256)
    assert prepared.num_classes == 0
    assert prepared.manifest["in_several_splits"] == len({image.tobytes() for image in images})


def test_every_format_gives_the_same_content(prepared, tmp_path):
    from datasets import Dataset, Features, Value
    from datasets import Image as ImageFeature

    folder, tables, files = tmp_path / "folder", tmp_path / "parquet", tmp_path / "idx"
    for path in (folder, tables, files):
        path.mkdir()
    for split, images in GREY.items():
        images, labels = images[:30], LABELS[split][:30]
        cells = []
        for index, (image, label) in enumerate(zip(images, labels, strict=True)):
            path = folder / split / f"class {label}" / f"{index:02}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(image).save(path)
            cells.append({"bytes": path.read_bytes(), "path": path.name})
        features = Features({"image": ImageFeature(), "label": Value("int32")})
        Dataset.from_dict({"image": cells, "label": labels}, features).to_parquet(tables / f"{split}.parquet")
        for kind, array in (("images-idx3", images), ("labels-idx1", labels.astype(np.uint8))):
            header = np.array([array.ndim + 0x800, *array.shape], ">u4").tobytes()
            (files / f"{split}-{kind}-ubyte").write_bytes(header + array.tobytes())
    short = {split: images[:30] for split, images in GREY.items()}
    labels = {f"y_{split}": of_split[:30] for split, of_split in LABELS.items()}
    manifests = [
        prepare_pixels(source, tmp_path / "out")
        for source in (save(tmp_path / "a.npz", **short, **labels), tables, files)
    ]
    assert [manifest["format"] for manifest in manifests] == ["npz", "parquet", "idx"]
    assert len({manifest["content_hash"] for manifest in manifests}) == 1
    # A folder is sorted by class and name.
    assert prepare_pixels(folder, tmp_path / "out")["format"] == "folder"
    order = np.argsort(LABELS["train"][:30], kind="stable")
    np.testing.assert_array_equal(pixels_of(tmp_path / "out")[..., 0], short["train"][order])


def test_content_hash_is_as_documented(prepared):
    digest = hashlib.sha256(b"[4, 5, 1, 256]\n")
    for split in ("test", "train", "validation"):
        rows = prepared.split(split)
        for pixels, label in zip(rows.pixels, rows.labels.tolist(), strict=True):
            digest.update((json.dumps([split, hashlib.sha256(pixels.tobytes()).hexdigest(), label]) + "\n").encode())
    assert prepared.content_hash == digest.hexdigest()


CHANGES: dict[str, Callable[[dict[str, np.ndarray]], object]] = {
    "pixel": lambda arrays: arrays["test"].__setitem__((3, 2, 1), arrays["test"][3, 2, 1] ^ 1),
    "label": lambda arrays: arrays["y_test"].__setitem__(3, 9),
    "no labels": lambda arrays: arrays.pop("y_test"),
    "order": lambda arrays: arrays.update(train=arrays["train"][::-1], y_train=arrays["y_train"][::-1]),
    "shape": lambda arrays: arrays.update({key: arrays[key].reshape(-1, 5, 4) for key in COUNTS}),
    "split": lambda arrays: (
        arrays.update(valid=arrays["test"], test=arrays["valid"], y_valid=arrays["y_test"])
        or arrays.update(y_test=arrays["y_test"][:30])
    ),
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES.keys())
def test_content_hash_tells_any_change(change, source, prepared, tmp_path):
    arrays = dict(np.load(source))
    change(arrays)
    assert prepare_pixels(save(tmp_path / "a.npz", **arrays), tmp_path / "out")["content_hash"] != prepared.content_hash


def test_a_source_without_splits_is_split_by_seed(tmp_path):
    images = GREY["train"][:105]
    source = save(tmp_path / "a.npz", arr_0=images)
    hashes = [prepare_pixels(source, tmp_path / str(index), seed=index % 2)["content_hash"] for index in range(3)]
    assert hashes[0] == hashes[2] != hashes[1]
    manifest = PreparedPixels.open(tmp_path / "0").manifest
    assert manifest["options"]["split_by"] == "seed"
    assert [count["images"] for count in manifest["splits"].values()] == [85, 10, 10]
    places = {image.tobytes(): index for index, image in enumerate(images)}
    found = [
        [places[image.tobytes()] for image in pixels_of(tmp_path / "0", split)]
        for split in ("train", "validation", "test")
    ]
    assert all(of_split == sorted(of_split) for of_split in found)
    assert sorted(itertools.chain.from_iterable(found)) == list(range(105))


def test_the_images_drawn_keep_their_labels_and_their_order(tmp_path):
    arrays = {f"{kind}_{name}": rows[name] for kind, rows in (("x", GREY), ("y", LABELS)) for name in ("train", "test")}
    source = save(tmp_path / "a.npz", **arrays)
    manifest = prepare_pixels(source, tmp_path / "out", max_images=35, seed=4)
    assert manifest["options"]["max_images"] == 35
    assert manifest["drawn_from"] == {"train": 1890, "validation": 210, "test": len(GREY["test"])}
    assert prepare_pixels(source, tmp_path / "again", max_images=35, seed=4)["content_hash"] == manifest["content_hash"]
    assert prepare_pixels(source, tmp_path / "other", max_images=35, seed=5)["content_hash"] != manifest["content_hash"]
    prepared = PreparedPixels.open(tmp_path / "out")
    for split, name in (("train", "train"), ("validation", "train"), ("test", "test")):
        rows, places = prepared.split(split), {image.tobytes(): i for i, image in enumerate(GREY[name])}
        found = [places[image.tobytes()] for image in rows.pixels]
        assert len(found) == 35
        assert found == sorted(found)
        np.testing.assert_array_equal(rows.labels, LABELS[name][found])


def test_a_tenth_of_train_becomes_validation_with_its_labels(tmp_path):
    arrays = {"x_train": GREY["train"], "y_train": LABELS["train"], "x_test": GREY["test"]}
    manifest = prepare_pixels(save(tmp_path / "a.npz", **arrays), tmp_path / "out")
    assert manifest["options"]["split_by"] == "source; validation cut from train by seed"
    prepared = PreparedPixels.open(tmp_path / "out")
    assert len(prepared.split("validation").pixels) == 210
    labels = {image.tobytes(): label for image, label in zip(GREY["train"], LABELS["train"], strict=True)}
    for split in ("train", "validation"):
        rows = prepared.split(split)
        assert [labels.pop(image.tobytes()) for image in rows.pixels] == rows.labels.tolist()
    assert not labels
    assert prepared.split("test").labels is None


def test_threshold(source, tmp_path):
    prepare_pixels(source, tmp_path / "out", binarize="threshold")
    prepared = PreparedPixels.open(tmp_path / "out")
    assert (prepared.levels, prepared.binarization) == (2, "threshold at 128")
    np.testing.assert_array_equal(prepared.split("train").pixels[..., 0], GREY["train"] >= 128)


def test_a_stochastic_binarization_is_drawn_by_seed_and_split(source, tmp_path):
    drawn = {}
    for seed, folder in ((1, "a"), (1, "b"), (2, "c")):
        prepare_pixels(source, tmp_path / folder, binarize="stochastic", seed=seed)
        drawn[folder] = pixels_of(tmp_path / folder, "test")
    text = "drawn once with seed 1, pixel by pixel, P(1) = grey level / 255"
    assert (PreparedPixels.open(tmp_path / "a").binarization, PreparedPixels.open(tmp_path / "a").levels) == (text, 2)
    np.testing.assert_array_equal(drawn["a"], drawn["b"])
    assert (drawn["a"] != drawn["c"]).any()
    # The splits have the same images, but each has its own draws, which do not depend on the other splits.
    test = GREY["test"]
    prepare_pixels(
        save(tmp_path / "s.npz", train=test, valid=test, test=test), tmp_path / "same", binarize="stochastic", seed=1
    )
    np.testing.assert_array_equal(pixels_of(tmp_path / "same", "test"), drawn["a"])
    assert (pixels_of(tmp_path / "same", "train") != drawn["a"]).any()
    assert (pixels_of(tmp_path / "same", "validation") != drawn["a"]).any()


@pytest.mark.parametrize("method", ["threshold", "stochastic"])
def test_binary_and_colour_images_are_not_binarized(method, tmp_path):
    fixed = save(tmp_path / "fixed.npz", train=np.eye(4, dtype=np.uint8).reshape(4, 2, 2))
    with pytest.raises(UserError, match=r"fixed\.npz: the images are already binary; omit --binarize"):
        prepare_pixels(fixed, tmp_path / "out", binarize=method)
    assert prepare_pixels(fixed, tmp_path / "out")["binarization"] == "fixed by the source"
    colour = save(tmp_path / "colour.npz", train=RANDOM.integers(0, 256, (9, 4, 4, 3)))
    with pytest.raises(UserError, match=f"--binarize {method}: the images are in colour; add --channels 1"):
        prepare_pixels(colour, tmp_path / "colour", binarize=method)
    assert not (tmp_path / "colour").exists()
    prepare_pixels(colour, tmp_path / "colour", binarize=method, channels=1)
    assert pixels_of(tmp_path / "colour").shape == (8, 4, 4, 1)


def test_size_and_channels(make_image, tmp_path):
    for index, size in enumerate([(8, 6), (6, 8), (20, 20)]):
        make_image(tmp_path / "source" / "train" / f"{index}.png", size=size)
    with pytest.raises(
        UserError, match=r"source, train/1\.png: 8x6 pixels, but the first image has 6x8; resize all with --size"
    ):
        prepare_pixels(tmp_path / "source", tmp_path / "out")
    manifest = prepare_pixels(tmp_path / "source", tmp_path / "out", size=(3, 5), channels=1)
    assert manifest["options"]["size"] == (3, 5)
    assert pixels_of(tmp_path / "out").shape == (2, 3, 5, 1)
    prepared = PreparedPixels.open(tmp_path / "out")
    assert (prepared.height, prepared.width, prepared.channels) == (3, 5, 1)


def test_broken_images_are_listed_and_left_out_with_their_labels(make_image, tmp_path):
    source = tmp_path / "source"
    for name in ("train/a/1.png", "train/a/2.png", "train/b/3.png", "val/b/4.png", "test/b/5.png"):
        make_image(source / name)
    (source / "train" / "a" / "1.png").write_bytes(b"no image")
    (source / "test" / "b" / "5.png").write_bytes(b"")
    manifest = prepare_pixels(source, tmp_path / "out")
    assert [entry["name"] for entry in manifest["left_out"]] == ["train/a/1.png", "test/b/5.png"]
    assert "not an image of a known format" in manifest["left_out"][0]["reason"]
    assert manifest["splits"] == {"train": {"images": 2}, "validation": {"images": 1}}
    prepared = PreparedPixels.open(tmp_path / "out")
    assert prepared.split("train").labels.tolist() == [0, 1]
    with pytest.raises(UserError, match="no split 'test'; choose one of: train, validation"):
        prepared.split("test")


def test_nothing_to_train_on_is_an_error_that_leaves_no_trace(make_image, tmp_path):
    make_image(tmp_path / "source" / "train" / "a.png").write_bytes(b"no image")
    make_image(tmp_path / "source" / "test" / "b.png")
    with pytest.raises(UserError, match=r"no usable image for training .*a\.png: not an image"):
        prepare_pixels(tmp_path / "source", tmp_path / "out")
    shutil.rmtree(tmp_path / "source" / "train")
    with pytest.raises(UserError, match="no usable image for training; check the source"):
        prepare_pixels(tmp_path / "source", tmp_path / "out")
    assert [path.name for path in tmp_path.iterdir()] == ["source"]


def test_only_prepared_pixels_are_replaced(source, prepared, synthetic_captions, tmp_path):
    folder = shutil.copytree(prepared.folder, tmp_path / "pixels")
    (folder / "old.txt").touch()
    prepare_pixels(source, folder)
    assert not (folder / "old.txt").exists()
    prepare_captions(synthetic_captions, tmp_path / "captions")
    with pytest.raises(UserError, match="captions: holds something other than prepared pixels; choose another folder"):
        prepare_pixels(source, tmp_path / "captions")
    with pytest.raises(UserError, match="pixels: holds something other than prepared captions"):
        prepare_captions(synthetic_captions, folder)
    with pytest.raises(UserError, match="is a file; choose a folder"):
        prepare_pixels(source, source)


def test_a_run_folder_with_the_manifest_of_its_data_is_neither_read_nor_replaced(source, prepared, tmp_path):
    (tmp_path / "run" / "checkpoints").mkdir(parents=True)
    shutil.copy(prepared.folder / "manifest.json", tmp_path / "run")
    with pytest.raises(UserError, match="run: holds something other than prepared pixels; choose another folder"):
        prepare_pixels(source, tmp_path / "run")
    assert (tmp_path / "run" / "checkpoints").is_dir()
    with pytest.raises(UserError, match="run: holds the manifest of a prepared pixel data set without its images"):
        PreparedPixels.open(tmp_path / "run")


def test_open_refuses_what_is_no_prepared_pixel_data_set(prepared, synthetic_captions, tmp_path):
    prepare_captions(synthetic_captions, tmp_path / "captions")
    with pytest.raises(UserError, match="captions: a prepared caption data set, not pixels; make one with"):
        PreparedPixels.open(tmp_path / "captions")
    with pytest.raises(UserError, match="a prepared pixel data set, not captions; make one with: data-prep captions"):
        PreparedCaptions.open(prepared.folder)
    with pytest.raises(UserError, match="absent: not a prepared pixel data set; make one with: data-prep pixels"):
        PreparedPixels.open(tmp_path / "absent")
    with pytest.raises(UserError, match="no split 'val'; choose one of: train, validation, test"):
        prepared.split("val")


def set_width(folder: Path) -> None:
    manifest = json.loads((folder / "manifest.json").read_text())
    (folder / "manifest.json").write_text(json.dumps({**manifest, "width": 6}))


DAMAGES: dict[str, Callable[[Path], object]] = {
    "manifest with its kind alone": lambda folder: (folder / "manifest.json").write_text('{"kind": "pixels"}'),
    "another width": set_width,
    "no split folder": lambda folder: shutil.rmtree(folder / "test"),
    "emptied rows": lambda folder: next((folder / "test").glob("*.arrow")).write_bytes(b""),
    "truncated rows": lambda folder: os.truncate(next((folder / "test").glob("*.arrow")), 1000),
    "emptied state": lambda folder: (folder / "test" / "state.json").write_text(""),
    "rows of something else": lambda folder: shutil.copytree(
        folder / "captions" / "test", folder / "test", dirs_exist_ok=True
    ),
}


@pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES.keys())
def test_a_damaged_data_set_is_named_and_can_be_prepared_again(damage, prepared, source, synthetic_captions, tmp_path):
    folder = shutil.copytree(prepared.folder, tmp_path / "damaged")
    prepare_captions(synthetic_captions, folder / "captions")
    damage(folder)
    with pytest.raises(
        UserError, match=r"damaged .*; remove the data set, and prepare it again with data-prep pixels"
    ) as caught:
        PreparedPixels.open(folder).split("test")
    assert str(caught.value).startswith(str(folder))
    assert "\n" not in str(caught.value)
    prepare_pixels(source, folder)
    assert len(PreparedPixels.open(folder).split("test").pixels) == 40


@pytest.mark.data
def test_the_fixed_binarization_comes_out_as_it_lies_in_the_source(binarized_mnist, tmp_path):
    manifest = prepare_pixels(binarized_mnist, tmp_path / "out")
    counts = {"train": {"images": 50_000}, "validation": {"images": 10_000}, "test": {"images": 10_000}}
    assert manifest["splits"] == counts
    assert manifest["in_several_splits"] == 0
    prepared = PreparedPixels.open(tmp_path / "out")
    assert (prepared.height, prepared.width, prepared.channels, prepared.levels) == (28, 28, 1, 2)
    assert (prepared.binarization, prepared.num_classes) == ("fixed by the source", 0)
    start = time.perf_counter()
    train = prepared.split("train")
    assert time.perf_counter() - start < 1
    with np.load(binarized_mnist) as packed:
        for name, split in (("train", "train"), ("valid", "validation"), ("test", "test")):
            expected = np.unpackbits(packed[name], axis=1).reshape(-1, 28, 28, 1)
            np.testing.assert_array_equal(prepared.split(split).pixels, expected)
    assert train.labels is None
    assert train.pixels.mean() == pytest.approx(0.130562, abs=1e-6)


@pytest.mark.data
def test_mnist(mnist, binarized_mnist, tmp_path):
    manifest = prepare_pixels(mnist, tmp_path / "out")
    assert (manifest["format"], manifest["binarization"], manifest["num_classes"]) == ("idx", "none", 10)
    assert {split: count["images"] for split, count in manifest["splits"].items()} == {
        "train": 54_000,
        "validation": 6000,
        "test": 10_000,
    }
    prepared = PreparedPixels.open(tmp_path / "out")
    test = prepared.split("test")
    assert test.labels[:10].tolist() == [7, 2, 1, 0, 4, 1, 4, 9, 5, 9]
    assert np.bincount(test.labels).tolist() == [980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009]
    parts = [prepared.split(split) for split in ("train", "validation")]
    # The usual mean and standard deviation for the normalisation of MNIST.
    levels = np.concatenate([part.pixels for part in parts]) / 255
    assert (levels.mean(), levels.std()) == pytest.approx((0.1307, 0.3081), abs=1e-4)
    labels = np.concatenate([part.labels for part in parts])
    assert np.bincount(labels).tolist() == [5923, 6742, 5958, 6131, 5842, 5421, 5918, 6265, 5851, 5949]


@pytest.mark.data
def test_cifar10(cifar10, tmp_path):
    source = read_parquet(cifar10)
    train, test = source.splits["train"], source.splits["test"]
    assert (len(train.names), len(test.names)) == (50_000, 1_000)
    assert train.labels[:10].tolist() == [6, 9, 9, 4, 1, 1, 2, 7, 8, 3]
    assert train.labels[-1] == 1
    assert test.labels[:10].tolist() == [3, 8, 8, 0, 6, 6, 1, 6, 3, 1]
    # The first and the last pixel of the first and of the last image, as in the original batches.
    assert train.images[0][[0, -1], [0, -1]].tolist() == [[59, 62, 63], [123, 92, 72]]
    assert train.images[49_999][[0, -1], [0, -1]].tolist() == [[229, 229, 239], [163, 163, 161]]

    prepare_pixels(cifar10, tmp_path / "out")
    prepared = PreparedPixels.open(tmp_path / "out")
    assert (prepared.height, prepared.width, prepared.channels, prepared.levels) == (32, 32, 3, 256)
    assert np.array_equal(prepared.split("test").pixels[-1], test.images[999])
    parts = [prepared.split(split).pixels for split in ("train", "validation")]
    assert sum(map(len, parts)) == 50_000
    # The usual channel means for the normalisation of CIFAR-10.
    means = sum(part.sum((0, 1, 2), dtype=np.int64) for part in parts) / (255 * 50_000 * 32 * 32)
    assert means == pytest.approx((0.4914, 0.4822, 0.4465), abs=5e-5)
