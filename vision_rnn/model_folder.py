"""A model as one folder: training writes it, and every command that uses a model reads it.

A model folder holds `config.json` (the kind of model, its architecture and the rest of its description),
`model.safetensors` (all weights, in half precision), `README.md` (the model card) and `SHA256SUMS` of the first two and
of any further files that belong to them. It is self-contained, and loading it executes no code.
"""

import hashlib
from collections.abc import Iterable
from pathlib import Path

from vision_rnn.errors import UserError
from vision_rnn.files import MANIFEST, settle

CONFIG, WEIGHTS, CHECKSUMS, CARD = "config.json", "model.safetensors", "SHA256SUMS", "README.md"


def find_folder(model: str | Path, bundled: Path, program: str) -> Path:
    """Return the folder of a model on this machine.

    Args:
        model: Model folder, or `bundled:NAME`.
        bundled: Folder that contains the model folders installed with the package.
        program: Name of the program that trains and exports such models, for messages.

    Raises:
        UserError: There is no such folder or name, or it is something else, such as a run folder.
    """
    if str(model).startswith("bundled:"):
        known = {folder.name: folder for folder in sorted(bundled.iterdir())}
        name = str(model).removeprefix("bundled:")
        if name not in known:
            raise UserError(f"{model}: no such bundled model; choose one of: {', '.join(known)}")
        return known[name]
    folder = Path(model)
    if not folder.exists():
        settle(folder)
    if not is_model(folder):
        raise _mistaken(folder, program)
    return folder


def is_model(name: str | Path) -> bool:
    """Whether a name is that of a model: a model folder, also if incomplete, `bundled:NAME` or `hub:OWNER/NAME`."""
    files = (CHECKSUMS, CONFIG, WEIGHTS)
    return str(name).startswith(("bundled:", "hub:")) or any((Path(name) / file).is_file() for file in files)


def check_files(folder: Path, names: Iterable[str]) -> None:
    """Check that files of a model folder are those that were saved.

    Raises:
        UserError: A file is missing, or differs from the file that was saved.
    """
    names = list(names)
    for name in (CHECKSUMS, *names):
        if not (folder / name).is_file():
            raise UserError(f"{folder}: {name} is missing; copy the model folder again")
    if path := first_changed(folder / CHECKSUMS, [folder / name for name in names]):
        raise UserError(f"{path}: differs from the file that was saved (SHA-256); copy it again")


def first_changed(checksums: Path, files: Iterable[Path]) -> Path | None:
    """Return the first of some files that is not one that a file of checksums is of; None if all are."""
    lines = checksums.read_text(errors="replace").splitlines()
    return next((path for path in files if f"{_sha256(path)}  {path.name}" not in lines), None)


def write_checksums(folder: Path, names: Iterable[str]) -> None:
    """Write the checksums that `check_files` compares with."""
    (folder / CHECKSUMS).write_text("".join(f"{_sha256(folder / name)}  {name}\n" for name in names))


def _mistaken(path: Path, program: str) -> UserError:
    """Return the error for a path that is no model folder: what it is, and what to name instead."""
    # Only now, since the module imports torch.
    from vision_rnn.run_folder import BEST, checkpoint_folder
    from vision_rnn.run_folder import CONFIG as RUN_CONFIG

    if not path.exists():
        return UserError(f"{path}: no such model folder; the other forms are bundled:NAME and hub:OWNER/NAME")
    folder = path if path.is_dir() else path.parent
    if is_model(folder):
        return UserError(f"{path}: a file of a model folder; name the folder: {folder}")
    run = folder.parent if checkpoint_folder(folder.parent) == folder else folder
    if (run / RUN_CONFIG).is_file():
        found = "a run folder" if path == run else f"part of the run folder {run}"
        model = run / "model"
        if is_model(model):
            fix = f"name its model: {model}"
        elif (checkpoint_folder(run) / BEST).is_file():
            fix = f"write its model with: {program} export {run} -o {model}"
        else:
            fix = f"complete its first epoch with: {program} train"
        return UserError(f"{path}: {found}, not a model folder; {fix}")
    found = ""
    if (folder / MANIFEST).is_file():
        found = "a prepared data set, "
    elif path.is_file() and path.suffix == Path(BEST).suffix:
        found = "a checkpoint, "
    return UserError(f"{path}: {found}not a model folder; name a model folder, bundled:NAME or hub:OWNER/NAME")


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
