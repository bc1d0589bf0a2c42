import os
import re
from pathlib import Path

import pytest
from PIL import Image

from data_prep import heif
from data_prep.image_files import PHOTO_SUFFIXES, find_images, images_of, list_images
from vision_rnn.errors import UserError

CONVERT = "(convert to JPEG or PNG)"
RENAME = "(add the suffix of the format, such as .jpg)"


def test_photo_suffixes_are_all_known_to_pillow():
    assert Image.registered_extensions().keys() >= PHOTO_SUFFIXES - heif.SUFFIXES


def test_find_images_lists_photos_in_order(make_image, tmp_path, capsys):
    expected = [make_image(tmp_path / name) for name in ("a.JPG", "b.png", "sub/c.webp")]
    for other in ("notes.txt", ".hidden.png", "film.mpg", ".thumbs/a.png", "sub/.thumbs/deep/c.png", ".svg/x.svg"):
        (tmp_path / other).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / other).touch()
    (tmp_path / "folder.png").mkdir()
    assert find_images(tmp_path) == expected[:2]
    assert find_images(tmp_path, recursive=True) == expected
    assert capsys.readouterr().err == ""


def test_find_images_searches_a_hidden_folder_that_is_named(make_image, tmp_path):
    image = make_image(tmp_path / ".photos" / "sub" / "a.png")
    assert find_images(tmp_path / ".photos", recursive=True) == [image]


def test_the_current_folder_gives_plain_names(make_image, tmp_path, monkeypatch):
    make_image(tmp_path / "sub" / "a.png")
    monkeypatch.chdir(tmp_path)
    assert find_images(".", recursive=True) == [Path("sub/a.png")]


def test_an_empty_list_says_how_to_fix_it(make_image, tmp_path):
    with pytest.raises(UserError, match="contains no image; name a folder"):
        list_images(tmp_path, recursive=True)
    make_image(tmp_path / "sub" / "a.png")
    with pytest.raises(UserError, match="its subfolders do, so add --recursive"):
        list_images(tmp_path)
    with pytest.raises(UserError, match="its subfolders do, so name these"):
        images_of([tmp_path])
    with pytest.raises(UserError, match="no such folder"):
        list_images(tmp_path / "absent")
    (tmp_path / "DSC_1.NEF").touch()
    with pytest.raises(
        UserError, match=re.escape(f"no image; 1 file looks like an image but was skipped: DSC_1.NEF {CONVERT}")
    ):
        list_images(tmp_path)


