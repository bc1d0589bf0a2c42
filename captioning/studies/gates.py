"""The gates of the LSTM, opened: what each let through as the captioner chose the words of one caption."""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from captioning.attention_picture import draw_attention
from captioning.captioner import Caption, Captioner
from captioning.network.recurrent import LSTMCell
from data_prep.vocabulary import BOS
from vision_rnn.files import atomic_path

_DOTS_PER_INCH = 150


class OpenGates(NamedTuple):
    """The top layer at every word, each (words, H): the gates of equation 1, and the cell after equation 2.

    Show, Attend and Tell (arXiv 1502.03044), section 3.1.2.
    """

    input: Tensor
    forget: Tensor
    output: Tensor
    candidate: Tensor
    cell: Tensor


@torch.inference_mode()
def open_gates(captioner: Captioner, image: Image.Image, words: Sequence[str]) -> OpenGates:
    """Return the gates with which each word of a caption was chosen, those before it being known.

    Args:
        captioner: Its decoder is an LSTM.
        image: The photo, RGB.
        words: The caption, without the end token.
    """
    decoder = captioner.eval().decoder
    top = [decoder.cell, *decoder.upper_cells][-1]
    assert isinstance(top, LSTMCell)
    steps: list[OpenGates] = []

    def keep(cell: LSTMCell, inputs: tuple[Tensor, Tensor, Tensor], outputs: tuple[Tensor, Tensor]) -> None:
        projected_input, hidden, _ = inputs
        opened = (*cell.gates(projected_input, hidden), outputs[1])
        steps.append(OpenGates(*(tensor[0, 0].cpu() for tensor in opened)))

    known = torch.tensor([BOS, *captioner.vocabulary.encode(words)[:-1]], device=captioner.device)
    handle = top.register_forward_hook(keep)
    try:
        decoder(captioner.remember([image]), known[None, None])
    finally:
        handle.remove()
    return OpenGates(*(torch.stack(tensors) for tensors in zip(*steps, strict=True)))


def gates_picture(image: Image.Image, caption: Caption, gates: OpenGates, path: str | Path) -> None:
    """Draw, word by word from the left, where the model looked, and below that each gate and the cell as a heat map.

    A row of a heat map is a unit. The units are in one order in all, those that forget most at the top.

    Args:
        image: The photo, RGB.
        caption: One of its captions.
        gates: From `open_gates` of both.
        path: The picture, in the format of its suffix; replaced if it exists.

    Raises:
        UserError: The picture cannot be written.
    """
    # As in captioning.attention_picture.
    from matplotlib.figure import Figure

    count = len(caption.words)
    figure = Figure((max(1.0 * count, 5) + 1.6, 9), layout="constrained")
    figure.suptitle(caption.text, parse_math=False)
    # The last column is for the scales.
    grid = figure.add_gridspec(6, count + 1, width_ratios=[*[1.0] * count, 0.15], height_ratios=[1, *[1.2] * 5])
    for place, (word, weights) in enumerate(zip(caption.words, caption.attention.numpy(), strict=True)):
        panel = figure.add_subplot(grid[0, place])
        panel.set_axis_off()
        panel.set_title(word, parse_math=False)
        draw_attention(panel, image, weights)
    order = np.argsort(gates.forget.mean(dim=0).numpy(), kind="stable")
    for row, (name, tensor) in enumerate(zip(OpenGates._fields, gates, strict=True), start=1):
        # The cell as it is let out, which has bounds.
        values = (tensor.tanh() if name == "cell" else tensor).numpy()[:, order].T
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
