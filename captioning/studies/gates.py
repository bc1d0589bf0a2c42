"""The gates of the LSTM while the captioner chooses the words of one caption."""

from pathlib import Path

import numpy as np
from PIL import Image

from captioning.attention_picture import draw_attention
from captioning.caption_generator import Caption, OpenGates
from vision_rnn.files import atomic_path

_DOTS_PER_INCH = 150


def gates_picture(image: Image.Image, caption: Caption, gates: OpenGates, path: str | Path) -> None:
    """Draw where the model looked at each word, and below it each gate and the cell as a heat map.

    The columns are the words. The rows of a heat map are the units, in the same order in all heat maps; the units that
    forget most are at the top.

    Args:
        image: The photo, RGB.
        caption: One of its captions.
        gates: Result of `CaptionGenerator.open_gates` for both.
        path: Path of the picture; the suffix selects the format, and an existing file is overwritten.

    Raises:
        UserError: The picture cannot be written.
    """
    # Without pyplot, as in captioning.attention_picture.
    from matplotlib.figure import Figure

    count = len(caption.words)
    figure = Figure((max(1.0 * count, 5) + 1.6, 9), layout="constrained")
    figure.suptitle(caption.text, parse_math=False)
    # The last column contains the colour bars.
    grid = figure.add_gridspec(6, count + 1, width_ratios=[*[1.0] * count, 0.15], height_ratios=[1, *[1.2] * 5])
    for place, (word, weights) in enumerate(zip(caption.words, caption.attention, strict=True)):
        panel = figure.add_subplot(grid[0, place])
        panel.set_axis_off()
        panel.set_title(word, parse_math=False)
        draw_attention(panel, image, weights)
    order = np.argsort(gates.forget.mean(axis=0), kind="stable")
    for row, (name, activations) in enumerate(zip(OpenGates._fields, gates, strict=True), start=1):
        # tanh of the cell, the input of the output gate, is bounded.
        values = (np.tanh(activations) if name == "cell" else activations)[:, order].T
        label, colours, least = {
            "candidate": ("candidate", "RdBu_r", -1),
            "cell": ("tanh of the cell", "RdBu_r", -1),
        }.get(name, (f"{name} gate", "viridis", 0))
        panel = figure.add_subplot(grid[row, :count])
        drawn = panel.imshow(values, aspect="auto", interpolation="nearest", cmap=colours, vmin=least, vmax=1)
        panel.set_ylabel(label)
        panel.set_xticks([])
        panel.set_yticks([])
        figure.colorbar(drawn, cax=figure.add_subplot(grid[row, count]))
    with atomic_path(path) as staged:
        figure.savefig(staged, dpi=_DOTS_PER_INCH)
