"""The gradient study as four panels and as tables: exploding and vanishing gradients, clipping, gates."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from captioning.studies.gradients import LAST, Descent, GradientStudy, Network
from vision_rnn.files import atomic_path
from vision_rnn.tables import markdown_table

if TYPE_CHECKING:
    from matplotlib.figure import SubFigure

_SHOWN = (1, 2, 5, 10, 20, 40, 60)
_DOTS_PER_INCH, _FONT_SIZE = 120, 11
# Axis limits; diverging curves soon leave them.
_LOSSES, _UPDATES = (4, 100), (1e-2, 1e4)


def gradient_table(study: GradientStudy) -> str:
    """Return Markdown tables: norms by the number of words before, spectral radii, trainings."""
    networks = [*study.radii, *study.gates, *study.trained]
    norms = [
        [network.name, state, *(_number(of_state[k - 1]) if k <= len(of_state) else "" for k in _SHOWN)]
        for network in networks
        for state, of_state in (("h", network.hidden), ("c", network.cell))
        if of_state is not None
    ]
    radii = [
        [network.name, "; ".join(f"{place} {radius:.2f}" for place, radius in network.spectral_radii.items())]
        for network in networks
    ]
    trainings = [
        [
            f"{descent.radius:.1f}",
            "no" if descent.clip is None else f"to {descent.clip:g}",
            f"{len(descent.losses)}{', then diverged' if descent.diverged else ''}",
            str(descent.clipped),
            _number(max(descent.gradient_norms)),
            _number(max(descent.update_norms)),
            _number(descent.last_loss),
        ]
        for descent in study.descents
    ]
    columns = ["radius of U", "clipped", "steps", "clipped steps", "largest gradient", "largest update", "last loss"]
    return "\n".join(
        [
            "Norm of the gradient of the last word's loss with respect to the state k words before; geometric mean "
            "over sequences.\n",
            markdown_table(["network", "state", *(f"k = {k}" for k in _SHOWN)], norms),
            "Spectral radii of the recurrent weights.\n",
            markdown_table(["network", "radii"], radii),
            f"Vanilla RNNs trained by plain gradient descent. The last loss, in nats per word, is the mean of the last "
            f"{LAST} steps or, if training diverged, the last finite loss.\n",
            markdown_table(columns, trainings),
        ]
    )


def gradient_picture(study: GradientStudy, path: str | Path) -> None:
    """Draw the study with one panel each for exploding gradients, vanishing gradients, clipping and gates.

    Args:
        study: The measurements.
        path: Path of the picture; the suffix selects the format, and an existing file is overwritten.

    Raises:
        UserError: The picture cannot be written.
    """
    # Figure without pyplot needs no window system and leaves nothing in global state.
    from matplotlib.figure import Figure

    figure = Figure((13, 10), layout="constrained")
    panels: Any = figure.subfigures(2, 2, hspace=0.04, wspace=0.04)
    (exploding, vanishing), (clipping, gates) = panels
    above, below = ([each for each in study.radii if (_radius(each) > 1) == great] for great in (True, False))
    _draw_networks(
        exploding,
        "1. Exploding gradients: the norm grows with every word back\n"
        "Untrained vanilla RNNs by spectral radius of U, damped by tanh",
        above,
    )
    _draw_networks(
        vanishing,
        "2. Vanishing gradients: the norm decays with every word back\nUntrained vanilla RNNs by spectral radius of U",
        below,
    )
    _draw_descents(
        clipping,
        "3. Clipping: no update is too large\nVanilla RNNs trained by plain gradient descent, same learning rate",
        study.descents,
    )
    _draw_networks(
        gates,
        "4. Gates: the cell c of an LSTM carries the gradient\n"
        f"Untrained networks with inputs of equal strength{', and trained captioners' if study.trained else ''}",
        study.gates,
        study.trained,
    )
    with atomic_path(path) as staged:
        figure.savefig(staged, dpi=_DOTS_PER_INCH)


def _draw_networks(figure: "SubFigure", title: str, fresh: Sequence[Network], trained: Sequence[Network] = ()) -> None:
    """Draw the norms against k: one colour per network, h solid and c dashed, trained networks with dots."""
    panel = figure.subplots()
    panel.set_title(title, fontsize=_FONT_SIZE)
    for number, network in enumerate([*fresh, *trained]):
        is_trained = number >= len(fresh)
        look: dict[str, Any] = {"color": f"C{number}", "marker": "." if is_trained else ""}
        name = _short(network.name) if is_trained else network.name
        steps = range(1, len(network.hidden) + 1)
        panel.plot(steps, network.hidden, label=name if network.cell is None else f"{name}: h", **look)
        if network.cell is not None:
            panel.plot(steps, network.cell, linestyle="--", label=f"{name}: c", **look)
    panel.set_xlabel("k: number of words before the word of the loss")
    panel.set_ylabel("norm of dLoss$_t$ / dh$_{t-k}$" + (" or dc$_{t-k}$" if trained or fresh[-1].cell else ""))
    panel.set_yscale("log")
    panel.grid(alpha=0.3)
    panel.legend(fontsize=_FONT_SIZE - 2)


def _draw_descents(figure: "SubFigure", title: str, descents: Sequence[Descent]) -> None:
    """Draw the losses above the updates, both against the steps."""
    losses, updates = figure.subplots(2, 1, sharex=True)
    losses.set_title(title, fontsize=_FONT_SIZE)
    for number, descent in enumerate(descents):
        how = "not clipped" if descent.clip is None else f"gradient clipped to {descent.clip:g}"
        end = f": diverges in step {len(descent.losses) + 1}" if descent.diverged else ""
        steps = range(1, len(descent.losses) + 1)
        look: dict[str, Any] = {"color": f"C{number}", "marker": "x" if descent.diverged else ""}
        losses.plot(steps, descent.losses, label=f"radius {descent.radius:.1f}, {how}{end}", **look)
        updates.plot(steps, descent.update_norms, **look)
    panels = ((losses, "loss, nats per word", _LOSSES), (updates, "norm of the update", _UPDATES))
    for panel, label, limits in panels:
        panel.set_ylabel(label)
        panel.set_yscale("log")
        panel.set_ylim(limits)
        panel.grid(alpha=0.3)
    updates.set_xscale("log")
    updates.set_xlabel("training step")
    losses.legend(fontsize=_FONT_SIZE - 2)


def _radius(network: Network) -> float:
    [radius] = network.spectral_radii.values()
    return radius


def _short(model: str) -> str:
    """Return the part of a model folder's path that distinguishes it from others."""
    path = Path(model)
    return path.parent.name if path.name == "model" else path.name


def _number(value: float) -> str:
    return f"{value:.3g}"
