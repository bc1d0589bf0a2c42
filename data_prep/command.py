"""What the project's commands share: exit status, one-line errors in place of tracebacks, arguments of a ladder."""

import os
import sys
from collections.abc import Callable

from jsonargparse import ArgumentParser
from jsonargparse.typing import NonNegativeInt

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


def add_ladder_arguments(parser: ArgumentParser, configs: str, output: str) -> None:
    """Add the arguments of a command that climbs a ladder.

    Args:
        parser: The command's.
        configs: By default the folder of the rungs' configurations.
        output: By default the folder of the runs.
    """
    parser.add_argument(
        "configs",
        nargs="?",
        default=configs,
        metavar="FOLDER",
        help="YAML files as of train --config, which name their rungs",
    )
    parser.add_argument(
        "--seeds", type=NonNegativeInt, nargs="+", default=[0], metavar="S", help="in place of training.seed"
    )
    parser.add_argument(
        "-o",
        "--output",
        default=output,
        metavar="FOLDER",
        help="where the table, the figure and the run folders NAME-seedS lie",
    )


def _fail(name: str, message: str, status: int) -> int:
    print(f"{name}: {message}", file=sys.stderr)
    return status
