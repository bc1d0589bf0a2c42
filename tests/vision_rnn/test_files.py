"""Files are whole or absent, and a failed write leaves what was there."""

import os
import threading
from pathlib import Path

import pytest

from vision_rnn.errors import UserError
from vision_rnn.files import atomic_path, read_file, read_json, read_text, remove_remains, write_json


def test_a_document_comes_back(tmp_path: Path):
    write_json(tmp_path / "new" / "a.json", {"ä": [1, None]})
    assert read_json(tmp_path / "new" / "a.json") == {"ä": [1, None]}
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["a.json"]


def test_a_failed_write_leaves_the_old_file_and_nothing_else(tmp_path: Path):
    write_json(tmp_path / "a.json", 1)

    def fail() -> None:
        with atomic_path(tmp_path / "a.json") as staged:
            staged.write_text("half")
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    assert read_json(tmp_path / "a.json") == 1
    assert [path.name for path in tmp_path.iterdir()] == ["a.json"]


def test_what_a_killed_process_was_writing_is_removed_and_nothing_else(tmp_path: Path):
    kept = [tmp_path / name for name in (".hidden", ".env.local", "deep/.a.txt", "deep/b.json", "deep/c.12345678")]
    for path in kept:
        path.parent.mkdir(exist_ok=True)
        path.touch()
    # Kept, since an unfinished block that is forgotten would clean up.
    unfinished = [atomic_path(tmp_path / "model"), atomic_path(tmp_path / "deep" / "last.ckpt")]
    for block in unfinished:
        block.__enter__().write_text("half")
    assert len(list(tmp_path.rglob("*"))) == len(kept) + 1 + 4
    remove_remains(tmp_path)
    assert sorted(path for path in tmp_path.rglob("*") if path.is_file()) == sorted(kept)


def test_a_folder_replaces_a_folder_whole(tmp_path: Path):
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "old").touch()
    with atomic_path(tmp_path / "folder") as staged:
        staged.mkdir()
        (staged / "new").touch()
    assert [path.name for path in (tmp_path / "folder").iterdir()] == ["new"]


@pytest.mark.parametrize(
    ("interruption", "expected"),
    [(OSError(5, "Input/output error"), UserError), (KeyboardInterrupt(), KeyboardInterrupt)],
)
def test_a_folder_that_cannot_be_replaced_is_put_back(interruption, expected, tmp_path: Path, monkeypatch):
    def refuse(*paths: Path) -> None:
        raise interruption

    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "old").touch()
    monkeypatch.setattr(os, "replace", refuse)
    with pytest.raises(expected), atomic_path(tmp_path / "folder") as staged:
        staged.mkdir()
    assert [path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*")] == ["folder", "folder/old"]


def test_a_folder_of_any_name_is_replaced(tmp_path: Path):
    (tmp_path / "replaced").mkdir()
    with atomic_path(tmp_path / "replaced") as staged:
        staged.mkdir()
        (staged / "new").touch()
    assert (tmp_path / "replaced" / "new").exists()


def test_a_file_does_not_replace_a_folder(tmp_path: Path):
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "kept").touch()
    with pytest.raises(UserError, match="choose another path"):
        write_json(tmp_path / "folder", {})
    assert (tmp_path / "folder" / "kept").exists()


def test_a_full_disk_is_named(tmp_path: Path):
    with (
        pytest.raises(UserError, match=r"a\.json: cannot be written .*free some space"),
        atomic_path(tmp_path / "a.json"),
    ):
        raise OSError(28, "No space left on device")


def test_a_broken_document_is_named_with_its_line(tmp_path: Path):
    (tmp_path / "a.json").write_text('{"a": 1,\n oops}')
    with pytest.raises(UserError, match=r"a\.json, line 2: not valid JSON"):
        read_json(tmp_path / "a.json")
    with pytest.raises(UserError, match="no such file; check the path"):
        read_json(tmp_path / "b.json")
    with pytest.raises(UserError, match=r"cannot be read .*name a readable file"):
        read_json(tmp_path)


def test_a_byte_order_mark_is_no_part_of_a_document(tmp_path: Path):
    (tmp_path / "a.json").write_bytes(b'\xef\xbb\xbf{"a": 1}')
    assert read_json(tmp_path / "a.json") == {"a": 1}


def test_a_pipe_is_text(tmp_path: Path):
    pipe = tmp_path / "a.json"
    os.mkfifo(pipe)
    threading.Thread(target=pipe.write_text, args=("[1]",), daemon=True).start()
    assert read_json(pipe) == [1]


@pytest.mark.parametrize("kind", ["text", "pipe", "other"])
def test_what_may_never_end_is_not_opened(kind: str, tmp_path: Path, monkeypatch):
    monkeypatch.setattr(Path, "read_bytes", lambda path: pytest.fail(f"{path} was opened"))
    path = tmp_path / "a.json"
    os.mkfifo(path) if kind == "pipe" else path.symlink_to("/dev/zero")
    with pytest.raises(UserError) as caught:
        read_text(path) if kind == "text" else read_file(path)
    assert str(caught.value) == f"{path}: a device, socket or pipe; name a file"
