"""The numbers that a training run logged, as curves."""

import csv
import math
import re
from pathlib import Path

from vision_rnn.errors import UserError

_NOT_CURVES = ("epoch", "step")


def read_training_log(run: Path) -> dict[str, list[tuple[int, float]]]:
    """Return the curves in the CSV files of a run folder: (step, value) by name, sorted by step.

    A resumed run writes another file and repeats the steps since its checkpoint: of each step, the last file counts.

    Raises:
        UserError: A file is not such a log.
    """
    curves: dict[str, dict[int, float]] = {}
    files = (run / "logs" / "csv").glob("version_*/metrics.csv")
    for path in sorted(files, key=lambda path: int(re.sub(r"\D", "", path.parent.name) or 0)):
        try:
            with path.open(encoding="utf-8", newline="") as file:
                for row in csv.DictReader(file):
                    for name in row.keys() - set(_NOT_CURVES):
                        if row[name]:
                            curves.setdefault(name, {})[int(row["step"])] = float(row[name])
        except (KeyError, TypeError, ValueError, csv.Error) as error:
            raise UserError(f"{path}: not the log of a training ({error}); remove the file") from None
    return {name: sorted(points.items()) for name, points in sorted(curves.items())}


def finite(points: list[tuple[int, float]]) -> list[tuple[int, float]]:
    """Return the points whose values are finite numbers, which a chart can show."""
    return [(step, value) for step, value in points if math.isfinite(value)]
