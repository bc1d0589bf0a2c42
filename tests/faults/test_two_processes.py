"""Two processes that write one output: the second is refused in one line, and the first loses nothing."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image

from captioning.cli import main as captioning
from data_prep.cli import main as data_prep
from pixelrnn.cli import main as pixelrnn
from vision_rnn import files

HOLDING = """
import sys
from pathlib import Path
from captioning.outputs import RecordFile
from vision_rnn.alone import alone_in
from vision_rnn.files import atomic_path
with {block}:
    print("holding", flush=True)
    sys.stdin.read()
"""


@pytest.mark.parametrize(
    ("block", "command", "arguments", "output"),
    [
        ('alone_in(Path("run"))', captioning, ["train", "--data=none", "--output=run"], "run"),
        ('alone_in(Path("run"))', pixelrnn, ["train", "--data=none", "--output=run"], "run"),
        ('__import__("contextlib").closing(RecordFile(Path("a.csv"), False))', captioning, ["caption"], "a.csv"),
        ('atomic_path("data")', data_prep, ["captions"], "data"),
    ],
    ids=["captioning train", "pixelrnn train", "captioning caption", "data-prep captions"],
)
def test_the_second_is_refused_until_the_first_is_killed(
    block: str,
    command: Callable[[list[str]], int],
    arguments: list[str],
    output: str,
    synthetic_captions: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(files, "_PATIENCE", 0.1)
    Image.new("RGB", (32, 32)).save("photo.png")
    arguments = {
        "train": arguments,
        "caption": ["caption", "photo.png", f"--output={output}"],
        "captions": ["captions", str(synthetic_captions), f"--output={output}", "--min-count=1"],
    }[arguments[0]]
    with subprocess.Popen(
        [sys.executable, "-c", HOLDING.format(block=block)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as first:
        assert first.stdout
        first.stdout.readline()
        assert command(arguments) == 2
        error = capsys.readouterr().err.splitlines()[-1]
        assert error.endswith(f"{output}: another process is writing it; wait for it, or choose another output")
        first.kill()
    status = command(arguments)
    error = capsys.readouterr().err
    assert "another process" not in error
    # The data of the trainings do not exist.
    assert status == (2 if arguments[0] == "train" else 0), error
    assert not list(tmp_path.glob(".*"))
    assert not list(tmp_path.glob("*.part"))
