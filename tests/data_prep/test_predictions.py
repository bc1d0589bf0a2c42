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
}


@pytest.mark.parametrize("name", FILES)
def test_every_shape_gives_the_first_caption_of_each_image(name: str, tmp_path: Path) -> None:
    path = tmp_path / name
    path.write_text(FILES[name])
    assert read_predictions(path) == {"7": "a dog", "9": ""}


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
            "entry 2: a second caption of 1",
        ),
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


def test_a_null_caption_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    path.write_text(json.dumps({"1": None}))
    with pytest.raises(UserError, match="no caption found"):
        read_predictions(path)
