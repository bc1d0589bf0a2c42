"""References from every kind of source without the image files."""

import json
from pathlib import Path

import pytest

from data_prep.captions import prepare_captions
from data_prep.references import Reference, in_split, read_references
from vision_rnn.errors import UserError


def write_coco(folder: Path) -> Path:
    document = {
        "images": [{"id": 7, "file_name": "b.jpg"}, {"id": 9, "file_name": "a.jpg"}],
        "annotations": [
            {"image_id": 7, "caption": "a dog"},
            {"image_id": 9, "caption": "a cat"},
            {"image_id": 7, "caption": "the dog"},
        ],
    }
    path = folder / "captions_val.json"
    path.write_text(json.dumps(document))
    return path


def test_coco_keeps_its_ids(tmp_path: Path) -> None:
    assert read_references(write_coco(tmp_path)) == [
        Reference("a.jpg", "9", "validation", ["a cat"]),
        Reference("b.jpg", "7", "validation", ["a dog", "the dog"]),
    ]


def test_karpathy_keeps_the_ids_of_coco(tmp_path: Path) -> None:
    images = [
        {"filename": "a.jpg", "filepath": "val2014", "split": "test", "cocoid": 3, "sentences": [{"raw": "a cat"}]},
        {"filename": "b.jpg", "split": "train", "imgid": 4, "sentences": [{"raw": "a dog"}]},
    ]
    path = tmp_path / "dataset.json"
    path.write_text(json.dumps({"images": images}))
    assert read_references(path) == [
        Reference("val2014/a.jpg", "3", "test", ["a cat"]),
        Reference("b.jpg", "4", "train", ["a dog"]),
    ]


def test_the_token_file_of_flickr8k_is_read_alone_and_with_its_folder(tmp_path: Path) -> None:
    (tmp_path / "Flickr8k.token.txt").write_text("a.jpg#0\tA cat .\na.jpg#1\tThe cat .\nb.jpg#0\tA dog .\n")
    (tmp_path / "Flickr_8k.testImages.txt").write_text("a.jpg\n")
    found = read_references(tmp_path / "Flickr8k.token.txt")
    assert sorted(found, key=lambda reference: reference.name) == [
        Reference("a.jpg", None, "test", ["A cat .", "The cat ."]),
        Reference("b.jpg", None, None, ["A dog ."]),
    ]
    assert read_references(tmp_path) == found


def test_a_prepared_data_set_gives_what_its_source_gives(synthetic_captions: Path, tmp_path: Path) -> None:
    prepare_captions(synthetic_captions, tmp_path / "prepared", min_count=1)

    def by_name(source: Path) -> dict[str, tuple[str | None, list[str]]]:
        return {image.name: (image.split, image.captions) for image in read_references(source)}

    prepared, source = by_name(tmp_path / "prepared"), by_name(synthetic_captions)
    # Names of images include their folder, unless it is one of the usual image folders.
    assert len(prepared) == 24
    assert prepared == source


def write_ground_truth(folder: Path, images: list[dict[str, object]], ids: list[object]) -> Path:
    """Write COCO annotations with the caption `of ID` for each of `ids`."""
    annotations = [{"image_id": key, "caption": f"of {key}", "id": number} for number, key in enumerate(ids)]
    path = folder / "flickr30k_val_gt.json"
    path.write_text(json.dumps({"annotations": annotations, "images": images}))
    return path


def test_coco_without_file_names_goes_by_the_ids(tmp_path: Path) -> None:
    path = write_ground_truth(tmp_path, [{"id": 31}, {"id": "4"}, {"id": 5, "file_name": "x.jpg"}], [31, 4, 4, 5])
    assert read_references(path) == [
        Reference("31", "31", "validation", ["of 31"]),
        Reference("4", "4", "validation", ["of 4", "of 4"]),
        Reference("x.jpg", "5", "validation", ["of 5"]),
    ]


def test_images_without_file_names_are_only_for_references(tmp_path: Path) -> None:
    path = write_ground_truth(tmp_path, [{"id": 31}], [31])
    with pytest.raises(UserError, match=r"images\[0\]: .*31: no such file"):
        prepare_captions(path, tmp_path / "prepared", format="coco", min_count=1)
    assert not (tmp_path / "prepared").exists()


def test_references_that_are_skipped_are_counted(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "captions.jsonl"
    path.write_text('{"image": "a.jpg", "captions": ["a cat", "..."]}\n{"image": "b.jpg", "captions": []}\n')
    assert read_references(path) == [Reference("a.jpg", None, None, ["a cat"])]
    assert f"skipped: 2, such as a.jpg ({path}, line 1: a caption without words)" in capsys.readouterr().err


def test_a_label_has_the_name_and_another_id() -> None:
    assert [Reference("a.jpg", key, None, ["a"]).label for key in ("7", None, "a.jpg")] == [
        "a.jpg (id 7)",
        "a.jpg",
        "a.jpg",
    ]


def test_a_split_that_is_not_there_is_named_with_those_that_are() -> None:
    images = [Reference("a.jpg", None, "test", ["a"]), Reference("b.jpg", None, None, ["b"])]
    assert in_split(images, "test") == images[:1]
    with pytest.raises(UserError, match="no references of the split 'train'; the splits are: test"):
        in_split(images, "train")


def test_a_source_without_captions_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "empty.jsonl"
    path.write_text('{"image": "a.jpg", "caption": ""}\n')
    with pytest.raises(UserError, match="contains no captions"):
        read_references(path)
    with pytest.raises(UserError, match="no such file"):
        read_references(tmp_path / "none.json")
