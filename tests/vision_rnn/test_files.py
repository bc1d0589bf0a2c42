"""Files are whole or absent, and a failed write leaves what was there."""

import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from vision_rnn import files, locks
from vision_rnn.errors import UserError
from vision_rnn.files import atomic_path, read_file, read_json, read_text, settle, settle_in, write_json
from vision_rnn.locks import InUseError


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


def killed(script: str, folder: Path) -> None:
    """Run a script of a process that kills itself, in a folder."""
    script = f"""
import os, signal
from pathlib import Path
from vision_rnn.files import atomic_path
def die(*_, **__):
    os.kill(os.getpid(), signal.SIGKILL)
{script}
"""
    assert subprocess.run([sys.executable, "-c", script], cwd=folder, check=False).returncode == -signal.SIGKILL


def content(folder: Path) -> list[str]:
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*"))


def test_what_a_killed_process_was_writing_is_removed_by_the_next_that_writes_it(tmp_path: Path):
    killed('block = atomic_path("a.json"); block.__enter__().write_text("half"); die()', tmp_path)
    assert content(tmp_path) == [".a.json.unfinished", ".a.json.unfinished/a.json", ".a.json.unfinished/a.json.lock"]
    write_json(tmp_path / "a.json", 1)
    assert content(tmp_path) == ["a.json"]
    assert read_json(tmp_path / "a.json") == 1


def test_what_a_killed_process_was_writing_in_a_folder_is_removed_and_nothing_else(tmp_path: Path):
    kept = [".hidden", ".env.local", "deep", "deep/.a.unfinished", "deep/.b.txt", "deep/c.unfinished"]
    (tmp_path / "deep").mkdir()
    for name in kept:
        if name != "deep":
            (tmp_path / name).touch()
    (tmp_path / ".d.unfinished").symlink_to(tmp_path / "deep")
    killed(
        'blocks = [atomic_path(n) for n in ("model", "deep/x")]; [b.__enter__().mkdir() for b in blocks]; die()',
        tmp_path,
    )
    with atomic_path(tmp_path / "mine") as mine:
        mine.touch()
        settle_in(tmp_path)
        assert mine.exists()
    assert content(tmp_path) == sorted([*kept, ".d.unfinished", "mine"])


@pytest.mark.parametrize("moment", ["after the first renaming", "after the second"])
def test_a_folder_that_a_killed_process_was_replacing_is_whole_again(
    moment: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "old").touch()
    replacing = "os.replace = die" if moment == "after the first renaming" else "import shutil; shutil.rmtree = die"
    killed(
        f"""
with atomic_path("folder") as staged:
    staged.mkdir()
    (staged / "new").touch()
    {replacing}
""",
        tmp_path,
    )
    assert (tmp_path / "folder").exists() == (moment == "after the second")
    settle(tmp_path / "folder")
    assert content(tmp_path) == ["folder", "folder/new"]
    assert ("completed" in capsys.readouterr().err) == (moment == "after the first renaming")


def test_two_processes_do_not_write_one_target(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(files, "_PATIENCE", 0.05)
    with atomic_path(tmp_path / "a.json") as staged:
        staged.write_text("1")
        with pytest.raises(InUseError, match=r"a\.json: another process is writing it; wait for it, or choose another"):
            write_json(tmp_path / "a.json", 2)
        settle(tmp_path / "a.json")
    assert read_json(tmp_path / "a.json") == 1


def test_many_processes_that_write_one_small_file_take_turns(tmp_path: Path):
    script = """
import sys
from vision_rnn.files import write_json
for turn in range(100):
    write_json("a.json", [int(sys.argv[1])] * 1000)
"""
    writers = [subprocess.Popen([sys.executable, "-c", script, str(number)], cwd=tmp_path) for number in range(3)]
    assert [writer.wait(timeout=60) for writer in writers] == [0, 0, 0]
    assert len(set(read_json(tmp_path / "a.json"))) == 1
    assert content(tmp_path) == ["a.json"]


def test_without_locks_files_are_whole_and_nothing_of_others_is_removed(tmp_path: Path, monkeypatch):
    monkeypatch.setattr(locks, "fcntl", None)
    with atomic_path(tmp_path / "a.json") as staged:
        staged.write_text("1")
        write_json(tmp_path / "a.json", 2)
        settle_in(tmp_path)
        assert staged.read_text() == "1"
    assert read_json(tmp_path / "a.json") == 1
    assert content(tmp_path) == ["a.json"]


def test_a_link_where_files_are_staged_is_not_followed(tmp_path: Path):
    (tmp_path / "private").mkdir()
    (tmp_path / "private" / "thesis").touch()
    (tmp_path / ".a.json.unfinished").symlink_to(tmp_path / "private")
    with pytest.raises(UserError, match=r"a\.json: cannot be written"):
        write_json(tmp_path / "a.json", 1)
    assert content(tmp_path) == [".a.json.unfinished", "private", "private/thesis"]


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
