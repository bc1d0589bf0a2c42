"""Training runs: exact resumption, averaging, sample grids, the model folder, and errors."""

import csv
import dataclasses
import json
import math
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from jsonargparse import ArgumentParser
from PIL import Image
from torch import Tensor

from data_prep.prepared_pixels import PreparedPixels
from pixelrnn.exact_likelihood import evaluate
from pixelrnn.model import PixelModel
from pixelrnn.pictures import cell_scale, grid_image
from pixelrnn.pixel_config import ModelConfig, TrainingConfig
from pixelrnn.sampling import draw
from pixelrnn.training.run import export, train
from pixelrnn.training.task import PixelTask
from vision_rnn.checksums import write_sums
from vision_rnn.errors import UserError
from vision_rnn.files import write_json
from vision_rnn.saved_model import load_model

CONFIGS = sorted((Path(__file__).parents[3] / "configs" / "pixelrnn").glob("*.yaml"))
MODEL = ModelConfig(num_layers=2, hidden_channels=4, output_channels=6, dilations=(1, 2), extra_column=True, skip=True)
TRAINING = TrainingConfig(
    epochs=3, batch_size=4, warmup_steps=2, average_decay=0.5, learning_rate=0.03, matrix_learning_rate=0.1
)
STEPS_PER_EPOCH = 5  # 18 images, 4 per batch
RANDOM = np.random.default_rng(0)
MakeData = Callable[..., PreparedPixels]


def stripes(count: int) -> np.ndarray:
    """Binary images (count, 6, 5) with horizontal or vertical stripes and a little noise."""
    rows, columns = np.indices((6, 5))
    pattern = np.where(RANDOM.random((count, 1, 1)) < 0.5, rows, columns) % 2
    return (pattern ^ (RANDOM.random((count, 6, 5)) < 0.05)).astype(np.uint8)


@pytest.fixture(scope="module")
def prepared(make_data: MakeData) -> PreparedPixels:
    return make_data(train=stripes(18), valid=stripes(7), test=stripes(9))


@pytest.fixture(scope="module")
def labelled(make_data: MakeData) -> PreparedPixels:
    splits = {"train": 8, "valid": 3}
    images = {f"x_{split}": stripes(count) for split, count in splits.items()}
    return make_data(**images, **{f"y_{split}": np.arange(count) % 3 for split, count in splits.items()})


def run(data: PreparedPixels, output: Path, training: TrainingConfig = TRAINING, **options: Any) -> Path:
    return train(data=data.folder, output=output, **({"model": MODEL, "training": training} | options))


