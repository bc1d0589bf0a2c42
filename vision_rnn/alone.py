"""A folder that one process has for itself, such as the run folder of a training."""

import contextlib
import functools
import time
from collections.abc import Callable, Iterator
from contextvars import ContextVar
from pathlib import Path
from typing import ParamSpec, TypeVar

from vision_rnn.console import note
from vision_rnn.files import settle_in, unwritable
from vision_rnn.locks import InUseError, remove_locked, take_lock_in

# In the folder, while a process has it.
LOCK = ".lock"

_OWN: ContextVar[frozenset[Path]] = ContextVar("own", default=frozenset())

P = ParamSpec("P")
R = TypeVar("R")


@contextlib.contextmanager
def alone_in(folder: Path, wait: bool = False) -> Iterator[None]:
    """Create a folder if need be, keep other processes out of it, and settle what killed ones left there.

    A folder that was created and is still empty at the end is removed. Blocks of one process may be nested.

    Args:
        folder: The folder.
        wait: Wait, after a note, for another process that has it.

    Raises:
        UserError: The folder cannot be written, or (`InUseError`) another process has it.
    """
    own = folder.resolve()
    if own in _OWN.get():
        yield
        return
    created = [each for each in (folder, *folder.parents) if not each.exists()]
    try:
        lock = take_lock_in(folder, LOCK)
        if lock is None and wait:
            note(f"{folder}: another process is working there; waiting for it")
        while lock is None and wait:
            time.sleep(0.2)
            lock = take_lock_in(folder, LOCK)
    except OSError as error:
        raise unwritable(folder, error) from error
    if lock is None:
        raise InUseError(folder)
    if not lock.is_held:
        note(f"{folder}: there are no locks on this file system; start no second process on this folder")
    before = _OWN.set(_OWN.get() | {own})
    try:
        settle_in(folder)
        yield
    finally:
        _OWN.reset(before)
        with contextlib.suppress(OSError):
            remove_locked(lock.file, folder / LOCK)
            for each in created:
                each.rmdir()


def alone_in_output(write: Callable[P, R]) -> Callable[P, R]:
    """Let a training have the folder `output`, one of its keyword arguments, for itself; see `alone_in`.

    Of several processes that train together, the first has it for all.
    """

    @functools.wraps(write)
    def alone(*args: P.args, **kwargs: P.kwargs) -> R:
        from vision_rnn.processes import is_first_process  # Imports torch, which no `--help` needs.

        with alone_in(Path(str(kwargs["output"]))) if is_first_process() else contextlib.nullcontext():
            return write(*args, **kwargs)

    return alone
