"""Where to look: soft attention over the grid of image features, and what each word saw.

Xu et al., "Show, Attend and Tell" (arXiv 1502.03044), equations 4 to 6 (weights and context) and 14 (the doubly
stochastic penalty). Dot-product scores are those of Vaswani et al. (arXiv 1706.03762), equation 1; on a CPU they cost
a fraction of the additive ones.

Shapes: B images, K captions of each image (or beams), L locations of the grid, V value size, A attention size,
H hidden size. The captions of an image share its keys and values: nothing is copied K times.
"""

import math
from abc import ABC, abstractmethod

import torch
from torch import Tensor, nn


class Attention(nn.Module, ABC):
    """Soft attention: scores every location against the decoder's last state, and mixes the locations' values."""

    def __init__(self, value_size: int, hidden_size: int, attention_size: int):
        super().__init__()
        self.key = nn.Linear(value_size, attention_size)
        self.query = nn.Linear(hidden_size, attention_size, bias=False)

    @abstractmethod
    def scores(self, query: Tensor, keys: Tensor) -> Tensor:
        """Return e_ti of equation 4, (B, K, L), for a projected query (B, K, A) and projected keys (B, L, A)."""

    def forward(self, hidden: Tensor, keys: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:
        """Return the context z_t, (B, K, V), and the weights alpha_t, (B, K, L), which sum to 1 over L.

        Args:
            hidden: The decoder's last hidden state, (B, K, H).
            keys: `self.key(values)`, (B, L, A), projected once for the whole caption.
            values: The locations' features a_i, (B, L, V).
        """
        weights = self.scores(self.query(hidden), keys).softmax(dim=-1)  # equation 5
        return weights @ values, weights  # equation 6: the expectation of section 4.2


class AdditiveAttention(Attention):
    """The paper's own scores: w . tanh(W_a a_i + W_h h_{t-1})."""

    def __init__(self, value_size: int, hidden_size: int, attention_size: int):
        super().__init__(value_size, hidden_size, attention_size)
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
