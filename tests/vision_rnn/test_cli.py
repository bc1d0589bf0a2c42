"""The frame of commands: options from functions, exit status, one line for a mistake.

What happens to a closed pipe is tested with the commands themselves.
"""

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import pytest
import torch
from jsonargparse import ArgumentError

from vision_rnn.cli import Outcome, exit_status, run
from vision_rnn.devices import Device
from vision_rnn.errors import UserError
from vision_rnn.option_types import PositiveInt, Seed
from vision_rnn.version import tool_version


def ending(error: BaseException):
    def action() -> int:
        raise error

    return action


@pytest.mark.parametrize("status", [0, 1])
def test_the_status_of_the_action_is_that_of_the_command(status, capsys):
    assert exit_status("tool", lambda: status) == status
    assert capsys.readouterr() == ("", "")


@pytest.mark.parametrize(
    ("error", "status", "message"),
    [
        (UserError("a.txt: bad;\n  fix it"), 2, "tool: error: a.txt: bad; fix it\n"),
        (ArgumentError(None, "no --size"), 2, "tool: error: no --size\n"),
        (KeyboardInterrupt(), 130, "tool: interrupted\n"),
        (KeyboardInterrupt("add --more", "to continue"), 130, "tool: interrupted; add --more; to continue\n"),
    ],
)
def test_a_mistake_is_one_line(error, status, message, capsys):
    assert exit_status("tool", ending(error)) == status
    assert capsys.readouterr() == ("", message)


@pytest.mark.parametrize("error", [KeyError("size"), RuntimeError("shapes differ")])
def test_other_exceptions_are_ours_to_fix_and_pass(error: Exception):
    with pytest.raises(type(error)):
        exit_status("tool", ending(error))


@pytest.mark.parametrize(
    "allocate",
    [lambda: bytearray(2**60), lambda: np.empty(2**60, np.uint8), lambda: torch.empty(2**60, dtype=torch.uint8)],
)
def test_memory_that_runs_out_is_one_line(allocate: Callable[[], object], capsys):
    assert exit_status("tool", lambda: bool(allocate())) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("tool: error: out of memory")
    assert line.endswith("; lower the batch size, or the sizes asked for")


def test_memory_of_a_gpu_that_runs_out_is_one_line(capsys):
    assert exit_status("tool", ending(torch.OutOfMemoryError("CUDA out of memory.\nTried to allocate"))) == 2
    assert "tool: error: out of memory (CUDA out of memory. Tried to allocate);" in capsys.readouterr().err


# Commands made of functions


@dataclass(frozen=True, kw_only=True)
class Settings:
    """Settings for tests.

    Attributes:
        rate: Learning rate.
        kind: Kind of layers.
    """

    rate: float = 0.5
    kind: Literal["a", "b"] = "a"


RECEIVED: dict[str, object] = {}


def greet(
    names: list[str],
    *,
    number: PositiveInt = 1,
    long_name: str | None = None,
    shout: bool = False,
    seed: Seed = 0,
    device: Device = "auto",
) -> Outcome:
    """Greet people, by name.

    It does not take long.

    Args:
        names: people to greet
        number: number of greetings
        long_name: name that is long (default: none)
        shout: in capitals
    """
    RECEIVED.clear()
    RECEIVED.update(locals())
    return Outcome(f"hello {' '.join(names)}", {"greeted": names}, status=len(names) - 1)


def learn(*, data: str | Path, output: str, settings: Settings = Settings()) -> Path:
    """Learn.

    Args:
        data: data set
        output: folder to write
        settings: Settings
    """
    RECEIVED.clear()
    RECEIVED.update(data=data, settings=settings)
    return Path(output)


COMMANDS = {"greet": greet, "learn": learn}


def tool(*arguments: str, configs: Path | None = None) -> int:
    return run("tool", COMMANDS, list(arguments), configs)


def test_arguments_options_and_flags_reach_the_function(capsys):
    assert tool("greet", "Ann", "Bo", "-n", "3", "--long-name", "null", "--shout", "--seed", "7") == 1
    assert RECEIVED == {
        "names": ["Ann", "Bo"],
        "number": 3,
        "long_name": "null",
        "shout": True,
        "seed": 7,
        "device": "auto",
    }
    # Ordinary numbers, not the parser's own kinds, which YAML cannot write.
    assert type(RECEIVED["number"]) is int
    assert capsys.readouterr() == ("hello Ann Bo\n", "")


def test_json_prints_the_document(capsys):
    assert tool("greet", "Ann", "--json") == 0
    assert json.loads(capsys.readouterr().out) == {"greeted": ["Ann"]}


