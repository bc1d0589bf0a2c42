"""A disk that fills while a file is written: one line, exit status 2, and what was there before stays whole.

Every case runs on a small file system of its own, and again with a limit on the size of files, which needs no right to
mount anything: a write fails then too, although with another reason.
"""

import contextlib
import hashlib
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from lightning.pytorch.loggers import CSVLogger
from PIL import Image

from captioning.cli import main as captioning
from data_prep.cli import main as data_prep
from pixelrnn.cli import main as pixelrnn

EARLIER = Path(__file__).parents[1] / "earlier"
PAGE = 4096  # The file system's unit.

Room = Callable[[int], contextlib.AbstractContextManager[None]]


@contextlib.contextmanager
def small_file_system(folder: Path) -> Iterator[None]:
    """Mount a file system of two megabytes on a folder."""
    mount = ["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", str(folder)]
    try:
        subprocess.run(mount, check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("no file system can be mounted here")
    try:
        yield
    finally:
        # Lazily: a test that failed may still hold a file open.
        subprocess.run(["umount", "-l", str(folder)], check=True)


def fill(ballast: Path) -> None:
    """Write until there is no space left."""
    with contextlib.suppress(OSError), open(ballast, "wb", buffering=0) as file:
        while True:
            file.write(bytes(PAGE))


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """A folder of a small file system."""
    (tmp_path / "disk").mkdir()
    with small_file_system(tmp_path / "disk"):
        (tmp_path / "disk" / "folder").mkdir()
        yield tmp_path / "disk" / "folder"


@pytest.fixture(params=["small file system", "limit on file size"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[Path, Room]:
    """A folder, and a function of a number of bytes: within its block no more than about these can be written."""
    if request.param == "small file system":
        folder = request.getfixturevalue("disk")
        ballast = folder.parent / "ballast"

        @contextlib.contextmanager
        def room(size: int) -> Iterator[None]:
            fill(ballast)
            with open(ballast, "r+b") as file:
                file.truncate(ballast.stat().st_size - -(-size // PAGE) * PAGE)
            yield
            ballast.unlink()

        return folder, room

    resource = pytest.importorskip("resource")

    @contextlib.contextmanager
    def limit(size: int) -> Iterator[None]:
        soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
        try:
            yield
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))

    (tmp_path / "limited").mkdir()
    return tmp_path / "limited", limit


@pytest.fixture
def images(tmp_path: Path) -> Path:
    """A folder of noise, which no format makes smaller: three grey images of 28x28 pixels."""
    random = np.random.default_rng(0)
    (tmp_path / "noise").mkdir()
    for index in range(3):
        noise = random.integers(2, size=(28, 28), dtype=np.uint8) * 255
        Image.fromarray(noise).save(tmp_path / "noise" / f"{index}.png")
    return tmp_path / "noise"


@pytest.fixture
def pixels(tmp_path: Path) -> Path:
    values = np.random.default_rng(0).integers(256, size=(60, 28, 28), dtype=np.uint8)
    np.savez(tmp_path / "pixels.npz", train=values[:40], valid=values[40:50], test=values[50:])
    return tmp_path / "pixels.npz"


def digests(folder: Path) -> dict[str, str]:
    files = [path for path in folder.rglob("*") if path.is_file()]
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def check_that_it_fails_in_one_line(
    command: Callable[[list[str]], int], arguments: list[str], target: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    capsys.readouterr()
    assert command(arguments) == 2
    *_, last = capsys.readouterr().err.splitlines()
    assert f"error: {target}: cannot be written (" in last
    assert last.endswith(("No space left on device); free some space", "File too large); choose another path"))


@pytest.mark.parametrize(
    ("command", "arguments", "output", "room"),
    [
        (data_prep, ["captions", "CAPTIONS", "--min-count=1"], "data", 2 * PAGE),
        (data_prep, ["pixels", "PIXELS"], "data", 2 * PAGE),
        (pixelrnn, ["compress", "IMAGES"], "images.bin", 0),
        (pixelrnn, ["complete", "IMAGES", "--mask=lower-half", "--samples=2"], "completions.png", 0),
        # Its configuration fits, its weights do not.
        (pixelrnn, ["export", str(EARLIER / "pixelrnn-run")], "model", 2048),
    ],
    ids=lambda value: value[0] if isinstance(value, list) else None,
)
def test_an_output_that_does_not_fit_leaves_the_last_one_whole(
    command: Callable[[list[str]], int],
    arguments: list[str],
    output: str,
    room: int,
    place: tuple[Path, Room],
    synthetic_captions: Path,
    pixels: Path,
    images: Path,
    capsys: pytest.CaptureFixture[str],
):
    folder, room_for = place
    inputs = {"CAPTIONS": str(synthetic_captions / "captions.jsonl"), "PIXELS": str(pixels), "IMAGES": str(images)}
    arguments = [*(inputs.get(argument, argument) for argument in arguments), f"--output={folder / output}"]
    assert command(arguments) == 0
    before = digests(folder)
    with room_for(room):
        check_that_it_fails_in_one_line(command, arguments, folder / output, capsys)
        assert digests(folder) == before
    assert command(arguments) == 0


TRAININGS = {
    "captioning": (
        captioning,
        ["--data=CAPTIONS", "--encoder.backbone=none", "--decoder.attention=none", "--training.monitor=perplexity"],
    ),
    "pixelrnn": (pixelrnn, ["--data=PIXELS", "--model.num_layers=1"]),
}


@pytest.fixture(params=TRAININGS)
def training(
    request: pytest.FixtureRequest, synthetic_captions: Path, pixels: Path, tmp_path: Path
) -> tuple[Callable[[list[str]], int], list[str]]:
    """A program, and the arguments of a training with it, but for the run folder."""
    program, arguments = TRAININGS[request.param]
    data = str(tmp_path / "prepared")
    if request.param == "captioning":
        assert data_prep(["captions", str(synthetic_captions / "captions.jsonl"), "-o", data, "--min-count=1"]) == 0
    else:
        assert data_prep(["pixels", str(pixels), "-o", data, "--binarize=threshold"]) == 0
    given = [f"--data={data}" if argument.startswith("--data") else argument for argument in arguments]
    return program, ["train", *given, "--training.epochs=1"]


def test_a_checkpoint_that_does_not_fit_ends_a_training(
    training: tuple[Callable[[list[str]], int], list[str]],
    place: tuple[Path, Room],
    capsys: pytest.CaptureFixture[str],
):
    """There is room for the logs and for a part of the checkpoint."""
    program, arguments = training
    folder, room_for = place
    run = folder / "run"
    with room_for(100 * 1024):
        check_that_it_fails_in_one_line(
            program, [*arguments, f"--output={run}"], run / "checkpoints" / "best.ckpt", capsys
        )
    assert list((run / "checkpoints").iterdir()) == []


def test_a_log_that_does_not_fit_ends_a_training(
    training: tuple[Callable[[list[str]], int], list[str]],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
):
    def full(logger: CSVLogger) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(CSVLogger, "save", full)
    program, arguments = training
    check_that_it_fails_in_one_line(program, [*arguments, f"--output={tmp_path / 'run'}"], tmp_path / "run", capsys)


def test_a_disk_that_fills_while_features_are_cached_is_no_bus_error(
    disk: Path, synthetic_captions: Path, tmp_path: Path
):
    """In a process of its own: what is written to a memory map on a full disk kills the process."""
    assert data_prep(["captions", str(synthetic_captions / "captions.jsonl"), "-o", str(disk), "--min-count=1"]) == 0
    before = digests(disk)
    script = """
import sys
from captioning.captioner_config import EncoderConfig
from captioning.network.encoder import GridEncoder
from captioning.training import features
from data_prep.prepared_captions import PreparedCaptions
from tests.faults.test_full_disk import fill
from vision_rnn.cli import exit_status
from pathlib import Path

folder = Path(sys.argv[1])
features.BATCH_SIZE = 1
encoder = GridEncoder(EncoderConfig(backbone="timm:test_resnet", image_size=256))
# There is room when it starts; another program fills the disk meanwhile.
encoder.register_forward_hook(lambda *_: fill(folder.parent / "ballast"))
data = PreparedCaptions.open(folder)
sys.exit(exit_status("captioning", lambda: len(features.grid_features(encoder, data, "train"))))
"""
    done = subprocess.run([sys.executable, "-c", script, disk], capture_output=True, text=True, check=False)
    (disk.parent / "ballast").unlink()
    assert done.returncode == 2, done.stderr
    assert done.stderr.startswith(f"captioning: error: {disk}/features/")
    assert done.stderr.endswith("/train.npy: cannot be written (No space left on device); free some space\n")
    assert digests(disk) == before
