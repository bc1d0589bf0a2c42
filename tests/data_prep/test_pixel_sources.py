"""The readers of images as pixels on small files written here, and their errors for invalid files."""

import gzip
import io
import os
import struct
from collections.abc import Callable, Sequence
from pathlib import Path

import datasets
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from datasets import Dataset
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from PIL import Image

from data_prep.images import ImageError
from data_prep.pixel_sources.idx import read_idx
from data_prep.pixel_sources.npz import read_npz
from data_prep.pixel_sources.pixel_formats import read_pixels, resolve_format
from data_prep.pixel_sources.source import PixelSource
from vision_rnn.errors import UserError

RANDOM = np.random.default_rng(0)
GREY = RANDOM.integers(0, 256, (5, 4, 6), dtype=np.uint8)
COLOUR = RANDOM.integers(0, 256, (5, 4, 6, 3), dtype=np.uint8)
LABELS = np.array([3, 0, 1, 1, 2], np.uint8)


def idx_bytes(array: np.ndarray) -> bytes:
    return struct.pack(f">HBB{array.ndim}I", 0, 8, array.ndim, *array.shape) + array.tobytes()


def write(path: Path, data: bytes) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    return path


def save_npz(path: Path, **arrays: np.ndarray) -> Path:
    np.savez(path, **arrays)  # type: ignore[arg-type]
    return path


def read(source: Path | str, format: str = "auto") -> PixelSource:
    return read_pixels(str(source), resolve_format(str(source), format))


def images_of(source: PixelSource, split: str | None = None) -> np.ndarray:
    images = source.splits[split].images
    return np.stack([images[index] for index in range(len(images))])


def labels_of(source: PixelSource, split: str | None = None) -> list[int] | None:
    labels = source.splits[split].labels
    if labels is None:
        return None
    assert labels.dtype == np.int64
    return labels.tolist()


BAD_IDX: dict[str, tuple[bytes, str]] = {
    "empty": (b"", "not an IDX file"),
    "text": (
        b"<html>not found</html>",
        r"not an IDX file of unsigned bytes \(starts with 3c 68 74 6d\); download it again",
    ),
    "floats": (b"\0\0\x0d\x03" + bytes(24), "not an IDX file of unsigned bytes"),
    "labels instead of images": (idx_bytes(LABELS), "1 dimensions instead of 3 or 4; name the right file"),
    "header alone": (idx_bytes(GREY)[:9], r"9 bytes instead of"),
    "truncated": (idx_bytes(GREY)[:-1], r"135 bytes instead of 136 for shape \(5, 4, 6\); download it again"),
    "too long": (idx_bytes(GREY) + b"\0", "137 bytes instead of 136"),
    "truncated gzip": (gzip.compress(idx_bytes(GREY))[:-9], "corrupt or truncated .*download it again"),
    "gzip with a wrong byte": (
        (lambda data: data[:20] + bytes([data[20] ^ 255]) + data[21:])(gzip.compress(idx_bytes(GREY))),
        "corrupt or truncated",
    ),
    "gzip header alone": (gzip.compress(b"")[:10], "corrupt or truncated"),
    "two channels": (idx_bytes(COLOUR[..., :2]), "2 channels; give 1 or 3"),
    "no images": (idx_bytes(GREY[:0]), "images is empty"),
}


