"""The lecture's ladder: the same captioner with a window of words, a vanilla RNN, an LSTM, deep ones, and attention.

Every rung is a configuration of `captioning train`, with the same data and the same number of epochs.
"""

import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch.utils.flop_counter import FlopCounterMode

from captioning.captioner import Captioner, load_captioner
from captioning.scoring.model import evaluate
from captioning.training.run import train
from data_prep.prepared_captions import PreparedCaptions
from data_prep.vocabulary import BOS
from vision_rnn.files import atomic_path
from vision_rnn.sweep import MEASURED, Measurement, Sweep, deviation, over_seeds
from vision_rnn.tables import markdown_table

# With the digits that are shown.
_SCORES = {"BLEU-4": 4, "CIDEr-D": 3, "perplexity": 2}
_DOTS_PER_INCH = 110


def flops_of_a_word(captioner: Captioner) -> int:
    """Count the floating-point operations of the matrix products of one word of one caption.

    A multiplication and an addition are two. What is done once for an image is left out, and so are elementwise
    functions.
    """
    decoder = captioner.eval().decoder
    image = torch.zeros(1, captioner.encoder.grid_size**2, captioner.encoder.channels, device=captioner.device)
    word = torch.full((1, 1), BOS, device=captioner.device)
    with torch.inference_mode():
        memory = decoder.remember(image)
        state = decoder.initial_state(memory, 1)
        with FlopCounterMode(display=False) as counter:
            decoder.step(word, state, memory)
    return counter.get_total_flops()


def _sizes(captioner: Captioner) -> dict[str, int]:
    parameters = sum(parameter.numel() for parameter in captioner.decoder.parameters())
    return {"decoder_parameters": parameters, "flops_of_a_word": flops_of_a_word(captioner)}


def _evaluate(captioner: Captioner, data: PreparedCaptions, split: str) -> dict[str, Any]:
    return evaluate(captioner, data, split, cached=True)


CAPTIONERS = Sweep(PreparedCaptions.open, train, load_captioner, _evaluate, _sizes, tuple(_SCORES))


def ladder_table(measurements: Sequence[Measurement]) -> str:
    """Return a Markdown table, a row a rung, and what its numbers are.

    Args:
        measurements: The rungs in their order, each with the same seeds.
    """
    columns = ["rung", *(f"{split} {score}" for split in MEASURED for score in _SCORES)]
    rows = [
        [
            each.rung.name,
            *(each.summary(split, score, digits) for split in MEASURED for score, digits in _SCORES.items()),
            f"{each.sizes['decoder_parameters']:,}",
            f"{each.sizes['flops_of_a_word'] / 1e6:.2f}",
            each.mean_seconds(),
        ]
        for each in measurements
    ]
    lines = [
        markdown_table([*columns, "decoder parameters", "MFLOP a word", "training seconds"], rows),
        f"Scores by the COCO caption protocol, of beam search; {over_seeds(measurements)}. FLOP: those of the matrix "
        "products of one word of one caption.",
        "Seconds are wall-clock time, validation included; a training that was resumed has none.",
    ]
    return "\n".join(lines) + "\n"


def ladder_picture(measurements: Sequence[Measurement], path: Path) -> None:
    """Draw the scores on the test split, a panel a score and a line a rung.

    Every run is a dot; a ring is their mean, with a bar of one standard deviation to both sides where there are
    several.

    Args:
        measurements: One or more, drawn from above.
        path: The picture, in the format of its suffix; replaced if it exists.

    Raises:
        UserError: The picture cannot be written.
    """
    # Figure alone, without pyplot: no window system is asked for, and nothing is left behind in global state.
    from matplotlib.figure import Figure

    figure = Figure((10, 1.5 + 0.35 * len(measurements)), layout="constrained")
    panels = figure.subplots(1, len(_SCORES), sharey=True, squeeze=False)[0]
    places = range(len(measurements))
    for panel, score in zip(panels, _SCORES, strict=True):
        values = [each.scores["test"][score] for each in measurements]
        for place, of_seeds in zip(places, values, strict=True):
            panel.scatter(of_seeds, [place] * len(of_seeds), s=14, color="#3d6cb9")
        means, bars = (
            [statistics.mean(of_seeds) for of_seeds in values],
            [deviation(of_seeds) or 0 for of_seeds in values],
        )
        panel.errorbar(means, places, xerr=bars, fmt="o", color="#d1495b", markerfacecolor="none", capsize=3)
        better = "lower" if score == "perplexity" else "higher"
        panel.set_xlabel(f"test {score} ({better} is better)")
        panel.grid(alpha=0.3)
    panels[0].set_yticks(places, [each.rung.name for each in measurements])
    panels[0].invert_yaxis()
    with atomic_path(path) as staged:
        figure.savefig(staged, dpi=_DOTS_PER_INCH)
