"""The tables and the four panels of an artificial study with known numbers."""

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from matplotlib.figure import Figure

from captioning.studies.gradient_picture import gradient_picture, gradient_table
from captioning.studies.gradients import Descent, GradientStudy, Network
from data_prep.images import load_image


def fading(name: str, rate: float, words: int, cell_rate: float | None = None) -> Network:
    norms = [[rate**k for k in range(1, words + 1)] for rate in (rate, cell_rate or 0.0)]
    places = ("input", "forget", "output", "candidate") if cell_rate else ("state",)
    radii = {f"layer 1, {place}": rate for place in places}
    return Network(name, 8, norms[0], norms[1] if cell_rate else None, radii)


STUDY = GradientStudy(
    "validation",
    "0" * 64,
    0,
    [fading("U of radius 2.0", 2.0, 60), fading("U of radius 0.5", 0.5, 60)],
    [fading("RNN", 0.7, 60), fading("LSTM", 0.8, 60, 0.9)],
    [fading("runs/deep/model", 0.6, 12, 0.95)],
    [
        Descent(2.5, None, 30, [8.0, 20.0, 3e5], [100.0, 1e6, 1e9], [30.0, 3e5, 3e8]),
        Descent(2.5, 2.0, 30, [8.0] * 20 + [5.0, 6.0] * 5, [100.0] * 12 + [1.0] * 18, [0.6] * 12 + [0.3] * 18),
        Descent(0.5, None, 30, [8.0] * 30, [1.5] * 30, [0.45] * 30),
    ],
)


def drawn(study: GradientStudy, path: Path, monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """Draw a study and return the panels."""
    figures, save = [], Figure.savefig

    def keep(figure: Figure, *arguments: Any, **options: Any) -> None:
        figures.append(figure)
        save(figure, *arguments, **options)

    monkeypatch.setattr(Figure, "savefig", keep)
    gradient_picture(study, path)
    return figures[0].axes


def test_the_panels_hold_the_curves_that_their_titles_promise(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    panels = drawn(STUDY, tmp_path / "out.png", monkeypatch)
    exploding, vanishing, losses, updates, gates = panels
    titles = ["1. Exploding gradients", "2. Vanishing gradients", "3. Clipping", "", "4. Gates"]
    assert [panel.get_title().split(":")[0] for panel in panels] == titles
    assert all(panel.get_yscale() == "log" for panel in panels)
    labels = [[line.get_label() for line in panel.lines] for panel in (exploding, vanishing, gates)]
    assert labels == [
        ["U of radius 2.0"],
        ["U of radius 0.5"],
        ["RNN", "LSTM: h", "LSTM: c", "deep: h", "deep: c"],
    ]
    for line, rate, words in zip(gates.lines, (0.7, 0.8, 0.9, 0.6, 0.95), (60, 60, 60, 12, 12), strict=True):
        np.testing.assert_array_equal(line.get_xdata(), range(1, words + 1))
        np.testing.assert_allclose(line.get_ydata(), rate ** np.arange(1, words + 1))
    assert [len(line.get_xdata()) for line in losses.lines] == [3, 30, 30]
    assert "diverges in step 4" in losses.lines[0].get_label()
    assert "clipped to 2" in losses.lines[1].get_label()
    assert updates.lines[1].get_ydata()[0] == 0.6
    # Diverging curves leave the axis limits, and learning curves stay inside.
    for panel, greatest in ((losses, 20), (updates, 1000)):
        low, high = panel.get_ylim()
        assert low < min(panel.lines[1].get_ydata())
        assert greatest < high < max(panel.lines[0].get_ydata())
    assert np.ptp(np.asarray(load_image(tmp_path / "out.png"))) > 200


def test_without_trained_captioners_none_are_promised(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    *_, gates = drawn(dataclasses.replace(STUDY, trained=[]), tmp_path / "out.png", monkeypatch)
    assert "trained captioners" not in gates.get_title()
    assert len(gates.lines) == 3


def test_the_tables_tell_the_numbers():
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in gradient_table(STUDY).splitlines()]
    assert ["U of radius 0.5", "h", "0.5", "0.25", "0.0312", "0.000977", "9.54e-07", "9.09e-13", "8.67e-19"] in rows
    assert ["runs/deep/model", "c", "0.95", "0.902", "0.774", "0.599", "", "", ""] in rows
    assert ["U of radius 0.5", "layer 1, state 0.50"] in rows
    assert ["2.5", "no", "3, then diverged", "0", "1e+09", "3e+08", "3e+05"] in rows
    assert ["2.5", "to 2", "30", "12", "100", "0.6", "5.5"] in rows
