"""How long the remaining steps take, and how much space, estimated from a short measurement before anything is done."""

import time
from collections.abc import Mapping
from dataclasses import dataclass

import torch

from pixelrnn.model import PixelNetwork
from pixelrnn.own.settings import Settings
from pixelrnn.training.optimizer import MuonAdamW
from pixelrnn.training.sample_grids import SIDE, sample_grid
from pixelrnn.training.start import trained_model
from vision_rnn.announcement import Estimate
from vision_rnn.devices import Device, resolve_device
from vision_rnn.output_folder import OutputFolder

# Rows and columns of the final picture of samples.
FINAL_SIDE = 8


@dataclass(frozen=True)
class _Speed:
    """Seconds for one of each; a batch is of the size of the training."""

    training_step: float
    measured_batch: float
    grid: float


def estimate(
    folder: OutputFolder, splits: Mapping[str, int], seconds_to_read: float, settings: Settings, device: Device
) -> Estimate:
    """Estimate what the steps take that are not done yet.

    Args:
        folder: The output folder.
        splits: Number of pictures by split.
        seconds_to_read: What it takes to read all pictures; 0 if they are prepared.
        settings: The settings.
        device: Device to compute on.
    """
    start = settings.init_from
    model = trained_model(start, settings.model) if start else PixelNetwork(settings.model, settings.shape)
    model = model.to(resolve_device(device))
    speed = _measure(model, settings)
    batch, shape = settings.training.batch_size, settings.shape
    epochs = 0 if folder.is_trained else settings.training.epochs - folder.completed_epochs("model", "a pixel model")
    held_out = splits.get("test") or splits["validation"]
    # With a context, whole images and regions.
    validated = splits["validation"] * (2 if model.context else 1)
    evaluations = 1 + bool(start and not folder.before.is_file())
    seconds = (
        seconds_to_read
        + epochs * (splits["train"] * speed.training_step + validated * speed.measured_batch) / batch
        + evaluations * held_out * speed.measured_batch / batch
        + (epochs + (FINAL_SIDE / SIDE) ** 2) * speed.grid
    )
    values = shape.channels * shape.height * shape.width
    weights = sum(4 * parameter.numel() for parameter in model.parameters())
    # Two checkpoints and a third that replaces one: the weights, their average, and two moments of most of them.
    size = (0 if folder.is_prepared else sum(splits.values()) * values) + 3 * 4 * weights
    return Estimate(seconds, size)


def _measure(model: PixelNetwork, settings: Settings) -> _Speed:
    training, shape = settings.training, model.shape
    optimizer = MuonAdamW(
        model, model.inner_matrices(), training.matrix_learning_rate, training.learning_rate, training.weight_decay
    )
    size = (training.batch_size, shape.channels, shape.height, shape.width)
    pixels = torch.randint(shape.levels, size, dtype=torch.uint8, device=model.device)
    labels = torch.zeros(training.batch_size, dtype=torch.long, device=model.device)
    ends = []
    for _ in range(3):
        (-model.log_likelihood(pixels, labels)).flatten(1).sum(1).mean().backward()
        optimizer.step()
        ends.append(time.perf_counter())
    step = (ends[-1] - ends[0]) / 2  # The first one is slower.
    with torch.inference_mode():
        start = time.perf_counter()
        model.log_likelihood(pixels, labels)
        measured = time.perf_counter() - start
    rows = []
    sample_grid(model, SIDE, lambda: rows.append(time.perf_counter()))
    grid = (rows[-1] - rows[0]) * len(rows) / max(1, len(rows) - 1)  # The first row is slower.
    return _Speed(step, measured, grid)
