"""Whether the inputs that a model of one's own learns from are enough, and still those of the start."""

from collections.abc import Mapping
from pathlib import Path

from vision_rnn.errors import UserError

# One each to train, validate and test.
_FEWEST_OF_ALL = 3


def check_enough(source: Path, number: int, inputs: str, fewest: int, force: bool) -> None:
    """Refuse fewer inputs than `fewest`; with `force`, fewer than one for each split.

    Args:
        source: Where they are.
        number: How many they are.
        inputs: What messages call them, in the plural.
        fewest: How many are needed.
        force: Whether the user wants to go on with fewer.

    Raises:
        UserError: There are fewer.
    """
    needed = _FEWEST_OF_ALL if force else fewest
    if number < needed:
        fix = "at least one each is needed to train, validate and test" if force else "--force goes on nevertheless"
        raise UserError(f"{source}: {number} {inputs} are too few to learn from; add more, to have {needed} ({fix})")


def check_unchanged(before: Mapping[str, str], now: Mapping[str, str], inputs: str, folder: Path) -> None:
    """Refuse inputs that differ from those that `folder` was started with.

    Args:
        before: Digest of each input at the start, by its name.
        now: The same of those that are there now.
        inputs: What messages call them, in the plural.
        folder: The output folder.

    Raises:
        UserError: Some differ; the message names one of each kind.
    """
    kinds = {
        "added": [name for name in now if name not in before],
        "removed": [name for name in before if name not in now],
        "changed": [name for name in now if before.get(name, now[name]) != now[name]],
    }
    if changes := [f"{len(names)} {kind}, such as {names[0]}" for kind, names in kinds.items() if names]:
        raise UserError(
            f"{folder}: was started with other {inputs} ({'; '.join(changes)}); undo that to continue, "
            "or choose another --output"
        )