def test_a_written_path_is_printed(capsys):
    assert tool("learn", "--data", "d", "--output", "some/where", "--settings.rate=1e-3", "--settings.kind", "b") == 0
    assert {"data": "d", "settings": Settings(rate=1e-3, kind="b")} == RECEIVED
    assert tool("learn", "--data", "d", "-o", "some/where", "--json") == 0
    assert capsys.readouterr().out == 'some/where\n{\n  "written": "some/where"\n}\n'


def test_a_configuration_is_found_by_path_or_bundled_name(tmp_path: Path, capsys):
    (tmp_path / "sub").mkdir()
    for name, rate in (("one", 1.0), ("sub/two", 2.0)):
        (tmp_path / f"{name}.yaml").write_text(f"data: d\noutput: o\nsettings: {{rate: {rate}}}\n")
    for name, rate in (("bundled:one", 1.0), ("bundled:sub/two", 2.0), (str(tmp_path / "one.yaml"), 1.0)):
        for given in (["--config", name], [f"--config={name}"]):
            assert tool("learn", *given, configs=tmp_path) == 0
            assert RECEIVED["settings"] == Settings(rate=rate)
    capsys.readouterr()
    assert tool("learn", "--config", "bundled:three", configs=tmp_path) == 2
    assert capsys.readouterr().err == (
        "tool: error: bundled:three: no such configuration; choose one of: one, sub/two\n"
    )


@pytest.mark.parametrize(
    "content", [b"data: d\xff", b"data: 2026-13-13\n", b"data: " + b"[" * 10_000, b"data: [", b"\0", b"data: 0x_\n"]
)
def test_a_configuration_that_cannot_be_read_is_one_line(content: bytes, tmp_path: Path, capsys):
    (tmp_path / "bad.yaml").write_bytes(content)
    assert tool("learn", "--config", str(tmp_path / "bad.yaml")) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("tool: error: ")


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ("null", "settings: None in place of its settings; write them below it, indented"),
        ("3", "settings: 3 in place of its settings; write them below it, indented"),
        ("{rate: null}", "settings.rate: has no value; give one, or omit it"),
        ("{kind: }", "settings.kind: has no value; give one, or omit it"),
    ],
)
def test_a_configuration_without_values_is_named(settings: str, message: str, tmp_path: Path, capsys):
    (tmp_path / "bad.yaml").write_text(f"data: d\noutput: o\nsettings: {settings}\n")
    assert tool("learn", "--config", str(tmp_path / "bad.yaml")) == 2
    assert capsys.readouterr().err == f"tool: error: {message}\n"


def test_the_help_of_a_command_is_that_of_its_function(capsys):
    assert tool("greet", "--help") == 0
    text = " ".join(capsys.readouterr().out.split())
    assert text.startswith("usage: tool greet NAMES ... [options] Greet people, by name. It does not take long.")
    assert "-n NUMBER, --number NUMBER number of greetings (default: 1)" in text
    assert "--long-name LONG_NAME name that is long (default: none)" in text
    assert "--shout in capitals --" in text
    assert "--seed SEED random seed; the same seed gives the same result (default: 0)" in text
    assert "--device {auto,cpu,cuda,mps}" in text
    assert "--json print one JSON document --quiet print problems alone" in text
    assert tool("learn", "--help") == 0
    text = " ".join(capsys.readouterr().out.split())
    assert "usage: tool learn --data DATA -o OUTPUT [options]" in text
    assert "--settings.rate RATE Learning rate. (default: 0.5)" in text


def test_help_and_version_of_the_program(capsys):
    assert tool("--help") == 0
    assert "  greet  Greet people, by name\n  learn  Learn\n" in capsys.readouterr().out
    assert tool("--version") == 0
    assert capsys.readouterr().out == f"tool {tool_version()}\n"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "no command; choose one of: greet, learn (see tool --help)"),
        (["great"], "no command 'great'; choose one of: greet, learn (see tool --help)"),
        (["greet"], "names"),
        (["greet", "Ann", "--num", "3"], "--num"),
        (["greet", "Ann", "-n", "0"], "number"),
        (["greet", "Ann", "--seed", str(2**64)], "seed"),
        (["greet", "Ann", "--seed", "-1"], "seed"),
        (["greet", "Ann", "--device", "tpu"], "device"),
        (["learn", "--output", "o"], "data"),
        (["learn", "--data", "d", "--output", "o", "--settings.kind", "c"], "settings.kind"),
        (["learn", "--data", "d", "--output", "o", "--config", "no/such.yaml"], "no/such.yaml"),
    ],
)
def test_wrong_usage_is_one_line(arguments: list[str], message: str, capsys):
    assert tool(*arguments) == 2
    printed = capsys.readouterr()
    assert (printed.out, printed.err.count("\n")) == ("", 1)
    assert printed.err.startswith("tool: error: ")
    assert message in printed.err
