"""The report on a pixel model: its facts are those of the run, and it works in a browser from a file."""

import math
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from data_prep.pixels import prepare_pixels
from pixelrnn import report as module
from pixelrnn.cli import main
from pixelrnn.exact_likelihood import evaluate
from pixelrnn.model import load_pixel_model
from pixelrnn.pixel_config import ModelConfig, TrainingConfig
from pixelrnn.report import Subject, open_subject, pixel_report
from pixelrnn.training.run import train

EARLIER = Path(__file__).parents[1] / "earlier"


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Black and white images of 6x8, of which the training images are three patterns."""
    folder = tmp_path_factory.mktemp("<b>data")
    generator = np.random.default_rng(0)
    patterns = generator.integers(2, size=(3, 6, 8), dtype=np.uint8)
    arrays = {"train": patterns.repeat(6, 0), "validation": patterns, "test": patterns[:2]}
    np.savez(folder / "source.npz", **arrays)  # type: ignore[arg-type]
    prepare_pixels(folder / "source.npz", folder / "prepared")
    return folder / "prepared"


@pytest.fixture(scope="module")
def run(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("<i>runs") / "run"
    train(
        data=data,
        output=folder,
        model=ModelConfig(num_layers=1, hidden_channels=4, output_channels=4),
        training=TrainingConfig(epochs=3, batch_size=6),
    )
    return folder


@pytest.fixture(scope="module")
def report(run: Path) -> Path:
    path = run.with_name("report.html")
    assert main(["report", str(run), "-o", str(path), "--quiet"]) == 0
    return path


def test_every_part_is_there(browser: Any, report: Path, run: Path) -> None:
    browser.open(report)
    assert browser.texts("h2") == [
        "About",
        "Training",
        "Samples through training",
        "Likelihood",
        "Surprise and entropy by pixel",
        "Completions",
        "Nearest training images",
        "Coverage",
    ]
    assert browser.texts("h1") == [f"Pixels: {run}"]  # The <i> in the name is text.
    assert browser.texts("nav a") == browser.texts("h2")
    assert browser.texts("#samples-through-training figcaption") == ["epoch 0", "epoch 1", "epoch 2"]
    assert [text.partition(":")[0] for text in browser.texts("#training figcaption")] == ["validation", "loss"]
    assert "no leaks" in browser.texts("#coverage figcaption")[0]
    assert browser.evaluate("[...document.images].every(image => image.alt && image.naturalWidth > 0)")


def test_the_likelihood_is_the_one_that_evaluate_measures(browser: Any, report: Path, run: Path, data: Path) -> None:
    from data_prep.prepared_pixels import PreparedPixels

    browser.open(report)
    document = evaluate(load_pixel_model(run / "model"), PreparedPixels.open(data), "test")
    rows = browser.evaluate(
        "[...document.querySelectorAll('tbody tr')].map(row => [...row.cells].map(c => c.innerText))"
    )
    assert [row[:2] for row in rows] == [
        ["Nats per image", f"{document['nats_per_image']:.2f}"],
        ["Bits/dim", f"{document['bits_per_dimension']:.4f}"],
    ]
    surprise = [text for text in browser.texts("#surprise-and-entropy-by-pixel figcaption") if "surprise, " in text]
    bits = sum(float(text.split()[1]) for text in surprise)
    assert bits == pytest.approx(document["sum_nats"] / math.log(2), abs=1)


def test_copies_of_training_images_are_counted(
    run: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    subject = open_subject(run, None, "test", 0, "cpu")
    copied = subject.pixels[:1].repeat(3, 1, 1, 1)
    other = 1 - copied[:1]
    monkeypatch.setattr(module, "_draw", lambda model, seed: module.torch.cat([copied, other]))
    html = pixel_report(subject, coverage=False)
    assert "4 samples, each with the nearest of all 18 training images; 3 of them are copies." in html
    assert html.count("nearest, 0.0 %") == 3


def test_samples_of_all_classes_are_drawn(make_parity_model: Callable[[int], Any]) -> None:
    drawn = module._draw(make_parity_model(5), seed=0)
    # Odd classes are white: 24 samples of five classes are 5, 5, 5, 5 and 4.
    assert drawn.flatten(1).float().mean(1).tolist() == [*[0.0] * 5, *[1.0] * 5, *[0.0] * 5, *[1.0] * 5, *[0.0] * 4]


@pytest.mark.parametrize(
    "arrays",
    [
        {"height": 5, "width": 4, "channels": 3, "levels": 256, "architecture": "pixel_cnn", "order": "rotated"},
        {"height": 4, "width": 6, "num_classes": 2, "architecture": "diagonal_bilstm"},
    ],
    ids=["colour", "classes"],
)
def test_models_of_all_kinds_have_a_report(
    make_model: Callable[..., Any], make_data: Callable[..., Any], run: Path, arrays: dict[str, Any]
) -> None:
    model = make_model(**arrays)
    shape = model.shape
    size = (3, shape.height, shape.width, *([3] if shape.channels == 3 else []))
    pixels = np.random.default_rng(1).integers(shape.levels, size=size, dtype=np.uint8)
    labels = np.array([0, 1, 1])
    with_labels = {f"{split}_labels": labels for split in ("train", "test")} if shape.num_classes else {}
    images = {f"{split}_images" if shape.num_classes else split: pixels for split in ("train", "test")}
    data = make_data(**images, **with_labels)
    chosen = data.split("test")
    tensor = module.torch.tensor
    subject = Subject(
        run,
        model,
        data,
        "test",
        tensor(chosen.pixels).permute(0, 3, 1, 2),
        tensor(chosen.labels) if shape.num_classes else None,
        3,
    )
    html = pixel_report(subject)
    assert "24 samples, each with the nearest of all" in html
    assert ("pixels that differ" in html) == (shape.levels == 2)
    assert "no leaks" in html


@pytest.mark.parametrize("dark", [False, True])
def test_it_is_readable_on_a_small_screen_and_by_keyboard(
    browser: Any, report: Path, tmp_path: Path, dark: bool
) -> None:
    from selenium.webdriver.common.keys import Keys

    browser.open(report, width=400, dark=dark)
    assert browser.evaluate("document.documentElement.scrollWidth") == 400
    picture = np.asarray(browser.screenshot(tmp_path / "report.png").convert("L"))
    assert picture.shape[1] == 400
    assert (picture[0, 0] < 40) == dark
    stops = len(browser.texts("nav a")) + 2  # The table and the wide picture scroll.
    for _ in range(stops):
        browser.press(Keys.TAB)
    assert browser.evaluate("document.activeElement.getAttribute('aria-label')") == "Fields of view"


def test_an_unfinished_run_of_an_earlier_version_has_a_report(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(EARLIER / "pixelrnn-run", tmp_path / "run")
    shutil.rmtree(tmp_path / "run" / "model")
    monkeypatch.chdir(EARLIER)
    page = tmp_path / "report.html"
    assert main(["report", str(tmp_path / "run"), "-o", str(page), "--without-coverage", "--split", "validation"]) == 0
    html = page.read_text()
    assert "The run has no samples." in html
    assert "Coverage" not in html
    assert "of its best epoch so far" in capsys.readouterr().err


def refuse(*arguments: object, capsys: pytest.CaptureFixture[str]) -> str:
    assert main(["report", *map(str, arguments)]) == 2
    # A note may precede it: that a data set of an earlier version is not checked.
    *_, error = capsys.readouterr().err.splitlines()
    return error


def test_what_is_no_run_is_named(run: Path, data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    page = tmp_path / "report.html"
    cases = [
        ((tmp_path,), "not a run folder"),
        ((tmp_path / "missing",), "not a run folder"),
        ((EARLIER / "captioning-run",), "not a run of pixelrnn train (no 'model'"),
        ((EARLIER / "pixelrnn-run",), "names the data set pixels, which is not here; add --data"),
        ((run, "--data", EARLIER / "pixels"), "not the data that"),
        ((run, "--data", EARLIER / "captions"), "not pixels"),
        ((run, "--split", "exam"), "no split 'exam'"),
    ]
    for arguments, reason in cases:
        assert reason in refuse(*arguments, "-o", page, capsys=capsys)
    assert "is a folder" in refuse(run, "-o", tmp_path, capsys=capsys)
    assert not page.exists()
