"""One caption per image from the usual file formats, and errors in one line for invalid files."""

import json
from pathlib import Path

import pytest

from data_prep.predictions import read_predictions
from vision_rnn.errors import UserError

FILES = {
    "coco.json": '[{"image_id": 7, "caption": "a dog"}, {"image_id": 9, "caption": ""}]',
    "ours.json": '[{"image": "7", "captions": [{"caption": "a dog"}, {"caption": "b"}]}, {"image": 9, "caption": ""}]',
    "evaluated.json": '{"split": "test", "BLEU-4": 0.2, "captions": {"7": "a dog", "9": ""}}',
    "by_image.json": '{"7": ["a dog", "another"], "9": ""}',
    "lines.jsonl": '{"image": "7", "captions": [{"caption": "a dog"}]}\n{"image": "9", "text": ""}\n',
    "ranked.csv": "image,rank,caption,log_probability\n7,1,a dog,-1\n7,2,the dog,-2\n9,1,,-1\n",
    "table.tsv": "image_id\tcaption\n7\ta dog\n9\t\n",
    "floats.json": '[{"image_id": 7.0, "caption": "a dog"}, {"image_id": 9.0, "caption": ""}]',
    "extra.json": '[{"id": 1, "image_id": 7, "caption": "a dog", "score": 0.3}, {"image_id": 9, "caption": ""}]',
    "magic.json": '[{"image_name": "7", "captions": ["x"], "prediction": ["a dog"]}, {"image": 9, "prediction": ""}]',
    "lines.txt": "7\ta dog\n7\tthe dog\n9\t\n",
    "header.txt": "image,caption\n7,a dog\n9,\n",
    "late.csv": "image,rank,caption\n7,10,the dog\n7,9,a dog\n9,1,\n7,11,dogs\n",
    "late.jsonl": '{"id": "7", "rank": 1, "text": "b"}\n{"id": 7, "rank": 0, "text": "a dog"}\n{"id": 9, "text": ""}\n',
}


@pytest.mark.parametrize("name", FILES)
def test_every_shape_gives_the_first_caption_of_each_image(name: str, tmp_path: Path) -> None:
    path = tmp_path / name
    path.write_text(FILES[name])
    assert read_predictions(path).captions == {"7": "a dog", "9": ""}


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("a.json", "[]", "contains no captions"),
        ("a.json", "3", "neither a list of captions"),
        ("a.json", "[3]", "entry 1: not an object"),
        ("a.json", '[{"image_id": 1}]', "entry 1: no column for the caption"),
        ("a.json", '[{"caption": "a"}]', "entry 1: no column for the image_id"),
        ("a.json", '[{"image_id": 1, "caption": 3}]', "entry 1: no caption found"),
        ("a.json", '{"1": []}', "'1': no caption found"),
        ("a.json", '{"captions": 1}', "is not an object that maps images to captions"),
        (
            "a.json",
            '[{"image_id": 1, "caption": "a"}, {"image_id": 1, "caption": "b"}]',
            "entry 2: a second caption of 1, different from the first",
        ),
        (
            "a.csv",
            "image,rank,caption\n1,2,a\n1,1,b\n1,1,c\n",
            "line 4: a second caption of 1, different from the first",
        ),
        ("a.txt", "1\ta\n2\tb\n1\tc\n", "a second caption of 1, different from the first"),
        ("a.txt", "1\ta\n2 b\n", "line 2: no tab between image and caption"),
        ("a.txt", "7 a dog\n9 a cat\n", "line 1: no column for the image_id"),
        ("a.csv", "image,rank,caption\n1,first,a\n", "line 2: the rank 'first' is not a number"),
        ("a.json", '[{"image": 1, "rank": NaN, "caption": "a"}]', "entry 1: the rank 'nan' is not a number"),
        ("a.json", '[{"image_id": null, "caption": "a"}]', "entry 1: no image found"),
        ("a.json", '[{"image_id": true, "caption": "a"}]', "entry 1: no image found"),
        ("a.jsonl", '{"image": "1", "caption": "a"}\n{', "line 2: not valid JSON"),
        ("a.csv", "image,words\n1,a\n", "no column for the caption"),
    ],
)
def test_what_is_wrong_is_named_with_its_place(name: str, text: str, message: str, tmp_path: Path) -> None:
    path = tmp_path / name
    path.write_text(text)
    with pytest.raises(UserError, match=message) as caught:
        read_predictions(path)
    assert str(caught.value).startswith(str(path))


def test_the_split_of_an_evaluation_is_read(tmp_path: Path) -> None:
    splits = {"a.json": '{"split": "test", "captions": {"7": "a"}}', "b.json": '{"7": "a", "split": "b"}'}
    for name, text in splits.items():
        (tmp_path / name).write_text(text)
    assert [read_predictions(tmp_path / name).split for name in splits] == ["test", None]


@pytest.mark.parametrize(
    ("name", "text", "notes"),
    [
        (
            "a.json",
            '[{"id": 1, "caption": "a"}, {"id": "1", "caption": "a"}, {"id": 1.0, "caption": "a"}]',
            ["caption: 2"],
        ),
        ("a.csv", "image,rank,caption\n1,2,b\n1,1,a\n1,1,a\n", ["caption: 1", "several captions: 1"]),
        ("a.txt", "1\ta\n1\tb\n2\ta\n2\tc\n3\ta\n", ["several captions: 2"]),
        ("a.jsonl", '{"image": 1, "captions": ["a", "b"]}', ["several captions: 1"]),
        ("a.json", '[{"id": 1, "captions": "b", "prediction": "a"}]', ["from 'prediction', not from 'captions'"]),
        ("a.json", '[{"id": 1, "caption": "a"}, {"id": 2, "caption": "a"}]', []),
    ],
)
def test_what_is_not_used_is_counted(
    name: str, text: str, notes: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / name
    path.write_text(text)
    assert set(read_predictions(path).captions.values()) == {"a"}
    printed = capsys.readouterr().err.splitlines()
    assert len(printed) == len(notes)
    assert all(f"{path}: " in line and text in line for line, text in zip(printed, notes, strict=True))


def test_a_null_caption_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    path.write_text(json.dumps({"1": None}))
    with pytest.raises(UserError, match="no caption found"):
        read_predictions(path)