class TestIdx:
    @pytest.mark.parametrize("suffix", ["", ".gz"])
    @pytest.mark.parametrize("mark", ["-", "."])
    def test_a_folder_of_splits_with_labels(self, suffix, mark, tmp_path):
        pack = gzip.compress if suffix else bytes
        for split, images in (("train", GREY), ("t10k", GREY[::-1])):
            write(tmp_path / f"{split}-images{mark}idx3-ubyte{suffix}", pack(idx_bytes(images)))
        write(tmp_path / f"train-labels{mark}idx1-ubyte{suffix}", pack(idx_bytes(LABELS)))
        assert resolve_format(str(tmp_path), "auto") == "idx"
        source = read(tmp_path)
        assert source.splits.keys() == {"train", "test"}
        assert source.levels == 256
        np.testing.assert_array_equal(images_of(source, "train"), GREY[..., np.newaxis])
        np.testing.assert_array_equal(images_of(source, "test"), GREY[::-1, ..., np.newaxis])
        assert labels_of(source, "train") == LABELS.tolist()
        assert labels_of(source, "test") is None

    def test_one_file_of_any_name_in_colour(self, tmp_path):
        source = read(write(tmp_path / "photos", idx_bytes(COLOUR)), "idx")
        np.testing.assert_array_equal(images_of(source), COLOUR)

    def test_one_file_named_after_a_split_is_that_split_and_brings_its_labels(self, tmp_path):
        write(tmp_path / "emnist-letters-train-labels-idx1-ubyte", idx_bytes(LABELS))
        source = read(write(tmp_path / "emnist-letters-train-images-idx3-ubyte", idx_bytes(GREY)))
        assert labels_of(source, "train") == LABELS.tolist()

    def test_a_file_beside_its_gzipped_self_is_read_once(self, tmp_path):
        write(tmp_path / "train-images-idx3-ubyte", idx_bytes(GREY))
        write(tmp_path / "train-images-idx3-ubyte.gz", gzip.compress(idx_bytes(GREY)))
        assert len(images_of(read(tmp_path), "train")) == 5

    @pytest.mark.parametrize(
        "names",
        [
            ("emnist-letters-train-images-idx3-ubyte", "emnist-digits-train-images-idx3-ubyte.gz"),
            ("train-images-idx3-ubyte", "kmnist-train-images-idx3-ubyte"),
            ("t10k-images-idx3-ubyte", "test-images.idx3-ubyte"),
            ("a-images-idx3-ubyte", "b-images-idx3-ubyte"),
        ],
    )
    def test_several_data_sets_in_one_folder_are_refused(self, names, tmp_path):
        for name in names:
            pack = gzip.compress if name.endswith(".gz") else bytes
            write(tmp_path / name, pack(idx_bytes(GREY)))
        with pytest.raises(UserError, match=r"several files of .* split, such as") as caught:
            read(tmp_path)
        assert all(name in str(caught.value) for name in names)
        assert [len(part.images) for part in read(tmp_path / names[0]).splits.values()] == [5]

    @given(hnp.arrays(np.uint8, hnp.array_shapes(min_dims=3, max_dims=3, max_side=5)))
    def test_round_trip(self, tmp_path_factory, images):
        path = write(tmp_path_factory.mktemp("idx") / "images", gzip.compress(idx_bytes(images)))
        np.testing.assert_array_equal(images_of(read_idx(path))[..., 0], images)

    @pytest.mark.parametrize(("data", "message"), BAD_IDX.values(), ids=BAD_IDX.keys())
    def test_bad_files_are_named_in_one_line(self, data, message, tmp_path):
        path = write(tmp_path / "train-images-idx3-ubyte.gz", data)
        with pytest.raises(UserError, match=message) as caught:
            read(tmp_path)
        assert str(path.parent) in str(caught.value)
        assert "\n" not in str(caught.value)

    def test_labels_must_be_as_many_as_images(self, tmp_path):
        write(tmp_path / "train-images-idx3-ubyte", idx_bytes(GREY))
        write(tmp_path / "train-labels-idx1-ubyte", idx_bytes(LABELS[:4]))
        with pytest.raises(UserError, match="give one integer for each of 5 images"):
            read(tmp_path)

    def test_a_folder_without_idx_is_refused(self, tmp_path):
        with pytest.raises(UserError, match="contains no IDX images; name the folder"):
            read(tmp_path, "idx")


SPLIT_KEYS = {
    "fixed binarization": {"train": "train", "valid": "validation", "test": "test"},
    "val": {"x_train": "train", "x_val": "validation", "x_test": "test"},
    "capitals": {"X_train": "train", "X_validation": "validation", "TEST": "test"},
}


