"""Greedy search, beam search and sampling: captions from the probabilities of the decoder.

All three decode many images at once, never emit `<unk>`, and accept a prefix that every caption starts with. They are
written in NumPy, so that every engine that can take a decoding step shares them.

Shapes: B images, K captions per image (beams or samples), T words, L grid locations, V vocabulary size.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from data_prep.vocabulary import BOS, EOS, PAD, UNK

# Tokens that no search emits.
NEVER_EMITTED = [PAD, BOS, UNK]


class Decoding(Protocol):
    """A batch of images that an engine is captioning; it keeps the state of every caption between two words.

    Attributes:
        num_images: Number B of images.
    """

    num_images: int

    def start(self, captions: int) -> None:
        """Start K = `captions` captions of every image, from the initial state."""
        ...

    def step(self, words: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Read the last word of every caption, (B, K) int64.

        Returns the natural log-probabilities of the next word, (B, K, V) float32, in an array that the caller may
        change, and the attention weights, (B, K, L) float32.
        """
        ...

    def follow(self, parents: np.ndarray) -> None:
        """Let caption k of image b continue caption `parents[b, k]` of that image, (B, K) int64."""
        ...


@dataclass(frozen=True)
class Decoded:
    """The captions of a batch of images, best first if they are ranked.

    Attributes:
        words: Word ids with the end token, then padding, (B, K, T) int64; a caption that `max_words` cut has no end
            token.
        log_probabilities: Sum of the natural log-probabilities of the words and the end token, (B, K) float64. It is
            minus infinity for an empty beam, if fewer captions exist than beams.
        attention: Attention weights alpha_t of each word, (B, K, T, L) float32.
    """

    words: np.ndarray
    log_probabilities: np.ndarray
    attention: np.ndarray


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
        threshold = generator.random((*scores.shape[:2], 1)) * cumulative[..., -1:]
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
    decoding.start(beam_size)
    words = np.full((*shape, 1), BOS)
    attention: list[np.ndarray] = []
    # All beams start equal. All except the first are disabled, or the first step would keep the same word many times.
    totals = np.full(shape, -np.inf)
    totals[:, 0] = 0.0
    lengths, finished = np.zeros(shape), np.zeros(shape, dtype=bool)

    for step in range(max_words):
        scores, weights = _scores(decoding, words[..., -1], prefix[step : step + 1])
        # A finished caption has one continuation, padding of log-probability 0, so its score stays the same.
        scores[finished] = -np.inf
        scores[finished, PAD] = 0.0
        extended = totals[..., np.newaxis] + scores  # (B, K, V)
        lengths = lengths + ~finished
        ranks = (extended / lengths[..., np.newaxis] ** length_exponent).reshape(shape[0], -1)
        best = _largest(ranks, beam_size)  # (B, K)
        parent, word = np.divmod(best, scores.shape[-1])

        totals = np.take_along_axis(extended.reshape(shape[0], -1), best, axis=1)
        lengths, finished = (np.take_along_axis(array, parent, axis=1) for array in (lengths, finished))
        decoding.follow(parent)
        words = np.concatenate([_followed(words, parent), word[..., np.newaxis]], axis=-1)
        attention = [_followed(array, parent) for array in (*attention, weights)]
        finished = finished | (word == EOS)
        if finished.all():
            break

    return Decoded(words[..., 1:], totals, np.stack(attention, axis=2))


def _unroll(
    decoding: Decoding, captions: int, max_words: int, prefix: list[int], choose: Callable[[np.ndarray], np.ndarray]
) -> Decoded:
    """Decode word by word; `choose` maps log-probabilities (B, K, V) to words (B, K)."""
    decoding.start(captions)
    word = np.full((decoding.num_images, captions), BOS)
    finished, total = np.zeros(word.shape, dtype=bool), np.zeros(word.shape)
    words, attention = [], []
    for step in range(max_words):
        scores, weights = _scores(decoding, word, prefix[step : step + 1])
        word = np.where(finished, PAD, choose(scores))
        chosen = np.take_along_axis(scores, word[..., np.newaxis], axis=-1)[..., 0]
        total += np.where(finished, 0.0, chosen)
        words.append(word)
        attention.append(weights)
        finished = finished | (word == EOS)
        if finished.all():
            break
    return Decoded(np.stack(words, axis=-1), total, np.stack(attention, axis=2))


def _scores(decoding: Decoding, word: np.ndarray, forced: list[int]) -> tuple[np.ndarray, np.ndarray]:
    """Return the log-probabilities of the next word (B, K, V), -inf for forbidden words, and the attention weights."""
    scores, weights = decoding.step(word)
    if forced:
        only = np.full_like(scores, -np.inf)
        only[..., forced] = scores[..., forced]
        return only, weights
    scores[..., NEVER_EMITTED] = -np.inf
    return scores, weights


def _largest(values: np.ndarray, count: int) -> np.ndarray:
    """Return the indices of the `count` largest values of each row, in descending order of the values."""
    found = np.argpartition(-values, count - 1, axis=1)[:, :count]
    order = np.argsort(-np.take_along_axis(values, found, axis=1), axis=1, kind="stable")
    return np.take_along_axis(found, order, axis=1)


def _followed(array: np.ndarray, parent: np.ndarray) -> np.ndarray:
    """Reorder the captions of an array, (B, K, ...), by their parents, (B, K)."""
    return array[np.arange(len(parent))[:, np.newaxis], parent]
