"""Files that are either complete or absent: written under a temporary name, then renamed."""

import contextlib
import errno
import json
import os
import re
import shutil
import tempfile
from collections.abc import Collection, Iterable, Iterator
from pathlib import Path
from typing import Any

from vision_rnn.errors import UserError

# The description of a prepared data set, in its own folder and in that of every run trained on it.
MANIFEST = "manifest.json"
# The names that `atomic_path` gives to what is not complete yet: `tempfile` ends them in eight random characters.
_STAGING = re.compile(r"\..+\.[a-z0-9_]{8}")


@contextlib.contextmanager
def atomic_path(target: str | Path) -> Iterator[Path]:
    """Yield a temporary path beside `target`; rename it to `target` if the block succeeds, remove it otherwise.

    The block may create a file or a folder at the path. A file replaces a file and a folder a folder; an existing
    target is kept if the renaming fails or is interrupted.

    Raises:
        UserError: The target cannot be written, is a folder where a file is expected, or the disk is full.
    """
    target = Path(target)
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        staging = Path(tempfile.mkdtemp(prefix=f".{target.name}.", dir=target.parent))
    except OSError as error:
        raise unwritable(target, error) from error
    # With the suffix of the target: many writers choose their format by it.
    staged, replaced = staging / target.name, staging / f"{target.name}.replaced"
    try:
        yield staged
        if target.is_dir() and staged.is_dir():
            target.rename(replaced)
        os.replace(staged, target)
    except OSError as error:
        if error.filename is None or Path(error.filename).is_relative_to(staging):
            raise unwritable(target, error) from error
        raise
    finally:
        # Between the two renamings this is the only copy of the old folder.
        if os.path.lexists(replaced) and not os.path.lexists(target):
            replaced.rename(target)
        shutil.rmtree(staging, ignore_errors=True)


def remove_remains(folder: Path) -> None:
    """Remove what `atomic_path` was writing in or below a folder when its process was killed."""
    for remains in [path for path in folder.rglob(".*") if _STAGING.fullmatch(path.name)]:
        shutil.rmtree(remains, ignore_errors=True)


def is_disk_full(error: OSError) -> bool:
    """Return whether a file could not be written because the disk, or the user's quota, is used up."""
    return error.errno in (errno.ENOSPC, errno.EDQUOT)


def unwritable(target: str | Path, error: OSError) -> UserError:
    """Return the error for a file or folder that cannot be written."""
    fix = "free some space" if is_disk_full(error) else "choose another path"
    return UserError(f"{target}: cannot be written ({error.strerror or error}); {fix}")


def check_output_file(path: str | Path, suffixes: Collection[str] = (), inputs: Iterable[Path] = ()) -> Path:
    """Refuse a path for a file before anything is computed.

    Args:
        path: The file to be written.
        suffixes: Suffixes that its name may end in; by default any.
        inputs: Files that it must not overwrite.

    Raises:
        UserError: The path is a folder or one of `inputs`, or its name has another suffix.
    """
    path = Path(path)
    if path.is_dir():
        raise UserError(f"{path}: is a folder; name a file")
    if suffixes and path.suffix.lower() not in suffixes:
        raise UserError(f"{path}: not a file that can be written; end its name in {', '.join(suffixes)}")
    if path.resolve() in {source.resolve() for source in inputs}:
        raise UserError(f"{path}: would overwrite an image that is read; choose another --output")
    return path


def check_not_existing(paths: Iterable[Path], kind: str, options: str) -> None:
    """Refuse to write files that exist, before anything is computed.

    Args:
        paths: The files to be written.
        kind: What messages call them, in the plural.
        options: What may be added to the command, for the message; empty if they may be overwritten.

    Raises:
        UserError: One exists, and may not be overwritten.
    """
    existing = [path for path in paths if path.exists()] if options else []
    if existing:
        raise UserError(f"{existing[0]}: exists ({kind} that exist: {len(existing)}); add {options}")


def write_json(target: str | Path, document: Any) -> None:
    """Write `document` as indented UTF-8 JSON, complete or not at all."""
    with atomic_path(target) as staged:
        staged.write_text(json.dumps(document, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def read_json(path: str | Path) -> Any:
    """Read a JSON document.

    Raises:
        UserError: As `read_text` does, or the file is not JSON; the message names the line.
    """
    path = Path(path)
    try:
        return json.loads(read_text(path))
    except json.JSONDecodeError as error:
        raise UserError(f"{path}, line {error.lineno}: not valid JSON ({error.msg}); fix the file") from None


def read_text(path: Path, errors: str = "strict") -> str:
    """Read a UTF-8 text file or pipe, with or without a byte-order mark.

    Args:
        path: Text file.
        errors: `strict`, or `surrogateescape` to keep bytes that are not UTF-8 as surrogates.

    Raises:
        UserError: As `read_file` does, or (if `strict`) the file is not UTF-8; the message names the line.
    """
    try:
        return read_file(path, pipes=True).decode("utf-8-sig", errors)
    except UnicodeDecodeError as error:
        line = error.object[: error.start].count(b"\n") + 1
        raise UserError(f"{path}, line {line}: not UTF-8 text; save the file as UTF-8") from None


def read_file(path: Path, pipes: bool = False) -> bytes:
    """Read a file completely.

    Args:
        path: The file.
        pipes: Allow a pipe, such as the shell's `<(command)`.

    Raises:
        UserError: The file is missing, unreadable, or a device, socket or pipe.
    """
    try:
        check_no_device(path, pipes)
        return path.read_bytes()
    except FileNotFoundError:
        raise UserError(f"{path}: no such file; check the path") from None
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror}); name a readable file") from None


def check_no_device(path: Path, pipes: bool = False) -> None:
    """Refuse a device, socket or pipe before it is opened, since it may block or never end.

    Raises:
        UserError: The path is one of these, and not a pipe if `pipes` is set.
    """
    if path.exists() and not (path.is_file() or path.is_dir() or (pipes and path.is_fifo())):
        raise UserError(f"{path}: a device, socket or pipe; name a file")
