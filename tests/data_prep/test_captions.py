"""The prepared data set: identical from every format, complete or absent, and with a list of everything skipped."""

import csv
import hashlib
import json
import os
import shutil
from collections import Counter
from collections.abc import Callable, Iterable
from pathlib import Path

import pytest

from data_prep.captions import prepare_captions
from data_prep.prepared_captions import PreparedCaptions
from data_prep.tokenizer import tokenize
from vision_rnn.errors import UserError

Entry = tuple[str, str, list[str]]  # name, split, captions
FLICKR8K_SPLITS = {"train": "train", "validation": "dev", "test": "test"}


def write_flickr8k(entries: Iterable[Entry], folder: Path) -> Path:
    text = folder / "Flickr8k_text"
    text.mkdir(parents=True)
    lines = [f"{name}#{k}\t{caption}\n" for name, _, captions in entries for k, caption in enumerate(captions)]
    (text / "Flickr8k.token.txt").write_text("".join(lines))
    for split, short in FLICKR8K_SPLITS.items():
        names = [f"{name}\n" for name, of_split, _ in entries if of_split == split]
        (text / f"Flickr_8k.{short}Images.txt").write_text("".join(names))
    return folder


def write_karpathy(entries: Iterable[Entry], folder: Path) -> Path:
    images = [
        {
            "filename": name,
            "split": {"train": "restval", "validation": "val"}.get(split, split),
            "sentences": [{"raw": caption, "tokens": []} for caption in captions],
        }
        for name, split, captions in entries
    ]
    folder.mkdir()
    (folder / "dataset_flickr8k.json").write_text(json.dumps({"images": images, "dataset": "flickr8k"}))
    return folder


def write_coco(entries: Iterable[Entry], folder: Path) -> Path:
    folder.mkdir()
    for split in FLICKR8K_SPLITS:
        images, annotations = [], []
        for number, (name, _, captions) in enumerate(entry for entry in entries if entry[1] == split):
            images.append({"id": number, "file_name": name})
            annotations += [{"image_id": number, "caption": caption} for caption in captions]
        document = {"images": images, "annotations": annotations[::-1]}
        (folder / f"captions_{split[:5].removesuffix('i')}2014.json").write_text(json.dumps(document))
    return folder


def write_csv(entries: Iterable[Entry], folder: Path) -> Path:
    folder.mkdir()
    with (folder / "captions.csv").open("w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(["split", "caption", "image"])
        rows.writerows([split, caption, name] for name, split, captions in entries for caption in captions)
    return folder


def write_jsonl(entries: Iterable[Entry], folder: Path) -> Path:
    folder.mkdir()
    lines = [json.dumps({"file_name": name, "captions": captions, "split": split}) for name, split, captions in entries]
    (folder / "metadata.jsonl").write_text("\n".join(lines[::-1]))
    return folder


def write_sidecar(entries: Iterable[Entry], folder: Path, images: Path) -> Path:
    for name, split, captions in entries:
        image = folder / split / name
        image.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(images / name, image)
        image.with_suffix(".txt").write_text("".join(f"{caption}\n" for caption in captions))
    return folder


WRITERS: dict[str, Callable[[Iterable[Entry], Path], Path]] = {
    "flickr8k": write_flickr8k,
    "karpathy": write_karpathy,
    "coco": write_coco,
    "csv": write_csv,
    "jsonl": write_jsonl,
}


def entries_of(prepared: PreparedCaptions) -> list[Entry]:
    return [
        (row["name"], split, row["captions"])
        for split in prepared.manifest["splits"]
        for row in prepared.split(split).select_columns(["name", "captions"])
    ]


@pytest.fixture(scope="module")
def prepared(synthetic_captions, tmp_path_factory) -> PreparedCaptions:
    folder = tmp_path_factory.mktemp("prepared") / "shapes"
    prepare_captions(synthetic_captions, folder, min_count=2)
    return PreparedCaptions.open(folder)


@pytest.fixture
def source(synthetic_captions, tmp_path) -> Path:
    """A copy of the synthetic data set that a test may modify."""
    return shutil.copytree(synthetic_captions, tmp_path / "source")


def edit_lines(source: Path, edit: Callable[[list[dict]], None]) -> None:
    path = source / "captions.jsonl"
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    edit(lines)
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))


