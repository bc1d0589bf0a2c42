"""The gap task: sentences whose last word depends on two earlier words, with a gap of any length between them.

"really a film with ... not good disliked": the two marks are `really` or `not`, with any number of neutral words in
between. `good` is followed by `liked` if the number of negations is even, and by `disliked` if it is odd. One mark
alone says nothing about the verdict, so a network must know both at the end.

The networks are the captioner's decoders without an image. They learn to predict every next word, as language models
do. Their accuracy is the share of sentences in which the correct verdict is more likely than the wrong one; chance is
0.5. Short gaps are more frequent than long ones, as in language: the probability of a gap of g words is proportional to
1 / (g + 1).
"""

import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from captioning.captioner_config import DecoderConfig
from captioning.network.decoder import Decoder
from captioning.network.recurrent import RNNCell
from data_prep.vocabulary import BOS, Vocabulary
from vision_rnn.files import atomic_path
from vision_rnn.sweep import deviation
from vision_rnn.tables import markdown_table

MARKS = ("really", "not")
VERDICTS = ("liked", "disliked")
NEUTRAL = tuple("a the film book play with in of and while slow long old new plain we i they saw heard".split())  # noqa: SIM905
VOCABULARY = Vocabulary([*MARKS, "good", *VERDICTS, *NEUTRAL])
LONGEST = 40
MEASURED = (0, 2, 4, 5, 6, 8, 10, 15, 20, 30, 40)
WINDOW = 8
# A window at `good` reaches WINDOW - 1 words back, and the first mark is two words plus the gap before it.
REACH = WINDOW - 3
STEPS = 2000
_BATCH_SIZE = 64
_TEST_SENTENCES = 1000
# A seed that no training uses.
_TEST_SEED = 2**32 - 1
_SIZE = 64
_LEARNING_RATE = 3e-3
_CLIP = 1.0
_DOTS_PER_INCH = 110


@dataclass(frozen=True)
class Learner:
    """A network that learns the sentences.

    Attributes:
        name: Name of the network.
        decoder: Architecture of the network.
        ordinary_start: Draw the initial recurrent weights uniformly within 1 / sqrt(H), as torch's RNN does, instead of
            the orthogonal matrix of `RNNCell`.
    """

    name: str
    decoder: DecoderConfig
    ordinary_start: bool = False


def _decoder(**config: Any) -> DecoderConfig:
    return DecoderConfig(attention="none", hidden_size=_SIZE, embedding_size=_SIZE, dropout=0.0, **config)


LEARNERS = (
    Learner(f"window of {WINDOW} words", _decoder(cell="window", window=WINDOW)),
    Learner("vanilla RNN, ordinary start", _decoder(cell="rnn"), ordinary_start=True),
    Learner("vanilla RNN, orthogonal start", _decoder(cell="rnn")),
    Learner("LSTM", _decoder(cell="lstm")),
)


@dataclass(frozen=True)
class Curve:
    """The accuracy of one learner against the gap.

    Attributes:
        name: Name of the learner.
        parameters: Number of parameters of its network.
        seeds: Random seeds of its trainings, for the initial weights and the sentences.
        accuracies: For each seed, the share of correct verdicts at each of the gaps `MEASURED`.
        seconds: Wall-clock time of each training.
    """

    name: str
    parameters: int
    seeds: list[int]
    accuracies: list[list[float]]
    seconds: list[float]

    def document(self) -> dict[str, Any]:
        """Return the curve in JSON types."""
        return asdict(self) | {"gaps": list(MEASURED), "steps": STEPS}


def sentences(number: int, gap: int, generator: torch.Generator) -> Tensor:
    """Draw sentences with `gap` neutral words, (number, 1, gap + 5), from the begin token to the verdict.

    All four combinations of the marks are equally likely.
    """
    marks = torch.randint(2, (number, 2), generator=generator)
    between = torch.randint(len(NEUTRAL), (number, gap), generator=generator)
    really, good, liked, first = (VOCABULARY.encode([word])[0] for word in (MARKS[0], "good", VERDICTS[0], NEUTRAL[0]))
    parts = (
        torch.full((number, 1), BOS),
        really + marks[:, :1],
        first + between,
        really + marks[:, 1:],
        torch.full((number, 1), good),
        liked + marks.sum(1, keepdim=True) % 2,
    )
    return torch.cat(parts, dim=1).unsqueeze(1)


