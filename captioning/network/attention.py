"""Where to look: soft and hard attention over the grid of image features, and what each word saw.

Xu et al., "Show, Attend and Tell" (arXiv 1502.03044), equations 4 to 6 (weights and context), 8 to 12 (hard attention
and its gradient) and 14 (the doubly stochastic penalty). Dot-product scores are those of Vaswani et al. (arXiv
1706.03762), equation 1; on a CPU they cost a fraction of the additive ones. Deviation: hard attention's weights are
sharper than soft attention's (`SHARPNESS`).

Shapes: B images, K captions of each image (or beams), L locations of the grid, V value size, A attention size,
H hidden size. The captions of an image share its keys and values: nothing is copied K times.
"""

import math
from abc import ABC, abstractmethod

import torch
from torch import Tensor, nn

# Half of the hard looks of a training are replaced by their expectation, the soft one, as in section 4.1, but which is
# decided for every word rather than for every image.
EXPECTED_SHARE = 0.5
# Factor of the scores of hard attention, before it begins to look and, by then risen to it, at the end of the training.
# Soft attention learns weights that hardly tell one location from the next (the largest is 0.06 of 64 locations, on
# Flickr8k): looks drawn from such are noise, which a decoder learns to ignore. And the end of the training is to be as
# its use is, where the weightiest location alone is looked at.
SHARPNESS = (4.0, 32.0)


class Attention(nn.Module, ABC):
    """Scores every location against the decoder's last state, and makes one context of the locations' values.

    Args:
        value_size: V.
        hidden_size: H.
        attention_size: A.
        hard: Look at one location a word, in place of at the mean of all: drawn by its weight in training (equation
            9), the weightiest otherwise. The gradient of the drawing is `reinforce_loss`'s.

    Attributes:
        expected_share: How often, in training, a hard look is replaced by its expectation, the soft one.
        sharpness: Factor of the scores of hard attention; what it is at the end of a training, unless that sets it.
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
        """Return the context z_t, (B, K, V), the weights alpha_t, (B, K, L), and each location's share in z_t.

        The weights sum to 1 over L. The shares, (B, K, L), are the weights themselves or, where attention is hard, 1
        for the location that is looked at: s_t.

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
        """Return the shares of a hard look, of (..., L)."""
        if not self.training:
            return torch.zeros_like(weights).scatter(-1, weights.argmax(-1, keepdim=True), 1.0)
        location = torch.multinomial(weights.detach().flatten(0, -2), 1).view(*weights.shape[:-1], 1)
        drawn = torch.zeros_like(weights).scatter(-1, location, 1.0)
        expected = torch.rand(location.shape, device=weights.device) < self.expected_share
        return torch.where(expected, weights, drawn)


class AdditiveAttention(Attention):
    """The paper's own scores: w . tanh(W_a a_i + W_h h_{t-1})."""

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
        mask: True where a caption has a word, (B, K, T); a caption without a word is absent, and not counted.
    """
    attended = torch.einsum("bktl,bkt->bkl", weights, mask.to(weights.dtype))
    return (1 - attended).square().sum(-1)[mask.any(-1)].mean()


def reinforce_loss(weights: Tensor, shares: Tensor, advantages: Tensor, mask: Tensor) -> Tensor:
    """Return minus the sum of advantage times log alpha_{t, s_t} over all hard looks, a word.

    Its gradient is that of the looks in equation 12, for as many captions as there are.

    Args:
        weights: The attention weights, (B, K, T, L).
        shares: Each location's share in the context, (B, K, T, L): looks that took the expectation do not count.
        advantages: What each look earned, less a baseline that does not depend on it, (B, K, T).
        mask: True where a caption has a word, (B, K, T).
    """
    drawn = mask & (shares != weights).any(-1)
    # A weight may have underflowed to 0, whose logarithm has no gradient.
    log_probability = (shares.detach() * weights.clamp_min(torch.finfo(weights.dtype).tiny).log()).sum(-1)
    return -(advantages.detach() * log_probability)[drawn].sum() / mask.sum()


def attention_entropy(weights: Tensor, mask: Tensor) -> Tensor:
    """Return the mean entropy of the weights, in nats: H[s] of equation 11.

    Args:
        weights: The attention weights, (B, K, T, L).
        mask: True where a caption has a word, (B, K, T).
    """
    return -(weights * weights.clamp_min(torch.finfo(weights.dtype).tiny).log()).sum(-1)[mask].mean()
