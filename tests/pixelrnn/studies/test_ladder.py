"""The ladder: runs that are trained, skipped and continued; measurements; the table and the figure."""

import itertools
import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from jsonargparse import ArgumentParser
from matplotlib.figure import Figure
from torch import Tensor

import pixelrnn.training.run
from data_prep.prepared_pixels import PreparedPixels
from pixelrnn.exact_likelihood import evaluate
from pixelrnn.model import load_pixel_model
from pixelrnn.pixel_config import ModelConfig, TrainingConfig
from pixelrnn.studies.ladder import NATS, PIXEL_MODELS, ladder_picture, ladder_table
from pixelrnn.training.run import train
from pixelrnn.training.task import PixelTask
from vision_rnn import sweep
from vision_rnn.errors import UserError
from vision_rnn.files import read_json
from vision_rnn.sweep import Measurement, Rung, finish

CONFIGS = Path(__file__).parents[3] / "configs" / "pixelrnn" / "ladder"
TRAINING = TrainingConfig(epochs=2, batch_size=4, warmup_steps=1, average_decay=0.5)
SEEDS = (0, 3)
STEPS_PER_EPOCH = 3  # 12 images, 4 per batch


def rung(name: str, data: PreparedPixels, num_layers: int, training: TrainingConfig = TRAINING, **model: Any) -> Rung:
    small = {"hidden_channels": 3, "output_channels": 4} | model
    return Rung(name, str(data.folder), {"model": ModelConfig(num_layers=num_layers, **small), "training": training})


def climb(rungs: Sequence[Rung], seeds: Sequence[int], output: Path, **parts: Any) -> list[Measurement]:
    return sweep.run_sweep(replace(PIXEL_MODELS, **parts), rungs, seeds, output)


def nats_of_test(measurement: Measurement) -> list[float]:
    return measurement.scores["test"][NATS]


@pytest.fixture(scope="module")
def data(make_data: Callable[..., PreparedPixels]) -> PreparedPixels:
    random = np.random.default_rng(0)
    sizes = {"train": 12, "valid": 5, "test": 6}
    return make_data(**{name: (random.random((n, 4, 5)) < 0.3).astype(np.uint8) for name, n in sizes.items()})


@pytest.fixture(scope="module")
def rungs(data: PreparedPixels) -> list[Rung]:
    return [rung("deep", data, 2, skip=True), rung("flat", data, 1, residual=False)]


@pytest.fixture(scope="module")
def climbed(rungs: list[Rung], tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[Measurement]]:
    """Results of a ladder that was not interrupted."""
    output = tmp_path_factory.mktemp("ladder")
    return output, climb(rungs, SEEDS, output)


# Which runs are trained


class Trainer:
    """Substitute for a training: records how it is called, and writes the files that a real training writes."""

    def __init__(self, run: Path, interrupted_after: str | None = None):
        self._run, self._interrupted_after = run, interrupted_after
        self.called_with: list[str | None] = []

    def __call__(self, ckpt_path: str | None) -> None:
        self.called_with.append(ckpt_path)
        for kept in ("checkpoints/last.ckpt", "model/config.json"):
            (self._run / kept).parent.mkdir(parents=True, exist_ok=True)
            (self._run / kept).touch()
            if kept == self._interrupted_after:
                raise KeyboardInterrupt


def test_a_run_is_trained_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    trainer = Trainer(tmp_path)
    clock = itertools.chain([100.0], itertools.repeat(160.5))
    monkeypatch.setattr("vision_rnn.sweep.time", SimpleNamespace(monotonic=lambda: next(clock)))
    finish(tmp_path, trainer)
    finish(tmp_path, trainer)
    assert trainer.called_with == [None]
    assert read_json(tmp_path / "seconds.json") == 60.5


def test_an_interrupted_run_is_continued_and_has_no_seconds(tmp_path: Path):
    with pytest.raises(KeyboardInterrupt):
        finish(tmp_path, Trainer(tmp_path, interrupted_after="checkpoints/last.ckpt"))
    trainer = Trainer(tmp_path)
    finish(tmp_path, trainer)
    assert trainer.called_with == ["last"]
    assert not (tmp_path / "seconds.json").exists()


