"""A training run: from a configuration to a run folder, and from a run folder to a model folder.

Both functions are commands too. They import what they compute with when they run, not when their options are read. In
addition to the common files, the run folder has `samples/` with one picture per epoch.
"""

import math
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from pixelrnn.pixel_config import ModelConfig, TrainingConfig
from vision_rnn.alone import alone_in_output
from vision_rnn.devices import Device, resolve_device
from vision_rnn.errors import UserError
from vision_rnn.precision import Precision, multiplies_bf16, training_precision
from vision_rnn.trainer_config import TrainerConfig

if TYPE_CHECKING:
    from torch import Tensor

    from data_prep.prepared_pixels import PreparedPixels
    from pixelrnn.model import PixelNetwork

# Maximum number of steps between two lines of the log.
_LOG_INTERVAL = 10


@alone_in_output
def train(
    *,
    data: str | Path,
    output: str | Path,
    model: ModelConfig = ModelConfig(),
    training: TrainingConfig = TrainingConfig(),
    init_from: str | None = None,
    ckpt_path: str | None = None,
    device: Device = "auto",
    trainer: TrainerConfig = TrainerConfig(),
) -> Path:
    """Train a pixel model on a prepared data set; the model of its best epoch is written to OUTPUT/model.

    Args:
        data: prepared pixel data set with splits train and validation
        output: run folder to write
        model: Model settings
        training: Training settings
        init_from: model to start from; its architecture replaces the model settings, except for a context to add
        ckpt_path: checkpoint to resume from; last is the run folder's own
        device: where to train
        trainer: Devices and machines

    Returns:
        The model folder.

    Raises:
        UserError: Something named does not exist or does not fit the rest, the run folder holds a run already, or the
            loss is no longer a number.
    """
    import lightning
    from lightning.pytorch.callbacks import WeightAveraging

    from data_prep.prepared_pixels import PreparedPixels
    from pixelrnn.training.batches import pixels_and_labels
    from pixelrnn.training.sample_grids import SampleGrids
    from pixelrnn.training.task import PixelTask
    from vision_rnn.processes import Batches, is_first_process, leave_speaking_to_the_first
    from vision_rnn.run_folder import check_data, check_settings, checkpoint_to_resume, write_settings
    from vision_rnn.trainer import fit

    leave_speaking_to_the_first()
    folder = Path(output)
    checkpoint = checkpoint_to_resume(folder, ckpt_path)
    prepared = PreparedPixels.open(data)
    check_data(prepared, folder)
    lightning.seed_everything(training.seed, verbose=False)
    pixel_model = _initial_model(prepared, model, init_from)
    kind = resolve_device(device).type
    # A run that was begun in bf16 may go on where nothing is rounded to it.
    training = replace(training, precision=training_precision(training.precision, kind))
    check_settings(folder, {"model": pixel_model.config, "training": training})
    training = replace(training, precision=_usable_precision(training.precision, kind))
    settings = {"model": pixel_model.config, "training": training}
    if checkpoint:
        _check_resumable(checkpoint, pixel_model)
    elif is_first_process():
        places = {"data": str(data), "output": str(output), "init_from": init_from}
        write_settings(folder, prepared, {**places, **settings})
    train_images, validation_images = (
        pixels_and_labels(prepared, split, pixel_model.shape) for split in ("train", "validation")
    )
    callbacks: list[lightning.Callback] = []
    if training.average_decay:
        callbacks.append(WeightAveraging(avg_fn=partial(_averaged, decay=training.average_decay)))
    # After the averaging, which puts the averaged weights in place when a validation starts.
    callbacks.append(SampleGrids(pixel_model, folder / "samples"))
    task = PixelTask(pixel_model, training)
    fit(
        task,
        Batches(train_images, validation_images, training.batch_size, seed=training.seed, workers=trainer.workers or 0),
        folder,
        epochs=training.epochs,
        monitor=task.monitor,
        mode="min",
        callbacks=callbacks,
        gradient_clip=training.gradient_clip,
        checkpoint=checkpoint,
        log_interval=min(_LOG_INTERVAL, math.ceil(len(train_images) / training.batch_size)),
        device=device,
        spread=trainer,
    )
    model_folder = folder / "model"
    return export(folder, output=model_folder) if is_first_process() else model_folder


