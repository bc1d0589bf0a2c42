"""Files that are either complete or absent: written under a temporary name, then renamed.

What is not complete yet lies beside its target, in the folder `.TARGET.unfinished`, with a lock: no other process
writes the target meanwhile. What a killed process leaves there is removed by the next one that writes the target.
"""

import contextlib
import errno
import json
import os
import re
import shutil
import tempfile
import time
from collections.abc import Collection, Iterable, Iterator
from pathlib import Path
from typing import Any

from vision_rnn.console import note
from vision_rnn.errors import UserError
from vision_rnn.locks import InUseError, Lock, remove_locked, take_lock, take_lock_in

# The description of a prepared data set, in its own folder and in that of every run trained on it.
MANIFEST = "manifest.json"
UNFINISHED = ".unfinished"
# In JSON: an escaped backslash, a whole character of two escaped halves, or a half alone.
_SURROGATES = re.compile(
    r"\\\\|\\u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2}|(?P<half>\\u[dD][89a-fA-F][0-9a-fA-F]{2})"
)
# How long another process may take over a small file, such as a text beside a photo.
_PATIENCE = 2.0  # seconds


@contextlib.contextmanager
def atomic_path(target: str | Path) -> Iterator[Path]:
    """Yield a temporary path beside `target`; rename it to `target` if the block succeeds, remove it otherwise.

    The block may create a file or a folder at the path. A file replaces a file and a folder a folder; an existing
    target is kept if the renaming fails or is interrupted.

    Raises:
        UserError: The target cannot be written, is a folder where a file is expected, or the disk is full; or
            (`InUseError`) another process is writing it.
    """
    target = Path(target)
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        staging, lock = _take_staging(target)
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
        _remove_staging(staging, target, lock)


def settle(target: Path) -> None:
    """Remove what a killed process left beside a target; if it was just replacing a folder, complete that.

    Nothing is done while another process writes the target.
    """
    staging = _staging_of(target)
    if staging.is_symlink() or not staging.is_dir():
        return
    with contextlib.suppress(OSError):  # Such as a folder that may only be read.
        lock = take_lock(_lock_of(staging, target))
        if lock and lock.is_held:
            _settle(staging, target)
            _remove_staging(staging, target, lock)
        elif lock:
            lock.file.close()


def settle_in(folder: Path) -> None:
    """Do the same for every target in or below a folder."""
    for staging in list(folder.rglob(f".*{UNFINISHED}")):
        settle(staging.with_name(staging.name[1 : -len(UNFINISHED)]))


def _staging_of(target: Path) -> Path:
    return target.with_name(f".{target.name}{UNFINISHED}")


def _lock_of(staging: Path, target: Path) -> Path:
    return staging / f"{target.name}.lock"


def _take_staging(target: Path) -> tuple[Path, Lock | None]:
    """Return an empty folder beside a target, and its lock, if there are locks here.

    Raises:
        InUseError: Another process is writing the target.
        OSError: The folder cannot be made.
    """
    staging = _staging_of(target)
    deadline = time.monotonic() + _PATIENCE
    while True:
        if staging.is_symlink():
            raise OSError(errno.ELOOP, os.strerror(errno.ELOOP), str(staging))
        lock = take_lock_in(staging, _lock_of(staging, target).name, mode=0o700)
        if lock is None and time.monotonic() > deadline:
            raise InUseError(target)
        if lock is not None:
            break
        time.sleep(0.01)
    if lock.is_held:
        try:
            _settle(staging, target)
        except BaseException:
            lock.file.close()
            raise
        return staging, lock
    # What lies there may be another process's: this one takes a name of its own.
    _remove_staging(staging, target, lock)
    return Path(tempfile.mkdtemp(prefix=f".{target.name}.", suffix=UNFINISHED, dir=target.parent)), None


def _settle(staging: Path, target: Path) -> None:
    """Complete the replacing of a folder, and empty the staging folder; its lock is held."""
    staged, replaced = staging / target.name, staging / f"{target.name}.replaced"
    if os.path.lexists(replaced) and not os.path.lexists(target):
        # The new folder was complete when the old one was moved.
        os.rename(staged if os.path.lexists(staged) else replaced, target)
        note(f"{target}: completed, since a process was killed while it replaced this folder")
    _empty(staging, target)


def _empty(staging: Path, target: Path) -> None:
    for entry in staging.iterdir():
        if entry.is_dir() and not entry.is_symlink():
            shutil.rmtree(entry, ignore_errors=True)
        elif entry != _lock_of(staging, target):
            entry.unlink()


def _remove_staging(staging: Path, target: Path, lock: Lock | None) -> None:
    """Remove a staging folder, the lock last: who has the lock may use the folder."""
    with contextlib.suppress(OSError):
        _empty(staging, target)
        if lock:
            remove_locked(lock.file, _lock_of(staging, target))
        staging.rmdir()
    if lock:
        lock.file.close()


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
        UserError: As `read_text` and `parse_json` do; the message names the line.
    """
    path = Path(path)
    return parse_json(read_text(path), str(path), "fix the file")


def parse_json(text: str, where: str, fix: str, is_line: bool = False) -> Any:
    """Return the value of a JSON text; halves of characters (lone surrogates) become U+FFFD, which is noted.

    Args:
        text: The text.
        where: Its place, for messages.
        fix: What to do if it is not JSON, for messages.
        is_line: Whether the text is one line of a file, and `where` names the line.

    Raises:
        UserError: It is not JSON, is nested too deeply, or holds a number of too many digits.
    """
    halves = 0

    def replace(match: re.Match[str]) -> str:
        nonlocal halves
        halves += match["half"] is not None
        return match[0] if match["half"] is None else "\\ufffd"

    if "\\u" in text:
        text = _SURROGATES.sub(replace, text)
    if halves:
        note(f"{where}: characters of which one half is missing were replaced by \N{REPLACEMENT CHARACTER}: {halves}")
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        line = where if is_line else f"{where}, line {error.lineno}"
        raise UserError(f"{line}: not valid JSON ({error.msg}); {fix}") from None
    except RecursionError:
        raise UserError(f"{where}: nested too deeply; {fix}") from None
    except ValueError as error:  # Of a number, which Python limits to some thousand digits.
        raise UserError(f"{where}: a number has too many digits ({error}); {fix}") from None


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
