"""Kills at random moments: the command, given again, gives what an uninterrupted one gives, and nothing is left behind.

Not part of `make test`: `make test-faults` names this file.
"""

import csv
import shutil
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from tests.faults.conftest import CAPTIONS, PIXELS, SENTENCES
from tests.faults.forks import Forked, run
from tests.faults.test_full_disk import digests
from vision_rnn.checksums import SUMS, first_damaged, read_sums

TRAINING = ["--training.epochs=4", "--training.batch_size=4", "--output=run"]


@dataclass(frozen=True)
class Killed:
    """A command to be killed.

    Attributes:
        command: The program and its arguments.
        inputs: What it reads, of the folder `world`.
        again: What is added when it is given again and `kept` exists.
        kept: Where unfinished work is kept, if any is.
    """

    command: Sequence[str]
    inputs: Sequence[str]
    again: Sequence[str] = ()
    kept: str = ""


RESUMED = {"again": ["--ckpt_path=last"], "kept": "run/checkpoints/last.ckpt"}
KILLED = {
    "data-prep captions": Killed(["data-prep", "captions", "captioned", "-o", "data", "--min-count=1"], ["captioned"]),
    "data-prep pixels": Killed(["data-prep", "pixels", "pixels.npz", "-o", "data"], ["pixels.npz"]),
    "data-prep merge": Killed(["data-prep", "merge", "parts/1", "parts/2", "-o", "data"], ["parts"]),
    "captioning train, a part of the features": Killed(
        ["captioning", "train", *CAPTIONS, "--feature_shard=1/2"], ["captions", "captioner"]
    ),
    "captioning train, with features": Killed(
        ["captioning", "train", *CAPTIONS, *TRAINING], ["captions", "captioner"], **RESUMED
    ),
    "captioning train": Killed(["captioning", "train", *SENTENCES, *TRAINING], ["captions"], **RESUMED),
    "pixelrnn train": Killed(["pixelrnn", "train", *PIXELS, *TRAINING], ["pixels"], **RESUMED),
    "captioning caption": Killed(
        ["captioning", "caption", "captioned/images", "--model=captioner", "-o", "captions.csv", "--batch-size=2"],
        ["captioned", "captioner"],
        again=["--skip-existing"],
        kept="captions.csv.part",
    ),
    "captioning export": Killed(["captioning", "export", "captions-run", "-o", "model"], ["captions-run"]),
    "pixelrnn export": Killed(["pixelrnn", "export", "pixels-run", "-o", "model"], ["pixels-run"]),
    "pixelrnn compress": Killed(
        ["pixelrnn", "compress", "pictures", "--model=pixels-run/model", "-o", "a.vrnn"], ["pictures", "pixels-run"]
    ),
    "pixelrnn decompress": Killed(
        ["pixelrnn", "decompress", "images.vrnn", "--model=pixels-run/model", "-o", "images", "--overwrite"],
        ["images.vrnn", "pixels-run"],
    ),
}


@pytest.fixture(params=KILLED)
def name(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture
def folders(name: str, world: Path, tmp_path: Path) -> Iterator[Path]:
    """Working directories, each with the inputs of the command, removed with the next one."""

    def make() -> Iterator[Path]:
        number = 0
        while True:
            folder = tmp_path / str(number)
            folder.mkdir()
            for each in KILLED[name].inputs:
                copy = shutil.copytree if (world / each).is_dir() else shutil.copy
                copy(world / each, folder / each)
            yield folder
            shutil.rmtree(folder)
            number += 1

    return make()


def results(folder: Path) -> dict[str, object]:
    """Return what a command wrote in a folder: the digests of files, and of trainings the curve.

    The log of a resumed run has several parts, a checkpoint holds times, and `datasets` gives every folder of rows a
    random name in `state.json`.
    """
    found: dict[str, object] = {}
    for path, digest in digests(folder).items():
        if "/logs/" in path:
            found["logs"] = _curve(folder / "run")
        elif path.endswith(SUMS):
            found[path] = first_damaged((folder / path).parent, read_sums((folder / path).parent))
        else:
            found[path] = None if path.endswith((".ckpt", "state.json")) else digest
    folders = [path for path in folder.rglob("*") if path.is_dir() and "logs" not in path.parts]
    return found | {str(path.relative_to(folder)): None for path in folders}


def _curve(run: Path) -> dict[tuple[str, str], str]:
    """Return the values of all steps by their names, later ones of a resumed run in place of earlier ones."""
    found = {}
    logs = sorted(run.glob("logs/csv/version_*/metrics.csv"), key=lambda path: int(path.parent.name.split("_")[1]))
    for path in logs:
        for row in csv.DictReader(path.read_text().splitlines()):
            found |= {(row["step"], name): value for name, value in row.items() if value and "seconds" not in name}
    return found


def differences(found: dict[str, object], expected: dict[str, object]) -> list[str]:
    return sorted(name for name in found.keys() | expected.keys() if found.get(name, 0) != expected.get(name, 0))


def test_a_killed_command_given_again_gives_what_an_uninterrupted_one_gives(
    name: str, folders: Iterator[Path], figures: Callable[..., None], request: pytest.FixtureRequest
):
    killed = KILLED[name]
    folder = next(folders)
    ended = run(killed.command, folder)
    assert ended.status == 0, ended.error
    expected, seconds = results(folder), ended.seconds
    random = np.random.default_rng([request.config.getoption("--faults-seed"), list(KILLED).index(name)])
    kills = -(-request.config.getoption("--kills") // len(KILLED))
    right, wrong = 0, []
    while right + len(wrong) < kills:
        folder, moments = next(folders), []
        # A command that has been killed may be killed again.
        for _ in range(random.integers(1, 3)):
            moments.append(seconds * random.random())
            run(_again(killed, folder), folder, moments[-1])
        ended = run(_again(killed, folder), folder)
        if ended.status == 0 and not (different := differences(results(folder), expected)):
            right += 1
        else:
            what = ended.error if ended.status else different
            wrong.append(f"killed after {', '.join(f'{moment:.3f}' for moment in moments)} s: {what}")
    figures(f"kills: {name}", right=right, wrong=len(wrong))
    assert not wrong, "\n".join(wrong)


def _again(killed: Killed, folder: Path) -> list[str]:
    return [*killed.command, *(killed.again if killed.kept and (folder / killed.kept).exists() else ())]


def test_of_two_at_once_one_may_be_refused_and_the_result_is_right(
    name: str, folders: Iterator[Path], figures: Callable[..., None], request: pytest.FixtureRequest
):
    killed = KILLED[name]
    folder = next(folders)
    assert run(killed.command, folder).status == 0
    expected = results(folder)
    counts = {"right": 0, "clear": 0}
    folder = next(folders)
    processes = [Forked(killed.command, folder) for _ in range(2)]
    for ended in [process.wait() for process in processes]:
        refused = (
            ended.status == 2 and "another process is writing it; wait for it, or choose another output" in ended.error
        )
        assert refused or ended.status == 0, ended.error
        counts["clear" if refused else "right"] += 1
    assert counts["right"]
    figures(f"two at once: {name}", **counts)
    assert differences(results(folder), expected) == []
