"""The gradient of self-critical training against the exact gradient, by enumeration of all captions."""

import itertools
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from captioning.captioner import Captioner
from captioning.captioner_config import DecoderConfig, EncoderConfig, SearchConfig, TrainingConfig
from captioning.network.decoder import Decoder, Memory
from captioning.search import Decoded
from captioning.training import task as task_module
from captioning.training.batches import CaptionBatch
from captioning.training.task import CaptioningTask
from data_prep.vocabulary import BOS, EOS, PAD, UNK

WORDS = ["a", "dog"]
MAX_WORDS = 3


def all_captions(vocabulary_size: int) -> list[list[int]]:
    """All sequences that can be sampled: words up to an end token, or cut after MAX_WORDS."""
    words = [token for token in range(vocabulary_size) if token not in (PAD, BOS, EOS, UNK)]
    ended = [[*prefix, EOS] for length in range(MAX_WORDS) for prefix in itertools.product(words, repeat=length)]
    return ended + [list(words) for words in itertools.product(words, repeat=MAX_WORDS)]


def probability(decoder: Decoder, memory: Memory, caption: list[int], temperature: float) -> Tensor:
    """p(caption) as it is sampled: step by step, without the tokens that are never drawn."""
    state, last, product = decoder.initial_state(memory, 1), BOS, torch.ones((), dtype=torch.float64)
    for token in caption:
        logits, state, _ = decoder.step(torch.tensor([[last]]), state, memory)
        odds = (logits[0, 0] / temperature).exp()
        drawable = [index for index in range(len(odds)) if index not in (PAD, BOS, UNK)]
        product = product * odds[token] / odds[drawable].sum()
        last = token
    return product


@pytest.mark.parametrize("temperature", [1.0, 0.6])
def test_its_expectation_is_the_gradient_of_the_expected_reward(monkeypatch: pytest.MonkeyPatch, temperature: float):
    torch.manual_seed(0)
    captioner = Captioner(
        EncoderConfig(backbone="none", image_size=1),
        DecoderConfig(attention="none", hidden_size=3, embedding_size=4),
        WORDS,
        SearchConfig(max_words=MAX_WORDS),
    ).double()
    decoder = captioner.decoder
    for parameter in decoder.parameters():
        torch.nn.init.normal_(parameter)
    captions = all_captions(len(captioner.vocabulary))
    rewards = {
        tuple(caption): reward for caption, reward in zip(captions, torch.rand(len(captions)).tolist(), strict=True)
    }

    grid = torch.empty(1, 1, 0, dtype=torch.float64)
    probabilities = [probability(decoder.eval(), decoder.remember(grid), caption, temperature) for caption in captions]
    assert sum(probabilities).item() == pytest.approx(1)
    expected_reward = sum(p * rewards[tuple(caption)] for p, caption in zip(probabilities, captions, strict=True))
    exact = flat_gradient(-expected_reward, decoder)

    known = SimpleNamespace(captions=[[torch.tensor([BOS, *captions[1]])]])
    config = TrainingConfig(objective="self_critical", samples=2, temperature=temperature)
    task = CaptioningTask(captioner, config, known, known)  # type: ignore[arg-type]
    monkeypatch.setattr(task, "log", lambda *_, **__: None)
    monkeypatch.setattr(
        task, "_rewards", SimpleNamespace(scores=lambda _, drawn: [rewards[tuple(one)] for one in drawn])
    )
    batch = CaptionBatch(grid, torch.tensor([[[BOS, EOS]]]), torch.tensor([0]))
    estimated = torch.zeros_like(exact)
    for (one, p), (other, q) in itertools.product(zip(captions, probabilities, strict=True), repeat=2):
        padded = np.array([[caption + [PAD] * (MAX_WORDS - len(caption)) for caption in (one, other)]])
        drawn = Decoded(padded, np.zeros((1, 2)), np.zeros((1, 2, MAX_WORDS, 1)))
        monkeypatch.setattr(task_module, "sample", lambda *_, drawn=drawn, **__: drawn)
        estimated += (p * q).item() * flat_gradient(task.training_step(batch, 0), decoder)

    assert torch.nn.functional.cosine_similarity(estimated, exact, dim=0) > 0.9999
    assert estimated.norm().item() == pytest.approx(exact.norm().item(), rel=1e-3)


def flat_gradient(loss: Tensor, decoder: Decoder) -> Tensor:
    gradients: tuple[Any, ...] = torch.autograd.grad(
        loss, list(decoder.parameters()), retain_graph=True, materialize_grads=True, allow_unused=True
    )
    return torch.cat([gradient.flatten() for gradient in gradients])
