"""Greedy search, beam search and sampling: captions from the probabilities of the decoder.

All three decode many images at once, never emit `<unk>`, and accept a prefix that every caption starts with. They are
written in NumPy, so that every engine that can take a decoding step shares them.

A step decodes only captions that are not finished, in rows.

Shapes: B images, K captions per image (beams or samples), T words, R captions that are decoded, L grid locations, V
vocabulary size.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from data_prep.vocabulary import BOS, EOS, PAD, UNK

# Tokens that no search emits.
NEVER_EMITTED = [PAD, BOS, UNK]

# The row of a caption that is finished; as an index, it names the last one.
_NO_ROW = -1


class Decoding(Protocol):
    """A batch of images that an engine is captioning; it keeps the state of every caption between two words.

    Attributes:
        num_images: Number B of images.
        distances: Distance of each image from the training photos, (B,), or (B, models) of several models; None if a
            model was not calibrated.
    """

    num_images: int
    distances: np.ndarray | None

    def start(self) -> None:
        """Start one caption of every image, from the initial state."""
        ...

    def step(self, parents: np.ndarray, words: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Let caption r continue caption `parents[r]` of the last step with the word `words[r]`, both (R,) int64.

        A caption may have any number of continuations, or none. Captions are in the order of their images; the first
        parents, after `start`, are the images.

        Returns the natural log-probabilities of the next word, (R, V) float32, in an array that the caller may change,
        and the attention weights, (R, L) float32.
        """
        ...


@dataclass(frozen=True)
class Decoded:
    """The captions of a batch of images, best first if they are ranked.

    Attributes:
        words: Word ids with the end token, then padding, (B, K, T) int64; a caption that `max_words` cut has no end
            token.
        log_probabilities: Sum of the natural log-probabilities of the words and the end token, (B, K) float64. It is
            minus infinity for an empty beam, if fewer captions exist than beams.
        attention: Attention weights alpha_t of each word, (B, K, T, L) float32; 0 for padding.
    """

    words: np.ndarray
    log_probabilities: np.ndarray
    attention: np.ndarray

    @property
    def mean_log_probabilities(self) -> np.ndarray:
        """Natural log-probability per word, end token included, (B, K) float64."""
        return self.log_probabilities / (self.words != PAD).sum(-1).clip(1)


def greedy(decoding: Decoding, max_words: int = 30, prefix: list[int] | None = None) -> Decoded:
    """Choose the most likely word at every step; K is 1."""
    return _unroll(decoding, 1, max_words, prefix or [], lambda scores: scores.argmax(-1))


def sample(
    decoding: Decoding,
    samples: int = 1,
    temperature: float = 1.0,
    max_words: int = 30,
    prefix: list[int] | None = None,
    generator: np.random.Generator | None = None,
) -> Decoded:
    """Draw `samples` captions per image; a `temperature` below 1 favours likely words.

    The returned log-probabilities are those at temperature 1.
    """
    generator = generator or np.random.default_rng()

    def draw(scores: np.ndarray) -> np.ndarray:
        scaled = scores.astype(np.float64) / temperature
        cumulative = np.exp(scaled - scaled.max(-1, keepdims=True)).cumsum(-1)
        # The first word whose cumulative probability exceeds the threshold; impossible words add nothing.
        threshold = generator.random((len(scores), 1)) * cumulative[:, -1:]
        return (cumulative <= threshold).sum(-1)

    return _unroll(decoding, samples, max_words, prefix or [], draw)


