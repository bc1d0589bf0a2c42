"""The README: its Python examples run, its files and commands exist."""

import re
import shlex
import shutil
from pathlib import Path

import pytest
from PIL import Image

from captioning import cli as captioning_cli
from data_prep import cli as data_prep_cli
from pixelrnn import cli as pixelrnn_cli
from vision_rnn.cli import bundled_config, command_parser

ROOT = Path(__file__).parents[1]
TEXT = (ROOT / "README.md").read_text(encoding="utf-8")
EXAMPLES = [
    code for skipped, code in re.findall(r"(<!-- not run[^\n]*\n)?```python\n(.*?)```", TEXT, re.S) if not skipped
]
PROGRAMS = {"captioning": captioning_cli, "data-prep": data_prep_cli, "pixelrnn": pixelrnn_cli}


def test_there_is_an_example_of_each_package():
    for package in ("captioning", "pixelrnn", "evaluation", "data_prep"):
        assert any(f"from {package} import" in code for code in EXAMPLES)


@pytest.mark.parametrize("code", EXAMPLES, ids=range(len(EXAMPLES)))
def test_an_example_runs(code: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    shutil.copy(ROOT / "examples" / "photos" / "dog-in-the-woods.jpg", "photo.jpg")
    Image.new("L", (30, 20), 128).save("other.png")
    exec(compile(code, "README.md", "exec"), {})


def test_every_linked_file_exists():
    links = re.findall(r"\]\((?!https?:)([^)#]+)", TEXT)
    assert len(links) > 20
    assert [link for link in links if not (ROOT / link).exists()] == []


def test_every_command_line_is_accepted(monkeypatch: pytest.MonkeyPatch):
    """The options of every line are known; what they name need not exist."""
    monkeypatch.chdir(ROOT)
    checked = 0
    for block in re.findall(r"```sh\n(.*?)```", TEXT, re.S):
        for line in block.splitlines():
            words = shlex.split(line.rpartition(" | ")[2], comments=True)
            if not words or words[0] not in PROGRAMS:
                continue
            module = PROGRAMS[words[0]]
            command, arguments = module.COMMANDS[words[1]], words[2:]
            configs = getattr(module, "CONFIGS", None)
            if "--config" in arguments:
                place = arguments.index("--config") + 1
                arguments[place] = str(bundled_config(arguments[place], configs))
            command_parser(words[0], words[1], command, configs).parse_args(arguments)
            checked += 1
    assert checked > 25
