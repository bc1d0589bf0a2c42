"""Greedy search, beam search and sampling: captions from the probabilities of the decoder.

All three decode many images at once, never emit `<unk>`, and accept a prefix that every caption starts with.

Shapes: B images, K captions per image (beams or samples), T words, L grid locations, V vocabulary size.
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from captioning.network.decoder import Decoder, Memory, State
from data_prep.vocabulary import BOS, EOS, PAD, UNK

# Tokens that no search emits.
NEVER_EMITTED = [PAD, BOS, UNK]


@dataclass(frozen=True)
class Decoded:
    """The captions of a batch of images, best first if they are ranked.

    Attributes:
        words: Word ids with the end token, then padding, (B, K, T); a caption that `max_words` cut has no end token.
        log_probabilities: Sum of the natural log-probabilities of the words and the end token, (B, K). It is minus
            infinity for an empty beam, if fewer captions exist than beams.
        attention: Attention weights alpha_t of each word, (B, K, T, L).
    """

    words: Tensor
    log_probabilities: Tensor
    attention: Tensor


@torch.no_grad()
def greedy(decoder: Decoder, memory: Memory, max_words: int = 30, prefix: list[int] | None = None) -> Decoded:
    """Choose the most likely word at every step; K is 1."""
    return _unroll(decoder, memory, 1, max_words, prefix or [], lambda scores: scores.argmax(-1))


@torch.no_grad()
def sample(
    decoder: Decoder,
    memory: Memory,
    samples: int = 1,
    temperature: float = 1.0,
    max_words: int = 30,
    prefix: list[int] | None = None,
    generator: torch.Generator | None = None,
) -> Decoded:
    """Draw `samples` captions per image; a `temperature` below 1 favours likely words.

    The returned log-probabilities are those at temperature 1.
    """

    def draw(scores: Tensor) -> Tensor:
        probabilities = (scores / temperature).softmax(-1).flatten(0, 1)
        return torch.multinomial(probabilities, 1, generator=generator).view(scores.shape[:2])

    return _unroll(decoder, memory, samples, max_words, prefix or [], draw)


@torch.no_grad()
def beam_search(
    decoder: Decoder,
    memory: Memory,
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
    prefix = prefix or []
    images, device = memory.values.shape[0], memory.values.device
    state = decoder.initial_state(memory, beam_size)
    words = torch.full((images, beam_size, 1), BOS, device=device)
    attention = memory.values.new_zeros(images, beam_size, 0, memory.values.shape[1])
    # All beams start equal. All except the first are disabled, or the first step would keep the same word many times.
    totals = torch.full((images, beam_size), -math.inf, device=device)
    totals[:, 0] = 0.0
    lengths = torch.zeros(images, beam_size, device=device)
    finished = torch.zeros(images, beam_size, dtype=torch.bool, device=device)

    for step in range(max_words):
        scores, state, weights = _scores(decoder, memory, words[..., -1], state, prefix[step : step + 1])
        # A finished caption has one continuation, padding of log-probability 0, so its score stays the same.
        scores[finished] = -math.inf
        scores[..., PAD].masked_fill_(finished, 0.0)
        extended = totals.unsqueeze(-1) + scores  # (B, K, V)
        lengths = lengths + ~finished
        ranks = (extended / lengths.unsqueeze(-1) ** length_exponent).flatten(1)
        best = ranks.topk(beam_size, dim=1).indices  # (B, K)
        parent, word = best // scores.shape[-1], best % scores.shape[-1]

        totals = extended.flatten(1).gather(1, best)
        lengths, finished = lengths.gather(1, parent), finished.gather(1, parent)
        state = State(*(_follow(tensor, parent) for tensor in state))
        words = torch.cat([_follow(words, parent), word.unsqueeze(-1)], dim=-1)
        attention = _follow(torch.cat([attention, weights.unsqueeze(2)], dim=2), parent)
        finished = finished | (word == EOS)
        if bool(finished.all()):
            break

    return Decoded(words[..., 1:], totals, attention)


def _unroll(decoder: Decoder, memory: Memory, captions: int, max_words: int, prefix: list[int], choose) -> Decoded:
    """Decode word by word; `choose` maps log-probabilities (B, K, V) to words (B, K)."""
    state = decoder.initial_state(memory, captions)
    word = torch.full((memory.values.shape[0], captions), BOS, device=memory.values.device)
    finished = torch.zeros_like(word, dtype=torch.bool)
    total = torch.zeros(word.shape, device=word.device)
    words, attention = [], []
    for step in range(max_words):
        scores, state, weights = _scores(decoder, memory, word, state, prefix[step : step + 1])
        word = choose(scores).masked_fill(finished, PAD)
        total = total + scores.gather(-1, word.unsqueeze(-1)).squeeze(-1).masked_fill(finished, 0.0)
        words.append(word)
        attention.append(weights)
        finished = finished | (word == EOS)
        if bool(finished.all()):
            break
    return Decoded(torch.stack(words, dim=-1), total, torch.stack(attention, dim=2))


def _scores(
    decoder: Decoder, memory: Memory, word: Tensor, state: State, forced: list[int]
) -> tuple[Tensor, State, Tensor]:
    """Return the log-probabilities of the next word (B, K, V), -inf for forbidden words; the state; the weights."""
    logits, state, weights = decoder.step(word, state, memory)
    scores = logits.float().log_softmax(-1)
    if forced:
        only = torch.full_like(scores, -math.inf)
        only[..., forced] = scores[..., forced]
        return only, state, weights
    scores[..., NEVER_EMITTED] = -math.inf
    return scores, state, weights


def _follow(tensor: Tensor, parent: Tensor) -> Tensor:
    """Reorder the beams of `tensor`, (B, K, ...), by their parents, (B, K)."""
    return tensor[torch.arange(parent.shape[0], device=parent.device).unsqueeze(1), parent]
