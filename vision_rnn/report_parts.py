"""Sections that the reports on all kinds of models share."""

from collections.abc import Mapping
from pathlib import Path

from vision_rnn.charts import line_chart
from vision_rnn.page import Element, element, figure, section
from vision_rnn.training_log import finite, read_training_log


def facts(of: Mapping[str, str]) -> Element:
    """Return a list of terms and what they are."""
    return element("dl", *(part for term, text in of.items() for part in (element("dt", term), element("dd", text))))


def training_curves(run: Path, *first: str) -> Element:
    """Return the section with a chart of each number that a run logged.

    Args:
        run: Run folder.
        first: Names of the numbers that come first.

    Raises:
        UserError: The log cannot be read.
    """
    curves = read_training_log(run)
    names = sorted(curves, key=lambda name: (first.index(name) if name in first else len(first), name))
    charts = []
    for name in names:
        points = finite(curves[name])
        if not points:
            continue
        (start, begun), (end, ended) = points[0], points[-1]
        values = [value for _, value in points]
        text = f"{name}: {begun:.4g} at step {start:,} and {ended:.4g} at step {end:,}, between {min(values):.4g} and "
        text += f"{max(values):.4g} in all"
        if omitted := len(curves[name]) - len(points):
            text += f"; values that are not finite, omitted: {omitted}"
        charts.append(element("div", figure(line_chart({name: points}, text, "step"), f"{text}."), class_="card"))
    if not charts:
        return section("Training", element("p", "The run has logged nothing yet."))
    return section("Training", element("div", *charts, class_="cards"))
