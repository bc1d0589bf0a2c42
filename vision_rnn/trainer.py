"""The training loop of every model: Lightning's, with our logs, checkpoints and progress."""

import contextlib
import ctypes
import importlib.util
import io
import logging
import os
import platform
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

import lightning
import torch
from lightning.fabric.plugins.io.torch_io import TorchCheckpointIO
from lightning.pytorch.callbacks import ModelCheckpoint
from lightning.pytorch.loggers import CSVLogger, TensorBoardLogger

from vision_rnn.console import Progress, note
from vision_rnn.devices import Device, resolve_device
from vision_rnn.errors import UserError
from vision_rnn.files import atomic_path, is_disk_full, unwritable
from vision_rnn.processes import Batches, check_started
from vision_rnn.run_folder import LAST, checkpoint_folder
from vision_rnn.trainer_config import TrainerConfig

# What Lightning warns of and is intended here: one process loads the data, frozen parts stay in evaluation mode, a
# resumed run finds its own checkpoints, all processes log the same number, a machine of a cluster is used without its
# scheduler. One is Lightning's own affair with torch.
_INTENDED = (
    "does not have many workers",
    "in eval mode at the start",
    "exists and is not empty",
    "use .*sync_dist=True",
    "isinstance.treespec, LeafSpec",
    "`srun` command is available",
)
# Parameters of glibc's `mallopt`, from its malloc.h.
_M_TRIM_THRESHOLD, _M_MMAP_MAX = -1, -4
# What torch says when it waits for a process that has ended, by gloo and by NCCL.
_LOST = ("Connection closed", "Connection reset", "Timed out", "timeout", "NCCL")


def check_finite(task: lightning.LightningModule, values: torch.Tensor, rates: str) -> None:
    """Stop a training that has failed, before its last complete checkpoint is replaced.

    Args:
        task: The task that is trained.
        values: A loss, or scores; any shape.
        rates: Names of the settings that may be too high.

    Raises:
        UserError: A value is not a finite number; the message names the step.
    """
    if not values.isfinite().all():
        raise UserError(
            f"training: the loss is not a finite number in epoch {task.current_epoch}, step {task.global_step}; "
            f"start again with a lower {rates}"
        )


class AtomicCheckpoints(TorchCheckpointIO):
    """Writes a checkpoint beside its target and renames it.

    Lightning's own writer stages in the temporary folder, and copies from there if that is another device: a kill then
    leaves a truncated file.
    """

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any = None) -> None:
        """Save a checkpoint, complete or not at all."""
        # By way of memory: torch reports a file that it cannot write as an error of its own, which hides the reason.
        content = io.BytesIO()
        torch.save(checkpoint, content)
        with atomic_path(path) as staged:
            staged.write_bytes(content.getbuffer())
            # Otherwise a loss of power may leave an empty file under the name of the last good checkpoint.
            with open(staged, "r+b") as file:
                os.fsync(file.fileno())


