"""The README and LEARN.md: their Python examples run, their files and commands exist."""

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
TEXT, LESSONS = ((ROOT / name).read_text(encoding="utf-8") for name in ("README.md", "LEARN.md"))
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


@pytest.mark.parametrize("text", [TEXT, LESSONS], ids=["README", "LEARN"])
def test_every_linked_file_exists(text: str):
    links = re.findall(r"\]\((?!https?:)([^)#]+)", text)
    assert len(links) >= 20
    assert [link for link in links if not (ROOT / link).exists()] == []


@pytest.mark.parametrize(("text", "least"), [(TEXT, 25), (LESSONS, 10)], ids=["README", "LEARN"])
def test_every_command_line_is_accepted(text: str, least: int, monkeypatch: pytest.MonkeyPatch):
    """The options of every line are known; what they name need not exist."""
    monkeypatch.chdir(ROOT)
    checked = 0
    for block in re.findall(r"```sh\n(.*?)```", text.replace("\\\n", ""), re.S):
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
    assert checked > least
