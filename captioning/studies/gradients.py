"""Exploding and vanishing gradients and their remedies, clipping and gates: the study of `captioning gradients`.

After Pascanu, Mikolov and Bengio, "On the difficulty of training recurrent neural networks" (2013, arXiv 1211.5063),
and Hochreiter and Schmidhuber (1997) for the gates. The untrained networks are language models that read streams of
words; trained captioners read captions with their images.

A tanh damps exploding gradients: each step also multiplies by its slope, which decreases as the state grows. The
untrained RNNs of several radii have inputs small enough for the effect of U to show; their states still saturate
because of U itself, so that the gradient hardly grows at a radius of 1.2. The RNN and the LSTMs that are compared have
inputs as strong as those of the released captioner, an LSTM. With weak inputs, the gradient of an untrained RNN of
radius 1 vanishes no faster than that of an untrained LSTM; the inputs of a trained RNN are half as strong.
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

from captioning.captioner import load_torch_captioner
from captioning.captioner_config import DecoderConfig
from captioning.network.decoder import Decoder, Memory
from captioning.network.gradient_flow import (
    geometric_mean,
    gradient_flow,
    recurrent_cells,
    spectral_radii,
    spectral_radius,
)
from captioning.training.batches import pad_captions
from captioning.training.encoded_captions import encode_caption
from data_prep.images import load_image
from data_prep.prepared_captions import PreparedCaptions
from data_prep.vocabulary import BOS, PAD, Vocabulary
from vision_rnn.errors import UserError

_RADII = (3.0, 2.0, 1.5, 1.0, 0.9, 0.5)
_HIDDEN_SIZE = 128
# Words per sequence, for measurements and for training.
_MEASURED_WORDS, _TRAINED_WORDS = 60, 40
_SEQUENCES = 64
# Standard deviation of the products of the words with the input weights: 0.37 in the released captioner (0.18 in an RNN
# trained on the same captions), 0.09 in an untrained RNN.
_INPUT_STRENGTH = 0.4
# Biases of the forget gates; the first is the default. The names give the activation of the gates by the bias alone.
_FORGET = {"LSTM, forget gates near 0.73": 1.0, "LSTM, forget gates near 0.95": 3.0}
# At this learning rate a radius of 2 still learns without clipping; a radius of 2.5 diverges within a few steps.
_EXPLODING, _CALM = 2.5, 0.5
_LEARNING_RATE, _CLIP = 0.3, 2.0
_STEPS, _BATCH_SIZE = 150, 16
# Number of last steps for the mean of the last loss; the loss of a single batch says little.
LAST = 10
# Captions per trained captioner; most of their time is spent on encoding the images.
_CAPTIONS = 32


@dataclass(frozen=True)
class Network:
    """How far back the losses of one network reach.

    Attributes:
        name: Name of the network.
        sequences: Number of measured sequences.
        hidden: Geometric mean over the sequences of the norm of dLoss_t / dh_{t-k}, k = 1 first.
        cell: The same for dLoss_t / dc_{t-k}; None for an RNN.
        spectral_radii: Spectral radii of the recurrent weights, by layer and gate.
    """

    name: str
    sequences: int
    hidden: list[float]
    cell: list[float] | None
    spectral_radii: dict[str, float]


@dataclass(frozen=True)
class Descent:
    """The training of an RNN by plain stochastic gradient descent, up to the last step with finite numbers.

    Attributes:
        radius: Initial spectral radius of U.
        clip: Maximum norm of the gradient; None without clipping.
        planned: Planned number of steps.
        losses: Loss before each step, in nats per word.
        gradient_norms: Norm of the gradient in each step, before clipping.
        update_norms: Norm of the change of the weights in each step.
    """

    radius: float
    clip: float | None
    planned: int
    losses: list[float]
    gradient_norms: list[float]
    update_norms: list[float]

    @property
    def diverged(self) -> bool:
        """Whether the training ended because a loss or a gradient was not finite."""
        return len(self.losses) < self.planned

    @property
    def clipped(self) -> int:
        """Number of steps whose gradient was clipped."""
        return 0 if self.clip is None else sum(norm > self.clip for norm in self.gradient_norms)

    @property
    def last_loss(self) -> float:
        """The mean of the last losses or, if training diverged, the last loss."""
        return self.losses[-1] if self.diverged else statistics.mean(self.losses[-LAST:])


@dataclass(frozen=True)
class GradientStudy:
    """All measurements of the study.

    Attributes:
        split: Name of the split.
        content_hash: Content hash of the data set.
        seed: Random seed for the initial weights and the order of the captions.
        radii: Untrained RNNs, by spectral radius of U.
        gates: An untrained RNN and untrained LSTMs with inputs of equal strength.
        trained: Trained captioners.
        descents: Trainings without clipping, with clipping, and without clipping at a radius below 1.
    """

    split: str
    content_hash: str
    seed: int
    radii: list[Network]
    gates: list[Network]
    trained: list[Network]
    descents: list[Descent]

    def document(self) -> dict[str, Any]:
        """Return the study in JSON types."""
        return asdict(self)


def study_gradients(data: PreparedCaptions, split: str, models: Sequence[str], seed: int) -> GradientStudy:
    """Measure untrained networks, trainings with and without clipping, and trained captioners.

    Args:
        data: The prepared data set.
        split: Name of the split whose captions and images are used.
        models: Model folders, or hub:OWNER/NAME, of captioners with an RNN or an LSTM.
        seed: Random seed for the initial weights and the order of the captions.

    Raises:
        UserError: The split or a model does not exist, the decoder of a model is a window, or the split has too few
            words.
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
    """Join captions into one stream and split it into sequences with a begin token, (S, 1, words + 1).

    Args:
        captions: Captions in any order; they are shuffled.
        vocabulary: Vocabulary for the ids of the words.
        words: Number of words per sequence.
        seed: Random seed of the order.

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
    """Return an untrained vanilla RNN without an image; its U is a rotation times the spectral radius."""
    decoder = _fresh("rnn", vocabulary_size, seed)
    [cell] = recurrent_cells(decoder)
    with torch.no_grad():
        cell.state_to_gates.weight.mul_(radius / spectral_radius(cell.state_to_gates.weight))
    return decoder


def measure_captioner(model: str, data: PreparedCaptions, split: str) -> Network:
    """Measure the losses of the last words of the longest captions of a split, with their images.

    The shortest of these captions limits the number of words back for which norms are given.

    Args:
        model: Model folder, or hub:OWNER/NAME.
        data: The prepared data set.
        split: Name of the split.

    Raises:
        UserError: The model or the split does not exist, or the decoder is a window.
    """
    captioner = load_torch_captioner(model).eval()
    try:
        recurrent_cells(captioner.decoder)
    except UserError as error:
        raise UserError(f"{model}: {error}") from None
    rows = data.split(split)
    captions = [(image, caption) for image, captions in enumerate(rows["tokens"][:]) for caption in captions]
    longest = sorted(captions, key=lambda each: -len(each[1]))[:_CAPTIONS]
    words = pad_captions([[encode_caption(captioner.vocabulary, caption)[:-1]] for _, caption in longest])
    with torch.no_grad():
        memory = captioner.remember(load_image(rows[image]["image"]["bytes"]) for image, _ in longest)
    return _measure(model, captioner.decoder, memory, words.to(captioner.device))


def descend(decoder: Decoder, streams: Tensor, clip: float | None, seed: int) -> Descent:
    """Train a language model by gradient descent on random batches of sequences.

    Args:
        decoder: The language model; its weights are changed in place.
        streams: Result of `word_streams`.
        clip: Maximum norm of the gradient (section 3.2, algorithm 1); None disables clipping.
        seed: Random seed of the batches.
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
    """Return an untrained RNN and untrained LSTMs, by name, with inputs as strong as in the released captioner."""
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
    """Return the memory of a language model, which takes no image."""
    return decoder.remember(torch.zeros(sequences, 1, 0))