class _Checkpoints(ModelCheckpoint):
    """Keeps the best score also if the run folder was moved, where Lightning would forget it."""

    @property
    def state_key(self) -> str:
        """The key in a checkpoint: Lightning's own."""
        return super().state_key.replace(type(self).__qualname__, ModelCheckpoint.__qualname__)

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Look for the files that are named in the old folder in the present one, if they are there."""

        def here(path: str) -> str:
            return str(Path(str(self.dirpath), Path(path).name)) if path else path

        if Path(here(state_dict["best_model_path"])).is_file():
            paths = ("best_model_path", "kth_best_model_path", "last_model_path")
            best = {here(path): score for path, score in state_dict["best_k_models"].items()}
            moved = {"dirpath": self.dirpath, "best_k_models": best, **{name: here(state_dict[name]) for name in paths}}
            state_dict = state_dict | moved
        super().load_state_dict(state_dict)


@contextlib.contextmanager
def _without_tips() -> Iterator[None]:
    """Let Lightning log what goes wrong, and not which hardware it found or which product it recommends."""
    logger = logging.getLogger("lightning.pytorch")
    level = logger.level
    logger.setLevel(logging.WARNING)
    try:
        yield
    finally:
        logger.setLevel(level)


def keep_freed_memory() -> None:
    """Let the C library keep the memory that is freed, for what is allocated next; does nothing if it is not glibc.

    Every step of a training allocates the same tensors of many megabytes. By default glibc returns each of them to the
    kernel, which has to clear the memory of the next: a quarter of the time of a step that trains three encoders.
    """
    if platform.libc_ver()[0] == "glibc":
        libc = ctypes.CDLL(None)
        libc.mallopt(_M_MMAP_MAX, 0)
        libc.mallopt(_M_TRIM_THRESHOLD, -1)


@_without_tips()
def fit(
    task: lightning.LightningModule,
    batches: Batches,
    run: Path,
    *,
    epochs: int,
    monitor: str,
    mode: Literal["min", "max"],
    callbacks: list[lightning.Callback],
    gradient_clip: float,
    precision: Literal["32-true", "bf16-mixed"] = "32-true",
    checkpoint: Path | None = None,
    log_interval: int = 1,
    device: Device = "auto",
    spread: TrainerConfig = TrainerConfig(),
) -> None:
    """Train to the end, keeping checkpoints and logs in the run folder.

    Args:
        task: The model with its losses.
        batches: Its training batches, and its validation batches, which are read after every epoch.
        run: The run folder.
        epochs: At most this many passes over the training batches.
        monitor: The logged number by which the best epoch is chosen.
        mode: Whether the best is the least or the greatest.
        callbacks: Further callbacks, called after those that keep checkpoints.
        gradient_clip: The gradient's norm is clipped to this; 0 does not clip it.
        precision: Of the arithmetic.
        checkpoint: Resume from this one.
        log_interval: Steps between two lines of the log.
        device: Where to train.
        spread: How many devices and machines.

    Raises:
        KeyboardInterrupt: The user stopped it; the message says how to continue.
        UserError: The disk is full, the loss is no longer a number, another process of the training has ended, or
            torchrun or Slurm started another number of processes than `spread` says.
    """
    check_started(spread.devices, spread.num_nodes)
    keep_freed_memory()
    # Lightning prints to standard output, where only results belong.
    with warnings.catch_warnings(), contextlib.redirect_stdout(sys.stderr):
        for message in _INTENDED:
            warnings.filterwarnings("ignore", f".*{message}")
        trainer = lightning.Trainer(
            accelerator=resolve_device(device).type,
            max_epochs=epochs,
            gradient_clip_val=gradient_clip or None,
            precision=precision,
            callbacks=[*_checkpoints(run, monitor, mode), *callbacks, _TrainingProgress()],
            logger=_loggers(run),
            devices=spread.devices,
            num_nodes=spread.num_nodes,
            strategy=spread.strategy,
            accumulate_grad_batches=spread.accumulate_grad_batches,
            use_distributed_sampler=False,
            plugins=[AtomicCheckpoints()],
            num_sanity_val_steps=0,
            log_every_n_steps=log_interval,
            enable_model_summary=False,
            enable_progress_bar=False,
        )
        try:
            trainer.fit(task, datamodule=batches, ckpt_path=checkpoint, weights_only=True)
        except SystemExit:  # Lightning's answer to Ctrl-C.
            saved = (checkpoint_folder(run) / LAST).is_file()
            advice = "add --ckpt_path last to continue" if saved else "no epoch was completed"
            raise KeyboardInterrupt(advice) from None
        except RuntimeError as error:
            # Of the connection between processes; what goes wrong in this one explains itself.
            if spread.devices * spread.num_nodes > 1 and any(sign in str(error) for sign in _LOST):
                raise UserError("training: another of its processes has ended; its message says why") from error
            raise
        except OSError as error:  # Of the logs; what writes other files explains itself.
            if is_disk_full(error):
                raise unwritable(run, error) from error
            raise


def _checkpoints(run: Path, monitor: str, mode: Literal["min", "max"]) -> list[ModelCheckpoint]:
    """Return the callbacks that keep the checkpoints of the best epoch and of the last."""
    # At the end of an epoch alone: a checkpoint within one could not say which of its images are left.
    kept: dict[str, Any] = {"save_on_train_epoch_end": True, "enable_version_counter": False}
    return [
        _Checkpoints(checkpoint_folder(run), filename="best", monitor=monitor, mode=mode, **kept),
        # Not save_last, which saves when there is a better epoch, and not after every one.
        _Checkpoints(checkpoint_folder(run), filename="last", **kept),
    ]


def _loggers(run: Path) -> list[Any]:
    loggers: list[Any] = [CSVLogger(run / "logs", name="csv")]
    if importlib.util.find_spec("tensorboard"):
        return [*loggers, TensorBoardLogger(run / "logs", name="tensorboard")]
    note("logs are written as CSV alone; for TensorBoard's: pip install 'vision-rnn[tensorboard]'")
    return loggers


class _TrainingProgress(lightning.Callback):
    """Shows how far a training is, with its epoch and its last numbers."""

    def __init__(self) -> None:
        self._progress: Progress | None = None

    def on_train_start(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        """Start; what a resumed run did before does not count."""
        if not trainer.is_global_zero:
            return
        self._progress = Progress(
            int(trainer.estimated_stepping_batches) - trainer.global_step, "training", "batch", "batches"
        )

    def on_train_batch_end(
        self,
        trainer: lightning.Trainer,
        pl_module: lightning.LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
    ) -> None:
        """Count a batch."""
        if self._progress is None:
            return
        numbers = {name: float(value) for name, value in trainer.progress_bar_metrics.items()}
        figures = [f"epoch {trainer.current_epoch}", *(f"{name} {value:.4g}" for name, value in numbers.items())]
        self._progress.show(", ".join(figures))
        self._progress.update()

    def teardown(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule, stage: str) -> None:
        """Stop, however the training ended."""
        if self._progress is not None:
            self._progress.__exit__()
