"""The depth ladder: the same pixel model with an increasing number of layers.

The ablations of Pixel Recurrent Neural Networks (arXiv 1601.06759, section 5.4: residual and skip connections, and
depth; on CIFAR-10 in the paper), at a fixed training budget.
"""

import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from data_prep.prepared_pixels import PreparedPixels
from pixelrnn.exact_likelihood import evaluate
from pixelrnn.model import PixelModel, load_pixel_model
from pixelrnn.training.run import train
from vision_rnn.files import atomic_path
from vision_rnn.sweep import Measurement, Sweep, deviation, over_seeds
from vision_rnn.tables import markdown_table

NATS = "nats_per_image"
_COLUMNS = (
    "rung",
    "layers",
    "residual",
    "skip",
    "parameters",
    "validation nats",
    "test nats",
    "training seconds",
)
# Legend, colour and marker by (residual, skip).
_STYLES = {
    (True, True): ("residual and skip connections", "#4c9f70", "o"),
    (False, False): ("neither", "#d1495b", "s"),
    (True, False): ("residual connections only", "#3d6cb9", "^"),
    (False, True): ("skip connections only", "#edae49", "v"),
}
_DOTS_PER_INCH = 110


def _sizes(model: PixelModel) -> dict[str, int]:
    return {"parameters": sum(parameter.numel() for parameter in model.parameters())}


PIXEL_MODELS = Sweep(PreparedPixels.open, train, load_pixel_model, evaluate, _sizes, (NATS,))


def ladder_table(measurements: Sequence[Measurement]) -> str:
    """Return a Markdown table with one row per rung, and notes on its numbers.

    Args:
        measurements: Rungs in the order of the table, all with the same seeds.
    """
    lines = [
        markdown_table(_COLUMNS, [_cells(each) for each in measurements]),
        f"Exact -ln p in nats per image, {over_seeds(measurements)}; weights rounded to half precision, as in a model "
        "folder.",
        "Training seconds are wall-clock time, validation included; resumed runs have none.",
    ]
    return "\n".join(lines) + "\n"


def ladder_picture(measurements: Sequence[Measurement], path: Path) -> None:
    """Plot the nats per image of the test split against the number of layers, one line per choice of connections.

    Each run is a dot. With several seeds, the lines connect the means, with error bars of one standard deviation.

    Args:
        measurements: One or more rungs.
        path: Path of the picture, whose suffix sets the format; an existing file is overwritten.

    Raises:
        UserError: The picture cannot be written.
    """
    # Figure without pyplot: no GUI backend is selected, and no global state is left behind.
    from matplotlib.figure import Figure

    figure = Figure((7, 4.5), layout="constrained")
    panel = figure.subplots()
    for connections, (label, colour, marker) in _STYLES.items():
        rungs = [each for each in measurements if (_model(each).residual, _model(each).skip) == connections]
        if not rungs:
            continue
        rungs.sort(key=lambda each: _model(each).num_layers)
        depths = [_model(each).num_layers for each in rungs]
        nats = [each.scores["test"][NATS] for each in rungs]
        bars = [spread for of_seeds in nats if (spread := deviation(of_seeds)) is not None]
        means = [statistics.mean(of_seeds) for of_seeds in nats]
        panel.errorbar(depths, means, bars or None, color=colour, marker=marker, capsize=4, label=label)
        for depth, of_seeds in zip(depths, nats, strict=True):
            panel.scatter([depth] * len(of_seeds), of_seeds, s=12, color=colour, alpha=0.5)
    panel.set_xticks(sorted({_model(each).num_layers for each in measurements}))
    panel.set_xlabel("number of layers")
    panel.set_ylabel("test split, nats per image (lower is better)")
    panel.grid(alpha=0.3)
    panel.legend()
    with atomic_path(path) as staged:
        figure.savefig(staged, dpi=_DOTS_PER_INCH)


def _model(measurement: Measurement) -> Any:
    return measurement.rung.configs["model"]


def _cells(measurement: Measurement) -> list[str]:
    model = _model(measurement)
    return [
        measurement.rung.name,
        str(model.num_layers),
        "yes" if model.residual else "no",
        "yes" if model.skip else "no",
        f"{measurement.sizes['parameters']:,}",
        measurement.summary("validation", NATS, 2),
        measurement.summary("test", NATS, 2),
        measurement.mean_seconds(),
    ]
