"""The ladder of the lecture: captioners with a window of words, a vanilla RNN, an LSTM, deep networks, and attention.

Each rung is a configuration of `captioning train`, with the same data and the same number of epochs.
"""

import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch.utils.flop_counter import FlopCounterMode

from captioning.captioner import Captioner, load_torch_captioner
from captioning.scoring.model import evaluate
from captioning.training.run import train
from data_prep.prepared_captions import PreparedCaptions
from data_prep.vocabulary import BOS
from vision_rnn.files import atomic_path
from vision_rnn.sweep import MEASURED, Measurement, Sweep, deviation, over_seeds
from vision_rnn.tables import markdown_table

# The scores with their number of decimals.
_SCORES = {"BLEU-4": 4, "CIDEr-D": 3, "perplexity": 2}
_DOTS_PER_INCH = 110


def flops_of_a_word(captioner: Captioner) -> int:
    """Count the floating-point operations in the matrix products of one word of one caption.

    A multiplication and an addition count as two operations. Computations that happen once per image and elementwise
    functions are not counted.
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


CAPTIONERS = Sweep(PreparedCaptions.open, train, load_torch_captioner, _evaluate, _sizes, tuple(_SCORES))


def ladder_table(measurements: Sequence[Measurement]) -> str:
    """Return a Markdown table with one row per rung, and a description of its numbers.

    Args:
        measurements: Measurements of the rungs in order, all with the same seeds.
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
        markdown_table([*columns, "decoder parameters", "MFLOP per word", "training seconds"], rows),
        f"Scores of beam search by the COCO caption protocol; {over_seeds(measurements)}. FLOP: floating-point "
        "operations in the matrix products of one word of one caption.",
        "Seconds are wall-clock time including validation; resumed trainings have none.",
    ]
    return "\n".join(lines) + "\n"


def ladder_picture(measurements: Sequence[Measurement], path: Path) -> None:
    """Draw the scores on the test split, one panel per score and one line per rung.

    Each run is a dot. A ring is the mean of the runs; with several runs, it has error bars of one standard deviation.

    Args:
        measurements: One or more measurements, drawn from top to bottom.
        path: Path of the picture; the suffix selects the format, and an existing file is overwritten.

    Raises:
        UserError: The picture cannot be written.
    """
    # Figure without pyplot needs no window system and leaves nothing in global state.
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
