"""The disk layout that both kinds of prepared data sets share: a manifest, and a folder of rows per split."""

from collections.abc import Collection
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vision_rnn.checksums import SUMS, first_damaged, read_sums
from vision_rnn.console import note
from vision_rnn.errors import UserError
from vision_rnn.files import MANIFEST, read_json, settle

if TYPE_CHECKING:
    from datasets import Dataset

CAPTIONS_PART, PIXELS_PART = "captions-part", "pixels-part"
PART_KINDS = (CAPTIONS_PART, PIXELS_PART)
KINDS = {
    "captions": "a prepared caption data set",
    "pixels": "a prepared pixel data set",
    CAPTIONS_PART: "a part of a caption data set",
    PIXELS_PART: "a part of a pixel data set",
}
# What prepares each.
_COMMANDS = {
    "captions": "data-prep captions SOURCE",
    "pixels": "data-prep pixels SOURCE",
    CAPTIONS_PART: "data-prep captions SOURCE --shard 1/2",
    PIXELS_PART: "data-prep pixels SOURCE --shard 1/2",
}


def kind_of(folder: Path) -> str | None:
    """Return the kind of a prepared data set, or None for any other folder.

    Raises:
        UserError: The manifest cannot be read.
    """
    manifest = read_json(folder / MANIFEST) if (folder / MANIFEST).is_file() else None
    kind = manifest.get("kind") if isinstance(manifest, dict) else None
    return kind if kind in KINDS else None


def read_manifest(folder: Path, kind: str, keys: Collection[str] = ()) -> dict[str, Any]:
    """Read the manifest of a prepared data set; its other files are not checked.

    Raises:
        UserError: The folder is not a prepared data set of this kind, or one of `keys` is missing.
    """
    if not folder.exists():
        settle(folder)  # What a killed process was replacing.
    found = kind_of(folder)
    if found is None:
        raise UserError(f"{folder}: not {KINDS[kind]}; make one with: {_COMMANDS[kind]} -o {folder}")
    if found in PART_KINDS and kind not in PART_KINDS:
        raise UserError(f"{folder}: {KINDS[found]}; merge all parts with: data-prep merge PART PART ... -o DIR")
    if found != kind:
        raise UserError(f"{folder}: {KINDS[found]}, not {kind}; make one with: {_COMMANDS[kind]} -o DIR")
    manifest = read_json(folder / MANIFEST)
    if missing := set(keys) - manifest.keys():
        raise damaged(folder / MANIFEST, kind, f"no '{min(missing)}'")
    # A run folder keeps the manifest of its data set.
    if manifest.get("splits") and not any((folder / split).is_dir() for split in manifest["splits"]):
        raise UserError(f"{folder}: holds the manifest of {KINDS[kind]} without its images; name the data set itself")
    return manifest


def check_files(folder: Path, kind: str, *names: str) -> None:
    """Check that files of a prepared data set are as they were written; say so if the data set has no checksums.

    Args:
        folder: Folder of the data set; nothing is checked if it holds none.
        kind: Its kind.
        names: Names of files, or of folders whose files are all checked.

    Raises:
        UserError: A file is damaged or missing.
    """
    if not (folder / MANIFEST).is_file():
        return
    if not (folder / SUMS).is_file():
        if MANIFEST in names:  # Once, when the data set is opened.
            note(f"{folder}: has no checksums ({SUMS}), and is not checked for damage; if in doubt, prepare it again")
        return
    known = [each for each in read_sums(folder) if each in names or each.partition("/")[0] in names]
    missing = next((name for name in names if not any(each.partition("/")[0] == name for each in known)), None)
    if found := missing or first_damaged(folder, known):
        raise damaged(folder / found, kind, f"missing, or differs from its checksum in {SUMS}")


def check_unprepared(source: Path, kind: str) -> None:
    """Check that a source is on this machine and not prepared yet, for a command that prepares it and trains.

    Raises:
        UserError: It is on the hub, does not exist, or is a prepared data set.
    """
    if str(source).startswith("hub:"):
        raise UserError(f"{source}: not a folder; prepare it with data-prep {kind}, and train with --data")
    if not source.exists():
        raise UserError(f"{source}: no such file or folder; check the path")
    if source.is_dir() and kind_of(source):
        raise UserError(f"{source}: a prepared data set; train on it with --data {source} --output RUN")


def load_rows(folder: Path, manifest: dict[str, Any], split: str) -> "Dataset":
    """Memory-map the rows of one split of a prepared data set.

    Raises:
        UserError: The data set has no such split, or its files are damaged.
    """
    if split not in manifest["splits"]:
        raise UserError(f"{folder}: no split '{split}'; choose one of: {', '.join(manifest['splits'])}")
    from datasets import Dataset

    check_files(folder, manifest["kind"], split)
    try:
        return Dataset.load_from_disk(str(folder / split))
    except (OSError, ValueError, KeyError) as error:  # Arrow's errors are ValueErrors.
        raise damaged(folder / split, manifest["kind"], error) from error


def save_rows(unsaved: Path, folder: Path) -> None:
    """Move the rows of an Arrow stream file into a folder that `load_rows` opens."""
    from datasets import Dataset

    Dataset.from_file(str(unsaved)).save_to_disk(str(folder))
    unsaved.unlink()


def check_replaceable(output: Path, kind: str) -> None:
    """Check that a data set of this kind may be written to `output`.

    Raises:
        UserError: `output` exists, and is neither an empty folder nor a prepared data set of this kind.
    """
    settle(output)
    if output.is_dir() and any(output.iterdir()):
        try:
            read_manifest(output, kind)
        except UserError:
            raise UserError(f"{output}: holds something other than prepared {kind}; choose another folder") from None
    elif output.exists() and not output.is_dir():
        raise UserError(f"{output}: is a file; choose a folder")


def damaged(path: Path, kind: str, reason: object) -> UserError:
    """Return the error for a damaged file of a prepared data set."""
    reason = " ".join(str(reason).split())
    command = _COMMANDS[kind].partition(" SOURCE")[0]
    return UserError(f"{path}: damaged ({reason}); remove the data set, and prepare it again with {command}")