def test_every_rung_is_trained_with_every_seed_and_measured(
    climbed: tuple[Path, list[Measurement]], rungs: list[Rung], data: PreparedPixels
):
    output, measurements = climbed
    assert [measurement.rung.name for measurement in measurements] == ["deep", "flat"]
    assert sorted(path.name for path in output.iterdir()) == ["deep-seed0", "deep-seed3", "flat-seed0", "flat-seed3"]
    for measurement in measurements:
        assert measurement.seeds == [0, 3]
        for index, seed in enumerate(SEEDS):
            model = load_pixel_model(output / f"{measurement.rung.name}-seed{seed}" / "model")
            assert model.config == measurement.rung.configs["model"]
            assert model.history[-1]["training"]["seed"] == seed
            assert measurement.sizes == {"parameters": len(torch.nn.utils.parameters_to_vector(model.parameters()))}
            for split, scores in measurement.scores.items():
                assert scores[NATS][index] == pytest.approx(
                    evaluate(model, data, split, batch_size=2)["nats_per_image"]
                )
        assert list(measurement.scores) == ["validation", "test"]
        assert measurement.scores["test"][NATS][0] != measurement.scores["test"][NATS][1]
        assert all(seconds and seconds > 0 for seconds in measurement.seconds)


def test_a_finished_ladder_does_nothing_again(climbed: tuple[Path, list[Measurement]], rungs: list[Rung]):
    def refuse(*_: object, **__: object) -> None:
        pytest.fail("nothing is left to do")

    output, measurements = climbed
    assert climb(rungs, SEEDS, output, train=refuse, evaluate=refuse) == measurements
    (only,) = climb(rungs[1:], [3], output, train=refuse, evaluate=refuse)
    assert (only.seeds, nats_of_test(only)) == ([3], nats_of_test(measurements[1])[1:])


@pytest.mark.parametrize(
    ("step", "rung_has_seconds"),
    [
        pytest.param(1, True, id="within the first epoch, which starts again"),
        pytest.param(STEPS_PER_EPOCH + 1, False, id="within the second, which is continued"),
    ],
)
def test_an_interrupted_ladder_is_continued_exactly(
    step: int,
    rung_has_seconds: bool,
    climbed: tuple[Path, list[Measurement]],
    rungs: list[Rung],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
):
    training_step = PixelTask.training_step

    def interrupted(task: PixelTask, batch: list[Tensor], batch_idx: int) -> Tensor:
        if task.model.config.num_layers == 1 and task.global_step == step:
            raise KeyboardInterrupt
        return training_step(task, batch, batch_idx)

    with monkeypatch.context() as patch:
        patch.setattr(PixelTask, "training_step", interrupted)
        with pytest.raises(KeyboardInterrupt, match=r"^finished work is kept; the same command continues it$"):
            climb(rungs, [0], tmp_path)
    known = climbed[1]
    capsys.readouterr()
    again = climb(rungs, [0], tmp_path)
    for of_this, of_known in zip(again, known, strict=True):
        for split in ("validation", "test"):
            assert of_this.scores[split][NATS] == of_known.scores[split][NATS][:1]
        has_seconds = of_this.rung.name == "deep" or rung_has_seconds
        assert [seconds is not None for seconds in of_this.seconds] == [has_seconds]
    notes = [line for line in capsys.readouterr().err.splitlines() if ": run " in line]
    assert notes == [
        f"vision-rnn: run {number} of 2: {tmp_path / name}-seed0" for number, name in enumerate(("deep", "flat"), 1)
    ]


