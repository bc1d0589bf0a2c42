"""Explosion, vanishing and what mends them, each run and measured: what `captioning gradients` shows.

After Pascanu, Mikolov and Bengio, "On the difficulty of training recurrent neural networks" (2013, arXiv 1211.5063),
and Hochreiter and Schmidhuber (1997) for the gates. The fresh networks are language models that read streams of words;
trained captioners read the captions, and see the images, that they are measured on.

A tanh damps what explodes: each step multiplies by its slope too, which falls as the state grows. The fresh RNNs of
several radii have inputs small enough for U to show; their states still saturate from U itself, so that a radius of 1.2
hardly grows. The RNN and the LSTMs that are compared have inputs as strong as those of the released captioner, an LSTM.
With weak ones a fresh RNN of radius 1 fades no faster than a fresh LSTM, and a trained RNN's are half as strong.
"""

import math
import random
import statistics
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

import torch
from torch import Tensor
from torch.nn import functional as F

from captioning.captioner import load_captioner
from captioning.captioner_config import DecoderConfig
from captioning.network.decoder import Decoder, Memory
from captioning.network.gradient_flow import (
    geometric_mean,
    gradient_flow,
    recurrent_cells,
    spectral_radii,
    spectral_radius,
)
from captioning.training.batches import encode_caption, pad_captions
from data_prep.images import load_image
from data_prep.prepared_captions import PreparedCaptions
from data_prep.vocabulary import BOS, PAD, Vocabulary
from vision_rnn.errors import UserError

_RADII = (3.0, 2.0, 1.5, 1.0, 0.9, 0.5)
_HIDDEN_SIZE = 128
# Words of a stream that is measured, and of one that is trained on.
_MEASURED_WORDS, _TRAINED_WORDS = 60, 40
_SEQUENCES = 64
# Standard deviation of the words' products with the input weights: 0.37 in the released captioner (an RNN trained on
# the same captions has 0.18), 0.09 in a fresh RNN.
_INPUT_STRENGTH = 0.4
# Biases of the forget gates; cells begin with the first. What the gates let through by them alone is in the names.
_FORGET = {"LSTM, forget gates near 0.73": 1.0, "LSTM, forget gates near 0.95": 3.0}
# At this rate a radius of 2 still learns without clipping; one of 2.5 diverges within a few steps.
_EXPLODING, _CALM = 2.5, 0.5
_LEARNING_RATE, _CLIP = 0.3, 2.0
_STEPS, _BATCH_SIZE = 150, 16
# One batch alone says little.
LAST = 10
# Encoding images takes most of the time that a trained captioner needs.
_CAPTIONS = 32


@dataclass(frozen=True)
class Network:
    """How far back the losses of one network reach.

    Attributes:
        name: What it is.
        sequences: How many sequences were measured.
        hidden: Geometric mean over them of the norm of dLoss_t / dh_{t-k}, k = 1 first.
        cell: The same of dLoss_t / dc_{t-k}; None of an RNN.
        spectral_radii: Of its recurrent weights, by layer and gate.
    """

    name: str
    sequences: int
    hidden: list[float]
    cell: list[float] | None
    spectral_radii: dict[str, float]


@dataclass(frozen=True)
class Descent:
    """The training of an RNN by plain stochastic gradient descent, up to the last step whose numbers are finite.

    Attributes:
        radius: The spectral radius of U at first.
        clip: What the norm of the gradient was cut to; None if it was left as it was.
        planned: Steps that were to be made.
        losses: Before each step, nats a word.
        gradient_norms: Of each step, before it was cut.
        update_norms: Of each step: how far the weights moved.
    """

    radius: float
    clip: float | None
    planned: int
    losses: list[float]
    gradient_norms: list[float]
    update_norms: list[float]

    @property
    def diverged(self) -> bool:
        """Whether a loss or a gradient was no finite number any more, which ended the training."""
        return len(self.losses) < self.planned

    @property
    def clipped(self) -> int:
        """How many steps were cut."""
        return 0 if self.clip is None else sum(norm > self.clip for norm in self.gradient_norms)

    @property
    def last_loss(self) -> float:
        """The mean of the last losses, or the very last of a training that diverged."""
        return self.losses[-1] if self.diverged else statistics.mean(self.losses[-LAST:])


