"""A training run: from a configuration to a run folder, and from a run folder to a model folder.

A run folder holds `config.yaml` (the resolved configuration), `manifest.json` (the data set's), `checkpoints/`
(`last.ckpt` and `best.ckpt`), `logs/` (CSV and TensorBoard), `samples/` (a picture an epoch) and, when training has
ended, `model/`.
"""

import json
import warnings
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

import lightning
import yaml
from lightning.pytorch.callbacks import WeightAveraging
from lightning.pytorch.loggers import CSVLogger, TensorBoardLogger
from torch import Tensor

from data_prep.errors import UserError
from data_prep.files import atomic_path, read_json, write_json
from data_prep.model_folder import load_model, save_model
from data_prep.prepared_pixels import PreparedPixels
from data_prep.run_folder import check_data, checkpoint_callbacks, checkpoint_to_resume, read_checkpoint, resumable
from pixelrnn.batches import batches, check_fit, image_shape
from pixelrnn.model import ModelConfig, PixelModel
from pixelrnn.model_card import model_card
from pixelrnn.sample_grids import SampleGrids
from pixelrnn.training import PixelTask, TrainingConfig


def train(
    data: str,
    output: str,
    model: ModelConfig = ModelConfig(),  # noqa: B008  # frozen, so one default serves all
    training: TrainingConfig = TrainingConfig(),  # noqa: B008
    init_from: str | None = None,
    ckpt_path: str | None = None,
) -> Path:
    """Train a pixel model; return the folder of the model of its best epoch.

    Args:
        data: Folder of a prepared pixel data set, with splits `train` and `validation`.
        output: The run folder.
        model: The architecture.
        training: How to train.
        init_from: Start from the weights of this model folder, whose architecture is then used.
        ckpt_path: Resume from this checkpoint; `last` is the run folder's own last one.

    Raises:
        UserError: Something named does not exist or does not fit the rest, the run folder holds a run already, or the
            loss is no number any more.
    """
    folder = Path(output)
    checkpoint = checkpoint_to_resume(folder, ckpt_path)
    prepared = PreparedPixels.open(data)
    check_data(prepared, folder)
    lightning.seed_everything(training.seed, verbose=False)
    pixel_model = _initial_model(prepared, model, init_from)
    if checkpoint:
        _check_resumable(checkpoint, pixel_model)
    configs = {"model": asdict(pixel_model.config), "training": asdict(training)}
    resolved = {"data": data, "output": output, "init_from": init_from, **configs}
    write_json(folder / "manifest.json", prepared.manifest)
    with atomic_path(folder / "config.yaml") as staged:
        # By way of JSON, which turns tuples into the lists that safe YAML knows.
        staged.write_text(yaml.safe_dump(json.loads(json.dumps(resolved)), sort_keys=False))
    train_batches = batches(prepared, "train", pixel_model.shape, training.batch_size, shuffle_seed=training.seed)
    validation_batches = batches(prepared, "validation", pixel_model.shape, training.batch_size)
    trainer = _trainer(folder, pixel_model, training, log_interval=min(10, len(train_batches)))
    with warnings.catch_warnings():
        # Intended here: one process loads the data, and a resumed run finds its own checkpoints. The last is
        # Lightning's own affair with torch.
        for expected in (
            "does not have many workers",
            "exists and is not empty",
            "isinstance.treespec, LeafSpec",
        ):
            warnings.filterwarnings("ignore", f".*{expected}")
        with resumable(folder):
            trainer.fit(
                PixelTask(pixel_model, training),
                train_batches,
                validation_batches,
                ckpt_path=checkpoint,
                weights_only=True,
            )
    export(folder, folder / "model")
    return folder / "model"


def export(run: str | Path, output: str | Path, evaluation: str | Path | None = None) -> None:
    """Write the model folder of a run's best epoch.

    Args:
        run: The run folder.
        output: The model folder, replaced if it exists.
        evaluation: What `pixelrnn evaluate -o` wrote, to be quoted in the model card.

    Raises:
        UserError: The run has no checkpoint yet, `output` holds something else, or `evaluation` is none.
    """
    run = Path(run)
    path = run / "checkpoints" / "best.ckpt"
    if not path.is_file():
        raise UserError(f"{run}: holds no checkpoints/best.ckpt; train it first with: pixelrnn train")
    measured = read_json(evaluation) if evaluation else None
    if evaluation and not (isinstance(measured, dict) and {"protocol", "nats_per_image"} <= measured.keys()):
        raise UserError(f"{evaluation}: not an evaluation; write one with: pixelrnn evaluate -o FILE")
    checkpoint = read_checkpoint(path, "model", "a pixel model")
    model = PixelModel.from_description(checkpoint["model"])
    weights = {name.removeprefix("model."): tensor for name, tensor in checkpoint["state_dict"].items()}
    model.load_state_dict(weights, strict=True)
    manifest, settings = read_json(run / "manifest.json"), yaml.safe_load((run / "config.yaml").read_text())
    # Without the places on this machine, which say nothing to others.
    kept = {name: settings[name] for name in ("model", "training")}
    data = {name: manifest[name] for name in ("source", "format", "binarization", "splits", "content_hash")}
    model.history.append({"data": data, **kept})
    save_model(model, output, model_card(model, measured))


def _trainer(folder: Path, model: PixelModel, training: TrainingConfig, log_interval: int) -> lightning.Trainer:
    callbacks: list[Any] = [*checkpoint_callbacks(folder, "validation", "min")]
    if training.average_decay:
        callbacks.append(WeightAveraging(avg_fn=partial(_averaged, decay=training.average_decay)))
    # After the averaging, which puts the averaged weights in place when a validation starts.
    callbacks.append(SampleGrids(model, folder / "samples"))
    return lightning.Trainer(
        max_epochs=training.epochs,
        gradient_clip_val=training.gradient_clip or None,
        callbacks=callbacks,
        logger=[CSVLogger(folder / "logs", name="csv"), TensorBoardLogger(folder / "logs", name="tensorboard")],
        devices=1,
        num_sanity_val_steps=0,
        log_every_n_steps=log_interval,
        enable_model_summary=False,
    )


def _averaged(average: Tensor, current: Tensor, number: Tensor, decay: float) -> Tensor:
    """Take one more set of weights into the average; the first ones, which are still far off, count for little."""
    return average.lerp(current, 1 - min(decay, (1 + int(number)) / (10 + int(number))))


def _initial_model(prepared: PreparedPixels, config: ModelConfig, init_from: str | None) -> PixelModel:
    if not init_from:
        return PixelModel(config, image_shape(prepared, config.conditional))
    trained = load_model(PixelModel, init_from)
    check_fit(prepared, trained.shape)
    return trained.train()


def _check_resumable(checkpoint: Path, model: PixelModel) -> None:
    """Refuse a checkpoint of another architecture."""
    begun = PixelModel.from_description(read_checkpoint(checkpoint, "model", "a pixel model")["model"])
    if (begun.config, begun.shape) != (model.config, model.shape):
        raise UserError(f"{checkpoint}: of another architecture; give the options that its run began with")
