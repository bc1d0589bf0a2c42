"""A sweep over configurations and seeds: all are trained and measured in the same way, so that they can be compared.

A rung is a configuration of `train`; a rung and a seed make a run. To the run folder are added `seconds.json`, the
training time, and `validation.json` and `test.json`, the scores of the model on these splits.
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
from vision_rnn.run_folder import LAST, Prepared, check_data, check_settings, checkpoint_folder

MEASURED = ("validation", "test")
_SECONDS = "seconds.json"


@dataclass(frozen=True)
class Rung:
    """One configuration of a sweep.

    Attributes:
        name: Name; the run folders are called NAME-seedS.
        data: Folder of the prepared data set.
        configs: Arguments of `train` by name; the seed of `training` is replaced by that of the run.
    """

    name: str
    data: str
    configs: Mapping[str, Any]

    def with_seed(self, seed: int) -> dict[str, Any]:
        """Return the configurations of the run with a seed."""
        return {**self.configs, "training": replace(self.configs["training"], seed=seed)}


@dataclass(frozen=True)
class Sweep:
    """How the models of a sweep are trained and measured.

    Attributes:
        open_data: Opens a folder of prepared data.
        train: Trains a run, given `data`, `output`, the rung's configurations and `ckpt_path`; writes
            `output/model` last.
        load: Loads the model of a run.
        evaluate: Measures a model on a split of the data.
        sizes: Counts the parts of a model, by name.
        scores: Names of the numbers of an evaluation that are collected.
    """

    open_data: Callable[[str], Prepared]
    train: Callable[..., object]
    load: Callable[[Path], nn.Module]
    evaluate: Callable[[Any, Any, str], dict[str, Any]]
    sizes: Callable[[Any], dict[str, int]]
    scores: Sequence[str]


@dataclass(frozen=True)
class Measurement:
    """The results of one rung.

    Attributes:
        rung: The rung.
        seeds: Seeds of its runs.
        sizes: Counts of its model, by name.
        scores: One number per seed, by split and name.
        seconds: Wall-clock time of the training per seed, validation included; None if it was interrupted and
            resumed.
    """

    rung: Rung
    seeds: list[int]
    sizes: dict[str, int]
    scores: dict[str, dict[str, list[float]]]
    seconds: list[float | None]

    def document(self) -> dict[str, Any]:
        """Return the results in JSON types, with mean and standard deviation over the seeds."""
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
        """Return the mean of the known times for a table, empty if none is known."""
        known = [seconds for seconds in self.seconds if seconds is not None]
        return f"{statistics.mean(known):.0f}" if known else ""

    def summary(self, split: str, score: str, digits: int) -> str:
        """Return mean and standard deviation over the seeds for a table."""
        values = self.scores[split][score]
        spread = deviation(values)
        return f"{statistics.mean(values):.{digits}f}" + ("" if spread is None else f" ± {spread:.{digits}f}")


def deviation(values: Sequence[float]) -> float | None:
    """Return the sample standard deviation of the values; None for a single value."""
    return statistics.stdev(values) if len(values) > 1 else None


def over_seeds(measurements: Sequence[Measurement]) -> str:
    """Describe the numbers of a table: of one seed, or mean and deviation over several."""
    seeds = measurements[0].seeds
    listed = ", ".join(map(str, seeds))
    return f"mean ± standard deviation over the seeds {listed}" if len(seeds) > 1 else f"seed {listed}"


def ladder_folder(configs: str | None, quick: bool, bundled: Path) -> Path:
    """Return the folder of a ladder's configurations.

    Args:
        configs: Folder that the user named, or None for a bundled one.
        quick: Choose the quick one of the bundled ladders.
        bundled: Folder of the bundled configurations.

    Raises:
        UserError: A folder is named, and `quick` is set.
    """
    if configs and quick:
        raise UserError(f"{configs}: --quick has configurations of its own; omit it, or the folder")
    return Path(configs) if configs else bundled / ("ladder-quick" if quick else "ladder")


def quick_note(measurements: Sequence[Measurement], bundled: Path, data: Prepared) -> str:
    """Describe what a quick ladder omits, as a line of Markdown.

    Args:
        measurements: Measurements of the quick ladder.
        bundled: Folder of the bundled configurations, with those of the full ladder.
        data: Data set of the rungs.
    """
    rungs = len(list((bundled / "ladder").glob("*.yaml")))
    images, drawn_from = data.manifest["splits"]["train"]["images"], data.manifest.get("drawn_from", {})
    of_all = f" of {drawn_from['train']:,}" if "train" in drawn_from else ""
    epochs = max(measurement.rung.configs["training"].epochs for measurement in measurements)
    return (
        f"Quick ladder: {len(measurements)} of {rungs} rungs, {images:,}{of_all} training images, epochs: {epochs}. It "
        "shows an order, not what each rung can reach; for that, omit --quick.\n"
    )


def read_rungs(folder: Path, train: Callable[..., Path]) -> list[Rung]:
    """Read the configurations of a folder, sorted by name.

    Args:
        folder: Folder of YAML files, one per rung.
        train: Command that they configure.

    Raises:
        UserError: There is no configuration, a file is not one, or a rung would start from a trained model.
    """
    rungs, parser = [], command_parser("", "train", train)
    for path in sorted(folder.glob("*.yaml"), key=lambda path: path.stem):
        try:
            options = parser.instantiate(parser.parse_args(["--config", str(path)]))
        except (ArgumentError, UserError) as error:
            raise UserError(f"{path}: {error}") from error
        if options.init_from or options.ckpt_path:
            raise UserError(f"{path}: a rung is trained from the beginning; omit init_from and ckpt_path")
        configs = {name: value for name, value in vars(options).items() if is_dataclass(value)}
        rungs.append(Rung(path.stem, options.data, configs))
    if not rungs:
        raise UserError(f"{folder}: has no configurations; name a folder of YAML files, as of train --config")
    return rungs


def run_sweep(
    sweep: Sweep, rungs: Sequence[Rung], seeds: Sequence[int], output: Path, device: Device = "auto"
) -> list[Measurement]:
    """Train and measure every rung with every seed; finished runs are skipped.

    Args:
        sweep: How to train and measure.
        rungs: Rungs, all on one data set.
        seeds: Random seeds; all rungs are trained with the first before any with the second.
        output: Folder that contains the run folders `NAME-seedS`.
        device: Device to train and measure on.

    Returns:
        One measurement per rung.

    Raises:
        UserError: The data lack a split, or a run was started with other settings or other data.
        KeyboardInterrupt: The user stopped it; finished work is kept.
    """
    data = _open_data(sweep, rungs)
    seeds = list(dict.fromkeys(seeds))
    runs = [(rung, seed, output / f"{rung.name}-seed{seed}") for seed in seeds for rung in rungs]
    for rung, seed, run in runs:
        _check_started(run, rung, seed, data)
    try:
        for number, (rung, seed, run) in enumerate(runs, start=1):
            note(f"run {number} of {len(runs)}: {run}")
            finish(run, partial(sweep.train, data=rung.data, output=str(run), device=device, **rung.with_seed(seed)))
            _measure(sweep, run, data, device)
    except KeyboardInterrupt:
        raise KeyboardInterrupt("finished work is kept; the same command continues it") from None
    return [_collect(sweep, rung, {seed: output / f"{rung.name}-seed{seed}" for seed in seeds}) for rung in rungs]


def finish(run: Path, train: Callable[..., object]) -> None:
    """Complete a run: from the beginning, from its last complete epoch, or not at all if it has its model.

    The time is written only for a training that was not resumed: how much an interrupted one lost is not known.

    Args:
        run: The run folder.
        train: Trains the run, given `ckpt_path`, None or `last`, and writes `run/model` last.
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
        table: Table in Markdown.
        draw: Draws the figure into a file.
    """
    write_json(output / "ladder.json", [measurement.document() for measurement in measurements])
    with atomic_path(output / "ladder.md") as staged:
        staged.write_text(table, encoding="utf-8")
    draw(measurements, output / "ladder.png")


def _open_data(sweep: Sweep, rungs: Sequence[Rung]) -> Prepared:
    first, *others = rungs
    for other in others:
        if other.data != first.data:
            raise UserError(f"{other.name}: on {other.data}, but {first.name} on {first.data}; give all the same data")
    data = sweep.open_data(first.data)
    for split in MEASURED:
        if split not in data.manifest["splits"]:
            raise UserError(f"{data.folder}: has no split '{split}', which rungs are measured on; choose other data")
    return data


def _check_started(run: Path, rung: Rung, seed: int, data: Prepared) -> None:
    """Refuse a run that was started with other data or settings: its numbers would belong to another rung."""
    check_data(data, run)
    check_settings(run, rung.with_seed(seed))


def _measure(sweep: Sweep, run: Path, data: Prepared, device: Device) -> None:
    """Evaluate the model of a run on each split, and keep the results in its folder."""
    missing = [split for split in MEASURED if not (run / f"{split}.json").is_file()]
    if not missing:
        return
    model = sweep.load(run / "model").to(resolve_device(device))
    for split in missing:
        write_json(run / f"{split}.json", sweep.evaluate(model, data, split))


def _collect(sweep: Sweep, rung: Rung, runs: dict[int, Path]) -> Measurement:
    sizes = sweep.sizes(sweep.load(next(iter(runs.values())) / "model"))
    documents = {split: [read_json(run / f"{split}.json") for run in runs.values()] for split in MEASURED}
    scores = {
        split: {name: [document[name] for document in of_runs] for name in sweep.scores}
        for split, of_runs in documents.items()
    }
    seconds = [read_json(path) if (path := run / _SECONDS).is_file() else None for run in runs.values()]
    return Measurement(rung, list(runs), sizes, scores, seconds)
