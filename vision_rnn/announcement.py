"""What is said before work starts: its steps, how long they take, and how much space they need."""

import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from vision_rnn.console import duration, note
from vision_rnn.errors import UserError


@dataclass(frozen=True)
class Estimate:
    """What the remaining steps take.

    Attributes:
        seconds: Wall-clock time.
        size: Bytes on the disk.
    """

    seconds: float
    size: int


def announce(folder: Path, steps: Mapping[str, bool], needed: Estimate) -> None:
    """Say what will be done, how long it will take and how much space it needs, before anything is written.

    Args:
        folder: The folder to be written.
        steps: Whether each step, named by what it does, is left to do.
        needed: What these steps take.

    Raises:
        UserError: There is not enough space on the disk.
    """
    there = next(parent for parent in (folder.resolve(), *folder.resolve().parents) if parent.is_dir())
    if needed.size > (free := shutil.disk_usage(there).free):
        raise UserError(
            f"{folder}: {needed.size / 1e9:.1f} GB are needed, but {free / 1e9:.1f} GB are free; free some space, "
            "or choose another --output"
        )
    note(
        f"{', '.join(step for step, is_left in steps.items() if is_left)}: about {duration(needed.seconds)} and "
        f"{needed.size / 1e9:.1f} GB, written to {folder}; if interrupted, the same command continues"
    )
