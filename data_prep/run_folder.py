"""What training runs of both kinds of model share on disk: the data they began with, and their checkpoints.

A run folder holds `manifest.json`, that of its data set, and `checkpoints/` with `last.ckpt` and `best.ckpt`.
"""

import contextlib
from collections.abc import Iterator
from pathlib import Path
from pickle import UnpicklingError
from typing import Any, Literal, Protocol

import torch
from lightning.pytorch.callbacks import ModelCheckpoint

from data_prep.errors import UserError
from data_prep.files import read_json
from data_prep.prepared_folder import MANIFEST


class Prepared(Protocol):
    """A prepared data set of either kind."""

    @property
    def folder(self) -> Path:
        """Where it lies."""
        ...

    @property
    def manifest(self) -> dict[str, Any]:
        """Its source, options and counts."""
        ...

    @property
    def content_hash(self) -> str:
        """SHA-256 of what it says."""
        ...


def check_data(prepared: Prepared, run: Path) -> None:
    """Refuse data without the splits that training needs, or other data than the run began with, if it has begun.

    Raises:
        UserError: They are such data.
    """
    if missing := {"train", "validation"} - prepared.manifest["splits"].keys():
        raise UserError(
            f"{prepared.folder}: has no split '{missing.pop()}', and training needs 'train' and 'validation'; "
            "name one in the source, or prepare it without any, to have it split"
        )
    begun_with = run / MANIFEST
    if begun_with.is_file() and read_json(begun_with)["content_hash"] != prepared.content_hash:
        raise UserError(f"{prepared.folder}: not the data that {run} began with; choose another output")


def checkpoint_callbacks(run: Path, monitor: str, mode: Literal["min", "max"]) -> list[ModelCheckpoint]:
    """Return the callbacks that keep the best epoch's checkpoint, by the logged number `monitor`, and the last's."""
    folder = run / "checkpoints"
    return [
        # At the end of an epoch alone: a checkpoint within one could not say which of its images are left.
        ModelCheckpoint(
            folder,
            filename="best",
            monitor=monitor,
            mode=mode,
            save_on_train_epoch_end=True,
            enable_version_counter=False,
        ),
        # Not save_last, which saves when there is a better epoch, and not after every one.
        ModelCheckpoint(folder, filename="last", save_on_train_epoch_end=True, enable_version_counter=False),
    ]


def checkpoint_to_resume(run: Path, ckpt_path: str | None) -> Path | None:
    """Return the checkpoint that a training goes on from; None for one that starts.

    Args:
        run: The run folder.
        ckpt_path: The checkpoint; `last` is the run folder's own last one.

    Raises:
        UserError: There is no such checkpoint, or the folder holds a run and none was named.
    """
    last = run / "checkpoints" / "last.ckpt"
    if ckpt_path is None:
        if last.is_file():
            raise UserError(f"{run}: holds a run already; add --ckpt_path last to go on, or choose another output")
        return None
    checkpoint = last if ckpt_path == "last" else Path(ckpt_path)
    if not checkpoint.is_file():
        raise UserError(f"{checkpoint}: no such checkpoint; leave out --ckpt_path to start anew")
    return checkpoint


def read_checkpoint(path: Path, description: str, kind: str) -> dict[str, Any]:
    """Load a checkpoint of ours, executing no code.

    Args:
        path: The checkpoint.
        description: The key under which it describes its model.
        kind: What messages call such a model.

    Raises:
        UserError: The file is damaged, or something else.
    """
    try:
        checkpoint = torch.load(path, map_location="cpu", weights_only=True)
    except (EOFError, OSError, RuntimeError, UnpicklingError):
        checkpoint = None
    if not isinstance(checkpoint, dict) or not {description, "state_dict"} <= checkpoint.keys():
        raise UserError(f"{path}: damaged, or no checkpoint of {kind}; name another, or train again")
    return checkpoint


@contextlib.contextmanager
def resumable(run: Path) -> Iterator[None]:
    """Turn Lightning's answer to Ctrl-C into an interruption that says whether the run can go on."""
    try:
        yield
    except SystemExit:
        begun = (run / "checkpoints" / "last.ckpt").is_file()
        raise KeyboardInterrupt("add --ckpt_path last to go on" if begun else "no epoch was completed") from None
