"""What a ladder came to: a table in Markdown, and a figure of the likelihood against the depth."""

import statistics
from collections.abc import Sequence
from pathlib import Path

from data_prep.files import atomic_path
from pixelrnn.ladder import Measurement, deviation

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


def ladder_table(measurements: Sequence[Measurement]) -> str:
    """Return a Markdown table, a row a rung, and what its numbers are.

    Args:
        measurements: The rungs in their order, each with the same seeds.
    """
    seeds = measurements[0].seeds
    listed = ", ".join(map(str, seeds))
    over = f"mean ± standard deviation over the seeds {listed}" if len(seeds) > 1 else f"seed {listed}"
    lines = [_line(_COLUMNS), _line(["---"] * len(_COLUMNS)), *(_line(_cells(each)) for each in measurements), ""]
    lines.append(f"Exact -ln p of an image in nats, {over}; weights rounded to half precision, as in a model folder.")
    lines.append("Seconds are wall-clock time, validation included; a training that was resumed has none.")
    return "\n".join(lines) + "\n"


def ladder_picture(measurements: Sequence[Measurement], path: str | Path) -> None:
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
        rungs = [each for each in measurements if (each.rung.model.residual, each.rung.model.skip) == connections]
        if not rungs:
            continue
        rungs.sort(key=lambda each: each.rung.model.num_layers)
        depths = [each.rung.model.num_layers for each in rungs]
        means = [statistics.mean(each.test) for each in rungs]
        bars = [spread for each in rungs if (spread := deviation(each.test)) is not None]
        panel.errorbar(depths, means, bars or None, color=colour, marker=marker, capsize=4, label=label)
        for depth, each in zip(depths, rungs, strict=True):
            panel.scatter([depth] * len(each.test), each.test, s=12, color=colour, alpha=0.5)
    panel.set_xticks(sorted({each.rung.model.num_layers for each in measurements}))
    panel.set_xlabel("layers")
    panel.set_ylabel("test, nats an image (lower is better)")
    panel.grid(alpha=0.3)
    panel.legend()
    with atomic_path(path) as staged:
        figure.savefig(staged, dpi=_DOTS_PER_INCH)


def _cells(measurement: Measurement) -> list[str]:
    model = measurement.rung.model
    known = [seconds for seconds in measurement.seconds if seconds is not None]
    return [
        measurement.rung.name,
        str(model.num_layers),
        "yes" if model.residual else "no",
        "yes" if model.skip else "no",
        f"{measurement.parameters:,}",
        _with_deviation(measurement.validation),
        _with_deviation(measurement.test),
        f"{statistics.mean(known):.0f}" if known else "",
    ]


def _with_deviation(values: Sequence[float]) -> str:
    spread = deviation(values)
    return f"{statistics.mean(values):.2f}" + ("" if spread is None else f" ± {spread:.2f}")


def _line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"