BAD_NPZ: dict[str, tuple[dict[str, np.ndarray], str]] = {
    "above 255": ({"train": GREY.astype(int) * 2}, "values of train images range from .*scale them to 0..255"),
    "negative": ({"arr_0": GREY / 127.5 - 1}, "values of the images range from -"),
    "not a number": ({"train": np.full((1, 2, 2), np.nan)}, "values of train images range from nan to nan"),
    "text": ({"train": np.array(["cat", "dog"])}, "array 'train': contains <U3, not numbers"),
    "one dimension": ({"train": LABELS}, r"array 'train': shape \(5,\); give N x H x W"),
    "two channels": ({"train": COLOUR[..., :2]}, r"shape \(5, 4, 6, 2\)"),
    "flat and not square": ({"train": np.zeros((2, 12), np.uint8)}, r"shape \(2, 12\)"),
    "packed but not bytes": ({"train": np.zeros((2, 98))}, r"shape \(2, 98\)"),
    "no images": ({"train": GREY[:0]}, "array of train images is empty"),
    "a split twice": ({"val": GREY, "valid": GREY}, "two arrays of images of the validation split; keep one"),
    "splits of different ranges": (
        {"train": GREY, "test": GREY / 255},
        r"the splits have different ranges \(train goes to \d+, test goes to [\d.]+\); scale all",
    ),
    "packed bits beside grey levels": (
        {"train": np.packbits(np.ones((2, 784), np.uint8), axis=1), "test": np.full((2, 784), 9)},
        r"\(train goes to 1, test goes to 9\)",
    ),
    "images of a split beside others": ({"x": GREY, "x_test": GREY}, "images of no split beside others of splits"),
    "labels twice": (
        {"train": GREY, "y_train": LABELS, "train_labels": LABELS},
        "two arrays of labels of the train split",
    ),
    "unknown names": ({"a": GREY, "b": GREY}, r"\(arrays: a, b\); name them train, test"),
    "no array": ({}, r"\(arrays: none\); name them train"),
    "few labels": ({"x_train": GREY, "y_train": LABELS[:2]}, r"labels are uint8 of shape \(2,\); give one integer"),
    "one-hot labels": ({"x_train": GREY, "y_train": np.eye(5)}, "labels are float64 of shape"),
    "negative label": ({"x_train": GREY, "y_train": LABELS.astype(int) - 1}, "a label is -1; number"),
}


DAMAGES: dict[str, Callable[[bytes], bytes]] = {
    "empty": lambda data: b"",
    "text": lambda data: b"<html>",
    "truncated": lambda data: data[:-30],
    "wrong byte": lambda data: data[:150] + bytes([data[150] ^ 255]) + data[151:],
}