class Recorder:
    """Records the loss of every step and the weights before it."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, stop_at: int | None = None):
        self.losses: dict[int, float] = {}
        self.weights: dict[int, dict[str, Tensor]] = {}
        training_step = PixelTask.training_step

        def recorded(task: PixelTask, batch: list[Tensor], batch_idx: int) -> Tensor:
            if task.global_step == stop_at:
                raise Killed
            self.weights[task.global_step] = {name: value.clone() for name, value in task.state_dict().items()}
            loss = training_step(task, batch, batch_idx)
            self.losses[task.global_step] = loss.item()
            return loss

        monkeypatch.setattr(PixelTask, "training_step", recorded)


class Killed(BaseException):
    pass


@dataclasses.dataclass(frozen=True)
class Run:
    folder: Path
    recorder: Recorder


@pytest.fixture(scope="module")
def uninterrupted(prepared: PreparedPixels, tmp_path_factory: pytest.TempPathFactory) -> Run:
    folder = tmp_path_factory.mktemp("uninterrupted")
    with pytest.MonkeyPatch.context() as monkeypatch:
        recorder = Recorder(monkeypatch)
        assert run(prepared, folder) == folder / "model"
    return Run(folder, recorder)


def checkpoint(folder: Path, name: str) -> dict[str, Any]:
    return torch.load(folder / "checkpoints" / f"{name}.ckpt", weights_only=True)


def model_of(state: dict[str, Tensor], folder: Path) -> PixelModel:
    """Model of the run with these weights, not rounded."""
    model = PixelModel.from_description(checkpoint(folder, "last")["model"])
    model.load_state_dict({name.removeprefix("model."): value for name, value in state.items()})
    return model.eval()


def logged_validation(folder: Path) -> list[float]:
    with (folder / "logs" / "csv" / "version_0" / "metrics.csv").open(newline="") as file:
        return [float(row["validation"]) for row in csv.DictReader(file) if row["validation"]]


@pytest.mark.parametrize("step", [STEPS_PER_EPOCH + 2])
def test_a_killed_run_resumes_exactly(
    step: int, prepared: PreparedPixels, uninterrupted: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """Killed within the second epoch."""
    with monkeypatch.context() as patch:
        first = Recorder(patch, stop_at=step)
        with pytest.raises(Killed):
            run(prepared, tmp_path)
    with monkeypatch.context() as patch:
        second = Recorder(patch)
        run(prepared, tmp_path, ckpt_path="last")
    known = uninterrupted.recorder
    assert min(second.losses) == step // STEPS_PER_EPOCH * STEPS_PER_EPOCH
    assert first.losses | second.losses == known.losses
    for number, weights in second.weights.items():
        torch.testing.assert_close(weights, known.weights[number], rtol=0, atol=0)
    for name in ("best", "last"):
        resumed, whole = checkpoint(tmp_path, name), checkpoint(uninterrupted.folder, name)
        for part in ("state_dict", "current_model_state"):
            torch.testing.assert_close(resumed[part], whole[part], rtol=0, atol=0)
    for name in ("model/model.safetensors", "model/config.json", "samples/epoch-02.png"):
        assert (tmp_path / name).read_bytes() == (uninterrupted.folder / name).read_bytes(), name


@pytest.mark.parametrize("from_a_model", [False, True])
def test_a_killed_run_with_a_context_resumes_exactly(
    from_a_model: bool, prepared: PreparedPixels, uninterrupted: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """The regions are drawn again as they were; a context may be added to a model without one."""
    options: dict[str, Any] = {"model": dataclasses.replace(MODEL, context_layers=1)}
    if from_a_model:
        start = str(uninterrupted.folder / "model")
        options = {"model": ModelConfig(context_layers=1), "init_from": start}
    recorders = []
    for folder, stop_at in (("whole", None), ("killed", STEPS_PER_EPOCH + 2)):
        with monkeypatch.context() as patch:
            recorders.append(Recorder(patch, stop_at))
            if stop_at is None:
                run(prepared, tmp_path / folder, **options)
                continue
            with pytest.raises(Killed):
                run(prepared, tmp_path / folder, **options)
    with monkeypatch.context() as patch:
        recorders.append(Recorder(patch))
        run(prepared, tmp_path / "killed", ckpt_path="last", **options)
    whole, killed, resumed = recorders
    assert killed.losses | resumed.losses == whole.losses
    name = "model/model.safetensors"
    assert (tmp_path / "killed" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()
    model = load_model(PixelModel, tmp_path / "killed" / "model")
    assert model.config == dataclasses.replace(MODEL, context_layers=1)
    assert model.context is not None
    assert all(bool(parameter.any()) for parameter in model.context.rise.parameters())
    log = tmp_path / "whole" / "logs" / "csv" / "version_0" / "metrics.csv"
    assert sum(bool(row["validation_regions"]) for row in csv.DictReader(log.read_text().splitlines())) == 3
    assert "context" in (tmp_path / "killed" / "model" / "README.md").read_text()


def test_a_context_starts_from_what_the_model_predicts_without(
    prepared: PreparedPixels, uninterrupted: Run, tmp_path: Path
):
    still = dataclasses.replace(TRAINING, epochs=1, learning_rate=0.0, matrix_learning_rate=0.0)
    start = uninterrupted.folder / "model"
    ended = run(prepared, tmp_path / "run", still, init_from=str(start), model=ModelConfig(context_layers=2))
    first, second = (load_model(PixelModel, folder) for folder in (start, ended))
    measured = [evaluate(model, prepared, "test")["nats_per_image"] for model in (first, second)]
    assert measured[0] == measured[1]
    # One that has a context keeps it, and gets no other.
    third = run(prepared, tmp_path / "again", still, init_from=str(ended), model=ModelConfig())
    assert load_model(PixelModel, third).config.context_layers == 2
    with pytest.raises(UserError, match=r"model\.context_layers: 1 differs from 2 of .*, which training starts from"):
        run(prepared, tmp_path / "other", still, init_from=str(ended), model=ModelConfig(context_layers=1))


def test_the_average_is_what_is_validated_and_kept(prepared: PreparedPixels, uninterrupted: Run):
    """Expected value: the definition of the average, which starts with the weights after the first step.

    The n-th weights after these have the weight 1 - (1 + n) / (10 + n), at least 1 - average_decay.
    """
    folder, weights = uninterrupted.folder, uninterrupted.recorder.weights
    last = checkpoint(folder, "last")
    after = [weights[step] for step in range(1, 3 * STEPS_PER_EPOCH)] + [last["current_model_state"]]
    average = after[0]
    for number, update in enumerate(after[1:], start=1):
        kept = min(0.5, (1 + number) / (10 + number))
        average = {name: kept * average[name] + (1 - kept) * update[name] for name in average}
    torch.testing.assert_close(dict(last["state_dict"]), average)
    assert not torch.equal(average["model.first.weight"], last["current_model_state"]["model.first.weight"])
    logged = logged_validation(folder)
    measured = evaluate(model_of(last["state_dict"], folder), prepared, "validation", batch_size=3)
    assert measured["nats_per_image"] == pytest.approx(logged[-1], abs=1e-4)
    best = evaluate(model_of(checkpoint(folder, "best")["state_dict"], folder), prepared, "validation")
    assert best["nats_per_image"] == pytest.approx(min(logged), abs=1e-4)


def test_without_averaging_the_last_weights_are_kept(prepared: PreparedPixels, tmp_path: Path):
    training = dataclasses.replace(TRAINING, epochs=1, average_decay=0.0)
    run(prepared, tmp_path, training)
    last = checkpoint(tmp_path, "last")
    assert "current_model_state" not in last
    measured = evaluate(model_of(last["state_dict"], tmp_path), prepared, "validation")
    assert measured["nats_per_image"] == pytest.approx(logged_validation(tmp_path)[-1], abs=1e-4)


def test_every_epoch_draws_the_same_noise_with_the_averaged_weights(uninterrupted: Run):
    folder = uninterrupted.folder
    assert sorted(path.name for path in (folder / "samples").iterdir()) == [f"epoch-0{n}.png" for n in range(3)]
    noise = torch.rand(36, 1, 6, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    model = model_of(checkpoint(folder, "last")["state_dict"], folder)
    drawn = draw(model, torch.zeros(36, 1, 6, 5, dtype=torch.uint8), torch.ones(6, 5, dtype=torch.bool), noise)
    expected = grid_image(drawn, 2, 6, cell_scale(6, 5))
    with Image.open(folder / "samples" / "epoch-02.png") as picture:
        np.testing.assert_array_equal(np.asarray(picture), np.asarray(expected))
    (events,) = folder.glob("logs/tensorboard/version_0/events*")
    assert events.read_bytes().count(b"\x89PNG") == 3


def test_the_model_folder_is_the_best_epochs_model_rounded(prepared: PreparedPixels, uninterrupted: Run):
    folder = uninterrupted.folder
    loaded = load_model(PixelModel, folder / "model")
    exact = model_of(checkpoint(folder, "best")["state_dict"], folder)
    for name, parameter in exact.named_parameters():
        assert torch.equal(loaded.get_parameter(name), parameter.half().float()), name
    rounded, unrounded = (evaluate(model, prepared, "test")["nats_per_image"] for model in (loaded, exact))
    assert rounded == pytest.approx(unrounded, abs=0.01)
    assert unrounded < 30 * math.log(2) - 1, "the model has learnt nothing that rounding could harm"
    (training,) = loaded.history
    assert training["training"]["average_decay"] == 0.5
    assert training["data"]["content_hash"] == prepared.content_hash
    saved = yaml.safe_load((folder / "config.yaml").read_text())
    assert saved["model"]["dilations"] == [1, 2]
    assert saved["init_from"] is None


def test_a_model_card_says_what_was_measured_and_what_is_not_the_papers(
    prepared: PreparedPixels, uninterrupted: Run, tmp_path: Path
):
    document = evaluate(load_model(PixelModel, uninterrupted.folder / "model"), prepared, "test")
    write_json(tmp_path / "test.json", document)
    export(uninterrupted.folder, output=tmp_path / "model", evaluation=tmp_path / "test.json")
    card = (tmp_path / "model" / "README.md").read_text()
    assert document["protocol"] in card
    assert f"| test | 9 | {document['nats_per_image']:.2f} ± {document['standard_error']:.2f} |" in card
    for fact in ("A Row LSTM", "6x5x1", "1, 2 columns apart", "one column wider", "18 images in train", "epochs: 3"):
        assert fact in card
    for absent in (str(uninterrupted.folder), "Not yet measured", "instead of raster order", "No residual"):
        assert absent not in card
    assert "Not yet measured" in (uninterrupted.folder / "model" / "README.md").read_text()


def test_a_training_may_start_from_a_model(prepared: PreparedPixels, uninterrupted: Run, tmp_path: Path):
    """It keeps the architecture and weights of the model; the configured architecture is ignored."""
    began = uninterrupted.folder / "model"
    still = dataclasses.replace(TRAINING, epochs=1, learning_rate=0.0, matrix_learning_rate=0.0)
    ended = run(prepared, tmp_path, still, init_from=str(began), model=ModelConfig())
    first, second = (load_model(PixelModel, folder) for folder in (began, ended))
    torch.testing.assert_close(second.state_dict(), first.state_dict(), rtol=0, atol=0)
    assert second.config == MODEL
    assert [training["training"]["epochs"] for training in second.history] == [3, 1]
    assert yaml.safe_load((tmp_path / "config.yaml").read_text())["model"]["hidden_channels"] == 4
    assert (ended / "README.md").read_text().count("by `pixelrnn train`") == 2


def test_a_model_of_other_images_cannot_be_the_start(make_data: MakeData, uninterrupted: Run, tmp_path: Path):
    wider = make_data(train=np.eye(6, dtype=np.uint8)[None].repeat(20, 0))
    with pytest.raises(UserError, match=r"grey images of 6x6 pixels and 2 levels, but the model is for .* 6x5"):
        run(wider, tmp_path / "run", init_from=str(uninterrupted.folder / "model"))
    captioner = Path(__file__).parents[3] / "captioning" / "pretrained" / "flickr8k"
    with pytest.raises(UserError, match="a captioner, not a pixel model"):
        run(wider, tmp_path / "run", init_from=str(captioner))
    assert not (tmp_path / "run").exists()


def test_a_conditional_model_learns_from_labels(labelled: PreparedPixels, prepared: PreparedPixels, tmp_path: Path):
    conditional = dataclasses.replace(MODEL, conditional=True)
    model = load_model(PixelModel, run(labelled, tmp_path / "run", model=conditional))
    assert model.shape.num_classes == 3
    assert "class-conditional" in (tmp_path / "run" / "model" / "README.md").read_text()
    with pytest.raises(UserError, match="has no labels, but the model is class-conditional"):
        run(prepared, tmp_path / "none", model=conditional)


def test_colour_images_of_256_levels_are_learnt(make_data: MakeData, tmp_path: Path):
    images = RANDOM.integers(0, 256, (9, 3, 4, 3), dtype=np.uint8)
    data = make_data(train=images[:6], valid=images[6:])
    config = ModelConfig(architecture="pixel_cnn", num_layers=1, hidden_channels=6, output_channels=6)
    model = load_model(PixelModel, run(data, tmp_path, dataclasses.replace(TRAINING, epochs=1), model=config))
    assert (model.shape.channels, model.shape.levels) == (3, 256)
    assert (tmp_path / "samples" / "epoch-00.png").is_file()


def test_a_loss_that_is_not_finite_is_an_error_that_names_the_fix(
    prepared: PreparedPixels, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    nats = PixelTask._nats
    monkeypatch.setattr(PixelTask, "_nats", lambda task, *batch: nats(task, *batch) / (task.global_step != 7))
    with pytest.raises(UserError, match=r"not a finite number in epoch 1, step 7; start again with a lower"):
        run(prepared, tmp_path)
    assert checkpoint(tmp_path, "last")["epoch"] == 0


def test_a_run_is_neither_overwritten_nor_resumed_with_other_options(
    prepared: PreparedPixels, labelled: PreparedPixels, uninterrupted: Run
):
    with pytest.raises(UserError, match="holds a run already; add --ckpt_path last"):
        run(prepared, uninterrupted.folder)
    with pytest.raises(UserError, match="not the data that"):
        run(labelled, uninterrupted.folder, ckpt_path="last")
    with pytest.raises(UserError, match=r"started with other settings \(model.num_layers was 2, and is 3 now\)"):
        run(prepared, uninterrupted.folder, ckpt_path="last", model=dataclasses.replace(MODEL, num_layers=3))


def test_only_two_and_256_levels_are_modelled(prepared: PreparedPixels, tmp_path: Path):
    shutil.copytree(prepared.folder, tmp_path / "data")
    write_json(tmp_path / "data" / "manifest.json", prepared.manifest | {"levels": 16})
    write_sums(tmp_path / "data")
    with pytest.raises(UserError, match="has pixels with 16 levels; prepare it again with 2 or 256 levels"):
        run(PreparedPixels.open(tmp_path / "data"), tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_training_needs_a_validation_split(prepared: PreparedPixels, tmp_path: Path):
    shutil.copytree(prepared.folder, tmp_path / "data")
    splits = {name: count for name, count in prepared.manifest["splits"].items() if name != "validation"}
    write_json(tmp_path / "data" / "manifest.json", prepared.manifest | {"splits": splits})
    write_sums(tmp_path / "data")
    with pytest.raises(UserError, match="no split 'validation'"):
        run(PreparedPixels.open(tmp_path / "data"), tmp_path / "run")


@pytest.mark.parametrize("damage", [b"", b"PK not a checkpoint", None])
def test_a_damaged_checkpoint_is_refused(
    damage: bytes | None, uninterrupted: Run, prepared: PreparedPixels, tmp_path: Path
):
    whole = (uninterrupted.folder / "checkpoints" / "last.ckpt").read_bytes()
    (tmp_path / "last.ckpt").write_bytes(whole[: len(whole) // 2] if damage is None else damage)
    with pytest.raises(UserError, match="damaged, or not a checkpoint of a pixel model"):
        run(prepared, tmp_path / "run", ckpt_path=str(tmp_path / "last.ckpt"))


@pytest.mark.parametrize(
    ("asked", "supported", "used"),
    [("auto", True, "bf16-mixed"), ("auto", False, "32-true"), ("bf16", False, "32-true")],
)
def test_the_run_records_the_precision_that_it_had(
    prepared: PreparedPixels,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    asked: Any,
    supported: bool,
    used: str,
):
    for module in ("vision_rnn.precision", "pixelrnn.training.run"):
        monkeypatch.setattr(f"{module}.multiplies_bf16", lambda device: supported)
    training = dataclasses.replace(TRAINING, epochs=1, precision=asked)
    run(prepared, tmp_path / "run", training, device="cpu")
    assert yaml.safe_load((tmp_path / "run" / "config.yaml").read_text())["training"]["precision"] == used
    said = capsys.readouterr().err
    line = "training.precision: this cpu does not multiply bf16; everything is computed in 32 bits"
    assert (line in said) == (asked == "bf16")
    line = "training.precision: bf16-mixed, which this cpu multiplies; --training.precision=32 avoids it"
    assert (line in said) == supported


def test_a_run_in_bf16_goes_on_where_nothing_is_rounded_to_it(
    prepared: PreparedPixels, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
):
    training = dataclasses.replace(TRAINING, precision="bf16")
    with monkeypatch.context() as patch:
        patch.setattr("pixelrnn.training.run.multiplies_bf16", lambda device: True)
        Recorder(patch, stop_at=STEPS_PER_EPOCH + 2)
        with pytest.raises(Killed):
            run(prepared, tmp_path / "run", training, device="cpu")
    monkeypatch.setattr("pixelrnn.training.run.multiplies_bf16", lambda device: False)
    run(prepared, tmp_path / "run", training, device="cpu", ckpt_path="last")
    assert "this cpu does not multiply bf16; everything is computed in 32 bits" in capsys.readouterr().err


def test_what_cannot_be_exported_is_said(uninterrupted: Run, tmp_path: Path):
    with pytest.raises(UserError, match="pixelrnn train"):
        export(tmp_path, output=tmp_path / "model")
    with pytest.raises(UserError, match="no such checkpoint"):
        train(data="data", output=tmp_path, ckpt_path="last")
    (tmp_path / "scores.json").write_text(json.dumps({"CIDEr-D": 0.5}))
    with pytest.raises(UserError, match="not an evaluation"):
        export(uninterrupted.folder, output=tmp_path / "model", evaluation=tmp_path / "scores.json")
    with pytest.raises(UserError, match="holds something other than a model"):
        export(uninterrupted.folder, output=tmp_path)


@pytest.mark.parametrize("config", CONFIGS, ids=lambda path: path.stem)
def test_every_shipped_configuration_is_accepted_and_says_how_to_use_it(config: Path):
    parser = ArgumentParser(exit_on_error=False)
    parser.add_argument("--config", action="config")
    parser.add_function_arguments(train)
    settings = parser.instantiate(parser.parse_args(["--config", str(config)]))
    assert isinstance(settings.training, TrainingConfig)
    assert settings.output == f"runs/{config.stem}"
    assert config.read_text().splitlines()[1] == f"#   pixelrnn train --config bundled:{config.stem}"
    architecture = settings.model.architecture
    # A second stage has the architecture of its first stage, and some models are named after their classes or images.
    if not (settings.init_from or settings.model.conditional or config.stem.startswith("cifar10")):
        assert architecture.replace("_", "-") in config.stem
    if config.stem.startswith("paper-"):
        assert settings.model == ModelConfig(architecture=architecture)
