"""Pictures of where the captioner looked when it chose each word, as in figure 2 of Show, Attend and Tell.

The attention weights are interpolated smoothly over the photo. The panel of each word is scaled to its own maximum, so
uniform weights give a panel of one colour.
"""

import math
import textwrap
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

from vision_rnn.files import atomic_path

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from captioning.caption_generator import Caption

_COLUMNS = 5
_PANEL_INCHES = 2.2
_PANEL_PIXELS = 480  # Larger than a panel at the resolution below.
_DOTS_PER_INCH = 150
_COLOURS = "inferno"


def attention_picture(image: Image.Image, caption: "Caption", path: str | Path) -> None:
    """Draw the photo under its caption, then one panel per word with the attention over the grey photo.

    Args:
        image: The photo, RGB.
        caption: One of its captions.
        path: Path of the picture; the suffix selects the format, and an existing file is overwritten.

    Raises:
        UserError: The picture cannot be written.
    """
    # Figure without pyplot needs no window system and leaves nothing in global state.
    from matplotlib.figure import Figure

    photo = reduced(image)
    panels = 1 + len(caption.words)
    columns = min(panels, _COLUMNS)
    rows = math.ceil(panels / columns)
    row_height = _PANEL_INCHES * min(photo.height / photo.width, 2) + 0.5
    figure = Figure((_PANEL_INCHES * columns, row_height * rows + 0.5), layout="compressed")
    figure.suptitle(textwrap.fill(caption.text, width=25 * columns), parse_math=False)
    axes = figure.subplots(rows, columns, squeeze=False).flat
    for panel in axes:
        panel.set_axis_off()
    axes[0].imshow(photo)
    for panel, word, weights in zip(axes[1:panels], caption.words, caption.attention, strict=True):
        panel.set_title(word, parse_math=False)
        draw_attention(panel, image, weights)
    with atomic_path(path) as staged:
        figure.savefig(staged, dpi=_DOTS_PER_INCH, bbox_inches="tight")


def draw_attention(panel: "Axes", image: Image.Image, weights: np.ndarray) -> None:
    """Draw attention weights, (h, w), over the grey photo."""
    photo = reduced(image)
    panel.imshow(photo.convert("L"), cmap="gray", vmin=0, vmax=255)
    panel.imshow(_stretch(weights, photo.size), cmap=_COLOURS, vmin=0, alpha=0.65)


def reduced(image: Image.Image) -> Image.Image:
    """Return the photo, reduced to the size that a panel needs."""
    photo = image.copy()
    photo.thumbnail((_PANEL_PIXELS, _PANEL_PIXELS))
    return photo


def _stretch(weights: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Interpolate weights, (h, w), smoothly to the `size` of a photo, (width, height)."""
    stretched = Image.fromarray(weights.astype(np.float32)).resize(size, Image.Resampling.BICUBIC)
    return np.asarray(stretched).clip(min=0)