@dataclass(frozen=True)
class GradientStudy:
    """All that was measured.

    Attributes:
        split: Of the data set.
        content_hash: The data set's.
        seed: Of the fresh weights and of the order of the captions.
        radii: Fresh RNNs, by the spectral radius of U.
        gates: A fresh RNN and fresh LSTMs with inputs of one strength.
        trained: Trained captioners.
        descents: Not clipped, clipped, and not clipped with a radius under 1.
    """

    split: str
    content_hash: str
    seed: int
    radii: list[Network]
    gates: list[Network]
    trained: list[Network]
    descents: list[Descent]

    def document(self) -> dict[str, Any]:
        """Return it as JSON can hold it."""
        return asdict(self)


def study_gradients(data: PreparedCaptions, split: str, models: Sequence[str], seed: int) -> GradientStudy:
    """Measure fresh networks, trainings with and without clipping, and trained captioners.

    Args:
        data: The prepared data set.
        split: The split whose captions and images are used.
        models: Model folders, or hub:OWNER/NAME, of captioners with an RNN or an LSTM.
        seed: Of the fresh weights and of the order of the captions.

    Raises:
        UserError: No such split or model, a model's decoder is a window, or the split has too few words.
    """
    captions = [caption for captions in data.split(split)["tokens"][:] for caption in captions]
    measured, trained_on = (
        word_streams(captions, data.vocabulary, words, seed) for words in (_MEASURED_WORDS, _TRAINED_WORDS)
    )
    measured = measured[:_SEQUENCES]
    trained = [measure_captioner(model, data, split) for model in models]
    size = len(data.vocabulary)
    radii = []
    for radius in _RADII:
        decoder = fresh_rnn(size, radius, seed)
        radii.append(_measure(f"U of radius {radius}", decoder, _blind(decoder, len(measured)), measured))
    gates = []
    for name, decoder in _comparable(size, measured, seed).items():
        gates.append(_measure(name, decoder, _blind(decoder, len(measured)), measured))
    descents = [
        descend(fresh_rnn(size, radius, seed), trained_on, clip, seed)
        for radius, clip in ((_EXPLODING, None), (_EXPLODING, _CLIP), (_CALM, None))
    ]
    return GradientStudy(split, data.content_hash, seed, radii, gates, trained, descents)


def word_streams(captions: Iterable[Sequence[str]], vocabulary: Vocabulary, words: int, seed: int) -> Tensor:
    """Join captions into one stream and cut it into sequences, each behind the begin token, (S, 1, words + 1).

    Args:
        captions: In any order; the seed gives another.
        vocabulary: Turns words into ids.
        words: Of each sequence.
        seed: Of the order.

    Raises:
        UserError: There are too few words for one sequence.
    """
    shuffled = list(captions)
    random.Random(seed).shuffle(shuffled)
    ids = vocabulary.encode(word for caption in shuffled for word in caption)
    sequences = len(ids) // words
    if not sequences:
        raise UserError(f"the captions have only {len(ids)} words of the {words} needed; choose another split")
    stream = torch.tensor(ids[: sequences * words]).view(sequences, 1, words)
    return F.pad(stream, (1, 0), value=BOS)


def fresh_rnn(vocabulary_size: int, radius: float, seed: int) -> Decoder:
    """Return an untrained vanilla RNN without an image, whose U is a rotation times its spectral radius."""
    decoder = _fresh("rnn", vocabulary_size, seed)
    [cell] = recurrent_cells(decoder)
    with torch.no_grad():
        cell.state_to_gates.weight.mul_(radius / spectral_radius(cell.state_to_gates.weight))
    return decoder


