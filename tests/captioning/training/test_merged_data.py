"""A captioner trained on two sources: validated on the first, evaluated on the validation split of the second."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import timm

from captioning.cli import main as captioning
from data_prep.cli import main as data_prep

SPLITS = ["train"] * 4 + ["dev"] * 2 + ["test"]
SMALL = [
    *("--encoder.backbone=timm:test_resnet", "--encoder.image_size=64", "--decoder.hidden_size=16"),
    *("--decoder.embedding_size=16", "--decoder.attention_size=16", "--search.beam_size=2", "--search.max_words=4"),
    *("--training.epochs=1", "--training.batch_size=4", "--training.mirror=false"),
]


def write_flickr8k(folder: Path, make_image: Callable[..., Path]) -> None:
    text = folder / "Flickr8k_text"
    text.mkdir(parents=True)
    for number in range(len(SPLITS)):
        make_image(folder / "Flicker8k_Dataset" / f"{number}.jpg", (30 * number, 0, 0))
    lines = [f"{number}.jpg#0\tA red dog .\n" for number in range(len(SPLITS))]
    (text / "Flickr8k.token.txt").write_text("".join(lines))
    for split in set(SPLITS):
        names = [f"{number}.jpg\n" for number, of in enumerate(SPLITS) if of == split]
        (text / f"Flickr_8k.{split}Images.txt").write_text("".join(names))


def write_coco(folder: Path, make_image: Callable[..., Path]) -> None:
    for split, numbers in (("train", range(3)), ("val", range(3, 6))):
        for number in numbers:
            make_image(folder / "images" / f"{number}.jpg", (0, 30 * number, 200))
        images = [{"id": number, "file_name": f"{number}.jpg"} for number in numbers]
        annotations = [{"image_id": number, "caption": "A blue zebra ."} for number in numbers]
        document = {"images": images, "annotations": annotations}
        (folder / f"captions_{split}.json").write_text(json.dumps(document))


def test_the_validation_split_of_a_training_source_is_a_second_one(
    make_image: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    create_model = timm.create_model

    def create(name: str, pretrained: bool, **options: Any) -> Any:
        return create_model(name, pretrained=False, **options)  # Without its weights, which would be downloaded.

    monkeypatch.setattr(timm, "create_model", create)
    monkeypatch.chdir(tmp_path)
    write_flickr8k(Path("flickr8k"), make_image)
    write_coco(Path("coco"), make_image)
    assert data_prep(["captions", "flickr8k", "coco", "--train-only", "coco", "-o", "both", "--min-count", "1"]) == 0
    assert data_prep(["captions", "coco", "-o", "second", "--min-count", "1"]) == 0
    assert captioning(["train", "--data", "both", "--output", "run", *SMALL]) == 0
    evaluated = {}
    for data in ("both", "second"):
        capsys.readouterr()
        assert captioning(["evaluate", "--data", data, "--split", "validation", "--model", "run/model", "--json"]) == 0
        evaluated[data] = json.loads(capsys.readouterr().out)
    assert list(evaluated["both"]["captions"]) == ["flickr8k/4.jpg", "flickr8k/5.jpg"]
    assert list(evaluated["second"]["captions"]) == ["3.jpg", "4.jpg", "5.jpg"]
    # The blue zebra is in the vocabulary, from the training captions of the second source.
    assert {"red", "dog", "blue", "zebra"} <= set(json.loads(Path("both/vocabulary.json").read_text()))
    card = Path("run/model/README.md").read_text()
    assert "Trained on flickr8k + coco (7 images and 7 captions in train (4 of flickr8k, 3 of coco), 2 images" in card
    assert "M. Hodosh" in card