# The first bytes of files as cameras and programs write them.
HEADS = {
    "jpeg": (b"\xff\xd8\xff\xe1\x12\x34Exif\0\0", RENAME),
    "png": (b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR", RENAME),
    "gif": (b"GIF89a\x01\0\x01\0", RENAME),
    "webp": (b"RIFF\x24\0\0\0WEBPVP8 ", RENAME),
    "little-endian tiff": (b"II*\0\x08\0\0\0", RENAME),
    "big-endian tiff": (b"MM\0*\0\0\0\x08", RENAME),
    "bmp": (b"BM\x46\0\0\0\0\0\0\0\x36\0\0\0", RENAME),
    "heic": (b"\0\0\0\x18ftypheic\0\0\0\0mif1heic", RENAME),
    "avif": (b"\0\0\0\x1cftypavif\0\0\0\0avifmif1", RENAME),
    "jxl container": (b"\0\0\0\x0cJXL \r\n\x87\n\0\0\0\x14ftypjxl ", CONVERT),
    "jxl codestream": (b"\xff\x0a\xfa\x7f", CONVERT),
}


@pytest.mark.parametrize("name", ["20240101_120000", "photo.jpg_original", "x.download"])
@pytest.mark.parametrize("kind", HEADS)
def test_images_without_a_known_suffix_are_named(kind, name, make_image, tmp_path, capsys):
    head, fix = HEADS[kind]
    image = make_image(tmp_path / "a.png")
    (tmp_path / name).write_bytes(head)
    assert find_images(tmp_path) == [image]
    note = f"{tmp_path}: 1 file looks like an image but was skipped: {name} {fix}"
    assert capsys.readouterr().err == f"vision-rnn: {note}\n"


def test_other_files_are_not_named(make_image, tmp_path, capsys):
    make_image(tmp_path / "a.png")
    contents = {
        "Thumbs.db": b"\xd0\xcf\x11\xe0",
        "README": b"BMW is a maker of cars",
        "IMG_1.mov": b"\0\0\0\x14ftypqt  \0\0\0\0qt  ",
        "clip": b"\0\0\0\x18ftypmp42\0\0\0\0mp42isom",
        "sound": b"RIFF\x24\0\0\0WAVEfmt ",
        "empty": b"",
        # Videos' thumbnails are JPEG files, and sidecars may quote anything.
        "GOPR0001.THM": HEADS["jpeg"][0],
        "a.png.json": b"GIF89a",
    }
    for name, content in contents.items():
        (tmp_path / name).write_bytes(content)
    os.mkfifo(tmp_path / "control")
    (tmp_path / "latest").symlink_to(tmp_path / "absent")
    find_images(tmp_path)
    assert capsys.readouterr().err == ""


def test_only_files_of_unknown_suffixes_are_opened(make_image, tmp_path, monkeypatch):
    for name in ("b.txt", "c.cr2", "d.unknown", "e"):
        make_image(tmp_path / "a.png").rename(tmp_path / name)
    make_image(tmp_path / "a.png")
    opened = []

    def open_file(path: str, mode: str):
        opened.append(Path(path).name)
        return open(path, mode)

    monkeypatch.setattr("data_prep.image_files.open", open_file, raising=False)
    find_images(tmp_path)
    assert sorted(opened) == ["d.unknown", "e"]


@pytest.mark.usefixtures("no_pillow_heif")
def test_a_note_counts_all_files_and_names_some_of_each_kind(make_image, tmp_path, capsys):
    make_image(tmp_path / "z.png")
    for number in range(1, 6):
        (tmp_path / f"DSC_{number}.ARW").touch()
    for name in ("IMG_1.HEIC", "IMG_2.heif", "drawing.svg"):
        (tmp_path / name).touch()
    (tmp_path / "lost.jpeg").symlink_to(tmp_path / "absent.jpeg")
    (tmp_path / "loop.jpg").symlink_to(tmp_path / "loop.jpg")
    (tmp_path / "zero.png").symlink_to(os.devnull)
    os.mkfifo(tmp_path / "queue.bmp")
    find_images(tmp_path)
    assert capsys.readouterr().err == (
        f"vision-rnn: {tmp_path}: 12 files look like images but were skipped: "
        f"DSC_1.ARW, DSC_2.ARW, DSC_3.ARW and 3 more {CONVERT}; "
        "IMG_1.HEIC, IMG_2.heif (to read HEIC: pip install 'vision-rnn[heif]'); "
        "loop.jpg, lost.jpeg (broken link; restore its target or remove it); "
        "queue.bmp, zero.png (not a regular file; replace or remove it)\n"
    )


def test_heic_files_are_listed_where_they_can_be_read(make_image, pillow_heif, tmp_path, capsys):
    make_image(tmp_path / "b.png")
    find_images(tmp_path)
    assert not pillow_heif.registrations
    for name in ("a.HEIC", "c.heif"):
        (tmp_path / name).touch()
    assert [path.name for path in find_images(tmp_path)] == ["a.HEIC", "b.png", "c.heif"]
    assert capsys.readouterr().err == ""


def test_links_to_files_are_followed_and_linked_folders_named(make_image, tmp_path, capsys):
    folder, elsewhere = tmp_path / "photos", tmp_path / "elsewhere"
    image = make_image(elsewhere / "a.png")
    folder.mkdir()
    (folder / "link.png").symlink_to(image)
    (folder / "sub").mkdir()
    for link in (folder / "x", folder / "sub" / "y.jpg"):
        link.symlink_to(elsewhere)
    assert find_images(folder, recursive=True) == [folder / "link.png"]
    note = "2 linked folders were not followed: sub/y.jpg, x (name them too, or replace the links)"
    assert capsys.readouterr().err == f"vision-rnn: {folder}: {note}\n"
    # Without --recursive, a linked folder is a subfolder like any other.
    assert find_images(folder) == [folder / "link.png"]
    assert capsys.readouterr().err == ""
    assert find_images(folder / "x") == [folder / "x" / "a.png"]


def test_folders_that_cannot_be_listed_are_named(make_image, tmp_path, monkeypatch, capsys):
    image = make_image(tmp_path / "a.png")
    (tmp_path / "private").mkdir()
    scan = os.scandir

    def refuse(path: Path):
        if path.name == "private":
            raise PermissionError(13, "Permission denied")
        return scan(path)

    monkeypatch.setattr(os, "scandir", refuse)
    assert find_images(tmp_path, recursive=True) == [image]
    assert "1 folder cannot be listed: private (check the permissions)" in capsys.readouterr().err
    with pytest.raises(UserError, match=r"private: cannot be listed \(Permission denied\); check its permissions"):
        list_images(tmp_path / "private")


def test_several_folders_give_one_note(make_image, tmp_path, capsys):
    expected = []
    for name in ("one", "two", "three"):
        expected.append(make_image(tmp_path / name / "a.png"))
        if name != "two":
            (tmp_path / name / "b.psd").touch()
    assert images_of([tmp_path / "one", tmp_path / "two", expected[0], tmp_path / "three"]) == expected
    named = f"{tmp_path / 'one' / 'b.psd'}, {tmp_path / 'three' / 'b.psd'}"
    note = f"2 folders: 2 files look like images but were skipped: {named} {CONVERT}"
    assert capsys.readouterr().err == f"vision-rnn: {note}\n"
