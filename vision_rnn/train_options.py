"""Which options of a `train` command go together: it learns from a folder in one go, or from a prepared data set."""

from collections.abc import Mapping
from pathlib import Path

from vision_rnn.errors import UserError
from vision_rnn.trainer_config import TrainerConfig


def check_prepared(
    inputs: str, data: str | None, output: str | None, of_source: Mapping[str, object]
) -> tuple[str, str]:
    """Refuse options that do not go with a prepared data set.

    Args:
        inputs: What the command learns from if it gets a folder, with its article, such as `a folder of photos`.
        data: The prepared data set.
        output: The run folder.
        of_source: The options that go with a folder alone, by name; one that is false was not given.

    Returns:
        The prepared data set and the run folder.

    Raises:
        UserError: A needed option is missing, or one of `of_source` is given.
    """
    if data is None:
        raise UserError(f"train: name {inputs}, or a prepared data set with --data")
    if output is None:
        raise UserError("--output: is required with --data; name the run folder to write")
    for option, value in of_source.items():
        if value:
            raise UserError(f"--{option}: goes with {inputs}; omit it")
    return data, output


def check_source(
    source: str | Path,
    data: str | None,
    ckpt_path: str | None,
    trainer: TrainerConfig,
    init_from: str | None,
    from_scratch: bool,
) -> None:
    """Refuse options that do not go with a folder, or not with each other.

    Raises:
        UserError: One is given.
    """
    if data is not None:
        raise UserError(f"--data {data}: cannot be combined with {source}; omit one of them")
    if ckpt_path is not None:
        raise UserError(f"--ckpt_path: goes with --data; the same command continues the training on {source}")
    if trainer != TrainerConfig():
        raise UserError(f"--trainer: goes with --data; omit it, since {source} is trained on with one device")
    if init_from and from_scratch:
        raise UserError("--from-scratch: cannot be combined with --init_from; omit one of them")
