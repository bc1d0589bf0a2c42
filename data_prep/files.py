"""Files that are either whole or absent: written under a temporary name, then renamed."""

import contextlib
import errno
import json
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from data_prep.errors import UserError


@contextlib.contextmanager
def atomic_path(target: str | Path) -> Iterator[Path]:
    """Yield a temporary path beside `target`; rename it to `target` if the block ends well, remove it if not.

    The block may create a file or a folder at the path. A file replaces a file, and a folder a folder.

    Raises:
        UserError: The place cannot be written, holds a folder where a file is to be, or the disk is full.
    """
    target = Path(target)
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        staging = Path(tempfile.mkdtemp(prefix=f".{target.name}.", dir=target.parent))
    except OSError as error:
        raise UserError(f"{target}: cannot be written ({error.strerror}); choose another place") from error
    try:
        # The suffix stays: many writers choose their format by it.
        staged = staging / target.name
        yield staged
        if target.is_dir() and staged.is_dir():
            target.rename(staging / "replaced")
        os.replace(staged, target)
    except OSError as error:
        if error.filename is None or Path(error.filename).is_relative_to(staging):
            mend = "free some space" if error.errno == errno.ENOSPC else "choose another place"
            raise UserError(f"{target}: cannot be written ({error.strerror or error}); {mend}") from error
        raise
    finally:
        shutil.rmtree(staging, ignore_errors=True)


def write_json(target: str | Path, document: Any) -> None:
    """Write `document` as indented UTF-8 JSON, whole or not at all."""
    with atomic_path(target) as staged:
        staged.write_text(json.dumps(document, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def read_json(path: str | Path) -> Any:
    """Read a JSON document.

    Raises:
        UserError: The file is missing or not JSON; the message names the line.
    """
    path = Path(path)
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UserError(f"{path}: no such file") from None
    except json.JSONDecodeError as error:
        raise UserError(f"{path}, line {error.lineno}: not valid JSON ({error.msg})") from None
    except UnicodeDecodeError as error:
        raise UserError(f"{path}: not UTF-8 text ({error.reason} at byte {error.start})") from None
