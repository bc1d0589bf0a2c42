"""Locks on files. A lock ends with the process that holds it, however that ends: none is left behind."""

import errno
import itertools
import os
import stat
from pathlib import Path
from typing import BinaryIO, NamedTuple

from vision_rnn.errors import UserError

try:
    import fcntl
except ImportError:  # Windows.
    fcntl = None

# Of file systems, mostly network ones, that know no locks.
_UNKNOWN = (errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOTSUP)
_ATTEMPTS = 100


class InUseError(UserError):
    """Another process is writing what this one would write."""

    def __init__(self, target: str | Path):
        super().__init__(f"{target}: another process is writing it; wait for it, or choose another output")


class Lock(NamedTuple):
    """A file that this process has locked until it closes it.

    Attributes:
        file: The file, open for reading and writing.
        is_held: False where the system or the file system knows no locks; others may then have the file too.
    """

    file: BinaryIO
    is_held: bool


def take_lock(path: Path) -> Lock | None:
    """Open a file, created if it is missing, and lock it; return None if another process has locked it.

    A link is not followed, since it may lead to any file of the user's.

    Raises:
        OSError: The file cannot be opened, or is a link or no regular file.
    """
    while True:
        if path.is_symlink():
            raise OSError(errno.ELOOP, "a link, which is not followed", str(path))
        # A pipe must not block.
        flags = os.O_RDWR | os.O_CREAT | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0)
        file = os.fdopen(os.open(path, flags, 0o666), "r+b", buffering=0)
        try:
            if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
                raise OSError(errno.EINVAL, "not a regular file", str(path))
            is_held = _lock(file)
            if _is_at(file, path):
                return Lock(file, is_held)
        except BlockingIOError:
            file.close()
            return None
        except BaseException:
            file.close()
            raise
        # The last holder removed it between our opening and locking it.
        file.close()


def take_lock_in(folder: Path, name: str, mode: int = 0o777) -> Lock | None:
    """Do the same for a file in a folder, created if it is missing, which the last holder of the lock may remove."""
    for attempt in itertools.count(1):
        try:
            folder.mkdir(mode, parents=True, exist_ok=True)
            return take_lock(folder / name)
        except (FileExistsError, FileNotFoundError):
            # Others create and remove the folder meanwhile; or it cannot be made.
            if attempt == _ATTEMPTS:
                raise


def remove_locked(file: BinaryIO, path: Path) -> None:
    """Remove a file that this process has locked, and close it.

    Raises:
        OSError: It cannot be removed.
    """
    if os.name == "nt":  # An open file cannot be removed there.
        file.close()
    try:
        # Before it is closed: afterwards it may be another process's.
        path.unlink()
    finally:
        file.close()


def _lock(file: BinaryIO) -> bool:
    """Lock an open file; return False if that is not possible here.

    Raises:
        BlockingIOError: Another process has locked it.
    """
    if fcntl is None:
        return False
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise
    except OSError as error:
        if error.errno not in _UNKNOWN:
            raise
        return False
    return True


def _is_at(file: BinaryIO, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(file.fileno()), os.lstat(path))
    except FileNotFoundError:
        return False
