"""The ladder by depth: the same pixel model with more and more layers, every rung trained and measured alike.

The ablations of Pixel Recurrent Neural Networks (arXiv 1601.06759, section 5.4: residual and skip connections, and
depth; there of CIFAR-10), at a fixed budget. A rung is a configuration of `pixelrnn train`; with a seed it is a run, in
a folder of its own, to which is added: `seconds.json`, how long its training took; `validation.json` and `test.json`,
how likely its model finds these splits.
"""

import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
import yaml
from tqdm import tqdm

from data_prep.errors import UserError
from data_prep.files import read_json, write_json
from data_prep.prepared_pixels import PreparedPixels
from data_prep.run_folder import check_data
from pixelrnn.model import ModelConfig, load_pixel_model
from pixelrnn.run import train
from pixelrnn.scoring import evaluate
from pixelrnn.training import TrainingConfig

MEASURED = ("validation", "test")
_SECONDS = "seconds.json"


@dataclass(frozen=True)
class Rung:
    """One configuration of the ladder; its seed is replaced by the runs'.

    Attributes:
        name: What its runs are called after.
        data: Folder of the prepared data set.
        model: The architecture.
        training: How it is trained.
    """

    name: str
    data: str
    model: ModelConfig
    training: TrainingConfig


@dataclass(frozen=True)
class Measurement:
    """What became of one rung; each list has a number for each seed.

    Attributes:
        rung: The rung.
        seeds: Of its runs.
        parameters: Of its model.
        validation: -ln p of an image of the validation split, in nats, the mean over its images.
        test: The same of the test split.
        seconds: Wall-clock time of the training, its validation included; None if it was interrupted and resumed.
    """

    rung: Rung
    seeds: list[int]
    parameters: int
    validation: list[float]
    test: list[float]
    seconds: list[float | None]

    def document(self) -> dict[str, Any]:
        """Return it as JSON can hold it, with mean and standard deviation over the seeds."""
        nats = {
            split: {"of_each_seed": values, "mean": statistics.mean(values), "standard_deviation": deviation(values)}
            for split, values in (("validation", self.validation), ("test", self.test))
        }
        rung = asdict(self.rung)
        del rung["training"]["seed"]
        return rung | {
            "seeds": self.seeds,
            "parameters": self.parameters,
            "seconds": self.seconds,
            "nats_per_image": nats,
        }


def deviation(values: Sequence[float]) -> float | None:
    """Return the standard deviation of what the values are a sample of; None for a single one."""
    return statistics.stdev(values) if len(values) > 1 else None


def climb(
    rungs: Sequence[Rung], seeds: Sequence[int], output: Path, note: Callable[[str], object]
) -> list[Measurement]:
    """Train and measure every rung with every seed, as far as that was not done before.

    Args:
        rungs: The rungs, all on one data set.
        seeds: Each rung is trained with each; all rungs with the first before any with the second.
        output: Where the run folders `NAME-seedS` lie.
        note: Told what is at hand.

    Returns:
        One for each rung, those with fewer layers first.

    Raises:
        UserError: The data lack a split, or a run was begun with other settings or other data.
        KeyboardInterrupt: The user wants to stop; what was done is kept.
    """
    data = _open_data(rungs)
    runs = [(rung, seed, output / f"{rung.name}-seed{seed}") for seed in seeds for rung in rungs]
    for rung, seed, run in runs:
        _check_begun(run, rung, seed, data)
    try:
        for number, (rung, seed, run) in enumerate(runs, start=1):
            note(f"run {number} of {len(runs)}: {run}")
            finish(run, partial(_train, rung, seed, run))
            _measure(run, data)
    except KeyboardInterrupt:
        raise KeyboardInterrupt("what was done is kept, and the same command goes on") from None
    by_depth = sorted(rungs, key=lambda rung: (rung.model.num_layers, rung.model.residual, rung.model.skip))
    return [_collect(rung, {seed: output / f"{rung.name}-seed{seed}" for seed in seeds}) for rung in by_depth]


def finish(run: Path, train: Callable[[str | None], object]) -> None:
    """Bring a run to its end: from nothing, from its last whole epoch, or by doing nothing if it has its model.

    How long it took is written only for a training that was not resumed: what an interrupted one spent in vain is not
    known.

    Args:
        run: The run folder.
        train: Trains the run, given None or `last`, and writes `run/model` as the last thing.
    """
    if (run / "model").is_dir():
        return
    if (run / "checkpoints" / "last.ckpt").is_file():
        train("last")
        return
    start = time.monotonic()
    train(None)
    write_json(run / _SECONDS, time.monotonic() - start)


def _train(rung: Rung, seed: int, run: Path, checkpoint: str | None) -> None:
    train(rung.data, str(run), rung.model, replace(rung.training, seed=seed), ckpt_path=checkpoint)


def _open_data(rungs: Sequence[Rung]) -> PreparedPixels:
    first, *others = rungs
    for other in others:
        if other.data != first.data:
            raise UserError(f"{other.name}: on {other.data}, but {first.name} on {first.data}; give all the same data")
    data = PreparedPixels.open(first.data)
    for split in MEASURED:
        if split not in data.manifest["splits"]:
            raise UserError(f"{data.folder}: has no split '{split}', on which rungs are measured; choose other data")
    return data


def _check_begun(run: Path, rung: Rung, seed: int, data: PreparedPixels) -> None:
    """Refuse a run that was begun with other data or settings: its numbers would be those of another rung."""
    check_data(data, run)
    config = run / "config.yaml"
    if not config.is_file():
        return
    written = yaml.safe_load(config.read_text())
    for part, settings in (("model", rung.model), ("training", replace(rung.training, seed=seed))):
        # A setting that the run does not know is younger than the run, and its default is what was done before.
        begun = asdict(type(settings)()) | written[part]
        for name, value in asdict(settings).items():
            was = tuple(begun[name]) if isinstance(begun[name], list) else begun[name]
            if was != value:
                change = f"{part}.{name} was {was}, and is {value} now"
                raise UserError(f"{run}: begun with other settings ({change}); delete it, or choose another output")


def _measure(run: Path, data: PreparedPixels) -> None:
    """Evaluate the model of a run on each split, and keep the results in its folder."""
    missing = [split for split in MEASURED if not (run / f"{split}.json").is_file()]
    if not missing:
        return
    model = load_pixel_model(run / "model").to("cuda" if torch.cuda.is_available() else "cpu")
    for split in missing:
        total = data.manifest["splits"][split]["images"]
        with tqdm(total=total, desc=f"measuring {split}", unit="image", disable=None) as progress:
            document = evaluate(model, data, split, progress=progress.update)
        write_json(run / f"{split}.json", document)


def _collect(rung: Rung, runs: dict[int, Path]) -> Measurement:
    folders = list(runs.values())
    model = load_pixel_model(folders[0] / "model")
    validation, test = ([read_json(run / f"{split}.json")["nats_per_image"] for run in folders] for split in MEASURED)
    seconds = [read_json(run / _SECONDS) if (run / _SECONDS).is_file() else None for run in folders]
    return Measurement(
        rung, list(runs), sum(parameter.numel() for parameter in model.parameters()), validation, test, seconds
    )
