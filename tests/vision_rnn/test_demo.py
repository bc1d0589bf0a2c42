"""What pages do with uploads, and what stops them from being served."""

import importlib.util
from pathlib import Path

import pytest

from vision_rnn.demo import MAX_FILES, check_gradio, problems, take_uploads
from vision_rnn.errors import UserError


def write(folder: Path, *names: str) -> list[str]:
    paths = []
    for number, name in enumerate(names):
        path = folder / str(number) / name
        path.parent.mkdir()
        path.write_text(name)
        paths.append(str(path))
    return paths


def test_uploads_are_read_and_deleted(tmp_path: Path) -> None:
    paths = write(tmp_path, "a.jpg", "b.jpg", "a.jpg", "a.jpg")
    assert list(take_uploads(paths)) == ["a.jpg", "b.jpg", "a (2).jpg", "a (3).jpg"]
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []
    assert take_uploads(write(tmp_path / "0", "c.jpg")[0]) == {"c.jpg": b"c.jpg"}
    assert take_uploads(None) == {}


def test_too_many_uploads_are_refused_and_deleted(tmp_path: Path) -> None:
    paths = write(tmp_path, *(f"{number}.jpg" for number in range(MAX_FILES + 1)))
    with pytest.raises(UserError, match=f"{MAX_FILES + 1} files: at most {MAX_FILES}"):
        take_uploads(paths)
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []


def test_problems_are_text() -> None:
    assert problems(["<b>x</b>"]) == '<p class="problem" role="alert">&lt;b&gt;x&lt;/b&gt;</p>'


def test_a_missing_gradio_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(UserError, match=r"pip install 'vision-rnn\[demo\]'"):
        check_gradio()
