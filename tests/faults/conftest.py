"""What the fault tests share: their options, small inputs for every command, and the table of figures at the end."""

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from captioning.captioner import Captioner
from captioning.captioner_config import DecoderConfig, EncoderConfig, SearchConfig

COUNTS = ("right", "one clear line", "wrong")


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add how much is tried, and from which seed."""
    group = parser.getgroup("faults")
    group.addoption("--kills", type=int, default=100, help="kills, shared by the commands")
    group.addoption("--mutations", type=int, default=400, help="mutated inputs for each reader")
    group.addoption("--faults-seed", type=int, default=0, help="seed of kills and mutations")


@pytest.fixture
def figures(record_property: Callable[[str, object], None]) -> Callable[..., None]:
    """Function of a row's name, and of how many results were right, one clear line, and wrong."""

    def record(name: str, right: int = 0, clear: int = 0, wrong: int = 0) -> None:
        record_property("figures", [name, right, clear, wrong])

    return record


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Print what was counted, of all processes of the test runner."""
    reports = [report for reports in terminalreporter.stats.values() for report in reports]
    calls = [report for report in reports if getattr(report, "when", "") == "call"]
    rows = [row for report in calls for name, row in report.user_properties if name == "figures"]
    if not rows:
        return
    width = max(len(str(row[0])) for row in rows)
    terminalreporter.section("figures")
    for name, *counts in [["", *COUNTS], *sorted(rows)]:
        columns = "".join(f"{count:>{len(header) + 3}}" for header, count in zip(COUNTS, counts, strict=True))
        terminalreporter.write_line(f"{name:<{width}}{columns}")


@pytest.fixture(scope="session")
def world(synthetic_captions: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with small inputs for every command. Tests must not write to it.

    `captioned/` (photos and captions.jsonl), `pixels.npz`, the data sets `captions/` and `pixels/`, their parts in
    `parts/` and `pixel-parts/`, the untrained model folder `captioner/`, the runs `captions-run/`, `sentences-run/` and
    `pixels-run/`, the pictures `pictures/` and `mask.png`, `images.vrnn`, and the captions `predictions.jsonl`.
    """
    from tests.faults.forks import run  # Of Linux alone, unlike the ordinary tests here.

    world = tmp_path_factory.mktemp("faults") / "world"
    shutil.copytree(synthetic_captions, world / "captioned")
    random = np.random.default_rng(0)
    bits = random.integers(2, size=(60, 6, 5), dtype=np.uint8)
    np.savez(world / "pixels.npz", train=bits[:40], valid=bits[40:50], test=bits[50:])
    (world / "pictures").mkdir()
    for index, image in enumerate(bits[:4]):
        Image.fromarray(255 * image).save(world / "pictures" / f"{index}.png")
    mask = np.zeros((6, 5), np.uint8)
    mask[3:] = 255
    Image.fromarray(mask).save(world / "mask.png")
    _start_model(world / "captioner")
    training = ["--training.epochs=2", "--training.batch_size=4"]
    for command in (
        ["data-prep", "captions", "captioned", "-o", "captions", "--min-count=1"],
        ["data-prep", "pixels", "pixels.npz", "-o", "pixels"],
        *(
            ["data-prep", *command, "-o", f"{folder}/{part}", f"--shard={part}/2"]
            for folder, *command in (
                ("parts", "captions", "captioned", "--min-count=1"),
                ("pixel-parts", "pixels", "pixels.npz"),
            )
            for part in (1, 2)
        ),
        ["captioning", "train", *CAPTIONS, *training, "--output=captions-run"],
        ["captioning", "train", *SENTENCES, *training, "--output=sentences-run"],
        ["pixelrnn", "train", *PIXELS, *training, "--output=pixels-run"],
        ["pixelrnn", "compress", "pictures", "--model=pixels-run/model", "-o", "images.vrnn"],
        ["captioning", "caption", "captioned/images", "--model=captioner", "-o", "predictions.jsonl"],
    ):
        ended = run(command, world)
        assert ended.status == 0, ended.error
    return world


# Trainings, without their epochs and output. A backbone's weights of timm are not at hand: random ones serve as well.
CAPTIONS = ["--data=captions", "--init_from=captioner", "--training.mirror=false", "--training.monitor=perplexity"]
SENTENCES = [
    *("--data=captions", "--encoder.backbone=none", "--encoder.image_size=1", "--decoder.attention=none"),
    *("--decoder.hidden_size=4", "--decoder.embedding_size=4", "--training.mirror=false"),
    "--training.monitor=perplexity",
]
PIXELS = ["--data=pixels", "--model.num_layers=1", "--model.hidden_channels=4", "--model.output_channels=4"]
WORDS = ["a", "circle", "square", "red", "green", "blue", "yellow", "on", "background", "."]


def _start_model(folder: Path) -> None:
    torch.manual_seed(0)
    captioner = Captioner(
        EncoderConfig(backbone="timm:test_resnet", image_size=64),
        DecoderConfig(hidden_size=16, embedding_size=16, attention_size=16),
        WORDS,
        SearchConfig(beam_size=2, max_words=6),
    )
    captioner.eval().save_pretrained(folder)