def test_rows_hold_the_source_untouched(prepared, synthetic_captions):
    assert prepared.manifest["splits"] == {
        "train": {"images": 16, "captions": 40},
        "validation": {"images": 4, "captions": 8},
        "test": {"images": 4, "captions": 12},
    }
    assert prepared.manifest["left_out"] == []
    lines = map(json.loads, (synthetic_captions / "captions.jsonl").read_text().splitlines())
    by_name = {line["image"]: line for line in lines}
    for split in prepared.manifest["splits"]:
        rows = prepared.split(split)
        assert rows["name"] == sorted(rows["name"])
        for row in rows:
            line = by_name.pop(row["name"])
            assert line["split"] == split
            assert row["image"]["bytes"] == (synthetic_captions / "images" / row["name"]).read_bytes()
            assert row["captions"] == line["captions"]
            assert row["tokens"] == [tokenize(caption) for caption in line["captions"]]
    assert not by_name


def test_vocabulary_is_of_the_training_split_alone(source, tmp_path):
    def add_word_to_test_split(lines: list[dict]) -> None:
        for line in lines:
            line["captions"] = [f"{line['split']}word"] * 3

    edit_lines(source, add_word_to_test_split)
    prepare_captions(source, tmp_path / "out", min_count=1)
    assert PreparedCaptions.open(tmp_path / "out").vocabulary.words == ["trainword"]


def test_min_count_is_applied(prepared):
    counts = Counter()
    for captions in prepared.split("train")["captions"]:
        counts.update(token for caption in captions for token in tokenize(caption))
    assert set(prepared.vocabulary.words) == {token for token, count in counts.items() if count >= 2}
    assert prepared.manifest["vocabulary"] == {"size": len(prepared.vocabulary), "min_count": 2}


@pytest.mark.parametrize("format", WRITERS)
def test_every_format_gives_the_same_content(format, prepared, synthetic_captions, tmp_path):
    source = WRITERS[format](entries_of(prepared), tmp_path / format)
    manifest = prepare_captions(source, tmp_path / "out", image_root=synthetic_captions / "images")
    assert manifest["format"] == format
    assert manifest["content_hash"] == prepared.content_hash


def test_sidecar_gives_the_same_content(prepared, synthetic_captions, tmp_path):
    source = write_sidecar(entries_of(prepared), tmp_path / "sidecar", synthetic_captions / "images")
    manifest = prepare_captions(source, tmp_path / "out")
    assert manifest["format"] == "sidecar"
    assert manifest["content_hash"] == prepared.content_hash


def test_hub_gives_the_same_content(prepared, synthetic_captions, tmp_path, monkeypatch):
    import datasets

    def load_dataset(name: str) -> datasets.DatasetDict:
        splits = {}
        for split in prepared.manifest["splits"]:
            rows = [
                (name, caption) for name, of, captions in entries_of(prepared) if of == split for caption in captions
            ]
            columns = {
                "image": [str(synthetic_captions / "images" / name) for name, _ in rows],
                "text": [caption for _, caption in rows],
            }
            splits[split] = datasets.Dataset.from_dict(columns).cast_column("image", datasets.Image())
        return datasets.DatasetDict(splits)

    monkeypatch.setattr(datasets, "load_dataset", load_dataset)
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", synthetic_captions)  # where downloads are
    manifest = prepare_captions("hub:owner/shapes", tmp_path / "out")
    assert (manifest["format"], manifest["source"]) == ("hub", "hub:owner/shapes")
    assert manifest["content_hash"] == prepared.content_hash


def test_content_hash_is_as_documented(prepared):
    digest = hashlib.sha256()
    for split in ("test", "train", "validation"):
        for row in prepared.split(split):
            image = hashlib.sha256(row["image"]["bytes"]).hexdigest()
            digest.update((json.dumps([split, row["name"], image, sorted(row["captions"])]) + "\n").encode())
    assert prepared.content_hash == digest.hexdigest()


@pytest.mark.parametrize("change", ["caption", "split", "pixel"])
def test_content_hash_tells_any_change(change, source, prepared, make_image, tmp_path):
    def edit(lines: list[dict]) -> None:
        if change == "caption":
            lines[0]["captions"][0] += "!"
        if change == "split":
            lines[0]["split"] = "test"

    edit_lines(source, edit)
    if change == "pixel":
        make_image(next((source / "images").iterdir()))
    assert prepare_captions(source, tmp_path / "out")["content_hash"] != prepared.content_hash