def export(run: str | Path, *, output: str | Path, evaluation: str | Path | None = None) -> Path:
    """Write the model folder of a training run's best epoch.

    Args:
        run: run folder, the output of pixelrnn train; or a model, also a mixture, to write it again
        output: model folder to write; an existing one is replaced
        evaluation: file that evaluate -o wrote, to be quoted in the model card

    Returns:
        The model folder.

    Raises:
        UserError: The run has no checkpoint yet, `output` holds something else, or `evaluation` is not an evaluation
            file.
    """
    from pixelrnn.model import load_pixel_model
    from pixelrnn.model_card import model_card, read_evaluation
    from vision_rnn.model_folder import is_model
    from vision_rnn.saved_model import save_model

    measured = read_evaluation(evaluation) if evaluation else None
    model = load_pixel_model(run) if is_model(run) else _trained_model(Path(run))
    save_model(model, output, model.card if model.card and not measured else model_card(model, measured))
    return Path(output)


def _usable_precision(precision: Precision, device: str) -> Precision:
    """Return the precision that a training has on a device: without instructions for bf16, nothing is rounded to it."""
    from vision_rnn.console import note

    if precision == "bf16-mixed" and not multiplies_bf16(device):
        note(f"training.precision: this {device} does not multiply bf16; everything is computed in 32 bits")
        return "32-true"
    return precision


def _trained_model(folder: Path) -> "PixelNetwork":
    """Return the model of a run's best epoch, with the run in its history."""
    from pixelrnn.model import PixelNetwork
    from vision_rnn.files import MANIFEST, read_json
    from vision_rnn.run_folder import best_checkpoint, read_checkpoint, read_settings

    checkpoint = read_checkpoint(best_checkpoint(folder, "pixelrnn train"), "model", "a pixel model")
    model = PixelNetwork.from_description(checkpoint["model"])
    weights = {name.removeprefix("model."): tensor for name, tensor in checkpoint["state_dict"].items()}
    model.load_state_dict(weights, strict=True)
    manifest, settings = read_json(folder / MANIFEST), read_settings(folder)
    # Without the paths on this machine, which say nothing to others.
    kept = {name: settings[name] for name in ("model", "training")}
    described = {name: manifest[name] for name in ("source", "format", "binarization", "splits", "content_hash")}
    model.history.append({"data": described, **kept})
    return model


def _averaged(average: "Tensor", current: "Tensor", number: "Tensor", decay: float) -> "Tensor":
    """Take one more set of weights into the average; early weights have a low weight."""
    return average.lerp(current, 1 - min(decay, (1 + int(number)) / (10 + int(number))))


def _initial_model(prepared: "PreparedPixels", config: ModelConfig, init_from: str | None) -> "PixelNetwork":
    from pixelrnn.model import PixelNetwork
    from pixelrnn.training.batches import check_fit, image_shape
    from pixelrnn.training.start import trained_model

    if not init_from:
        return PixelNetwork(config, image_shape(prepared, config.conditional))
    trained = trained_model(init_from, config)
    check_fit(prepared, trained.shape)
    return trained


def _check_resumable(checkpoint: Path, model: "PixelNetwork") -> None:
    """Refuse a checkpoint of another architecture."""
    from pixelrnn.model import PixelNetwork
    from vision_rnn.run_folder import read_checkpoint

    begun = PixelNetwork.from_description(read_checkpoint(checkpoint, "model", "a pixel model")["model"])
    if (begun.config, begun.shape) != (model.config, model.shape):
        raise UserError(f"{checkpoint}: has another architecture; give the options of its run")
