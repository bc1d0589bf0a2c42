"""The folder of a model of one's own: whose it is."""

from pathlib import Path

import pytest

from vision_rnn.errors import UserError
from vision_rnn.output_folder import OutputFolder


@pytest.fixture
def source(tmp_path: Path) -> Path:
    (tmp_path / "album").mkdir()
    return tmp_path / "album"


def test_it_is_named_after_the_folder_of_the_source(source: Path):
    (source / "a.npz").touch()
    for path in (source, source / "a.npz"):
        assert OutputFolder.choose(path, None, "pixel model").path == source.parent / "album-pixel-model"


def test_what_a_kill_leaves_before_anything_is_written_is_its_own(source: Path, tmp_path: Path):
    output = tmp_path / "output"
    (output / ".started.json.unfinished").mkdir(parents=True)
    (output / ".lock").touch()
    assert OutputFolder.choose(source, output, "model").path == output


@pytest.mark.parametrize("name", ["thesis.txt", ".thesis.unfinished"])
def test_something_else_is_not(name: str, source: Path, tmp_path: Path):
    output = tmp_path / "output"
    output.mkdir()
    for other in (".lock", name):
        (output / other).touch()
    with pytest.raises(UserError, match="output: holds something other than a model of this command"):
        OutputFolder.choose(source, output, "model")
