"""Photos: the paths of their pictures and the memory they need; the rest is tested with the command."""

import os
import threading
import weakref
from pathlib import Path

import pytest
from PIL import Image

from captioning.captioner import Captioner
from captioning.outputs import Document
from captioning.photos import Photos, caption_photos, picture_paths
from data_prep.images import load_image
from vision_rnn.console import Progress


def test_photos_of_one_name_keep_a_picture_each() -> None:
    images = [Path("a/x.jpg"), Path("b/x.jpg"), Path("c/x-2.jpg"), Path("c/x.png"), Path("y.jpg")]
    paths = picture_paths(images, {"attention": "out", "gates": None})["attention"]
    assert len(set(paths.values())) == len(images)
    assert paths[images[0]] == Path("out/x.png")
    assert paths[images[1]] == Path("out/x-2.png")
    assert paths[images[4]] == Path("out/y.png")


@pytest.fixture
def album(tmp_path: Path) -> Path:
    """Forty photos, each in a folder of its own, with names that sort differently as texts and as paths."""
    for number in range(20):
        for name in (f"{number:02}", f"{number:02}-b"):
            (tmp_path / "album" / name).mkdir(parents=True)
            (tmp_path / "album" / name / "photo.png").touch()
        (tmp_path / "album" / f"{number:02}.jpg").touch()
    return tmp_path / "album"


def test_a_folder_is_listed_while_its_photos_are_used(album: Path, monkeypatch: pytest.MonkeyPatch):
    scan, scanned = os.scandir, []

    def count(path: Path):
        scanned.append(path)
        return scan(path)

    monkeypatch.setattr(os, "scandir", count)
    monkeypatch.setattr("captioning.photos._LISTED_FIRST", 5)
    monkeypatch.setattr("captioning.photos._SECONDS_OF_LISTING", 0.0)
    photos = Photos([str(album)], recursive=True)
    photos.select(Document(), skip_existing=False)
    assert not photos.is_empty()
    assert len(scanned) < 6
    (portion,) = photos
    used = [next(portion) for _ in range(10)]
    assert len(scanned) < 20
    assert photos.total is None
    used += portion
    assert photos.total == 60
    assert used == sorted(album.rglob("*.*g"))


def test_the_number_of_photos_is_known_long_before_the_last(album: Path):
    photos = Photos([str(album), str(album / "00.jpg")], recursive=True)
    photos.select(Document(), skip_existing=False)
    assert not photos.is_empty()
    assert photos.total == 60


def test_progress_is_counted_in_one_thread(tmp_path: Path, tiny_captioner: Captioner, monkeypatch: pytest.MonkeyPatch):
    counted: list[tuple[threading.Thread, int]] = []

    class Recorded(Progress):
        def update(self, number: int = 1) -> None:
            counted.append((threading.current_thread(), number))

    monkeypatch.setattr("captioning.photos.Progress", Recorded)
    for number in range(9):
        Image.effect_noise((30, 20), 50).save(tmp_path / f"{number}.png")
    for broken in (0, 4, 7, 8):
        (tmp_path / f"{broken}.png").write_bytes(b"")
    assert caption_photos(tiny_captioner, Photos([str(tmp_path)], False), Document(), batch_size=2) == 4
    assert sum(number for _, number in counted) == 9
    assert {thread for thread, _ in counted} == {threading.main_thread()}


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
    assert caption_photos(tiny_captioner, Photos([str(path) for path in paths], False), Document(), batch_size=6) == 0
    # The next photo is read before the reference to the last one is dropped.
    assert most <= 2
