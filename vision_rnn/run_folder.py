"""What training runs leave on disk, whatever they train: their data and settings, and their checkpoints.

A run folder holds `config.yaml` (the resolved configuration), `manifest.json` (the data set's), `checkpoints/` with
`last.ckpt` and `best.ckpt`, `logs/` and, when training has ended, `model/`.
"""

import json
import tempfile
import zipfile
from collections.abc import Callable, Collection, Mapping
from dataclasses import asdict, is_dataclass
from pathlib import Path
from typing import Any, Protocol, TypeVar

import torch
import yaml

from vision_rnn.console import note
from vision_rnn.errors import UserError
from vision_rnn.files import MANIFEST, atomic_path, read_json, read_text, write_json

BEST, LAST = "best.ckpt", "last.ckpt"
CONFIG = "config.yaml"

Model = TypeVar("Model")


class Prepared(Protocol):
    """A prepared data set of any kind."""

    @property
    def folder(self) -> Path:
        """The folder that holds it."""
        ...

    @property
    def manifest(self) -> dict[str, Any]:
        """Its source, options and counts."""
        ...

    @property
    def content_hash(self) -> str:
        """SHA-256 of its content."""
        ...


def checkpoint_folder(run: Path) -> Path:
    """Return the folder of a run's checkpoints."""
    return run / "checkpoints"


def check_data(prepared: Prepared, run: Path) -> None:
    """Refuse data without the splits that training needs, or data that differ from those the run started with.

    Raises:
        UserError: They are such data.
    """
    if missing := {"train", "validation"} - prepared.manifest["splits"].keys():
        raise UserError(
            f"{prepared.folder}: has no split '{missing.pop()}', and training needs 'train' and 'validation'; "
            "name one in the source, or prepare the data without any, to have them split"
        )
    begun_with = run / MANIFEST
    if begun_with.is_file() and read_json(begun_with)["content_hash"] != prepared.content_hash:
        raise UserError(f"{prepared.folder}: not the data that {run} started with; choose another output")


def write_settings(run: Path, prepared: Prepared, settings: Mapping[str, Any]) -> None:
    """Write the data set's manifest and the resolved configuration into a run folder.

    Args:
        run: The run folder, created if it does not exist.
        prepared: The data set.
        settings: The options by name; those that are dataclasses are written as mappings.
    """
    write_json(run / MANIFEST, prepared.manifest)
    plain = {
        name: asdict(value) if is_dataclass(value) and not isinstance(value, type) else value
        for name, value in settings.items()
    }
    with atomic_path(run / CONFIG) as staged:
        # By way of JSON, which turns tuples into the lists that safe YAML knows.
        staged.write_text(yaml.safe_dump(json.loads(json.dumps(plain)), sort_keys=False))


def read_settings(run: Path) -> dict[str, Any]:
    """Return the resolved configuration of a run.

    Raises:
        UserError: The file is missing or damaged.
    """
    try:
        settings = yaml.safe_load(read_text(run / CONFIG))
    except (yaml.YAMLError, RecursionError, ValueError) as error:  # The last of dates and numbers that are none.
        raise UserError(f"{run / CONFIG}: not valid YAML ({' '.join(str(error).split())}); train again") from None
    if not isinstance(settings, dict):
        raise UserError(f"{run / CONFIG}: not the settings of a run; train again")
    return settings


def settings_of_run(path: Path, keys: Collection[str], kind: str) -> dict[str, Any]:
    """Return the settings of what should be a run folder.

    Args:
        path: The folder.
        keys: Settings that every run of this kind has.
        kind: What messages call such a run: the command that writes it.

    Raises:
        UserError: It is not a run folder, or a run of another kind.
    """
    if not (path / CONFIG).is_file():
        raise UserError(f"{path}: not a run folder (no {CONFIG}); name the --output of {kind}")
    settings = read_settings(path)
    if missing := set(keys) - settings.keys():
        raise UserError(f"{path}: not a run of {kind} (no '{min(missing)}' in {CONFIG}); name one")
    return settings


def data_folder(source: str | Path, given: str | None, named: str | None) -> Path:
    """Return the folder of the data set that a run or a result is of.

    Args:
        source: The run or result.
        given: The folder that the user gave, if any.
        named: The folder that `source` names, if any.

    Raises:
        UserError: There is no such folder.
    """
    if not (given or named):
        raise UserError(f"{source}: does not name its data set; add --data FOLDER")
    if not given and not Path(str(named)).is_dir():
        raise UserError(f"{source}: names the data set {named}, which is not here; add --data FOLDER")
    return Path(str(given or named))


def default_split(splits: Collection[str]) -> str:
    """Return the split that a report is of: `test` if there is one, otherwise `validation`; and say so."""
    split = "test" if "test" in splits else "validation"
    note(f"the report is of the split {split}; --split chooses another")
    return split


