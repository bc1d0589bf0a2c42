"""Several sources as one data set: what each gives is what it gives alone, under names that stay apart."""

import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from data_prep.captions import prepare_captions
from data_prep.cli import main
from data_prep.inspect_captions import describe, summarize
from data_prep.prepared_captions import PreparedCaptions
from data_prep.references import read_references

SPLITS = ("train", "validation", "test")
# Split of each image of the sources below: Flickr8k's shape, COCO's shape, and none at all.
ALL_SPLITS = ["train"] * 4 + ["val", "test", None]
NO_TEST = ["train"] * 3 + ["val"] * 2
NO_VALIDATION = ["train"] * 20 + ["test"]
WITHOUT = [None] * 20


def write_source(folder: Path, splits: Sequence[str | None], first_level: int = 0, words: str = "a dog") -> Path:
    """Write a source whose images, named by number as in any other, are pixels of levels that no other has."""
    folder.mkdir(parents=True)
    lines = []
    for number, split in enumerate(splits):
        (folder / f"{number}.pgm").write_bytes(b"P5 1 1 255\n" + bytes([first_level + number]))
        captions = [words, f"{words} runs ."][: 1 + number % 2]
        lines.append({"image": f"{number}.pgm", "captions": captions} | ({"split": split} if split else {}))
    (folder / "captions.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    return folder


def write_coco(folder: Path, splits: Sequence[str], first_level: int) -> Path:
    folder.mkdir(parents=True)
    (folder / "images").mkdir()
    for split in sorted(set(splits)):
        numbers = [number for number, of in enumerate(splits) if of == split]
        for number in numbers:
            (folder / "images" / f"{number}.pgm").write_bytes(b"P5 1 1 255\n" + bytes([first_level + number]))
        document = {
            "images": [{"id": number, "file_name": f"{number}.pgm"} for number in numbers],
            "annotations": [{"image_id": number, "caption": f"a cat {number % 2}"} for number in numbers],
        }
        (folder / f"captions_{split}.json").write_text(json.dumps(document))
    return folder


def rows_of(folder: Path) -> dict[tuple[str, str], tuple[bytes, list[str], list[list[str]]]]:
    """Return image, captions and tokens by split and name, after checking that the rows are sorted by name."""
    data = PreparedCaptions.open(folder)
    found = {}
    for split in data.manifest["splits"]:
        rows = data.split(split)
        assert rows["name"][:] == sorted(rows["name"])
        found |= {(split, row["name"]): (row["image"]["bytes"], row["captions"], row["tokens"]) for row in rows}
    return found


def alone_with_prefix(source: Path, name: str, folder: Path, seed: int = 0) -> dict[tuple[str, str], Any]:
    prepare_captions(source, folder, min_count=1, seed=seed)
    return {(split, f"{name}/{image}"): row for (split, image), row in rows_of(folder).items()}


def test_images_of_equal_names_are_kept_apart_in_the_splits_of_their_sources(tmp_path):
    first, second = write_source(tmp_path / "a", ALL_SPLITS), write_coco(tmp_path / "a-b", NO_TEST, 50)
    manifest = prepare_captions([first, second], tmp_path / "both", min_count=1)
    expected = alone_with_prefix(first, "a", tmp_path / "first") | alone_with_prefix(second, "a-b", tmp_path / "second")
    assert len(expected) == 6 + 5
    assert rows_of(tmp_path / "both") == expected
    assert (manifest["source"], manifest["format"], manifest["without_split"]) == ("a + a-b", "jsonl + coco", 1)
    assert manifest["splits"] == {
        "train": {"images": 7, "captions": 9},
        "validation": {"images": 3, "captions": 3},
        "test": {"images": 1, "captions": 2},
    }
    assert manifest["sources"] == {
        "a": {
            "format": "jsonl",
            "split_by": "source",
            "splits": {
                "train": {"images": 4, "captions": 6},
                "validation": {"images": 1, "captions": 1},
                "test": {"images": 1, "captions": 2},
            },
            "without_split": 1,
            "not_used": {},
        },
        "a-b": {
            "format": "coco",
            "split_by": "source",
            "splits": {"train": {"images": 3, "captions": 3}, "validation": {"images": 2, "captions": 2}},
            "without_split": 0,
            "not_used": {},
        },
    }
    assert {reference.name for reference in read_references(tmp_path / "both")} == {name for _, name in expected}


@pytest.mark.parametrize("seed", [0, 1])
def test_a_source_is_split_as_it_is_alone(seed, tmp_path):
    sources = [write_source(tmp_path / "cut", NO_VALIDATION), write_source(tmp_path / "without", WITHOUT, 50)]
    manifest = prepare_captions(sources, tmp_path / "both", min_count=1, seed=seed)
    expected = {}
    for source in sources:
        expected |= alone_with_prefix(source, source.name, tmp_path / "alone", seed)
    assert rows_of(tmp_path / "both") == expected
    assert {name: source["split_by"] for name, source in manifest["sources"].items()} == {
        "cut": "source; validation cut from train by seed",
        "without": "seed",
    }


@pytest.mark.parametrize("splits", [NO_TEST, NO_VALIDATION, WITHOUT])
def test_of_a_source_only_the_training_images_that_it_has_alone_are_used(splits, tmp_path):
    first, second = write_source(tmp_path / "a", ALL_SPLITS), write_source(tmp_path / "b", splits, 50)
    manifest = prepare_captions([first, second], tmp_path / "both", min_count=1, train_only=["b"])
    alone = alone_with_prefix(second, "b", tmp_path / "second")
    training = {key: row for key, row in alone.items() if key[0] == "train"}
    assert rows_of(tmp_path / "both") == alone_with_prefix(first, "a", tmp_path / "first") | training
    not_used = {split: sum(key[0] == split for key in alone) for split in SPLITS[1:]}
    assert manifest["sources"]["b"]["not_used"] == {split: number for split, number in not_used.items() if number}
    assert (manifest["without_split"], manifest["sources"]["b"]["without_split"]) == (1, 0)


def test_train_only_takes_the_name_or_the_path_of_a_source(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_source(Path("sets/a"), ALL_SPLITS)
    write_source(Path("sets/b"), NO_TEST, 50)
    hashes = {
        prepare_captions(["sets/a", "sets/b"], "out", min_count=1, train_only=[named])["content_hash"]
        for named in ("b", "sets/b/", tmp_path / "sets" / "b")
    }
    assert len(hashes) == 1


def test_the_vocabulary_is_of_the_training_captions_of_all_sources(tmp_path):
    first = write_source(tmp_path / "a", ["train", "val"], 0, "a dog")
    second = write_source(tmp_path / "b", ["train", "val"], 50, "a zebra")
    prepare_captions([first, second], tmp_path / "out", min_count=2)
    assert PreparedCaptions.open(tmp_path / "out").vocabulary.words == ["a"]


def test_the_content_hash_depends_on_every_source_and_not_on_their_order(tmp_path):
    first, second = write_source(tmp_path / "a", ALL_SPLITS), write_source(tmp_path / "b", NO_TEST, 50)

    def content_hash(*sources: Path) -> str:
        return prepare_captions(sources, tmp_path / "out", min_count=1)["content_hash"]

    before = content_hash(first, second)
    assert content_hash(second, first) == before
    (second / "4.pgm").write_bytes(b"P5 1 1 255\n\xff")
    assert content_hash(first, second) != before


def test_the_names_of_sources_have_as_many_folders_as_tell_them_apart(tmp_path):
    sources = [write_source(tmp_path / folder / "photos", NO_TEST, level) for folder, level in (("a", 0), ("b", 50))]
    files = [source / "captions.jsonl" for source in sources]
    assert prepare_captions(sources, tmp_path / "out", min_count=1)["source"] == "a/photos + b/photos"
    manifest = prepare_captions(files, tmp_path / "out", min_count=1)
    assert list(manifest["sources"]) == ["a/photos/captions.jsonl", "b/photos/captions.jsonl"]
    assert PreparedCaptions.open(tmp_path / "out").split("train")["name"][0] == "a/photos/captions.jsonl/0.pgm"


def test_a_hub_data_set_and_a_folder_of_its_name_are_kept_apart(tmp_path, monkeypatch):
    import datasets

    local = write_source(tmp_path / "mine" / "shapes", NO_TEST)
    cells = {"image": [str(local / "0.pgm")] * 2, "text": ["a dog", "a cat"], "split": ["train", "val"]}
    rows = datasets.Dataset.from_dict(cells).cast_column("image", datasets.Image())
    monkeypatch.setattr(datasets, "load_dataset", lambda name: datasets.DatasetDict({"train": rows}))
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path)  # where downloads are
    manifest = prepare_captions([local, "hub:owner/shapes"], tmp_path / "out", min_count=1)
    assert (manifest["source"], manifest["format"]) == ("mine/shapes + owner/shapes", "jsonl + hub")
    assert manifest["in_several_splits"] == 1


def test_at_most_so_many_images_are_drawn_from_all_sources_together(tmp_path):
    sources = [write_source(tmp_path / "a", ALL_SPLITS), write_source(tmp_path / "b", NO_TEST, 50)]
    manifest = prepare_captions(sources, tmp_path / "out", min_count=1, max_images=3)
    assert {split: count["images"] for split, count in manifest["splits"].items()} == {
        "train": 3,
        "validation": 3,
        "test": 1,
    }
    assert manifest["drawn_from"] == {"train": 7}
    of_sources = [source["splits"].get("train", {"images": 0})["images"] for source in manifest["sources"].values()]
    assert sum(of_sources) == 3


def test_an_image_of_one_source_in_the_test_split_of_another_is_counted(tmp_path):
    first, second = write_source(tmp_path / "a", ALL_SPLITS), write_source(tmp_path / "b", NO_TEST, 50)
    shutil.copy(first / "5.pgm", second / "0.pgm")
    assert prepare_captions([first, second], tmp_path / "out", min_count=1)["in_several_splits"] == 1


def test_the_command_says_what_each_source_gave(tmp_path, capsys):
    first, second = write_source(tmp_path / "a", ALL_SPLITS), write_coco(tmp_path / "b", NO_TEST, 50)
    (second / "images" / "0.pgm").unlink()
    options = ["-o", str(tmp_path / "out"), "--min-count", "1"]
    assert main(["captions", str(first), str(second), *options]) == 1
    printed = capsys.readouterr()
    assert [line.removeprefix("data-prep: ") for line in printed.err.splitlines()] == [
        "1 images are in no split and were not used",
        "a: read as jsonl, split by source",
        "b: read as coco, split by source",
        "train: 4 of a, 2 of b",
        "validation: 1 of a, 2 of b",
        "test: 1 of a",
        f"skipped b/0.pgm: {second}/captions_train.json, images[0]: {second}/0.pgm: no such file; check the path",
        "1 input skipped",
    ]
    assert printed.out.splitlines()[0] == "train: 6 images, 8 captions"
    assert main(["captions", str(first), str(second), *options, "--train-only", str(second)]) == 1
    errors = capsys.readouterr().err
    assert "data-prep: b: 2 validation images were not used (--train-only)\n" in errors
    assert "data-prep: validation: 1 of a\n" in errors
    summary = summarize(PreparedCaptions.open(tmp_path / "out"))
    assert list(summary["sources"]) == ["a", "b"]
    assert "train       4 of a, 2 of b" in describe(summary).splitlines()


MISTAKES = {
    "twice": ("a b a", "a: given twice; name it once"),
    "twice by another path": ("a link", "link: given twice, as a too; name it once"),
    "prepared": ("a prepared", "prepared: a prepared data set; name the source that it was prepared from"),
    "prepared alone": ("prepared", "prepared: a prepared data set; name the source that it was prepared from"),
    "absent": (
        "a absent b gone.csv",
        "absent: no such file or folder; check the path (a hub data set is written hub:owner/name); "
        "gone.csv: no such file or folder; check the path (a hub data set is written hub:owner/name)",
    ),
    "no image": (
        "a imageless",
        "imageless: no usable image (imageless/captions.jsonl, line 1: imageless/0.pgm: no such file; check the path); "
        "check the source and --image-root",
    ),
    "another format": ("a b --format coco", "a: contains no captions_*.json or annotations/captions_*.json; name "),
    "no training images": ("test-a test-b", "test-a, test-b: no usable image for training; check the source and "),
    "train-only of none": ("a b --train-only c", "--train-only: c is not one of the sources; choose from: a, b"),
    "train-only of all": ("a b --train-only a b", "--train-only: no source is left for validation; omit at least one"),
    "train-only of one": ("a --train-only a", "--train-only: no source is left for validation; omit at least one"),
    "train-only of test": ("a test-b --train-only test-b", "--train-only: test-b has no training images; omit this"),
    "rare words": ("a b --min-count 99", "a, b: no word occurs 99 times in the training captions; lower --min-count"),
}


@pytest.mark.parametrize(("arguments", "message"), MISTAKES.values(), ids=MISTAKES.keys())
def test_a_mistake_is_one_line_and_nothing_is_written(arguments, message, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    for folder, splits, level in (("a", ALL_SPLITS, 0), ("b", NO_TEST, 50), ("imageless", NO_TEST, 60)):
        write_source(Path(folder), splits, level)
    for folder, level in (("test-a", 70), ("test-b", 80)):
        write_source(Path(folder), ["test"] * 2, level)
    for image in Path("imageless").glob("*.pgm"):
        image.unlink()
    Path("link").symlink_to("a")
    prepare_captions("a", "prepared", min_count=1)
    before = sorted(tmp_path.rglob("*"))
    capsys.readouterr()
    assert main(["captions", *arguments.split(), "-o", "out"]) == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    assert printed.err.startswith(f"data-prep: error: {message}")
    assert printed.err.count("\n") == 1
    assert sorted(tmp_path.rglob("*")) == before


def test_the_manifest_of_one_source_is_that_of_earlier_versions(tmp_path):
    """A data set prepared again has the same content hash, by which runs and cached features know it."""
    source = write_source(tmp_path / "src", ALL_SPLITS)
    manifest = prepare_captions([source], tmp_path / "out", min_count=2)
    assert list(manifest.items())[2:] == [
        ("source", "src"),
        ("format", "jsonl"),
        ("options", {"min_count": 2, "seed": 0, "split_by": "source", "max_images": None}),
        (
            "splits",
            {
                "train": {"images": 4, "captions": 6},
                "validation": {"images": 1, "captions": 1},
                "test": {"images": 1, "captions": 2},
            },
        ),
        ("without_split", 1),
        ("drawn_from", {}),
        ("in_several_splits", 0),
        ("left_out", []),
        ("vocabulary", {"size": 7, "min_count": 2}),
        ("content_hash", "3f14d0d75d7f592e77a8a67a4271027b7f51b58e1dc9c17ac8e1ab611ea225b8"),
    ]


@pytest.mark.data
@pytest.mark.slow
def test_flickr8k_and_the_training_part_of_coco(real_data, tmp_path):
    sources = [real_data / "flickr8k", real_data / "coco_small"]
    manifest = prepare_captions(sources, tmp_path / "out", train_only=["coco_small"])
    assert {name: source["format"] for name, source in manifest["sources"].items()} == {
        "flickr8k": "flickr8k",
        "coco_small": "coco",
    }
    assert manifest["splits"] == {
        "train": {"images": 6600, "captions": 33_000},
        "validation": {"images": 1000, "captions": 5000},
        "test": {"images": 1000, "captions": 5000},
    }
    assert manifest["sources"]["coco_small"]["not_used"] == {"validation": 120}
    assert (manifest["left_out"], manifest["in_several_splits"]) == ([], 0)
