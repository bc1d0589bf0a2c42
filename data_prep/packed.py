"""A limit on how much a compressed file may unpack to, which is checked before it is unpacked."""

from pathlib import Path

from vision_rnn.errors import UserError

# Pixels are rarely packed to less than a twentieth, while the formats allow a thousandth.
_FREE, _FACTOR = 2**29, 100


def largest_unpacked(packed: int) -> int:
    """Return how many bytes a file of `packed` bytes may unpack to."""
    return max(_FREE, _FACTOR * packed)


def too_large(path: Path, packed: int, unpacked: str, fix: str) -> UserError:
    """Return the error for a file that unpacks to more.

    Args:
        path: The file.
        packed: Its bytes.
        unpacked: What it unpacks to, in words.
        fix: What to do about it.
    """
    return UserError(f"{path}: {packed / 1e6:.1f} MB that unpack to {unpacked}, as decompression bombs do; {fix}")