def test_a_run_that_was_killed_before_its_model_was_written_gets_it(
    climbed: tuple[Path, list[Measurement]], rungs: list[Rung], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    def interrupt(*_: object, **options: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(pixelrnn.training.run, "export", interrupt)
        with pytest.raises(KeyboardInterrupt):
            climb(rungs[1:], [3], tmp_path)
    (measurement,) = climb(rungs[1:], [3], tmp_path)
    assert (nats_of_test(measurement), measurement.seconds) == (nats_of_test(climbed[1][1])[1:], [None])


def test_an_interrupted_measurement_is_continued(rungs: list[Rung], tmp_path: Path):
    """The run was trained by `pixelrnn train`, so its training time is unknown."""
    measured: list[str] = []

    def interrupted(model: Any, data: Any, split: str) -> dict[str, Any]:
        measured.append(split)
        if measured == ["validation", "test"]:
            raise KeyboardInterrupt
        return evaluate(model, data, split)

    flat = rungs[1]
    train(data=flat.data, output=tmp_path / "flat-seed0", **flat.configs)
    with pytest.raises(KeyboardInterrupt, match="the same command continues it"):
        climb([flat], [0], tmp_path, evaluate=interrupted)
    (measurement,) = climb([flat], [0], tmp_path, evaluate=interrupted)
    assert measured == ["validation", "test", "test"]
    assert measurement.seconds == [None]


# Errors


@pytest.mark.parametrize(
    ("changed", "reason"),
    [
        ({"training": replace(TRAINING, epochs=5)}, "training.epochs was 2, and is 5 now"),
        ({"num_layers": 3}, "model.num_layers was 1, and is 3 now"),
        ({"dilations": (1, 2)}, r"model.dilations was \(1,\), and is \(1, 2\) now"),
    ],
)
def test_a_run_of_other_settings_is_refused(
    changed: dict[str, Any],
    reason: str,
    climbed: tuple[Path, list[Measurement]],
    rungs: list[Rung],
    data: PreparedPixels,
):
    options: dict[str, Any] = {"num_layers": 1, "residual": False} | changed
    other = rung("flat", data, **options)
    with pytest.raises(UserError, match=rf"flat-seed3: started with other settings \({reason}\); give the same"):
        climb([rungs[0], other], [3], climbed[0])


def test_data_that_do_not_fit_are_refused_before_anything_is_trained(
    climbed: tuple[Path, list[Measurement]], make_data: Callable[..., PreparedPixels], data: PreparedPixels
):
    ones = np.ones((6, 4, 5), np.uint8)
    ones[:, 0, 0] = 0
    other = make_data(train=ones, valid=ones, test=ones)
    with pytest.raises(UserError, match="not the data that"):
        climb([rung("flat", other, 1, residual=False)], [0], climbed[0])
    output = climbed[0] / "none"
    with pytest.raises(UserError, match=rf"a: on {other.folder}, but b on {data.folder}; give all the same data"):
        climb([rung("b", data, 1), rung("a", other, 1)], [0], output)
    untested = make_data(train=ones, valid=ones)
    with pytest.raises(UserError, match="no split 'test', which rungs are measured on"):
        climb([rung("a", untested, 1)], [0], output)
    assert not output.exists()


# The table and the figure


def measurement(
    name: str, num_layers: int, test: Sequence[float], seconds: Sequence[float | None], **model: bool
) -> Measurement:
    configs = {"model": ModelConfig(num_layers=num_layers, **model), "training": TRAINING}
    scores = {"validation": {NATS: [nats + 1 for nats in test]}, "test": {NATS: list(test)}}
    of_rung = Rung(name, "data/some", configs)
    return Measurement(of_rung, list(range(len(test))), {"parameters": 12345}, scores, list(seconds))


MEASURED = [
    measurement("one", 1, [90.0, 92.0, 94.0], [10.0, None, 21.0], residual=False),
    measurement("four", 4, [80.0, 80.0, 80.0], [None, None, None], residual=False),
    measurement("four-both", 4, [75.0, 77.0, 76.0], [30.0, 30.0, 33.0], skip=True),
]


def test_the_table_has_mean_and_deviation_over_the_seeds():
    table = ladder_table(MEASURED)
    assert table.splitlines()[:5] == [
        "| rung | layers | residual | skip | parameters | validation nats | test nats | training seconds |",
        "| --- | --- | --- | --- | --- | --- | --- | --- |",
        "| one | 1 | no | no | 12,345 | 93.00 ± 2.00 | 92.00 ± 2.00 | 16 |",
        "| four | 4 | no | no | 12,345 | 81.00 ± 0.00 | 80.00 ± 0.00 |  |",
        "| four-both | 4 | yes | yes | 12,345 | 77.00 ± 1.00 | 76.00 ± 1.00 | 31 |",
    ]
    assert "mean ± standard deviation over the seeds 0, 1, 2;" in table


def test_a_single_seed_has_no_deviation(tmp_path: Path):
    table = ladder_table([measurement("one", 1, [90.0], [12.4])])
    assert table.splitlines()[2] == "| one | 1 | yes | no | 12,345 | 91.00 | 90.00 | 12 |"
    assert "±" not in table
    assert "in nats per image, seed 0;" in table
    ladder_picture([measurement("one", 1, [90.0], [12.4])], tmp_path / "ladder.png")
    document = measurement("one", 1, [90.0], [12.4]).document()
    assert document["scores"]["test"][NATS] == {"of_each_seed": [90.0], "mean": 90.0, "standard_deviation": None}


def test_the_document_says_what_was_trained_with_which_seeds():
    document = json.loads(json.dumps(MEASURED[0].document()))
    assert (document["name"], document["seeds"], document["seconds"]) == ("one", [0, 1, 2], [10.0, None, 21.0])
    assert (document["model"]["num_layers"], document["training"]["epochs"]) == (1, 2)
    assert "seed" not in document["training"]
    expected = {"of_each_seed": [91.0, 93.0, 95.0], "mean": 93.0, "standard_deviation": 2.0}
    assert document["scores"]["validation"][NATS] == expected


def test_the_figure_has_a_line_for_each_choice_of_connections(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    figures: list[Figure] = []
    save = Figure.savefig
    monkeypatch.setattr(Figure, "savefig", lambda self, *args, **how: (figures.append(self), save(self, *args, **how)))
    ladder_picture(MEASURED[::-1], tmp_path / "ladder.png")
    assert (tmp_path / "ladder.png").read_bytes().startswith(b"\x89PNG")
    (axes,) = figures[0].axes
    drawn = {}
    for container in axes.containers:
        line, _, (bars,) = container.lines
        ends = [segment[:, 1].tolist() for segment in bars.get_segments()]
        drawn[container.get_label()] = (line.get_xydata().tolist(), ends)
    assert drawn == {
        "neither": ([[1, 92], [4, 80]], [[90, 94], [80, 80]]),
        "residual and skip connections": ([[4, 76]], [[75, 77]]),
    }
    assert sorted(len(dots.get_offsets()) for dots in axes.collections if len(dots.get_offsets()) > 1) == [3, 3, 3]


# The configurations


def test_a_rung_of_the_quick_ladder_differs_from_that_of_the_full_one_in_data_and_batches_alone():
    parser = ArgumentParser(exit_on_error=False)
    parser.add_argument("--config", action="config")
    parser.add_function_arguments(train)
    quick = sorted((CONFIGS.parent / "ladder-quick").iterdir())
    assert [path.stem for path in quick] == ["layers-1-both", "layers-2-both", "layers-4-both", "layers-4-neither"]
    for path in quick:
        few, all_ = (
            parser.instantiate(parser.parse_args(["--config", str(each)])) for each in (path, CONFIGS / path.name)
        )
        assert (few.model, few.training) == (all_.model, replace(all_.training, batch_size=16))
        assert (few.data, few.output) == ("data/binarized_mnist-quick", f"runs/pixel-ladder-quick/{path.stem}-seed0")
        assert path.read_text().splitlines()[1] == f"#   pixelrnn train --config bundled:ladder-quick/{path.stem}"


def test_the_shipped_rungs_differ_in_depth_and_connections_alone():
    parser = ArgumentParser(exit_on_error=False)
    parser.add_argument("--config", action="config")
    parser.add_function_arguments(train)
    found = {}
    for path in CONFIGS.iterdir():
        settings = parser.instantiate(parser.parse_args(["--config", str(path)]))
        model = settings.model
        assert model == ModelConfig(num_layers=model.num_layers, residual=model.residual, skip=model.skip)
        assert settings.training == TrainingConfig(epochs=1)
        assert (settings.data, settings.init_from) == ("data/binarized_mnist", None)
        assert settings.output == f"runs/pixel-ladder/{path.stem}-seed0"
        first, second = path.read_text().splitlines()[:2]
        assert second == f"#   pixelrnn train --config bundled:ladder/{path.stem}"
        assert f" {model.num_layers} layer" in first
        found[path.stem] = (model.num_layers, model.residual, model.skip)
    assert found == {
        **{f"layers-{depth}-both": (depth, True, True) for depth in (1, 2, 4, 7)},
        **{f"layers-{depth}-neither": (depth, False, False) for depth in (1, 2, 4, 7)},
        "layers-7-residual": (7, True, False),
        "layers-7-skip": (7, False, True),
    }
