"""Charts as SVG elements, which take their colours from the page and are as wide as it."""

import math
from collections.abc import Mapping, Sequence

from vision_rnn.page import Element, element

# In units of the drawing, which are pixels at its natural size.
_WIDTH, _HEIGHT = 380, 230
_LEFT, _RIGHT, _TOP = 52, 12, 28
_COLOURS = ("first", "second")
# Points of a curve; more could not be told apart.
_POINTS = 200

Point = tuple[float, float]


def line_chart(curves: Mapping[str, Sequence[Point]], description: str, x_label: str) -> Element:
    """Draw one or two curves of finite points.

    Args:
        curves: Points by the name of the curve, sorted by x.
        description: What the chart shows, in a sentence, for those who do not see it.
        x_label: Title of the horizontal axis.
    """
    every = [point for points in curves.values() for point in points]
    xs, ys = _ticks(*_range(x for x, _ in every)), _ticks(*_range(y for _, y in every))
    bottom = _HEIGHT - 42

    def place(x: float, y: float) -> Point:
        return (
            _LEFT + (x - xs[0]) / (xs[-1] - xs[0]) * (_WIDTH - _LEFT - _RIGHT),
            bottom - (y - ys[0]) / (ys[-1] - ys[0]) * (bottom - _TOP),
        )

    parts = _vertical_axis(ys, lambda y: place(xs[0], y)[1])
    parts += [_text(place(x, ys[0])[0], bottom + 18, f"{x:,.6g}", "middle") for x in xs]
    parts.append(_text((_LEFT + _WIDTH - _RIGHT) / 2, _HEIGHT - 6, x_label, "middle"))
    for colour, points in zip(_COLOURS, curves.values(), strict=False):
        places = [place(x, y) for x, y in thinned(points)]
        line = " L ".join(f"{x:.1f} {y:.1f}" for x, y in places)
        parts.append(element("path", d=f"M {line}", class_=colour))
        if len(places) <= 40:
            parts += [element("circle", cx=f"{x:.1f}", cy=f"{y:.1f}", r=2.5, class_=colour) for x, y in places]
    return _drawing([*parts, *_legend(list(curves))], _HEIGHT, description)


def histogram(labels: Sequence[str], series: Mapping[str, Sequence[float]], description: str, x_label: str) -> Element:
    """Draw bars side by side, one for each label and series, with their values under the mouse.

    Args:
        labels: Labels of the groups of bars.
        series: Values of each label, 0 or more, by the name of the series; one or two.
        description: What the chart shows, in a sentence, for those who do not see it.
        x_label: Title of the horizontal axis.
    """
    ys = _ticks(0, max(max(values) for values in series.values()) or 1)
    longest = max(map(len, labels))
    slanted = longest > 3
    below = 24 + (min(90, 6 * longest) if slanted else 14)
    height = _HEIGHT - 42 + below
    bottom, step = height - below, (_WIDTH - _LEFT - _RIGHT) / len(labels)
    parts = _vertical_axis(ys, lambda y: bottom - y / ys[-1] * (bottom - _TOP))
    bar = 0.8 * step / len(series)
    shown = 1 if slanted else math.ceil(len(labels) / 16)
    for group, label in enumerate(labels):
        left = _LEFT + (group + 0.1) * step
        for index, (name, values) in enumerate(series.items()):
            tall = values[group] / ys[-1] * (bottom - _TOP)
            title = element("title", f"{label}, {name}: {values[group]:.3g}")
            place = {"x": f"{left + index * bar:.1f}", "y": f"{bottom - tall:.1f}"}
            size = {"width": f"{bar:.1f}", "height": f"{tall:.1f}"}
            parts.append(element("rect", title, class_=_COLOURS[index], **place, **size))
        middle = left + 0.4 * step
        if slanted:
            turned = f"rotate(-55 {middle + 4:.1f} {bottom + 12})"
            parts.append(_text(middle + 4, bottom + 12, label, "end", transform=turned))
        elif group % shown == 0:
            parts.append(_text(middle, bottom + 16, label, "middle"))
    parts.append(_text((_LEFT + _WIDTH - _RIGHT) / 2, height - 6, x_label, "middle"))
    return _drawing([*parts, *_legend(list(series))], height, description)


def thinned(points: Sequence[Point], most: int = _POINTS) -> list[Point]:
    """Return at most `most` points: the means of as many neighbours as that takes."""
    size = math.ceil(len(points) / most)
    groups = (points[start : start + size] for start in range(0, len(points), size or 1))
    return [
        (math.fsum(x for x, _ in group) / len(group), math.fsum(y for _, y in group) / len(group)) for group in groups
    ]


def _range(values) -> tuple[float, float]:
    every = list(values)
    low, high = min(every), max(every)
    largest = max(-low, high)
    # Ticks that are closer than this have no different numbers.
    if high - low > 1e-9 * max(1, largest):
        return low, high
    margin = max(0.5, 1e-6 * largest)
    return low - margin, high + margin


def _ticks(low: float, high: float) -> list[float]:
    """Return about five round numbers that span a range."""
    rough = (high - low) / 4
    power = 10 ** math.floor(math.log10(rough))
    step = next(factor * power for factor in (1, 2, 5, 10) if factor * power >= rough * 0.999)
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    return [round(index * step, 12) for index in range(first, last + 1)]


def _vertical_axis(ticks: Sequence[float], place) -> list[Element]:
    parts = []
    for tick in ticks:
        y = place(tick)
        parts.append(element("path", d=f"M {_LEFT} {y:.1f} H {_WIDTH - _RIGHT}", class_="axis"))
        parts.append(_text(_LEFT - 6, y + 4, f"{tick:,.4g}", "end"))
    return parts


def _legend(names: Sequence[str]) -> list[Element]:
    parts, x = [], float(_LEFT)
    for colour, name in zip(_COLOURS, names, strict=False):
        parts.append(element("rect", x=f"{x:.0f}", y=6, width=10, height=10, class_=colour))
        parts.append(_text(x + 15, 15, name, "start"))
        x += 15 + 7 * len(name) + 16
    return parts


def _text(x: float, y: float, text: str, anchor: str, **attributes: object) -> Element:
    return element("text", text, x=f"{x:.1f}", y=f"{y:.1f}", text_anchor=anchor, **attributes)


def _drawing(parts: Sequence[Element], height: float, description: str) -> Element:
    return element(
        "svg", *parts, viewBox=f"0 0 {_WIDTH} {height:.0f}", class_="chart", role="img", aria_label=description
    )
