"""How the project's commands end: their exit status, and one line about what went wrong in place of a traceback."""

import os
import sys
from collections.abc import Callable

from data_prep.errors import UserError


def run_command(name: str, action: Callable[[], int], *mistakes: type[Exception]) -> int:
    """Do what a command does, and return its exit status: that of `action`, 2 for a user's error, 130 if interrupted.

    The arguments of a `KeyboardInterrupt` are printed too: how to go on.

    Args:
        name: The command, which every message begins with.
        action: What the command does; returns 0, or 1 if some inputs were left out.
        mistakes: Further exceptions whose message alone a user needs, as with `UserError`.
    """
    try:
        status = action()
        sys.stdout.flush()  # So that what cannot be written fails here, not at the exit of the interpreter.
        return status
    except (UserError, *mistakes) as error:
        return _fail(name, " ".join(f"error: {error}".split()), 2)
    except KeyboardInterrupt as interruption:
        return _fail(name, "; ".join(["interrupted", *map(str, interruption.args)]), 130)
    except OSError as error:
        # What has a better explanation is a UserError: left is a pipe whose reader has gone, or a full disk behind it.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return _fail(name, f"error: {error}", 2)


def _fail(name: str, message: str, status: int) -> int:
    print(f"{name}: {message}", file=sys.stderr)
    return status
