"""The gates of the LSTM while the captioner chooses the words of one caption."""

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
    """The gates of equation 1 and the cell of equation 2 in the top layer at every word, each (words, H).

    Show, Attend and Tell (arXiv 1502.03044), section 3.1.2.
    """

    input: Tensor
    forget: Tensor
    output: Tensor
    candidate: Tensor
    cell: Tensor


@torch.inference_mode()
def open_gates(captioner: Captioner, image: Image.Image, words: Sequence[str]) -> OpenGates:
    """Return the gates at every word of a caption, given the words before it.

    Args:
        captioner: A captioner whose decoder is an LSTM.
        image: The photo, RGB.
        words: Words of the caption, without the end token.
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
    """Draw where the model looked at each word, and below it each gate and the cell as a heat map.

    The columns are the words. The rows of a heat map are the units, in the same order in all heat maps; the units that
    forget most are at the top.

    Args:
        image: The photo, RGB.
        caption: One of its captions.
        gates: Result of `open_gates` for both.
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
    for place, (word, weights) in enumerate(zip(caption.words, caption.attention.numpy(), strict=True)):
        panel = figure.add_subplot(grid[0, place])
        panel.set_axis_off()
        panel.set_title(word, parse_math=False)
        draw_attention(panel, image, weights)
    order = np.argsort(gates.forget.mean(dim=0).numpy(), kind="stable")
    for row, (name, tensor) in enumerate(zip(OpenGates._fields, gates, strict=True), start=1):
        # tanh of the cell, the input of the output gate, is bounded.
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
