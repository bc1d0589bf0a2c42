"""Resuming by the commands: from the run's own settings, with the same losses, or not at all."""

import csv
import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from captioning.cli import main as captioning
from captioning.training.task import CaptioningTask
from data_prep import prepare_captions, prepare_pixels
from pixelrnn.cli import main as pixelrnn
from pixelrnn.training.task import PixelTask

# For each program its task, the options of the first start, an option that differs, and what it is called.
PROGRAMS: dict[str, tuple[Callable[..., int], Any, list[str], str]] = {
    "captioning": (captioning, CaptioningTask, ["--decoder.hidden_size=6"], "decoder.hidden_size"),
    "pixelrnn": (pixelrnn, PixelTask, ["--model.hidden_channels=6"], "model.hidden_channels"),
}


@pytest.fixture(params=PROGRAMS)
def program(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture
def config(program: str, synthetic_captions: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A configuration of two short epochs, with relative paths, in the present folder."""
    monkeypatch.chdir(tmp_path)
    training = {"epochs": 2, "batch_size": 4}
    if program == "captioning":
        prepare_captions(synthetic_captions / "captions.jsonl", "data", min_count=1)
        training |= {"mirror": False, "monitor": "perplexity"}
        model = {
            "encoder": {"backbone": "none", "image_size": 1},
            "decoder": {"attention": "none", "embedding_size": 6},
        }
    else:
        pixels = np.random.default_rng(0).integers(2, size=(20, 4, 5), dtype=np.uint8)
        np.savez("bits.npz", train=pixels[:12], valid=pixels[12:16], test=pixels[16:])
        prepare_pixels("bits.npz", "data")
        model = {"model": {"num_layers": 1, "output_channels": 4}}
    Path("config.yaml").write_text(yaml.safe_dump({"data": "data", "output": "run", "training": training, **model}))
    return Path("config.yaml")


def losses(run: str) -> list[str]:
    """The losses of all steps, of a resumed run's parts together."""
    found = {}
    for path in sorted(Path(run).glob("logs/csv/version_*/metrics.csv")):
        rows = csv.DictReader(path.read_text().splitlines())
        found |= {row["step"]: row["loss"] for row in rows if row.get("loss")}
    return list(found.values())


def digests(folder: str) -> dict[str, str]:
    files = [path for path in Path(folder).rglob("*") if path.is_file()]
    return {str(path): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def interrupt_in_the_second_epoch(program: str, monkeypatch: pytest.MonkeyPatch) -> None:
    task = PROGRAMS[program][1]
    step = task.training_step

    def interrupted(self: Any, batch: Any, batch_idx: int) -> Any:
        if self.current_epoch == 1:
            raise KeyboardInterrupt
        return step(self, batch, batch_idx)

    monkeypatch.setattr(task, "training_step", interrupted)


@pytest.fixture
def interrupted(program: str, config: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A run that was interrupted in its second epoch; it was started with an option beside its configuration."""
    main, _, options, _ = PROGRAMS[program]
    with monkeypatch.context() as patches:
        interrupt_in_the_second_epoch(program, patches)
        assert main(["train", "--config", str(config), *options]) == 130
    return "run"


@pytest.mark.parametrize("given", [["--config", "config.yaml"], ["--config=config.yaml"], ["--output", "run"]])
def test_without_any_option_the_losses_are_those_of_an_uninterrupted_run(
    program: str, config: Path, interrupted: str, given: list[str], capsys: pytest.CaptureFixture[str]
):
    main, _, options, _ = PROGRAMS[program]
    written = Path(interrupted, "config.yaml").read_bytes()
    assert main(["train", *given, "--ckpt_path", "last"]) == 0
    assert Path(interrupted, "config.yaml").read_bytes() == written
    assert main(["train", "--config", str(config), *options, "--output", "whole"]) == 0
    assert losses(interrupted) == losses("whole")
    name, value = options[0].removeprefix("--").split("=")
    part, field = name.split(".")
    described = json.loads(Path(interrupted, "model", "config.json").read_text())
    assert described["config" if part == "model" else part][field] == int(value)


@pytest.mark.parametrize("value", [7, None])
def test_an_option_that_differs_is_refused_by_name_and_nothing_is_changed(
    program: str, interrupted: str, value: int | None, capsys: pytest.CaptureFixture[str]
):
    """Also if it is given as its default, which is not what the run was started with."""
    main, _, _, name = PROGRAMS[program]
    given = value if value is not None else {"decoder.hidden_size": 512, "model.hidden_channels": 16}[name]
    before = digests(interrupted)
    capsys.readouterr()
    assert main(["train", "--output", interrupted, f"--{name}={given}", "--ckpt_path=last"]) == 2
    assert capsys.readouterr().err == (
        f"{program}: error: run: started with other settings ({name} was 6, and is {given} now); "
        "give the same to continue it, or choose another output\n"
    )
    assert digests(interrupted) == before


def test_other_data_are_refused_and_nothing_is_changed(
    program: str, interrupted: str, synthetic_captions: Path, capsys: pytest.CaptureFixture[str]
):
    if program == "captioning":
        prepare_captions(synthetic_captions / "captions.jsonl", "other", min_count=1, seed=1)
        manifest = json.loads(Path("other/manifest.json").read_text())
        Path("other/manifest.json").write_text(json.dumps(manifest | {"content_hash": "0" * 64}))
        Path("other/XXH128SUMS").unlink()
    else:
        np.savez("other.npz", train=np.zeros((8, 4, 5), np.uint8), valid=np.ones((4, 4, 5), np.uint8))
        prepare_pixels("other.npz", "other")
    before = digests(interrupted)
    assert PROGRAMS[program][0](["train", "--output", interrupted, "--data", "other", "--ckpt_path", "last"]) == 2
    assert "other: not the data that run started with; choose another output" in capsys.readouterr().err
    assert digests(interrupted) == before


def test_a_start_from_a_model_refuses_settings_that_the_model_does_not_have(
    program: str, config: Path, capsys: pytest.CaptureFixture[str]
):
    main, _, options, name = PROGRAMS[program]
    assert main(["train", "--config", str(config), *options]) == 0
    arguments = ["train", "--data", "data", "--output", "second", "--init_from", "run/model"]
    assert main([*arguments, f"--{name}=7"]) == 2
    assert f"{name}: 7 differs from 6 of run/model, which training starts from" in capsys.readouterr().err
    assert not Path("second").exists()


def test_a_model_to_start_from_that_does_not_exist_is_named(
    program: str, config: Path, capsys: pytest.CaptureFixture[str]
):
    assert PROGRAMS[program][0](["train", "--config", str(config), "--init_from", "absent"]) == 2
    (line,) = [line for line in capsys.readouterr().err.splitlines() if "error" in line]
    assert line.startswith(f"{program}: error: init_from: absent: no such model folder; ")
    assert not Path("run").exists()