def test_unusable_inputs_are_listed_with_place_and_reason_and_left_out(source, tmp_path):
    images = source / "images"
    names = [json.loads(line)["image"] for line in (source / "captions.jsonl").read_text().splitlines()]
    (images / names[0]).unlink()
    (images / names[1]).write_bytes((images / names[1]).read_bytes()[:60])
    (images / names[2]).write_bytes(b"")

    def empty_captions(lines: list[dict]) -> None:
        lines[3]["captions"][0] = "  "
        lines[6]["captions"] = [" . "]

    edit_lines(source, empty_captions)
    manifest = prepare_captions(source, tmp_path / "out")
    reasons = {entry["name"]: entry["reason"] for entry in manifest["left_out"]}
    expected = {
        0: "no such file",
        1: "broken or truncated",
        2: "empty",
        3: "a caption without words",
        6: "a caption without words",
    }
    assert reasons.keys() == {names[index] for index in expected}
    for index, reason in expected.items():
        assert f"captions.jsonl, line {index + 1}: " in reasons[names[index]]
        assert reason in reasons[names[index]]
    prepared = PreparedCaptions.open(tmp_path / "out")
    kept = {name: captions for name, _, captions in entries_of(prepared)}
    assert kept.keys() == set(names) - {names[index] for index in (0, 1, 2, 6)}
    assert len(kept[names[3]]) == 2
    assert sum(count["images"] for count in manifest["splits"].values()) == 20


def test_images_in_no_split_are_counted_and_left_out(prepared, synthetic_captions, tmp_path):
    entries = [(name, split, captions) for name, split, captions in entries_of(prepared)]
    entries[:2] = [(name, "", captions) for name, _, captions in entries[:2]]
    source = write_flickr8k(entries, tmp_path / "source")
    manifest = prepare_captions(source, tmp_path / "out", image_root=synthetic_captions / "images")
    assert manifest["without_split"] == 2
    assert manifest["left_out"] == []
    assert manifest["splits"]["train"]["images"] == 14


def without_splits(lines: list[dict]) -> None:
    for line in lines:
        del line["split"]


def test_seeded_split_depends_on_seed_and_names_but_not_on_order(source, tmp_path):
    edit_lines(source, without_splits)
    first = prepare_captions(source, tmp_path / "out", seed=1)
    assert first["options"]["split_by"] == "seed"
    assert [count["images"] for count in first["splits"].values()] == [20, 2, 2]
    edit_lines(source, list.reverse)
    assert prepare_captions(source, tmp_path / "out", seed=1)["content_hash"] == first["content_hash"]
    assert prepare_captions(source, tmp_path / "out", seed=2)["content_hash"] != first["content_hash"]


def test_at_most_so_many_images_of_each_split_are_used(source, tmp_path):
    manifest = prepare_captions(source, tmp_path / "out", min_count=1, max_images=4, seed=1)
    assert [count["images"] for count in manifest["splits"].values()] == [4, 4, 4]
    assert manifest["drawn_from"] == {"train": 16}
    assert (manifest["options"]["max_images"], manifest["without_split"]) == (4, 0)
    whole = {entry[0] for entry in entries_of(PreparedCaptions.open(tmp_path / "out"))}
    prepare_captions(source, tmp_path / "out", min_count=1, max_images=4, seed=2)
    assert {entry[0] for entry in entries_of(PreparedCaptions.open(tmp_path / "out"))} != whole


@pytest.mark.parametrize(("images", "counts"), [(1, [1]), (2, [2]), (3, [1, 1, 1]), (9, [7, 1, 1])])
def test_seeded_split_of_few_images(images, counts, source, tmp_path):
    edit_lines(source, without_splits)
    edit_lines(source, lambda lines: lines.__delitem__(slice(images, None)))
    manifest = prepare_captions(source, tmp_path / "out", min_count=1)
    assert [count["images"] for count in manifest["splits"].values()] == counts


def test_seeded_split_is_of_the_images_that_have_captions(source, tmp_path):
    def leave_ten_of_eleven(lines: list[dict]) -> None:
        del lines[11:]
        lines[4]["captions"] = []

    edit_lines(source, without_splits)
    edit_lines(source, leave_ten_of_eleven)
    for seed in range(5):
        manifest = prepare_captions(source, tmp_path / "out", min_count=1, seed=seed)
        assert [count["images"] for count in manifest["splits"].values()] == [8, 1, 1]


@pytest.mark.parametrize("with_test", [True, False])
def test_a_tenth_of_train_becomes_validation_where_the_source_has_none(with_test, source, tmp_path):
    def edit(lines: list[dict]) -> None:
        lines[:] = [line for line in lines if line["split"] == "train" or (with_test and line["split"] == "test")]

    edit_lines(source, edit)
    lines = map(json.loads, (source / "captions.jsonl").read_text().splitlines())
    test = {line["image"] for line in lines if line["split"] == "test"}
    validations = set()
    for seed in (0, 1, 1):
        manifest = prepare_captions(source, tmp_path / "out", seed=seed)
        assert manifest["options"]["split_by"] == "source; validation cut from train by seed"
        counts = {"train": 15, "validation": 1} | ({"test": 4} if with_test else {})
        assert {split: count["images"] for split, count in manifest["splits"].items()} == counts
        prepared = PreparedCaptions.open(tmp_path / "out")
        assert {name for name, split, _ in entries_of(prepared) if split == "test"} == test
        validations.add(prepared.split("validation")[0]["name"])
    assert len(validations) == 2