class TestNpz:
    @pytest.mark.parametrize("keys", SPLIT_KEYS.values(), ids=SPLIT_KEYS.keys())
    def test_keys_tell_the_splits(self, keys, tmp_path):
        arrays = {key: GREY[:number] for number, key in enumerate(keys, start=1)}
        source = read(save_npz(tmp_path / "a.npz", **arrays, y_test=LABELS[:3, np.newaxis]))
        assert {split: len(part.images) for split, part in source.splits.items()} == {
            split: len(arrays[key]) for key, split in keys.items()
        }
        assert labels_of(source, "train") is None
        assert labels_of(source, "test") == LABELS[:3].tolist()

    @pytest.mark.parametrize(
        "names",
        [
            ("{}_images", "{}_labels"),
            ("images_{}", "labels_{}"),
            ("{}_x", "{}_y"),
            ("X_{}", "Y_{}"),
            ("{}_data", "{}_targets"),
        ],
    )
    def test_names_of_images_and_labels_with_the_split_before_or_after(self, names, tmp_path):
        images, labels = names
        arrays = {}
        for number, split in enumerate(("train", "val", "test"), start=1):
            arrays |= {images.format(split): GREY[:number], labels.format(split): LABELS[:number, np.newaxis]}
        source = read(save_npz(tmp_path / "pneumoniamnist.npz", **arrays))
        assert source.splits.keys() == {"train", "validation", "test"}
        for number, split in enumerate(source.splits, start=1):
            np.testing.assert_array_equal(images_of(source, split)[..., 0], GREY[:number])
            assert labels_of(source, split) == LABELS[:number].tolist()

    def test_images_and_labels_without_splits(self, tmp_path):
        source = read(save_npz(tmp_path / "a.npz", images=GREY, labels=LABELS))
        assert source.splits.keys() == {None}
        assert labels_of(source) == LABELS.tolist()

    def test_arrays_that_are_not_read_are_named(self, tmp_path, capsys):
        read(save_npz(tmp_path / "a.npz", x_train=GREY, y_train=LABELS, y_test=LABELS, mean=LABELS))
        assert "not read: mean, labels of test" in capsys.readouterr().err

    def test_a_single_array_has_no_splits(self, tmp_path):
        source = read(save_npz(tmp_path / "a.npz", arr_0=GREY))
        assert source.splits.keys() == {None}

    def test_the_only_file_of_a_folder(self, tmp_path):
        save_npz(tmp_path / "a.npz", train=GREY)
        assert resolve_format(str(tmp_path), "auto") == "npz"
        assert len(images_of(read(tmp_path), "train")) == 5
        save_npz(tmp_path / "b.npz", train=GREY)
        with pytest.raises(UserError, match=r"contains 2 \.npz files; name one"):
            read(tmp_path)

    @pytest.mark.parametrize(
        ("array", "expected"),
        [
            (GREY, GREY[..., np.newaxis]),
            (COLOUR, COLOUR),
            (COLOUR[..., :1], COLOUR[..., :1]),
            (COLOUR.transpose(0, 3, 1, 2), COLOUR),
            (GREY[..., np.newaxis].transpose(0, 3, 1, 2), GREY[..., np.newaxis]),
            (GREY[..., :4].reshape(5, 16), GREY[..., :4, np.newaxis]),
            (GREY.astype(np.int64), GREY[..., np.newaxis]),
            (GREY.astype(np.float32), GREY[..., np.newaxis]),
            (GREY / 255, GREY[..., np.newaxis]),
            ((GREY / 255).astype(np.float32), GREY[..., np.newaxis]),
        ],
        ids=["HW", "HWC", "HW1", "CHW", "1HW", "flat", "int64", "float 0..255", "float64 0..1", "float32 0..1"],
    )
    def test_layouts_and_kinds_of_numbers(self, array, expected, tmp_path):
        source = read(save_npz(tmp_path / "a.npz", train=array))
        assert images_of(source, "train").dtype == np.uint8
        np.testing.assert_array_equal(images_of(source, "train"), expected)
        assert source.levels == 256

    @pytest.mark.parametrize("dtype", [bool, np.uint8, np.int64, np.float32])
    def test_zeros_and_ones_stay_so(self, dtype, tmp_path):
        source = read(save_npz(tmp_path / "a.npz", train=(GREY > 99).astype(dtype)))
        assert source.levels == 2
        np.testing.assert_array_equal(images_of(source, "train")[..., 0], GREY > 99)

    def test_one_scale_for_all_splits(self, tmp_path):
        # On its own, the second array would be taken for binary.
        source = read(save_npz(tmp_path / "a.npz", train=GREY / 255, test=np.ones((2, 4, 6))))
        assert source.levels == 256
        assert (images_of(source, "test") == 255).all()

    @given(hnp.arrays(np.uint8, st.tuples(st.integers(1, 4), st.just(784)), elements=st.integers(0, 1)))
    def test_packed_bits_come_back_row_by_row(self, tmp_path_factory, pixels):
        path = save_npz(tmp_path_factory.mktemp("npz") / "a.npz", train=np.packbits(pixels, axis=1))
        source = read_npz(path)
        assert source.levels == 2
        np.testing.assert_array_equal(images_of(source, "train"), pixels.reshape(-1, 28, 28, 1))

    @pytest.mark.parametrize(("arrays", "message"), BAD_NPZ.values(), ids=BAD_NPZ.keys())
    def test_bad_arrays_are_named_in_one_line(self, arrays, message, tmp_path):
        path = save_npz(tmp_path / "a.npz", **arrays)
        with pytest.raises(UserError, match=message) as caught:
            read(path)
        assert str(caught.value).startswith(str(path))
        assert "\n" not in str(caught.value)

    @pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES.keys())
    def test_damaged_files_are_named_in_one_line(self, damage, tmp_path):
        path = save_npz(tmp_path / "a.npz", train=GREY)
        path.write_bytes(damage(path.read_bytes()))
        with pytest.raises(UserError, match=r"not a \.npz file of plain arrays .*save it with np\.savez$") as caught:
            read(path)
        assert str(caught.value).startswith(str(path))
        assert "\n" not in str(caught.value)

    def test_pickled_objects_are_never_loaded(self, tmp_path):
        path = save_npz(tmp_path / "a.npz", train=np.array([{}], dtype=object))
        with pytest.raises(UserError, match=r"not a \.npz file of plain arrays"):
            read(path)

    def test_a_lone_array_is_refused(self, tmp_path):
        with (tmp_path / "a.npz").open("wb") as file:
            np.save(file, GREY)
        with pytest.raises(UserError, match=r"not a \.npz file of plain arrays"):
            read(tmp_path / "a.npz")


