"""A ladder: several configurations trained and measured alike, each with several seeds, so that they can be compared.

A rung is a configuration of `train`; with a seed it is a run, in a folder of its own, to which is added:
`seconds.json`, how long its training took; `validation.json` and `test.json`, how its model does on these splits.
"""

import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, is_dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from jsonargparse import ArgumentError
from torch import nn

from vision_rnn.cli import command_parser
from vision_rnn.console import note
from vision_rnn.devices import Device, resolve_device
from vision_rnn.errors import UserError
from vision_rnn.files import atomic_path, read_json, write_json
from vision_rnn.run_folder import CONFIG, LAST, Prepared, check_data, checkpoint_folder, read_settings

MEASURED = ("validation", "test")
_SECONDS = "seconds.json"


@dataclass(frozen=True)
class Rung:
    """One configuration of a ladder.

    Attributes:
        name: What its runs are called after.
        data: Folder of the prepared data set.
        configs: The arguments of `train` that say what is trained and how, by their names; the seed of `training` is
            replaced by the runs'.
    """

    name: str
    data: str
    configs: Mapping[str, Any]

    def with_seed(self, seed: int) -> dict[str, Any]:
        """Return the configurations of the run with this seed."""
        return {**self.configs, "training": replace(self.configs["training"], seed=seed)}


@dataclass(frozen=True)
class Kind:
    """What a ladder compares.

    Attributes:
        open_data: Opens a folder of prepared data.
        train: Trains a run, given `data`, `output`, the rung's configurations and `ckpt_path`; `output/model` is the
            last that it writes.
        load: Loads the model of a run.
        evaluate: Measures a model on a split of the data.
        sizes: What is counted of a model, by name.
        scores: Which numbers of an evaluation are collected.
    """

    open_data: Callable[[str], Prepared]
    train: Callable[..., object]
    load: Callable[[Path], nn.Module]
    evaluate: Callable[[Any, Any, str], dict[str, Any]]
    sizes: Callable[[Any], dict[str, int]]
    scores: Sequence[str]


@dataclass(frozen=True)
class Measurement:
    """What became of one rung.

    Attributes:
        rung: The rung.
        seeds: Of its runs.
        sizes: What was counted of its model, by name.
        scores: By split and name, one for each seed.
        seconds: Wall-clock time of the training, its validation included, for each seed; None if it was interrupted
            and resumed.
    """

    rung: Rung
    seeds: list[int]
    sizes: dict[str, int]
    scores: dict[str, dict[str, list[float]]]
    seconds: list[float | None]

    def document(self) -> dict[str, Any]:
        """Return it as JSON can hold it, with mean and standard deviation over the seeds."""
        configs = {name: asdict(config) for name, config in self.rung.configs.items()}
        del configs["training"]["seed"]
        summaries = {
            split: {
                name: {"of_each_seed": values, "mean": statistics.mean(values), "standard_deviation": deviation(values)}
                for name, values in scores.items()
            }
            for split, scores in self.scores.items()
        }
        of_runs = {"seeds": self.seeds, "seconds": self.seconds, "scores": summaries}
        return {"name": self.rung.name, "data": self.rung.data, **configs, **self.sizes, **of_runs}

    def mean_seconds(self) -> str:
        """Return the mean of the known seconds as a table shows it, empty if none is known."""
        known = [seconds for seconds in self.seconds if seconds is not None]
        return f"{statistics.mean(known):.0f}" if known else ""

    def summary(self, split: str, score: str, digits: int) -> str:
        """Return mean and standard deviation over the seeds as a table shows them."""
        values = self.scores[split][score]
        spread = deviation(values)
        return f"{statistics.mean(values):.{digits}f}" + ("" if spread is None else f" ± {spread:.{digits}f}")


def deviation(values: Sequence[float]) -> float | None:
    """Return the standard deviation of what the values are a sample of; None for a single one."""
    return statistics.stdev(values) if len(values) > 1 else None


def over_seeds(measurements: Sequence[Measurement]) -> str:
    """Say what the numbers of a table are: of one seed, or over which."""
    seeds = measurements[0].seeds
    listed = ", ".join(map(str, seeds))
    return f"mean ± standard deviation over the seeds {listed}" if len(seeds) > 1 else f"seed {listed}"


def read_rungs(folder: Path, train: Callable[..., Path]) -> list[Rung]:
    """Read the configurations of a folder, in the order of their names.

    Args:
        folder: Holds YAML files, each a rung.
        train: The command that they configure.

    Raises:
        UserError: There is none, or one is no configuration, or one does not start from nothing.
    """
    rungs, parser = [], command_parser("", "train", train)
    for path in sorted(folder.glob("*.yaml")):
        try:
            options = parser.instantiate(parser.parse_args(["--config", str(path)]))
        except (ArgumentError, UserError) as error:
            raise UserError(f"{path}: {error}") from error
        if options.init_from or options.ckpt_path:
            raise UserError(f"{path}: a rung is trained from nothing; leave out init_from and ckpt_path")
        configs = {name: value for name, value in vars(options).items() if is_dataclass(value)}
        rungs.append(Rung(path.stem, options.data, configs))
    if not rungs:
        raise UserError(f"{folder}: holds no configuration; name a folder of YAML files, as of train --config")
    return rungs