def learn(learner: Learner, seed: int, steps: int, progress: Callable[[], object] = lambda: None) -> Decoder:
    """Train a network by AdamW with a one-cycle learning rate, the same for all learners; return it.

    Args:
        learner: The learner to train.
        seed: Random seed for the initial weights and the sentences.
        steps: Number of batches, each of sentences with the same gap.
        progress: Function that is called after every batch.
    """
    torch.manual_seed(seed)
    decoder = Decoder(learner.decoder, 0, len(VOCABULARY))
    if learner.ordinary_start:
        assert isinstance(decoder.cell, RNNCell)
        torch.nn.init.uniform_(decoder.cell.state_to_gates.weight, -(_SIZE**-0.5), _SIZE**-0.5)
    optimizer = torch.optim.AdamW(decoder.parameters(), _LEARNING_RATE)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, _LEARNING_RATE, total_steps=steps)
    generator = torch.Generator().manual_seed(seed)
    shares = 1 / torch.arange(1.0, LONGEST + 2)
    for _ in range(steps):
        gap = int(torch.multinomial(shares, 1, generator=generator))
        words = sentences(_BATCH_SIZE, gap, generator)
        loss = F.cross_entropy(_logits(decoder, words).flatten(0, 2), words[..., 1:].flatten())
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(decoder.parameters(), _CLIP)
        optimizer.step()
        schedule.step()
        progress()
    return decoder.eval()


@torch.no_grad()
def accuracy(decoder: Decoder, gap: int) -> float:
    """Return the share of a fixed set of sentences whose correct verdict is more likely than the wrong one, 0..1."""
    words = sentences(_TEST_SENTENCES, gap, torch.Generator().manual_seed(_TEST_SEED))
    verdicts = _logits(decoder, words)[:, 0, -1, VOCABULARY.encode(VERDICTS)]
    right = words[:, 0, -1] - VOCABULARY.encode(VERDICTS)[0]
    return (verdicts.argmax(-1) == right).float().mean().item()


def measure(seeds: Sequence[int], steps: int = STEPS, progress: Callable[[], object] = lambda: None) -> list[Curve]:
    """Train every learner with every seed and measure it at every gap.

    Args:
        seeds: Random seeds, one training each.
        steps: Number of batches per training.
        progress: Function that is called after every batch.
    """
    curves = []
    for learner in LEARNERS:
        accuracies, seconds, parameters = [], [], 0
        for seed in seeds:
            start = time.monotonic()
            decoder = learn(learner, seed, steps, progress)
            seconds.append(time.monotonic() - start)
            accuracies.append([accuracy(decoder, gap) for gap in MEASURED])
            parameters = sum(parameter.numel() for parameter in decoder.parameters())
        curves.append(Curve(learner.name, parameters, list(seeds), accuracies, seconds))
    return curves


def gap_table(curves: Sequence[Curve]) -> str:
    """Return the accuracies as a Markdown table, one row per learner: mean and standard deviation over the seeds."""
    columns = ["network", *(f"gap {gap}" for gap in MEASURED), "parameters", "seconds"]
    rows = [
        [
            curve.name,
            *(_summary(of_gap) for of_gap in zip(*curve.accuracies, strict=True)),
            f"{curve.parameters:,}",
            f"{statistics.mean(curve.seconds):.0f}",
        ]
        for curve in curves
    ]
    listed = ", ".join(map(str, curves[0].seeds))
    return f"{markdown_table(columns, rows)}\nCorrect verdicts in %, over the seeds {listed}; chance is 50.\n"


def gap_picture(curves: Sequence[Curve], path: str | Path) -> None:
    """Draw the accuracy against the gap: a line through the means, and one dot per seed.

    Args:
        curves: The curves of the learners.
        path: Path of the picture; the suffix selects the format, and an existing file is overwritten.

    Raises:
        UserError: The picture cannot be written.
    """
    # Figure without pyplot needs no window system and leaves nothing in global state.
    from matplotlib.figure import Figure

    figure = Figure((8, 4.5), layout="constrained")
    panel = figure.subplots()
    for number, curve in enumerate(curves):
        means = [100 * statistics.mean(of_gap) for of_gap in zip(*curve.accuracies, strict=True)]
        panel.plot(MEASURED, means, color=f"C{number}", marker=".", label=curve.name)
        for of_seed in curve.accuracies:
            panel.scatter(MEASURED, [100 * share for share in of_seed], s=12, color=f"C{number}", alpha=0.4)
    panel.axhline(50, color="grey", linestyle=":", label="chance")
    panel.axvline(REACH + 0.5, color="C0", linestyle=":", label="end of the window's reach")
    panel.set_xlabel("gap: words between the two marks")
    panel.set_ylabel("correct verdicts, %")
    panel.grid(alpha=0.3)
    figure.legend(loc="outside lower center", ncols=3)
    with atomic_path(path) as staged:
        figure.savefig(staged, dpi=_DOTS_PER_INCH)


def _logits(decoder: Decoder, words: Tensor) -> Tensor:
    """Return the logits of every word except the first, (number, 1, T, V)."""
    memory = decoder.remember(torch.empty(len(words), 1, 0))
    return decoder.logits(decoder(memory, words[..., :-1]).outputs)


def _summary(shares: Sequence[float]) -> str:
    mean, spread = statistics.mean(shares), deviation(shares)
    return f"{100 * mean:.0f}" + ("" if spread is None else f" ± {100 * spread:.0f}")