def measure_captioner(model: str, data: PreparedCaptions, split: str) -> Network:
    """Measure a captioner on the longest captions of a split: the loss of their last words, with their images.

    Norms are given for as many words back as the shortest of these captions has.

    Args:
        model: The model folder, or hub:OWNER/NAME.
        data: The prepared data set.
        split: Which split.

    Raises:
        UserError: No such model or split, or its decoder is a window.
    """
    captioner = load_captioner(model).eval()
    try:
        recurrent_cells(captioner.decoder)
    except UserError as error:
        raise UserError(f"{model}: {error}") from None
    rows = data.split(split)
    captions = [(image, caption) for image, captions in enumerate(rows["tokens"][:]) for caption in captions]
    longest = sorted(captions, key=lambda each: -len(each[1]))[:_CAPTIONS]
    words = pad_captions([[encode_caption(captioner.vocabulary, caption)[:-1]] for _, caption in longest])
    with torch.no_grad():
        memory = captioner.remember([load_image(rows[image]["image"]["bytes"]) for image, _ in longest])
    return _measure(model, captioner.decoder, memory, words.to(captioner.device))


def descend(decoder: Decoder, streams: Tensor, clip: float | None, seed: int) -> Descent:
    """Train a language model by gradient descent on batches drawn from streams.

    Args:
        decoder: Is changed.
        streams: From `word_streams`.
        clip: The norm of the gradient is cut to this (section 3.2, algorithm 1); None leaves it as it is.
        seed: Of the batches.
    """
    [cell] = recurrent_cells(decoder)
    radius = spectral_radius(cell.state_to_gates.weight)
    parameters = list(decoder.parameters())
    optimizer = torch.optim.SGD(parameters, _LEARNING_RATE)
    generator = torch.Generator().manual_seed(seed)
    memory = _blind(decoder, _BATCH_SIZE)
    losses, gradient_norms, update_norms = [], [], []
    for _ in range(_STEPS):
        words = streams[torch.randint(len(streams), (_BATCH_SIZE,), generator=generator)]
        logits = decoder.logits(decoder(memory, words[..., :-1]).outputs)
        loss = F.cross_entropy(logits.flatten(0, 2), words[..., 1:].flatten())
        optimizer.zero_grad()
        loss.backward()
        norm = torch.nn.utils.clip_grad_norm_(parameters, math.inf if clip is None else clip)
        if not (loss.isfinite() and norm.isfinite()):
            break
        gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
        losses.append(loss.item())
        gradient_norms.append(norm.item())
        update_norms.append(_LEARNING_RATE * torch.nn.utils.get_total_norm(gradients).item())
        optimizer.step()
    return Descent(radius, clip, _STEPS, losses, gradient_norms, update_norms)


def _measure(name: str, decoder: Decoder, memory: Memory, words: Tensor) -> Network:
    flow = gradient_flow(decoder, memory, words)
    shortest = int((words[..., 1:] != PAD).sum(-1).min())
    hidden = geometric_mean(flow.hidden)[:shortest].tolist()
    cell = None if flow.cell is None else geometric_mean(flow.cell)[:shortest].tolist()
    return Network(name, len(words), hidden, cell, spectral_radii(decoder))


def _fresh(cell: Literal["rnn", "lstm"], vocabulary_size: int, seed: int) -> Decoder:
    torch.manual_seed(seed)
    config = DecoderConfig(
        cell=cell, hidden_size=_HIDDEN_SIZE, embedding_size=_HIDDEN_SIZE, attention="none", dropout=0.0
    )
    return Decoder(config, 0, vocabulary_size)


def _comparable(vocabulary_size: int, streams: Tensor, seed: int) -> dict[str, Decoder]:
    """Return a fresh RNN and fresh LSTMs, by name, whose inputs are as strong as those of the released captioner."""
    decoders = {"RNN, U of radius 1": fresh_rnn(vocabulary_size, 1.0, seed)}
    for name, bias in _FORGET.items():
        decoders[name] = _fresh("lstm", vocabulary_size, seed)
        _, forget, _, _ = decoders[name].cell.input_to_gates.bias.detach().chunk(4)
        forget.fill_(bias)
    with torch.no_grad():
        for decoder in decoders.values():
            weight = decoder.cell.input_to_gates.weight
            weight.mul_(_INPUT_STRENGTH / F.linear(decoder.embedding(streams), weight).std())
    return decoders


def _blind(decoder: Decoder, sequences: int) -> Memory:
    """Return what a language model keeps of the images that it does not see."""
    return decoder.remember(torch.zeros(sequences, 1, 0))