def beam_search(
    decoding: Decoding,
    beam_size: int = 5,
    length_exponent: float = 0.7,
    max_words: int = 30,
    prefix: list[int] | None = None,
) -> Decoded:
    """Keep the `beam_size` best captions of each image, including finished ones; return them best first.

    Captions are ranked by log-probability / words^length_exponent, where the end token counts as a word. An exponent of
    0 ranks by probability, which favours short captions; 1 ranks by the mean log-probability per word (Wu et al., arXiv
    1609.08144, section 7).
    """
    prefix, shape = prefix or [], (decoding.num_images, beam_size)
    decoding.start()
    words, rows = np.full((*shape, 0), PAD), np.full((*shape, 0), _NO_ROW)
    attention: list[np.ndarray] = []
    # All beams start equal. All except the first are empty, or the first step would keep the same word many times.
    totals = np.full(shape, -np.inf)
    totals[:, 0] = 0.0
    lengths, finished = np.zeros(shape), np.zeros(shape, dtype=bool)
    word, parent_row = np.full(shape, BOS), np.repeat(np.arange(shape[0])[:, np.newaxis], beam_size, axis=1)

    for step in range(max_words):
        alive = ~finished & (totals > -np.inf)
        if not alive.any():
            break
        scores, weights = _scores(decoding, parent_row[alive], word[alive], prefix[step : step + 1])
        attention.append(weights)
        row = np.full(shape, _NO_ROW)
        row[alive] = np.arange(len(scores))
        # Not more than K continuations of one caption can be among the best K of all: C each, (B, K, C).
        best = _largest(scores, min(beam_size, scores.shape[1]))
        extended = np.full((*shape, best.shape[1]), -np.inf)
        extended[alive] = totals[alive][:, np.newaxis] + np.take_along_axis(scores, best, axis=1)
        continuations = np.full(extended.shape, PAD)
        continuations[alive] = best
        # A finished caption has one continuation, padding of log-probability 0, so its score stays the same.
        extended[finished, 0] = totals[finished]
        lengths = lengths + ~finished
        ranks = extended / lengths[..., np.newaxis] ** length_exponent
        chosen = _largest(ranks.reshape(shape[0], -1), beam_size)  # (B, K)
        parent = chosen // best.shape[1]

        totals, word = (
            np.take_along_axis(array.reshape(shape[0], -1), chosen, axis=1) for array in (extended, continuations)
        )
        lengths, finished, parent_row = (
            np.take_along_axis(array, parent, axis=1) for array in (lengths, finished, row)
        )
        finished = finished | (word == EOS)
        words, rows = (
            np.concatenate([_followed(array, parent), last[..., np.newaxis]], axis=-1)
            for array, last in ((words, word), (rows, parent_row))
        )

    return Decoded(words, totals, _attention(attention, rows))


def _unroll(
    decoding: Decoding, captions: int, max_words: int, prefix: list[int], choose: Callable[[np.ndarray], np.ndarray]
) -> Decoded:
    """Decode word by word; `choose` maps log-probabilities (R, V) to words (R,)."""
    decoding.start()
    shape = (decoding.num_images, captions)
    total = np.zeros(shape)
    words, rows, attention = [], [], []
    alive = np.ones(shape, dtype=bool)
    parent, word = np.repeat(np.arange(shape[0]), captions), np.full(alive.size, BOS)
    for step in range(max_words):
        scores, weights = _scores(decoding, parent, word, prefix[step : step + 1])
        chosen, row = choose(scores), np.arange(len(scores))
        total[alive] += scores[row, chosen]
        words.append(np.full(shape, PAD))
        rows.append(np.full(shape, _NO_ROW))
        words[-1][alive], rows[-1][alive] = chosen, row
        attention.append(weights)
        goes_on = chosen != EOS
        alive[alive] = goes_on
        parent, word = row[goes_on], chosen[goes_on]
        if not len(word):
            break
    return Decoded(np.stack(words, axis=-1), total, _attention(attention, np.stack(rows, axis=-1)))


def _scores(
    decoding: Decoding, parents: np.ndarray, words: np.ndarray, forced: list[int]
) -> tuple[np.ndarray, np.ndarray]:
    """Return the log-probabilities of the next word (R, V), -inf for forbidden words, and the attention weights."""
    scores, weights = decoding.step(parents, words)
    if forced:
        only = np.full_like(scores, -np.inf)
        only[:, forced] = scores[:, forced]
        return only, weights
    scores[:, NEVER_EMITTED] = -np.inf
    return scores, weights


def _attention(weights: list[np.ndarray], rows: np.ndarray) -> np.ndarray:
    """Return the attention (B, K, T, L), given the weights (R, L) of every word and each caption's row (B, K, T)."""
    nothing = np.zeros_like(weights[0][:1])
    return np.stack([np.concatenate([each, nothing])[rows[..., word]] for word, each in enumerate(weights)], axis=2)


def _largest(values: np.ndarray, count: int) -> np.ndarray:
    """Return the indices of the `count` largest values of each row, in descending order of the values."""
    found = np.argpartition(values, -count, axis=1)[:, -count:]
    order = np.argsort(-np.take_along_axis(values, found, axis=1), axis=1, kind="stable")
    return np.take_along_axis(found, order, axis=1)


def _followed(array: np.ndarray, parent: np.ndarray) -> np.ndarray:
    """Reorder the captions of an array, (B, K, ...), by their parents, (B, K)."""
    return array[np.arange(len(parent))[:, np.newaxis], parent]
