"""Photos: the paths of their pictures and the memory they need; the rest is tested with the command."""

import weakref
from pathlib import Path

import pytest
from PIL import Image

from captioning.captioner import Captioner
from captioning.outputs import Document
from captioning.photos import caption_photos, picture_paths
from data_prep.images import load_image


def test_photos_of_one_name_keep_a_picture_each() -> None:
    images = [Path("a/x.jpg"), Path("b/x.jpg"), Path("c/x-2.jpg"), Path("c/x.png"), Path("y.jpg")]
    paths = picture_paths(images, {"attention": "out", "gates": None})["attention"]
    assert len(set(paths.values())) == len(images)
    assert paths[images[0]] == Path("out/x.png")
    assert paths[images[1]] == Path("out/x-2.png")
    assert paths[images[4]] == Path("out/y.png")


def test_one_full_size_photo_is_in_memory_at_a_time(
    tmp_path: Path, tiny_captioner: Captioner, monkeypatch: pytest.MonkeyPatch
):
    loaded: list[weakref.ref[Image.Image]] = []
    most = 0

    def load(path: Path) -> Image.Image:
        nonlocal most
        photo = load_image(path)
        loaded.append(weakref.ref(photo))
        most = max(most, sum(each() is not None for each in loaded))
        return photo

    paths = []
    for number in range(12):
        paths.append(tmp_path / f"{number}.png")
        Image.effect_noise((60, 40), 90 + number).convert("RGB").save(paths[-1])
    monkeypatch.setattr("captioning.photos.load_image", load)
    assert caption_photos(tiny_captioner, paths, Document(), batch_size=6) == 0
    # The next photo is read before the reference to the last one is dropped.
    assert most <= 2
