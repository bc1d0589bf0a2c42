"""Soft and hard attention over the grid of image features, and losses on the attention weights.

Xu et al., "Show, Attend and Tell" (arXiv 1502.03044), equations 4 to 6 (weights and context), 8 to 12 (hard attention
and its gradient) and 14 (the doubly stochastic penalty). Dot-product scores are those of Vaswani et al. (arXiv
1706.03762), equation 1; on a CPU they cost a fraction of the additive scores. Deviation: the weights of hard attention
are sharper than those of soft attention (`SHARPNESS`).

Shapes: B images, K captions (or beams) per image, L locations of the grid, V value size, A attention size, H hidden
size. The captions of an image share its keys and values without copies.
"""

import math
from abc import ABC, abstractmethod

import torch
from torch import Tensor, nn

# Share of the hard looks in training that are replaced by their expectation, the context of soft attention, as in
# section 4.1; unlike there, this is decided per word and not per image.
EXPECTED_SHARE = 0.5
# Factor of the scores of hard attention: the first value until looks are drawn, then rising to the second value at the
# end of the training. Soft attention learns weights that hardly distinguish the locations (on Flickr8k, the largest of
# 64 weights is 0.06). Looks drawn from these weights are noise, which the decoder learns to ignore. Besides, the end of
# the training should match inference, which looks only at the location with the largest weight.
SHARPNESS = (4.0, 32.0)


class Attention(nn.Module, ABC):
    """Scores every location against the last state of the decoder, and combines the values into one context.

    Args:
        value_size: Size V of the values.
        hidden_size: Size H of the decoder's hidden state.
        attention_size: Size A of the queries and keys.
        hard: Hard attention: look at one location per word instead of the weighted mean of all. In training the
            location is drawn by its weight (equation 9); otherwise it is the one with the largest weight. The gradient
            of the draw comes from `reinforce_loss`.

    Attributes:
        expected_share: Share of the hard looks in training that are replaced by their expectation.
        sharpness: Factor of the scores of hard attention (default: the value at the end of training).
    """

    expected_share = EXPECTED_SHARE
    sharpness = SHARPNESS[1]

    def __init__(self, value_size: int, hidden_size: int, attention_size: int, hard: bool = False):
        super().__init__()
        self.key = nn.Linear(value_size, attention_size)
        self.query = nn.Linear(hidden_size, attention_size, bias=False)
        self.hard = hard

    @abstractmethod
    def scores(self, query: Tensor, keys: Tensor) -> Tensor:
        """Return e_ti of equation 4, (B, K, L), for a projected query (B, K, A) and projected keys (B, L, A)."""

    def forward(self, hidden: Tensor, keys: Tensor, values: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return the context z_t, (B, K, V), the weights alpha_t, (B, K, L), and the share of each location in z_t.

        The weights sum to 1 over L. The shares, (B, K, L), are equal to the weights or, for a hard look, 1 at the
        chosen location and 0 elsewhere: s_t.

        Args:
            hidden: The decoder's last hidden state, (B, K, H).
            keys: `self.key(values)`, (B, L, A), projected once for the whole caption.
            values: The locations' features a_i, (B, L, V).
        """
        scores = self.scores(self.query(hidden), keys)
        weights = (self.sharpness * scores if self.hard else scores).softmax(dim=-1)  # equation 5
        shares = self.look(weights) if self.hard else weights
        return shares @ values, weights, shares  # equation 6: the expectation of section 4.2, or equation 10

    def look(self, weights: Tensor) -> Tensor:
        """Return the shares of a hard look, (..., L), for weights (..., L)."""
        if not self.training:
            return torch.zeros_like(weights).scatter(-1, weights.argmax(-1, keepdim=True), 1.0)
        location = torch.multinomial(weights.detach().flatten(0, -2), 1).view(*weights.shape[:-1], 1)
        drawn = torch.zeros_like(weights).scatter(-1, location, 1.0)
        expected = torch.rand(location.shape, device=weights.device) < self.expected_share
        return torch.where(expected, weights, drawn)


class AdditiveAttention(Attention):
    """The additive scores of the paper: w . tanh(W_a a_i + W_h h_{t-1})."""

    def __init__(self, value_size: int, hidden_size: int, attention_size: int, hard: bool = False):
        super().__init__(value_size, hidden_size, attention_size, hard)
        self.score = nn.Linear(attention_size, 1, bias=False)

    def scores(self, query: Tensor, keys: Tensor) -> Tensor:
        """Return e_ti, (B, K, L)."""
        return self.score((keys.unsqueeze(1) + query.unsqueeze(2)).tanh()).squeeze(-1)  # tanh over (B, K, L, A)


class DotAttention(Attention):
    """Scaled dot-product scores: (W_a a_i) . (W_h h_{t-1}) / sqrt(A)."""

    def scores(self, query: Tensor, keys: Tensor) -> Tensor:
        """Return e_ti, (B, K, L)."""
        return query @ keys.transpose(1, 2) / math.sqrt(keys.shape[-1])


def doubly_stochastic_penalty(weights: Tensor, mask: Tensor) -> Tensor:
    """Return sum_i (1 - sum_t alpha_ti)^2, averaged over the captions: the second term of equation 14.

    Args:
        weights: The attention weights, (B, K, T, L).
        mask: True where a caption has a word, (B, K, T); captions without words are missing ones and do not count.
    """
    attended = torch.einsum("bktl,bkt->bkl", weights, mask.to(weights.dtype))
    return (1 - attended).square().sum(-1)[mask.any(-1)].mean()


def reinforce_loss(weights: Tensor, shares: Tensor, advantages: Tensor, mask: Tensor) -> Tensor:
    """Return minus the sum of advantage times log alpha_{t, s_t} over all hard looks, per word.

    Its gradient is that of the looks in equation 12, for any number of captions.

    Args:
        weights: The attention weights, (B, K, T, L).
        shares: The share of each location in the context, (B, K, T, L); looks replaced by their expectation do not
            count.
        advantages: The reward of each look minus a baseline that does not depend on it, (B, K, T).
        mask: True where a caption has a word, (B, K, T).
    """
    drawn = mask & (shares != weights).any(-1)
    # A weight may underflow to 0, and the logarithm of 0 has no gradient.
    log_probability = (shares.detach() * weights.clamp_min(torch.finfo(weights.dtype).tiny).log()).sum(-1)
    return -(advantages.detach() * log_probability)[drawn].sum() / mask.sum()


def attention_entropy(weights: Tensor, mask: Tensor) -> Tensor:
    """Return the mean entropy of the weights, in nats: H[s] of equation 11.

    Args:
        weights: The attention weights, (B, K, T, L).
        mask: True where a caption has a word, (B, K, T).
    """
    return -(weights * weights.clamp_min(torch.finfo(weights.dtype).tiny).log()).sum(-1)[mask].mean()