class TestFolder:
    def test_splits_and_classes_come_from_subfolders(self, make_image, tmp_path):
        for name in ("train/cat/a.png", "train/dog/b.png", "val/dog/c.png", "Test/d.png"):
            make_image(tmp_path / name, size=(3, 2))
        assert resolve_format(str(tmp_path), "auto") == "folder"
        source = read(tmp_path)
        names = {split: part.names for split, part in source.splits.items()}
        assert names == {
            "train": ["train/cat/a.png", "train/dog/b.png"],
            "validation": ["val/dog/c.png"],
            "test": ["Test/d.png"],
        }
        assert {split: labels_of(source, split) for split in names} == {
            "train": [0, 1],
            "validation": [1],
            "test": None,
        }
        assert images_of(source, "train").shape == (2, 2, 3, 3)
        assert source.levels == 256

    def test_without_splits_subfolders_are_classes(self, make_image, tmp_path, capsys):
        for name in ("0/a.png", "0/b.png", "1/deep/c.png"):
            make_image(tmp_path / name)
        assert labels_of(read(tmp_path)) == [0, 0, 1]
        make_image(tmp_path / "d.png")
        assert capsys.readouterr().err == ""
        assert labels_of(read(tmp_path)) is None
        assert f"{tmp_path}: no labels, as 1 of 4 images are in no subfolder" in capsys.readouterr().err

    def test_pixels_and_their_channels(self, tmp_path):
        Image.fromarray(COLOUR[0]).save(tmp_path / "a.png")
        Image.fromarray(GREY[0]).save(tmp_path / "b.png")
        Image.fromarray(GREY[0].repeat(3).reshape(4, 6, 3)).save(tmp_path / "c.png")
        images = read(tmp_path).splits[None].images
        np.testing.assert_array_equal(images[0], COLOUR[0])
        np.testing.assert_array_equal(images[1], GREY[0, ..., np.newaxis])
        np.testing.assert_array_equal(images[2], images[1])

    def test_bad_folders(self, make_image, tmp_path):
        with pytest.raises(UserError, match="contains no image"):
            read(tmp_path, "folder")
        with pytest.raises(UserError, match="no such folder"):
            read(write(tmp_path / "a.txt", b""), "folder")
        make_image(tmp_path / "val" / "a.png")
        make_image(tmp_path / "valid" / "a.png")
        with pytest.raises(UserError, match=r"valid: the validation split is also in .*val; keep one"):
            read(tmp_path)


