"""Checksums of files, verified whenever a file is opened: they find what a disk or a copy has changed by accident.

XXH3 (128 bits) is hashed at the rate of memory, so that this costs little more than reading the file once. It protects
from accidents, not from people: who changes a file can change its checksum too.
"""

import functools
from collections.abc import Collection
from pathlib import Path

import xxhash

from vision_rnn.console import Progress

# Of the files in and below its folder, in the format of `xxh128sum --check`.
SUMS = "XXH128SUMS"
DIGEST_BYTES = 16
_BLOCK = 2**20


def digest(path: Path, size: int | None = None) -> bytes:
    """Return the checksum of the first `size` bytes of a file (default: of all).

    An unchanged file (by inode, size and time) is hashed once by each process.

    Raises:
        OSError: The file cannot be read.
    """
    status = path.stat()
    identity = (status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns)
    return _digest(path, status.st_size if size is None else size, identity)


@functools.cache
def _digest(path: Path, size: int, identity: tuple[int, ...]) -> bytes:
    hashed, block = xxhash.xxh3_128(), memoryview(bytearray(_BLOCK))
    # A file of a gigabyte takes a quarter of a second, or more where it is not in memory yet.
    with (
        open(path, "rb", buffering=0) as file,
        Progress(size // 2**30 or 1, f"checking {path.name}", "GiB") as progress,
    ):
        left, shown = size, size
        while left and (read := file.readinto(block[: min(left, _BLOCK)])):
            hashed.update(block[:read])
            left -= read
            if shown - left >= 2**30:
                shown -= 2**30
                progress.update()
    return hashed.digest()


def write_sums(folder: Path) -> None:
    """Write the checksums of all files in and below a folder."""
    files = sorted(path for path in folder.rglob("*") if path.is_file() and path != folder / SUMS)
    lines = [f"{digest(path).hex()}  {path.relative_to(folder).as_posix()}\n" for path in files]
    (folder / SUMS).write_text("".join(lines), encoding="utf-8")


def read_sums(folder: Path) -> dict[str, str]:
    """Return the checksums of a folder by file, in hexadecimal; of a damaged line no sense is made."""
    lines = (folder / SUMS).read_text(encoding="utf-8", errors="replace").splitlines()
    return {name: checksum for checksum, _, name in (line.partition("  ") for line in lines)}


def first_damaged(folder: Path, names: Collection[str]) -> str | None:
    """Return the first of some files that is missing or differs from what was written; None if none does."""
    sums = read_sums(folder)
    for name in names:
        path = folder / name
        if not path.is_file() or digest(path).hex() != sums.get(name):
            return name
    return None