def climb(
    kind: Kind, rungs: Sequence[Rung], seeds: Sequence[int], output: Path, device: Device = "auto"
) -> list[Measurement]:
    """Train and measure every rung with every seed, as far as that was not done before.

    Args:
        kind: What is compared.
        rungs: The rungs, all on one data set.
        seeds: Each rung is trained with each; all rungs with the first before any with the second.
        output: Where the run folders `NAME-seedS` lie.
        device: The device to train and measure on.

    Returns:
        One for each rung.

    Raises:
        UserError: The data lack a split, or a run was begun with other settings or other data.
        KeyboardInterrupt: The user wants to stop; what was done is kept.
    """
    data = _open_data(kind, rungs)
    seeds = list(dict.fromkeys(seeds))
    runs = [(rung, seed, output / f"{rung.name}-seed{seed}") for seed in seeds for rung in rungs]
    for rung, seed, run in runs:
        _check_begun(run, rung, seed, data)
    try:
        for number, (rung, seed, run) in enumerate(runs, start=1):
            note(f"run {number} of {len(runs)}: {run}")
            finish(run, partial(kind.train, data=rung.data, output=str(run), device=device, **rung.with_seed(seed)))
            _measure(kind, run, data, device)
    except KeyboardInterrupt:
        raise KeyboardInterrupt("what was done is kept, and the same command goes on") from None
    return [_collect(kind, rung, {seed: output / f"{rung.name}-seed{seed}" for seed in seeds}) for rung in rungs]


def finish(run: Path, train: Callable[..., object]) -> None:
    """Bring a run to its end: from nothing, from its last whole epoch, or by doing nothing if it has its model.

    How long it took is written only for a training that was not resumed: what an interrupted one spent in vain is not
    known.

    Args:
        run: The run folder.
        train: Trains the run, given `ckpt_path`, None or `last`, and writes `run/model` as the last thing.
    """
    if (run / "model").is_dir():
        return
    if (checkpoint_folder(run) / LAST).is_file():
        train(ckpt_path="last")
        return
    start = time.monotonic()
    train(ckpt_path=None)
    write_json(run / _SECONDS, time.monotonic() - start)


def write_report(
    measurements: Sequence[Measurement], output: Path, table: str, draw: Callable[[Sequence[Measurement], Path], None]
) -> None:
    """Write `ladder.json`, `ladder.md` and `ladder.png`.

    Args:
        measurements: The rungs.
        output: The folder.
        table: In Markdown.
        draw: Draws them into a file.
    """
    write_json(output / "ladder.json", [measurement.document() for measurement in measurements])
    with atomic_path(output / "ladder.md") as staged:
        staged.write_text(table, encoding="utf-8")
    draw(measurements, output / "ladder.png")


def _open_data(kind: Kind, rungs: Sequence[Rung]) -> Prepared:
    first, *others = rungs
    for other in others:
        if other.data != first.data:
            raise UserError(f"{other.name}: on {other.data}, but {first.name} on {first.data}; give all the same data")
    data = kind.open_data(first.data)
    for split in MEASURED:
        if split not in data.manifest["splits"]:
            raise UserError(f"{data.folder}: has no split '{split}', on which rungs are measured; choose other data")
    return data


def _check_begun(run: Path, rung: Rung, seed: int, data: Prepared) -> None:
    """Refuse a run that was begun with other data or settings: its numbers would be those of another rung."""
    check_data(data, run)
    if not (run / CONFIG).is_file():
        return
    written = read_settings(run)
    for part, settings in rung.with_seed(seed).items():
        # A setting that the run does not know is younger than the run, and its default is what was done before.
        begun = asdict(type(settings)()) | written[part]
        for name, value in asdict(settings).items():
            was = tuple(begun[name]) if isinstance(begun[name], list) else begun[name]
            # None leaves it to the training to fill in.
            if value is not None and was != value:
                change = f"{part}.{name} was {was}, and is {value} now"
                raise UserError(f"{run}: begun with other settings ({change}); delete it, or choose another output")


def _measure(kind: Kind, run: Path, data: Prepared, device: Device) -> None:
    """Evaluate the model of a run on each split, and keep the results in its folder."""
    missing = [split for split in MEASURED if not (run / f"{split}.json").is_file()]
    if not missing:
        return
    model = kind.load(run / "model").to(resolve_device(device))
    for split in missing:
        write_json(run / f"{split}.json", kind.evaluate(model, data, split))


def _collect(kind: Kind, rung: Rung, runs: dict[int, Path]) -> Measurement:
    sizes = kind.sizes(kind.load(next(iter(runs.values())) / "model"))
    documents = {split: [read_json(run / f"{split}.json") for run in runs.values()] for split in MEASURED}
    scores = {
        split: {name: [document[name] for document in of_runs] for name in kind.scores}
        for split, of_runs in documents.items()
    }
    seconds = [read_json(path) if (path := run / _SECONDS).is_file() else None for run in runs.values()]
    return Measurement(rung, list(runs), sizes, scores, seconds)
