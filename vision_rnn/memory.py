"""The memory that each step of a training frees and the next one asks for again."""

import ctypes
import sys

# Of <malloc.h>.
_M_TRIM_THRESHOLD = -1
_M_MMAP_MAX = -4


def keep_freed_memory() -> None:
    """Let this process keep the memory that it frees, for its next use, where its C library is glibc.

    Otherwise glibc returns each tensor above 32 MiB to the system and asks for it again, and the system clears every
    page of it: up to a fifth of the time of a training step of a wide pixel model (RESULTS.md).
    """
    if sys.platform == "linux":
        set_option = getattr(ctypes.CDLL(None), "mallopt", None)
        if set_option is not None:
            set_option(_M_MMAP_MAX, 0)
            set_option(_M_TRIM_THRESHOLD, 2**31 - 1)
