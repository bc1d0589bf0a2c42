"""A folder that one process has for itself."""

import queue
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from vision_rnn import locks
from vision_rnn.alone import LOCK, alone_in, alone_in_output
from vision_rnn.errors import UserError
from vision_rnn.locks import InUseError, take_lock

HOLDING = """
import sys
from pathlib import Path
from vision_rnn.alone import alone_in
with alone_in(Path("run")):
    print("alone", flush=True)
    sys.stdin.read()
"""


def test_a_second_process_is_kept_out_until_the_first_is_killed(tmp_path: Path):
    run = tmp_path / "run"
    with subprocess.Popen(
        [sys.executable, "-c", HOLDING], cwd=tmp_path, stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as first:
        assert first.stdout
        first.stdout.readline()
        with pytest.raises(InUseError, match="run: another process is writing it; wait for it, or choose another"):
            alone_in(run).__enter__()
        first.kill()
    assert (run / LOCK).exists()
    with alone_in(run):
        (run / "kept").touch()
    assert [path.name for path in run.iterdir()] == ["kept"]


def test_what_was_created_and_is_not_used_is_removed(tmp_path: Path):
    with alone_in(tmp_path / "a" / "run"):
        pass
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "run").mkdir()
    with alone_in(tmp_path / "run"):
        pass
    assert [path.name for path in tmp_path.iterdir()] == ["run"]


def test_blocks_of_one_process_are_nested(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    @alone_in_output
    def train(*, output: str) -> bool:
        return take_lock(Path(output, LOCK)) is None

    monkeypatch.chdir(tmp_path)
    with alone_in(tmp_path / "run"):
        assert train(output="run")
        with pytest.raises(InUseError):
            ThreadPoolExecutor().submit(train, output="run").result()
    assert train(output="run")


def test_one_that_waits_begins_when_the_other_has_ended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    lock = take_lock(tmp_path / LOCK)
    assert lock
    notes: queue.Queue[str] = queue.Queue()
    monkeypatch.setattr("vision_rnn.alone.note", notes.put)

    def release() -> None:
        try:
            assert "waiting for it" in notes.get(timeout=60)
            released.append(time.monotonic())
        finally:
            lock.file.close()

    released: list[float] = []
    releasing = threading.Thread(target=release)
    releasing.start()
    with alone_in(tmp_path, wait=True):
        assert released
        assert released[0] <= time.monotonic()
    releasing.join()


def test_locks_that_are_removed_exclude_others_nevertheless(tmp_path: Path):
    """Every process adds to a number, which it reads, and later writes, while it has the lock."""
    script = """
from pathlib import Path
from vision_rnn.locks import remove_locked, take_lock_in
for turn in range(200):
    while not (lock := take_lock_in(Path("folder"), "lock")):
        pass
    number = int(Path("number").read_text())
    Path("number").write_text(str(number + 1))
    remove_locked(lock.file, Path("folder", "lock"))
"""
    (tmp_path / "number").write_text("0")
    processes = [subprocess.Popen([sys.executable, "-c", script], cwd=tmp_path) for _ in range(3)]
    assert [process.wait(timeout=60) for process in processes] == [0, 0, 0]
    assert (tmp_path / "number").read_text() == "600"
    assert list((tmp_path / "folder").iterdir()) == []


def test_a_folder_without_locks_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    monkeypatch.setattr(locks, "fcntl", None)
    with alone_in(tmp_path / "run"):
        pass
    assert "run: there are no locks on this file system; start no second process" in capsys.readouterr().err


def test_a_folder_that_cannot_be_written_is_named(tmp_path: Path):
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match="file/run: cannot be written"):
        alone_in(tmp_path / "file" / "run").__enter__()