def test_an_image_in_two_splits_is_counted_but_used_in_both(source, prepared, tmp_path):
    lines = map(json.loads, (source / "captions.jsonl").read_text().splitlines())
    by_split = {line["split"]: line["image"] for line in lines}
    shutil.copy(source / "images" / by_split["train"], source / "images" / by_split["test"])
    manifest = prepare_captions(source, tmp_path / "out")
    assert prepared.manifest["in_several_splits"] == 0
    assert manifest["in_several_splits"] == 1
    assert manifest["splits"] == prepared.manifest["splits"]


def test_a_vocabulary_without_words_is_refused(source, tmp_path):
    with pytest.raises(UserError, match="no word occurs 1000 times in the training captions; lower --min-count"):
        prepare_captions(source, tmp_path / "out", min_count=1000)
    assert not (tmp_path / "out").exists()


def test_an_image_without_a_text_beside_it_has_no_caption(make_image, tmp_path):
    make_image(tmp_path / "source" / "a.png").with_suffix(".txt").write_text("A dog")
    make_image(tmp_path / "source" / "b.png").with_suffix(".txt").write_text(" . ")
    make_image(tmp_path / "source" / "c.png")
    manifest = prepare_captions(tmp_path / "source", tmp_path / "out", min_count=1)
    assert [(entry["name"], entry["reason"].rpartition(": ")[2]) for entry in manifest["left_out"]] == [
        ("b.png", "a caption without words"),
        ("c.png", "no caption"),
    ]


def test_of_two_images_of_one_name_the_second_is_listed(make_image, tmp_path):
    for folder in ("train", "training"):
        make_image(tmp_path / "source" / folder / "a.png").with_suffix(".txt").write_text(f"A dog in {folder}")
    manifest = prepare_captions(tmp_path / "source", tmp_path / "out", min_count=1)
    assert [entry["name"] for entry in manifest["left_out"]] == ["a.png"]
    assert "another image of this name is at" in manifest["left_out"][0]["reason"]
    assert PreparedCaptions.open(tmp_path / "out").split("train")["captions"][:] == [["A dog in train"]]


def test_nothing_to_train_on_is_an_error_that_leaves_no_trace(source, tmp_path):
    shutil.rmtree(source / "images")
    with pytest.raises(UserError, match=r"no usable image for training .*no such file.*--image-root"):
        prepare_captions(source, tmp_path / "out")
    (source / "captions.jsonl").write_text("")
    with pytest.raises(UserError, match="no usable image for training"):
        prepare_captions(source, tmp_path / "out")
    assert [path.name for path in tmp_path.iterdir()] == ["source"]


def test_only_prepared_captions_are_replaced(source, tmp_path):
    out = tmp_path / "out"
    out.mkdir()
    prepare_captions(source, out)
    (out / "old.txt").touch()
    prepare_captions(source, out)
    assert not (out / "old.txt").exists()
    (out / "manifest.json").write_text('{"kind": "pixels"}')
    with pytest.raises(UserError, match="something other than prepared captions"):
        prepare_captions(source, out)
    with pytest.raises(UserError, match="is a file"):
        prepare_captions(source, source / "captions.jsonl")
    assert (source / "captions.jsonl").is_file()


def test_prepared_folder_is_self_contained_and_leaves_no_cache(source, tmp_path, monkeypatch):
    import datasets

    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    prepare_captions(source, tmp_path / "out")
    shutil.rmtree(source)
    moved = (tmp_path / "out").rename(tmp_path / "moved")
    assert len(PreparedCaptions.open(moved).split("train")[0]["image"]["bytes"]) > 0
    assert [path.name for path in tmp_path.iterdir()] == ["moved"]
    expected = {"manifest.json", "vocabulary.json", "XXH128SUMS", "train", "validation", "test"}
    assert {path.name for path in moved.iterdir()} == expected


def test_open_refuses_what_is_no_prepared_data_set(prepared, tmp_path):
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "manifest.json").write_text("[]")
    for folder in (tmp_path / "absent", tmp_path, tmp_path / "other"):
        with pytest.raises(UserError, match="make one with: data-prep captions"):
            PreparedCaptions.open(folder)
    with pytest.raises(UserError, match="no split 'val'; choose one of: train, validation, test"):
        prepared.split("val")


