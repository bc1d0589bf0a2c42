"""Every writing command on a full disk and in a read-only folder: one line, exit status 2, and no partial output.

Not part of `make test`: `make test-faults` names this file. File systems are mounted, which needs the rights of root,
or of `unshare -rm`; otherwise the tests are skipped.
"""

import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.faults.conftest import CAPTIONS, PIXELS
from tests.faults.forks import Ended, run
from tests.faults.test_full_disk import PAGE, digests, fill

TRAINING = ["--training.epochs=1", "--training.batch_size=4"]
# Of every command the arguments; `disk` is the small file system. Two are not tried: `captioning gap` takes minutes
# before it writes as `captioning gradients` does, and `calibrate` needs many photos before it writes as `export` does.
COMMANDS = {
    "data-prep captions": ["captioned", "--min-count=1", "-o", "disk/data"],
    "data-prep pixels": ["pixels.npz", "-o", "disk/data"],
    "data-prep inspect": ["captions", "-o", "disk/sheet.png"],
    "captioning caption -o": ["captioned/images", "--model=captioner", "-o", "disk/a.jsonl"],
    "captioning caption --sidecar": ["disk/photos", "--model=captioner", "--sidecar"],
    "captioning caption --attention": ["captioned/images", "--model=captioner", "--attention=disk/pictures"],
    "captioning caption --gates": ["captioned/images", "--model=captioner", "--gates=disk/pictures"],
    "captioning evaluate": ["--data=captions", "--model=captioner", "-o", "disk/a.json"],
    "captioning report": ["captions-run", "-o", "disk/a.html"],
    "captioning train --data": [*CAPTIONS, *TRAINING, "--output=disk/run"],
    "captioning train": ["captioned", "--force", "--init_from=captioner", *TRAINING, "--output=disk/own"],
    "captioning export": ["captions-run", "-o", "disk/model"],
    "captioning gradients": ["--data=captions", "-o", "disk/gradients.png"],
    "captioning ladder": ["caption-rungs", "-o", "disk/ladder"],
    "pixelrnn complete": ["pictures", "--mask=mask.png", "--model=pixels-run/model", "-o", "disk/a.png"],
    "pixelrnn sample": ["--model=pixels-run/model", "-o", "disk/a.png"],
    "pixelrnn write": ["12", "-o", "disk/a.png", "--hands=1"],
    "pixelrnn compress": ["pictures", "--model=pixels-run/model", "-o", "disk/a.vrnn"],
    "pixelrnn decompress": ["images.vrnn", "--model=pixels-run/model", "-o", "disk/images"],
    "pixelrnn evaluate": ["--data=pixels", "--model=pixels-run/model", "-o", "disk/a.json"],
    "pixelrnn verify": ["--model=pixels-run/model", "-o", "disk/a.png"],
    "pixelrnn report": ["pixels-run", "-o", "disk/a.html", "--without-coverage"],
    "pixelrnn train --data": [*PIXELS, *TRAINING, "--output=disk/run"],
    "pixelrnn train": ["pictures", "--force", "--from-scratch", *TRAINING, "--output=disk/own"],
    "pixelrnn export": ["pixels-run", "-o", "disk/model"],
    "pixelrnn ladder": ["pixel-rungs", "-o", "disk/ladder"],
}


@pytest.fixture
def folder(world: Path, tmp_path: Path) -> Iterator[Path]:
    """A working directory with all inputs, in which `disk` is a file system of eight megabytes."""
    folder = shutil.copytree(world, tmp_path / "folder")
    for kind, run_folder in (("caption", "sentences-run"), ("pixel", "pixels-run")):
        (folder / f"{kind}-rungs").mkdir()
        settings = (folder / run_folder / "config.yaml").read_text().splitlines(keepends=True)
        kept = [line for line in settings if not line.startswith(("init_from:", "ckpt_path:"))]
        (folder / f"{kind}-rungs/rung.yaml").write_text("".join(kept))
    (folder / "disk").mkdir()
    try:
        _mount("-t", "tmpfs", "-o", "size=8m", "tmpfs", folder / "disk")
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("no file system can be mounted here: neither root nor a user namespace (unshare -rm)")
    try:
        shutil.copytree(folder / "captioned/images", folder / "disk/photos")
        yield folder
    finally:
        subprocess.run(["umount", "-l", folder / "disk"], check=True)


def _mount(*arguments: object) -> None:
    subprocess.run(["mount", *map(str, arguments)], check=True, capture_output=True)


def written(disk: Path) -> dict[str, str]:
    """Return the digests of all files that must be whole: journals, logs and what is unfinished may be cut."""
    return {
        path: digest
        for path, digest in digests(disk).items()
        if path != "ballast"
        and not path.endswith((".part", ".ckpt"))
        and "/logs/" not in path
        and ".unfinished/" not in path
    }


def is_one_line(ended: Ended, program: str) -> bool:
    """Return whether a command ended with status 2 and one error, in its last line, all lines being its own."""
    lines = ended.error.splitlines()
    errors = [line for line in lines if line.startswith(f"{program}: error: ")]
    return (
        ended.status == 2
        and errors == lines[-1:]
        and ("cannot be written (" in lines[-1] or "; free some space" in lines[-1])
        and all(line.startswith(f"{program}: ") for line in lines)
    )


@pytest.mark.parametrize("name", COMMANDS)
def test_a_full_disk_and_a_read_only_one_end_a_command_in_one_line(
    name: str, folder: Path, figures: Callable[..., None]
):
    program, command, *_ = name.split()
    disk, arguments = folder / "disk", [program, command, *COMMANDS[name]]
    before = _size(disk)
    whole = run(arguments, folder)
    assert whole.status == 0, whole.error
    expected, needed = written(disk), _size(disk) - before
    _empty(disk)

    fill(disk / "ballast")
    with open(disk / "ballast", "r+b") as ballast:
        ballast.truncate((disk / "ballast").stat().st_size - needed // 2 // PAGE * PAGE)
    full = run(arguments, folder)
    partial = {path for path, digest in written(disk).items() if path in expected and digest != expected[path]}
    (disk / "ballast").unlink()
    _empty(disk)

    _mount("-o", "remount,ro", disk)
    read_only = run(arguments, folder)
    _mount("-o", "remount,rw", disk)

    clear = is_one_line(full, program) + is_one_line(read_only, program)
    figures(f"disks: {name}", clear=clear, wrong=2 - clear)
    assert is_one_line(full, program), full
    assert is_one_line(read_only, program), read_only
    assert not partial


def _size(folder: Path) -> int:
    return sum(-(-path.stat().st_size // PAGE) * PAGE for path in folder.rglob("*") if path.is_file())


def _empty(disk: Path) -> None:
    """Remove all but the photos."""
    for path in disk.iterdir():
        if path.name != "photos":
            shutil.rmtree(path) if path.is_dir() else path.unlink()
    for path in (disk / "photos").glob("*.txt"):
        path.unlink()
