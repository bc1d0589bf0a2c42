"""The ladder by depth: the same pixel model with more and more layers.

The ablations of Pixel Recurrent Neural Networks (arXiv 1601.06759, section 5.4: residual and skip connections, and
depth; there of CIFAR-10), at a fixed budget.
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
# By residual and skip connections: what the legend says, colour and marker.
_STYLES = {
    (True, True): ("residual and skip connections", "#4c9f70", "o"),
    (False, False): ("neither", "#d1495b", "s"),
    (True, False): ("residual connections alone", "#3d6cb9", "^"),
    (False, True): ("skip connections alone", "#edae49", "v"),
}
_DOTS_PER_INCH = 110


def _sizes(model: PixelModel) -> dict[str, int]:
    return {"parameters": sum(parameter.numel() for parameter in model.parameters())}


PIXEL_MODELS = Sweep(PreparedPixels.open, train, load_pixel_model, evaluate, _sizes, (NATS,))


def ladder_table(measurements: Sequence[Measurement]) -> str:
    """Return a Markdown table, a row a rung, and what its numbers are.

    Args:
        measurements: The rungs in their order, each with the same seeds.
    """
    lines = [
        markdown_table(_COLUMNS, [_cells(each) for each in measurements]),
        f"Exact -ln p of an image in nats, {over_seeds(measurements)}; weights rounded to half precision, as in a "
        "model folder.",
        "Seconds are wall-clock time, validation included; a training that was resumed has none.",
    ]
    return "\n".join(lines) + "\n"


def ladder_picture(measurements: Sequence[Measurement], path: Path) -> None:
    """Draw the nats of the test split against the number of layers, a line for each choice of connections.

    Every run is a dot. Where there are several seeds, a line goes through their means, with a bar of one standard
    deviation to both sides.

    Args:
        measurements: One or more.
        path: The picture, in the format of its suffix; replaced if it exists.

    Raises:
        UserError: The picture cannot be written.
    """
    # Figure alone, without pyplot: no window system is asked for, and nothing is left behind in global state.
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
    panel.set_xlabel("layers")
    panel.set_ylabel("test, nats an image (lower is better)")
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