class TestTables:
    """Parquet files, and the hub with `load_dataset` replaced, since tests have no network."""

    @pytest.fixture
    def offer(self, monkeypatch):
        def offer(**splits: Dataset) -> None:
            monkeypatch.setattr(datasets, "load_dataset", lambda name: datasets.DatasetDict(splits))

        return offer

    @staticmethod
    def rows(numbers: Sequence[int], **columns: list) -> Dataset:
        cells = []
        for number in numbers:
            encoded = io.BytesIO()
            Image.fromarray(GREY[number]).save(encoded, "PNG")
            cells.append({"bytes": encoded.getvalue(), "path": None})
        return Dataset.from_dict({"img": cells, **columns}).cast_column("img", datasets.Image())

    def test_parquet_files_of_splits(self, tmp_path, monkeypatch):
        monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
        (tmp_path / "data").mkdir()
        self.rows([0, 1], label=[7, 0]).to_parquet(tmp_path / "data" / "train-00000-of-00002.parquet")
        self.rows([2], label=[3]).to_parquet(tmp_path / "data" / "train-00001-of-00002.parquet")
        self.rows([3], label=[4]).to_parquet(tmp_path / "data" / "test.parquet")
        assert resolve_format(str(tmp_path), "auto") == "parquet"
        source = read(tmp_path)
        assert source.splits.keys() == {"train", "test"}
        np.testing.assert_array_equal(images_of(source, "train")[..., 0], GREY[:3])
        assert labels_of(source, "train") == [7, 0, 3]
        assert labels_of(source, "test") == [4]
        assert [path.name for path in tmp_path.iterdir()] == ["data"]

    @pytest.mark.parametrize("kind", ["bytes", "bytes and null paths"])
    def test_parquet_of_other_programs(self, kind, tmp_path):
        encoded = []
        for image in GREY[:3]:
            buffer = io.BytesIO()
            Image.fromarray(image).save(buffer, "PNG")
            encoded.append(buffer.getvalue())
        cells = encoded if kind == "bytes" else [{"bytes": data, "path": None} for data in encoded]
        pq.write_table(pa.table({"label": [2, 0, 1], "image": cells}), tmp_path / "x.parquet")
        source = read(tmp_path / "x.parquet")
        np.testing.assert_array_equal(images_of(source)[..., 0], GREY[:3])
        assert labels_of(source) == [2, 0, 1]

    def test_columns_that_are_not_read_are_named(self, tmp_path, capsys):
        self.rows([0, 1], fine_label=[1, 0], coarse_label=[0, 0]).to_parquet(tmp_path / "x.parquet")
        assert labels_of(read(tmp_path / "x.parquet")) == [1, 0]
        assert "columns not read: coarse_label" in capsys.readouterr().err

    def test_one_parquet_file_without_labels(self, tmp_path):
        self.rows([4, 0]).to_parquet(tmp_path / "digits.parquet")
        source = read(tmp_path / "digits.parquet")
        np.testing.assert_array_equal(images_of(source)[..., 0], GREY[[4, 0]])
        assert labels_of(source) is None

    def test_hub(self, offer):
        classes = datasets.ClassLabel(names=["cat", "dog"])
        train = self.rows([1, 2], labels=[1, 0]).cast_column("labels", classes)
        hidden = self.rows([3], labels=[-1]).cast_column("labels", classes)
        offer(train=train, test=hidden, extra=self.rows([4]))
        source = read("hub:owner/name")
        assert source.splits.keys() == {"train", "test"}
        np.testing.assert_array_equal(images_of(source, "train")[..., 0], GREY[1:3])
        assert labels_of(source, "train") == [1, 0]
        assert labels_of(source, "test") is None

    def test_what_the_hub_may_lack(self, offer):
        offer(extra=self.rows([0]))
        with pytest.raises(UserError, match=r"no train, validation or test among its splits \(extra\); choose another"):
            read("hub:owner/name")
        offer(train=Dataset.from_dict({"label": [1]}))
        with pytest.raises(UserError, match="hub:owner/name, train: no column for the image"):
            read("hub:owner/name")
        offer(train=self.rows([0, 1], label=["cat", "dog"]))
        with pytest.raises(UserError, match="train: labels are <U3 of shape"):
            read("hub:owner/name")

    def test_cells_without_a_sound_image_are_named_by_their_row(self, offer):
        cells = [None, {"bytes": b"no image", "path": None}, {"bytes": None, "path": "absent.png"}]
        cells.append({"bytes": None, "path": None})
        offer(train=Dataset.from_dict({"img": cells}).cast_column("img", datasets.Image()))
        images = read("hub:owner/name").splits["train"].images
        messages = ["row 0: the file is empty", "row 1: not an image", "no such file", "row 3: the file is empty"]
        for index, message in enumerate(messages):
            with pytest.raises(ImageError, match=message):
                images[index]

    def test_bad_parquet(self, tmp_path):
        with pytest.raises(UserError, match=r"contains no \.parquet file"):
            read(tmp_path, "parquet")
        path = tmp_path / "train.parquet"
        self.rows([0]).to_parquet(path)
        self.rows([1]).to_parquet(tmp_path / "more.parquet")
        with pytest.raises(UserError, match=r"more\.parquet: names no split"):
            read(tmp_path)
        for damage in (b"", b"<html>", path.read_bytes()[:-20]):
            path.write_bytes(damage)
            with pytest.raises(UserError, match="not valid Parquet with equal columns") as caught:
                read(path)
            assert str(caught.value).startswith(str(path))
            assert "\n" not in str(caught.value)

    def test_text_that_is_not_utf8(self, tmp_path):
        starts = pa.py_buffer(struct.pack("<iii", 0, 1, 3))
        text = pa.Array.from_buffers(pa.string(), 2, [None, starts, pa.py_buffer(b"a\xf7b")])
        pq.write_table(pa.table({"image": pa.array([b"1", b"2"]), "text": text}), tmp_path / "train.parquet")
        with pytest.raises(UserError, match=r"train\.parquet: not valid Parquet .*UTF8"):
            read(tmp_path / "train.parquet")


