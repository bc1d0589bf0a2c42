"""Attention against the paper's equations, written out location by location."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from captioning.network.attention import AdditiveAttention, Attention, DotAttention, doubly_stochastic_penalty

KINDS: list[type[Attention]] = [AdditiveAttention, DotAttention]
sizes = st.integers(1, 5)


def make(kind: type[Attention], images: int, captions: int, locations: int) -> tuple[Attention, Tensor, Tensor]:
    """An attention with unequal sizes in double precision, hidden states (B, K, H) and values (B, L, V)."""
    attention = kind(value_size=4, hidden_size=3, attention_size=2).double()
    hidden = torch.randn(images, captions, 3, dtype=torch.float64)
    return attention, hidden, torch.randn(images, locations, 4, dtype=torch.float64)


@pytest.mark.parametrize("kind", KINDS)
@settings(deadline=None)  # the first call of torch is slow
@given(images=sizes, captions=sizes, locations=sizes, scale=st.sampled_from([1.0, 1e3]), seed=st.integers(0, 99))
def test_weights_are_a_distribution_and_the_context_a_convex_combination(
    kind: type[Attention], images: int, captions: int, locations: int, scale: float, seed: int
) -> None:
    torch.manual_seed(seed)
    attention, hidden, values = make(kind, images, captions, locations)
    context, weights, _ = attention(scale * hidden, attention.key(values), values)
    assert weights.shape == (images, captions, locations)
    assert bool((weights >= 0).all())
    torch.testing.assert_close(weights.sum(-1), torch.ones(images, captions, dtype=torch.float64))
    lowest, highest = values.amin(1, keepdim=True), values.amax(1, keepdim=True)
    assert bool(((context >= lowest - 1e-9) & (context <= highest + 1e-9)).all())


@pytest.mark.parametrize("kind", KINDS)
def test_the_weights_of_hard_attention_are_those_of_soft_to_the_power_of_its_sharpness(kind: type[Attention]) -> None:
    torch.manual_seed(0)
    attention, hidden, values = make(kind, images=2, captions=3, locations=5)
    _, soft, _ = attention(hidden, attention.key(values), values)
    attention.hard, attention.sharpness = True, 3.0
    _, hard, _ = attention.eval()(hidden, attention.key(values), values)
    torch.testing.assert_close(hard, soft**3 / (soft**3).sum(-1, keepdim=True))


def score_by_hand(attention: Attention, location: np.ndarray, hidden: np.ndarray) -> float:
    """e_ti of equation 4 for one location and one state."""
    key = attention.key.weight.detach().numpy() @ location + attention.key.bias.detach().numpy()
    query = attention.query.weight.detach().numpy() @ hidden
    if isinstance(attention, AdditiveAttention):
        return float(attention.score.weight.detach().numpy()[0] @ np.tanh(key + query))
    return float(key @ query) / math.sqrt(len(key))


@pytest.mark.parametrize("kind", KINDS)
def test_equals_the_equations_written_as_loops(kind: type[Attention]) -> None:
    torch.manual_seed(0)
    attention, hidden, values = make(kind, images=2, captions=3, locations=5)
    context, weights, _ = attention(hidden, attention.key(values), values)
    for image in range(2):
        for caption in range(3):
            scores = [score_by_hand(attention, a, hidden[image, caption].numpy()) for a in values[image].numpy()]
            exponents = [math.exp(score) for score in scores]
            alphas = [exponent / sum(exponents) for exponent in exponents]  # equation 5
            expected = sum(alpha * a for alpha, a in zip(alphas, values[image].numpy(), strict=True))
            np.testing.assert_allclose(weights[image, caption].detach().numpy(), alphas, rtol=1e-12)
            np.testing.assert_allclose(context[image, caption].detach().numpy(), expected, rtol=1e-12)


# Two captions of one image with two locations; the second caption has one word and one padding token.
WEIGHTS = torch.tensor([[[[0.5, 0.5], [0.1, 0.9]], [[0.2, 0.8], [1.0, 0.0]]]])
MASK = torch.tensor([[[True, True], [True, False]]])


def test_doubly_stochastic_penalty_by_hand() -> None:
    first = (1 - 0.6) ** 2 + (1 - 1.4) ** 2
    second = (1 - 0.2) ** 2 + (1 - 0.8) ** 2
    assert doubly_stochastic_penalty(WEIGHTS, MASK).item() == pytest.approx((first + second) / 2)


def test_doubly_stochastic_penalty_is_zero_where_every_location_is_seen_once() -> None:
    weights = torch.tensor([[0.25, 0.5, 0.25], [0.75, 0.0, 0.25], [0.0, 0.5, 0.5]])[None, None]
    assert doubly_stochastic_penalty(weights, torch.ones(1, 1, 3, dtype=torch.bool)).item() == 0


def test_padding_has_no_part_in_the_penalty() -> None:
    weights = WEIGHTS.clone().requires_grad_()
    doubly_stochastic_penalty(weights, MASK).backward()
    assert weights.grad is not None
    assert bool((weights.grad[~MASK] == 0).all())
    assert bool((weights.grad[MASK] != 0).any(-1).all())
    # An image with fewer captions than others in its batch has captions that are all padding.
    absent = torch.cat([WEIGHTS, WEIGHTS], dim=1), torch.cat([MASK, torch.zeros_like(MASK)], dim=1)
    torch.testing.assert_close(doubly_stochastic_penalty(*absent), doubly_stochastic_penalty(WEIGHTS, MASK))