def load_best(run: Path, load: Callable[[Path], Model], export: Callable[..., Path]) -> Model:
    """Load the model of a run; if the run is not finished, that of its best epoch so far.

    Args:
        run: The run folder.
        load: Function that loads a model folder.
        export: Function that writes the model folder of a run, given the run and `output`.

    Raises:
        UserError: No epoch has been completed.
    """
    if (run / "model").is_dir():
        return load(run / "model")
    with tempfile.TemporaryDirectory() as folder:
        model = load(export(run, output=Path(folder, "model")))
    note(f"{run}: has no model yet; the report is of its best epoch so far")
    return model


def check_settings(run: Path, settings: Mapping[str, Any]) -> None:
    """Refuse settings that differ from those a run was started with; nothing if there is no run yet.

    Args:
        run: The run folder.
        settings: The settings by name, each a dataclass.

    Raises:
        UserError: One differs; the message names it.
    """
    if not (run / CONFIG).is_file():
        return
    written = read_settings(run)
    for part, values in settings.items():
        # A setting that the run lacks was added later, with the earlier behaviour as its default.
        started = asdict(type(values)()) | written.get(part, {})
        for name, value in asdict(values).items():
            was = tuple(started[name]) if isinstance(started[name], list) else started[name]
            # None is filled in by the training, and so may be `auto`.
            if value not in (None, "auto") and was not in (value, "auto"):
                raise UserError(
                    f"{run}: started with other settings ({part}.{name} was {was}, and is {value} now); "
                    "give the same to continue it, or choose another output"
                )


def check_same(part: str, given: Any, trained: Any, model: str) -> None:
    """Refuse settings that a model to start from cannot have, since they are in its weights.

    Args:
        part: Name of the settings.
        given: The settings given, a dataclass; those that have their defaults count as not given.
        trained: Those of the model.
        model: What messages call the model.

    Raises:
        UserError: One was given and differs; the message names it.
    """
    defaults = type(given)()
    for name, value in vars(given).items():
        if value != getattr(defaults, name) and value != getattr(trained, name):
            raise UserError(
                f"{part}.{name}: {value} differs from {getattr(trained, name)} of {model}, which training starts from; "
                f"omit {part}.{name}, or init_from"
            )


def checkpoint_to_resume(run: Path, ckpt_path: str | None) -> Path | None:
    """Return the checkpoint that a training resumes from; None for one that starts.

    Args:
        run: The run folder.
        ckpt_path: The checkpoint; `last` is the run folder's own last one.

    Raises:
        UserError: There is no such checkpoint, or the folder holds a run and no checkpoint was named.
    """
    last = checkpoint_folder(run) / LAST
    if ckpt_path is None:
        if last.is_file():
            raise UserError(
                f"{run}: holds a run already; add --ckpt_path last to continue it, or choose another output"
            )
        return None
    checkpoint = last if ckpt_path == "last" else Path(ckpt_path)
    if not checkpoint.is_file():
        raise UserError(f"{checkpoint}: no such checkpoint; omit --ckpt_path to start from the beginning")
    return checkpoint


def best_checkpoint(run: Path, command: str) -> Path:
    """Return the checkpoint of a run's best epoch.

    Args:
        run: The run folder.
        command: What messages call the command that trains.

    Raises:
        UserError: There is none.
    """
    path = checkpoint_folder(run) / BEST
    if not path.is_file():
        raise UserError(f"{run}: has no checkpoints/{BEST}; name a run folder, the output of: {command}")
    return path


def best_score(checkpoint: dict[str, Any]) -> float:
    """Return the validation score of the best epoch, as the checkpoint of that epoch keeps it."""
    (score,) = (float(state["best_model_score"]) for state in checkpoint["callbacks"].values() if state.get("monitor"))
    return score


def read_checkpoint(path: Path, description: str, kind: str) -> dict[str, Any]:
    """Load a checkpoint of ours, executing no code, after its checksums have been verified.

    They are those of the zip format, CRC-32 of each tensor, which torch writes and does not check.

    Args:
        path: The checkpoint.
        description: The key under which it describes its model.
        kind: What messages call such a model.

    Raises:
        UserError: The file is damaged, or something else.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            is_intact = archive.testzip() is None
        checkpoint = torch.load(path, map_location="cpu", weights_only=True) if is_intact else None
    except MemoryError:
        raise
    # On damaged files both raise almost anything: BadZipFile, RuntimeError, UnpicklingError, struct.error, zlib.error.
    except Exception:
        checkpoint = None
    if not isinstance(checkpoint, dict) or not {description, "state_dict"} <= checkpoint.keys():
        raise UserError(f"{path}: damaged, or not a checkpoint of {kind}; choose another, or train again")
    return checkpoint
