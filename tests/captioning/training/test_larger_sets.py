"""The configurations for Flickr30k and COCO, run on generated data sets of the same layout."""

import csv
import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
import torchvision
import yaml
from torch import nn
from torch.nn import functional as F

from captioning.captioner import load_torch_captioner
from captioning.cli import CONFIGS
from captioning.cli import main as captioning
from data_prep.cli import main as data_prep
from data_prep.prepared_captions import PreparedCaptions

CAPTIONS = ["A {} square .", "The square is {} .", "There is a {} square .", "{} everywhere .", "A picture of {} ."]
COLOURS = ("red", "green", "blue", "white", "black", "grey")
MakeImage = Callable[..., Path]


@pytest.fixture
def random_weights(monkeypatch: pytest.MonkeyPatch) -> None:
    """Build the networks without their weights, which would be downloaded."""
    create_model, get_model = timm.create_model, torchvision.models.get_model

    def create(name: str, pretrained: bool, **options: Any) -> nn.Module:
        return normalised(create_model(name, pretrained=False, **options))

    monkeypatch.setattr(timm, "create_model", create)
    monkeypatch.setattr(torchvision.models, "get_model", lambda name, weights: normalised(get_model(name)))


def normalised(network: nn.Module) -> nn.Module:
    """Give a network of random weights the statistics of smooth noise; else its features overflow in half precision."""
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.momentum = None  # The next batch alone counts.
    with torch.no_grad():
        network.train()(F.interpolate(2 * torch.rand(8, 3, 16, 16) - 1, 256, mode="bicubic"))
    return network.eval()


def captions_of(number: int) -> list[str]:
    return [caption.format(COLOURS[number % len(COLOURS)]) for caption in CAPTIONS]


def colour_of(number: int) -> tuple[int, int, int]:
    return 15 * number, 100, 50


def split_of(number: int) -> str:
    return {6: "val", 7: "test"}.get(number % 8, "train")


def write_flickr30k_by_karpathy(folder: Path, make_image: MakeImage) -> None:
    images = []
    for number in range(16):
        make_image(folder / "flickr30k-images" / f"{number}.jpg", colour_of(number), (50, 37))
        sentences = [{"raw": caption, "tokens": caption.split()} for caption in captions_of(number)]
        entry = {"filename": f"{number}.jpg", "imgid": number, "split": split_of(number), "sentences": sentences}
        images.append(entry | {"sentids": [5 * number + index for index in range(5)]})
    (folder / "dataset_flickr30k.json").write_text(json.dumps({"images": images, "dataset": "flickr30k"}))


def write_flickr30k_by_its_authors(folder: Path, make_image: MakeImage) -> None:
    lines = []
    for number in range(16):
        make_image(folder / "flickr30k-images" / f"{number}.jpg", colour_of(number), (50, 37))
        lines += [f"{number}.jpg#{index}\t{caption}\n" for index, caption in enumerate(captions_of(number))]
    (folder / "results_20130124.token").write_text("".join(lines))
    for split in ("train", "val", "test"):
        names = [f"{number}\n" for number in range(16) if split_of(number) == split]
        (folder / f"{split}.txt").write_text("".join(names))


def write_coco(folder: Path, make_image: MakeImage) -> None:
    (folder / "annotations").mkdir(parents=True)
    for split, numbers in (("train", range(12)), ("val", range(12, 14))):
        images, annotations = [], []
        for number in numbers:
            name = f"{number:012}.jpg"
            make_image(folder / f"{split}2017" / name, colour_of(number), (64, 48))
            images.append({"id": number, "file_name": name, "width": 64, "height": 48, "license": 1})
            for caption in captions_of(number):
                annotations.append({"image_id": number, "id": len(annotations), "caption": caption})
        document = {"info": {}, "licenses": [], "images": images, "annotations": annotations}
        (folder / "annotations" / f"captions_{split}2017.json").write_text(json.dumps(document))


def test_the_authors_files_of_flickr30k_give_the_splits_of_their_lists(make_image: MakeImage, tmp_path: Path):
    for name, write in {"karpathy": write_flickr30k_by_karpathy, "authors": write_flickr30k_by_its_authors}.items():
        write(tmp_path / name, make_image)
        assert data_prep(["captions", str(tmp_path / name), "-o", str(tmp_path / f"prepared-{name}")]) == 0
    by_karpathy, by_authors = (PreparedCaptions.open(tmp_path / f"prepared-{name}") for name in ("karpathy", "authors"))
    assert by_authors.content_hash == by_karpathy.content_hash
    assert by_authors.manifest["format"] == "flickr8k"


@pytest.mark.slow
@pytest.mark.usefixtures("random_weights")
@pytest.mark.parametrize(
    ("config", "write", "counts"),
    [
        ("flickr30k", write_flickr30k_by_karpathy, {"train": 12, "validation": 2, "test": 2}),
        ("coco", write_coco, {"train": 12, "validation": 2}),
    ],
    ids=["flickr30k", "coco"],
)
def test_a_configuration_trains_on_the_layout_of_its_data_set(
    config: str,
    write: Callable[[Path, MakeImage], None],
    counts: dict[str, int],
    make_image: MakeImage,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
):
    monkeypatch.chdir(tmp_path)
    write(Path("source"), make_image)
    settings = yaml.safe_load((CONFIGS / f"{config}.yaml").read_text())
    assert data_prep(["captions", "source", "-o", settings["data"]]) == 0
    splits = PreparedCaptions.open(settings["data"]).manifest["splits"]
    assert splits == {split: {"images": images, "captions": 5 * images} for split, images in counts.items()}
    few_steps = ["--training.epochs=1", "--training.batch_size=4", "--search.max_words=3"]
    assert captioning(["train", "--config", f"bundled:{config}", *few_steps]) == 0
    with Path(settings["output"], "logs", "csv", "version_0", "metrics.csv").open(newline="") as file:
        losses = [float(row["loss"]) for row in csv.DictReader(file) if row["loss"]]
    mirrored = settings["training"].get("mirror", True)
    assert len(losses) == (6 if mirrored else 3)
    assert all(map(math.isfinite, losses))
    features = {path.name for path in Path(settings["data"], "features").rglob("*.npy")}
    assert features == {"train.npy", "validation.npy", *(["train-mirrored.npy"] if mirrored else [])}
    captioner = load_torch_captioner(f"{settings['output']}/model")
    assert captioner.encoder.config.backbone == settings["encoder"]["backbone"]
    best = captioner.caption(next(Path("source").rglob("*.jpg")))[0]
    assert math.isfinite(best.log_probability)