def test_absent_and_unrecognised_sources(tmp_path):
    with pytest.raises(UserError, match="no such file or folder"):
        read(tmp_path / "absent")
    (tmp_path / "empty").mkdir()
    for source in (tmp_path / "empty", write(tmp_path / "a.csv", b""), write(tmp_path / "photo.png", b"")):
        with pytest.raises(UserError, match=r"not recognised; name it with --format idx\|npz\|folder\|parquet\|hub"):
            resolve_format(str(source), "auto")


@pytest.mark.parametrize("name", ["train-images-idx3-ubyte", "train.npz", "train.parquet"])
def test_pipes_and_devices_are_refused_unopened(name, tmp_path):
    (tmp_path / "link").mkdir()
    (tmp_path / "link" / name).symlink_to("/dev/full" if name.endswith("ubyte") else os.devnull)
    os.mkfifo(tmp_path / name)
    for path in (tmp_path / name, tmp_path / "link" / name, tmp_path / "link"):
        with pytest.raises(UserError, match=f"{name}: a device, socket or pipe; name a file"):
            read(path)


def test_a_parquet_cell_that_names_a_file_is_refused(make_image, tmp_path):
    cells = [{"bytes": None, "path": "/dev/zero"}, {"bytes": None, "path": str(make_image(tmp_path / "private.png"))}]
    rows = Dataset.from_dict({"image": cells}).cast_column("image", datasets.Image(decode=False))
    rows.to_parquet(tmp_path / "train.parquet")
    images = read(tmp_path / "train.parquet").splits["train"].images
    for index, message in enumerate(["/dev/zero: named by a cell", r"private\.png: named by a cell that does not"]):
        with pytest.raises(ImageError, match=message):
            images[index]


def test_skipped_files_of_all_splits_are_in_one_note(make_image, tmp_path, capsys):
    for split in ("train", "test"):
        make_image(tmp_path / split / "cat" / "a.png")
        (tmp_path / split / "cat" / "b.jxl").touch()
    assert len(read(tmp_path).splits) == 2
    assert capsys.readouterr().err.count("2 folders: 2 files look like images but were skipped: ") == 1