DAMAGES: dict[str, Callable[[Path], object]] = {
    "manifest with its kind alone": lambda folder: (folder / "manifest.json").write_text('{"kind": "captions"}'),
    "word twice": lambda folder: (folder / "vocabulary.json").write_text('["a", "a"]'),
    "vocabulary is an object": lambda folder: (folder / "vocabulary.json").write_text("{}"),
    "vocabulary of numbers": lambda folder: (folder / "vocabulary.json").write_text("[1, 2]"),
    "no split folder": lambda folder: shutil.rmtree(folder / "test"),
    "emptied rows": lambda folder: next((folder / "test").glob("*.arrow")).write_bytes(b""),
    "truncated rows": lambda folder: os.truncate(next((folder / "test").glob("*.arrow")), 1000),
    "emptied state": lambda folder: (folder / "test" / "state.json").write_text(""),
    "state without keys": lambda folder: (folder / "test" / "state.json").write_text("{}"),
}


@pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES.keys())
def test_a_damaged_data_set_is_named_and_can_be_prepared_again(damage, prepared, synthetic_captions, tmp_path):
    folder = shutil.copytree(prepared.folder, tmp_path / "damaged")
    damage(folder)
    with pytest.raises(
        UserError, match=r"damaged .*; remove the data set, and prepare it again with data-prep captions"
    ) as caught:
        PreparedCaptions.open(folder).split("test")
    assert str(caught.value).startswith(str(folder))
    assert "\n" not in str(caught.value)
    prepare_captions(synthetic_captions, folder)
    assert len(PreparedCaptions.open(folder).split("test")) == 4


@pytest.fixture(scope="module")
def prepared_flickr8k(flickr8k, tmp_path_factory) -> PreparedCaptions:
    folder = tmp_path_factory.mktemp("prepared") / "flickr8k"
    prepare_captions(flickr8k, folder)
    return PreparedCaptions.open(folder)


@pytest.mark.data
@pytest.mark.slow
def test_flickr8k_counts(prepared_flickr8k):
    manifest = prepared_flickr8k.manifest
    assert manifest["splits"] == {
        "train": {"images": 6000, "captions": 30_000},
        "validation": {"images": 1000, "captions": 5000},
        "test": {"images": 1000, "captions": 5000},
    }
    assert (manifest["format"], manifest["without_split"], manifest["left_out"]) == ("flickr8k", 91, [])
    assert {len(captions) for _, _, captions in entries_of(prepared_flickr8k)} == {5}


@pytest.mark.data
@pytest.mark.slow
@pytest.mark.parametrize("format", [*WRITERS, "sidecar"])
def test_flickr8k_from_every_format(format, prepared_flickr8k, flickr8k, tmp_path, monkeypatch):
    # The fixture has decoded the images and tokenised the captions already; the content hash depends on neither.
    monkeypatch.setattr("data_prep.captions.load_image", lambda encoded, name: None)
    monkeypatch.setattr("data_prep.captions.tokenize", str.split)
    images = flickr8k / "Flicker8k_Dataset"
    entries = entries_of(prepared_flickr8k)
    if format == "sidecar":
        source, image_root = write_sidecar(entries, tmp_path / format, images), None
    else:
        source, image_root = WRITERS[format](entries, tmp_path / format), images
    manifest = prepare_captions(source, tmp_path / "out", image_root=image_root)
    assert (manifest["format"], manifest["content_hash"]) == (format, prepared_flickr8k.content_hash)


def test_an_earlier_data_set_without_checksums_is_opened_with_a_note(
    synthetic_captions: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    prepare_captions(synthetic_captions, tmp_path / "out", min_count=1)
    capsys.readouterr()
    PreparedCaptions.open(tmp_path / "out").split("train")
    assert capsys.readouterr().err == ""
    (tmp_path / "out" / "XXH128SUMS").unlink()
    assert len(PreparedCaptions.open(tmp_path / "out").split("train")) > 0
    (line,) = capsys.readouterr().err.splitlines()
    assert line.endswith(
        "out: has no checksums (XXH128SUMS), and is not checked for damage; if in doubt, prepare it again"
    )


def test_a_data_set_that_a_killed_process_was_replacing_can_be_read(synthetic_captions: Path, tmp_path: Path):
    prepare_captions(synthetic_captions, tmp_path / "out", min_count=1)
    staging = tmp_path / ".out.unfinished"
    staging.mkdir()
    (tmp_path / "out").rename(staging / "out.replaced")
    assert len(PreparedCaptions.open(tmp_path / "out").split("train")) > 0
    assert [path.name for path in tmp_path.iterdir()] == ["out"]
