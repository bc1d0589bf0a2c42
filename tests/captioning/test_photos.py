"""Photos: the paths of their pictures and the memory they need; the rest is tested with the command."""

import itertools
import os
import sys
import threading
import tracemalloc
import weakref
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from captioning.caption_generator import Caption
from captioning.captioner import Captioner
from captioning.outputs import Document, Output, RecordFile, Sidecars
from captioning.photos import Photos, caption_photos, picture_paths
from data_prep.images import load_image
from vision_rnn.console import Progress
from vision_rnn.errors import UserError
from vision_rnn.shard import Shard


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


def test_the_parts_hold_each_photo_once_and_do_not_change_as_photos_are_added(album: Path):
    def part(number: int) -> list[Path]:
        (portion,) = Photos([str(album)], recursive=True, shard=Shard(number, 3))
        return list(portion)

    parts = [part(number) for number in (1, 2, 3)]
    assert sorted(itertools.chain(*parts)) == sorted(album.rglob("*.*g"))
    assert min(map(len, parts)) > 10
    (album / "00-new.jpg").touch()
    assert sum(part(number) != before for number, before in zip((1, 2, 3), parts, strict=True)) == 1


def test_a_part_without_photos_is_an_error(album: Path):
    photo = album / "00.jpg"
    (number,) = (number for number in range(1, 6) if Shard(number, 5).holds(photo))
    Photos([str(photo)], recursive=False, shard=Shard(number, 5))
    other = number % 5 + 1
    with pytest.raises(UserError, match=rf"^no photo is in part {other}/5 \(--shard\)"):
        Photos([str(photo)], recursive=False, shard=Shard(other, 5))


@pytest.mark.parametrize("text", ["", "2", "0/2", "3/2", "1/0", "-1/2", "1/2/3", "a/b", "1 / 2", "\u0661/2"])
def test_what_is_no_part_is_refused(text: str):
    with pytest.raises(UserError, match=f"--shard {text}: not a part of several"):
        Shard.parse(text)


class _Constant:
    """A captioner that looks at no photo and measures the memory that Python objects take."""

    def __init__(self, points: tuple[int, ...]) -> None:
        self.points, self.memory, self.number = points, [], 0

    def stream(self, images: Iterator[Any], **_: Any) -> Iterator[list[Caption]]:
        for _image in images:
            self.number += 1
            if self.number in self.points:
                # Without tables, which grow at once by a factor.
                traces = tracemalloc.take_snapshot().traces
                self.memory.append(sum(trace.size for trace in traces if trace.size < 10_000))
            yield [Caption(["a", "dog"], -1.0, np.zeros((2, 1, 1), np.float32))]


@pytest.mark.parametrize(
    ("source", "kind", "bytes_per_photo"),
    [("folder", "records", 30), ("list", "records", 60), ("list", "going on", 100), ("folder", "sidecars", 70)],
)
def test_memory_holds_no_photos_and_no_captions(
    source: str, kind: str, bytes_per_photo: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """A path alone takes 300 bytes; a hash, against a second caption, takes 32, and what varies anyway some 15."""
    folder, number = tmp_path / "a folder with an ordinary name", 2500
    folder.mkdir()
    Image.new("L", (1, 1)).save(tmp_path / "photo.png")
    for index in range(number):
        os.link(tmp_path / "photo.png", folder / f"photo number {index}.png")
    monkeypatch.setattr("captioning.photos._WAITING_MOST", 200)
    monkeypatch.setattr("captioning.photos._LISTED_FIRST", 100)
    # Standard input is read by its number, so that there has to be a real file.
    (tmp_path / "list").write_text("".join(f"{path}\n" for path in sorted(folder.iterdir())))
    captioner = _Constant((1000, 2400))
    output: Output = (
        Sidecars(".txt", keep=False, overwrite=False)
        if kind == "sidecars"
        else RecordFile(tmp_path / "out.jsonl", go_on=kind == "going on")
    )
    with (tmp_path / "list").open() as file:
        monkeypatch.setattr(sys, "stdin", file)
        photos = Photos(["-" if source == "list" else str(folder)], recursive=False)
        photos.select(output, skip_existing=False)
        tracemalloc.start()
        try:
            assert caption_photos(captioner, photos, output) == 0  # type: ignore[arg-type]
        finally:
            tracemalloc.stop()
    output.finish()
    before, after = captioner.memory
    assert (after - before) / 1400 < bytes_per_photo
    if kind != "sidecars":
        assert len((tmp_path / "out.jsonl").read_text().splitlines()) == number
