"""Data that someone else made, by mistake or on purpose: a right result, or one line that says what is wrong."""

import gc
import gzip
import json
import resource
import struct
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet
import pytest

from data_prep.cli import main as data_prep
from data_prep.hub import encoded_image
from data_prep.images import ImageError
from data_prep.prepared_captions import PreparedCaptions
from vision_rnn.errors import UserError
from vision_rnn.files import read_json

GIGABYTE = 10**9


def npz_bomb(folder: Path) -> Path:
    np.savez_compressed(folder / "bomb.npz", train=np.broadcast_to(np.uint8(0), (GIGABYTE // 784, 28, 28)))
    return folder / "bomb.npz"


def gz_bomb(folder: Path) -> Path:
    path = folder / "train-images-idx3-ubyte.gz"
    number = GIGABYTE // 784
    with gzip.open(path, "wb", compresslevel=1) as file:
        file.write(struct.pack(">IIII", 0x803, number, 28, 28))
        for _ in range(number // 10_000 + 1):
            file.write(bytes(784 * 10_000))
    return path


def parquet_bomb(folder: Path) -> Path:
    """Write a caption of half a megabyte, which a dictionary repeats."""
    number = GIGABYTE // 500_000
    captions = pa.DictionaryArray.from_arrays(pa.array(np.zeros(number, np.int32)), pa.array(["a" * 500_000]))
    table = pa.table({"image": [b"not looked at"] * number, "caption": captions})
    pyarrow.parquet.write_table(table, folder / "bomb.parquet", store_schema=False)
    return folder / "bomb.parquet"


def packed_parquet_bomb(folder: Path) -> Path:
    """Write images of a gigabyte together, compressed."""
    table = pa.table({"image": [bytes(GIGABYTE // 100)], "caption": ["a dog"]})
    path = folder / "bomb.parquet"
    with pyarrow.parquet.ParquetWriter(path, table.schema, compression="zstd", use_dictionary=False) as writer:
        for _ in range(100):
            writer.write_table(table)
    return path


@pytest.mark.parametrize(
    ("write", "fix"),
    [
        (npz_bomb, "np.savez"),
        (gz_bomb, "gunzip"),
        (parquet_bomb, "use a smaller part of it"),
        (packed_parquet_bomb, "use a smaller part of it"),
    ],
)
def test_a_decompression_bomb_is_refused_before_it_fills_the_memory(
    write: Callable[[Path], Path], fix: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    bomb = write(tmp_path)
    gc.collect()
    assert bomb.stat().st_size < GIGABYTE / 150
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    assert data_prep(["pixels", str(bomb), "-o", str(tmp_path / "data")]) == 2
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 - before < 0.9 * GIGABYTE
    (line,) = [line for line in capsys.readouterr().err.splitlines() if "error" in line]
    assert "MB that unpack to " in line
    assert line.endswith(fix)


DAMAGED = {
    "deep": ("[" * 100_000 + "]" * 100_000, "nested too deeply; fix the file"),
    "long number": (f'{{"a": {"7" * 5000}}}', "a number has too many digits"),
    "not JSON": ('{"a": 1,\n oops}', "line 2: not valid JSON"),
}


@pytest.mark.parametrize(("text", "message"), DAMAGED.values(), ids=DAMAGED.keys())
def test_json_that_python_does_not_read_is_named(text: str, message: str, tmp_path: Path):
    (tmp_path / "a.json").write_text(text)
    with pytest.raises(UserError, match=message):
        read_json(tmp_path / "a.json")


def test_halves_of_characters_are_replaced_and_noted(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    """The escapes are those of a whole character, a first half, a second half, an escaped backslash before a `u`."""
    (tmp_path / "a.json").write_text(r'["\ud83d\ude00", "a\ud83d", "\uDE00b", "\\ud83d", "\\\ud83d\u00e9"]')
    assert read_json(tmp_path / "a.json") == ["😀", "a\ufffd", "\ufffdb", r"\ud83d", "\\\ufffdé"]
    assert capsys.readouterr().err.endswith("were replaced by \ufffd: 3\n")


@pytest.mark.parametrize("layout", ["a.jsonl", "a.json"])
def test_one_bad_entry_is_listed_and_the_others_are_used(
    layout: str, synthetic_captions: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    lines = (synthetic_captions / "captions.jsonl").read_text().splitlines()
    rows = [json.loads(line) for line in lines]
    good = len({row["image"] for row in rows})
    rows += [
        {"image": "nul\0.jpg", "caption": "a dog", "split": "train"},
        {"image": "half\ud83d.jpg", "caption": "a dog", "split": "train"},
        {"image": "\x1b[2J.jpg", "caption": "a dog", "split": "train"},
    ]
    bad = 3
    if layout == "a.jsonl":
        rows_as_text = [json.dumps(row) for row in rows] + ["[" * 100_000, f'{{"image": {"7" * 5000}}}']
        bad += 2
        (tmp_path / layout).write_text("\n".join(rows_as_text))
    else:
        (tmp_path / layout).write_text(json.dumps(rows))
    arguments = ["captions", str(tmp_path / layout), f"--image-root={synthetic_captions}", "--min-count=1"]
    assert data_prep([*arguments, f"--output={tmp_path / 'data'}"]) in (0, 1)
    manifest = PreparedCaptions.open(tmp_path / "data").manifest
    assert sum(count["images"] for count in manifest["splits"].values()) == good
    assert len(manifest["left_out"]) == bad
    shown = capsys.readouterr().err
    assert "\x1b" not in shown
    assert "\0" not in shown
    assert "Traceback" not in shown


def test_images_outside_the_source_are_read_only_if_the_user_allows_it(
    make_image: Callable[[Path], Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    private, source = tmp_path / "private", tmp_path / "source"
    for path in (private / "a.png", private / "b.png", source / "images" / "good.png"):
        path.parent.mkdir(parents=True, exist_ok=True)
        make_image(path)
    (source / "images" / "file.png").symlink_to(private / "a.png")
    (source / "images" / "folder").symlink_to(private)
    (source / "images" / "within.png").symlink_to("good.png")
    names = ["good.png", "within.png", str(private / "a.png"), "../../private/b.png", "file.png", "folder/b.png"]
    entries = [{"id": number, "file_name": name} for number, name in enumerate(names)]
    annotations = [{"id": number, "image_id": number, "caption": "a dog"} for number in range(len(names))]
    (source / "captions_train.json").write_text(json.dumps({"images": entries, "annotations": annotations}))
    arguments = ["captions", str(source), "--min-count=1", f"--output={tmp_path / 'data'}"]
    assert data_prep(arguments) in (0, 1)
    data = PreparedCaptions.open(tmp_path / "data")
    used = [name for split in data.manifest["splits"] for name in data.split(split)["name"]]
    assert sorted(used) == ["good.png", "within.png"]
    assert sorted(entry["name"] for entry in data.manifest["left_out"]) == sorted(names[2:])
    reasons = [entry["reason"] for entry in data.manifest["left_out"]]
    assert all("lies outside the source's folder; if you trust the source" in reason for reason in reasons)
    for more in (["--allow-outside"], ["--allow-outside", f"--image-root={source / 'images'}"]):
        assert data_prep([*arguments, *more]) == 0
        data = PreparedCaptions.open(tmp_path / "data")
        assert sum(count["images"] for count in data.manifest["splits"].values()) == len(names)


def test_links_in_a_folder_of_pictures_are_followed_only_within_it(
    make_image: Callable[..., Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    private, source = tmp_path / "private.png", tmp_path / "source"
    make_image(private, colour=(1, 2, 3))
    for number in range(20):
        make_image(source / f"{number}.png", colour=(number, 5, 9))
    (source / "within.png").symlink_to("3.png")
    (source / "outside.png").symlink_to(private)
    arguments = ["pixels", str(source), f"--output={tmp_path / 'data'}"]
    assert data_prep(arguments) == 1
    assert "outside.png: lies outside the source's folder; if you trust the source, use data-prep pixels --allow" in (
        capsys.readouterr().err
    )
    assert _number_of_images(tmp_path / "data") == 21
    assert data_prep([*arguments, "--allow-outside"]) == 0
    assert _number_of_images(tmp_path / "data") == 22


def _number_of_images(data: Path) -> int:
    return sum(count["images"] for count in read_json(data / "manifest.json")["splits"].values())


def test_a_cell_names_only_files_that_were_downloaded(make_image: Callable[..., Path], tmp_path: Path):
    cache = tmp_path / "cache"
    downloaded, private = make_image(cache / "blobs" / "a.png"), make_image(tmp_path / "private.png")
    (cache / "snapshot").mkdir()
    (cache / "snapshot" / "a.png").symlink_to("../blobs/a.png")
    (cache / "snapshot" / "b.png").symlink_to(private)
    cell = {"bytes": None, "path": str(cache / "snapshot" / "a.png")}
    assert encoded_image(cell, [cache]) == downloaded.read_bytes()
    for path in (private, cache / "snapshot" / "b.png", cache / ".." / "private.png"):
        with pytest.raises(ImageError, match="named by a cell that does not contain it"):
            encoded_image({"bytes": None, "path": str(path)}, [cache])
    with pytest.raises(ImageError, match="named by a cell that does not contain it"):
        encoded_image(cell, [])
