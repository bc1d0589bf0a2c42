"""How far back a loss reaches: the norm of the gradient of a word's loss with respect to earlier states.

Pascanu, Mikolov and Bengio, "On the difficulty of training recurrent neural networks" (2013, arXiv 1211.5063), section
2.1: dLoss_t / dh_{t-k} is a product of k Jacobians, so its norm decays or grows exponentially with k. In the sums of
equations 3 and 4 it is the weight of what happened k words ago; what has no weight in them is not learned.

Shapes: B images, K captions per image, T words, V vocabulary size.
"""

from itertools import pairwise
from typing import NamedTuple, cast

import torch
from torch import Tensor
from torch.nn import functional as F

from captioning.network.decoder import Decoder, Memory, State
from captioning.network.recurrent import Gates, LSTMCell, RNNCell, WindowCell
from data_prep.vocabulary import PAD
from vision_rnn.errors import UserError


class GradientFlow(NamedTuple):
    """Norms of dLoss_t / ds_{t-k}, each (B, K, T), k = 1 first, float64; NaN if a caption has no k words before.

    The state s is h or c (in an LSTM); each is differentiated with the other held constant. With stacked layers it
    contains the states of all layers.
    """

    hidden: Tensor
    cell: Tensor | None  # only in an LSTM


def gradient_flow(decoder: Decoder, memory: Memory, words: Tensor) -> GradientFlow:
    """Differentiate the loss of each caption's last word with respect to every state before it.

    Loss_t = -ln p(y_{t+1} | y_0 .. y_t), where y_{t+1} is the last word and h_t the state after reading y_t. All paths
    count: the recurrence and, with attention, the effect of h_{t-k} on the context. Hard looks are held constant.

    Args:
        decoder: An RNN or an LSTM, in evaluation mode.
        memory: Result of `Decoder.remember` for B images.
        words: Captions from the begin token to the word whose loss is differentiated, then padding, (B, K, T + 1).

    Raises:
        UserError: The decoder is a window of words.
    """
    recurrent_cells(decoder)
    lengths = (words[..., 1:] != PAD).sum(-1)  # (B, K)
    # Leaf tensors, so that there is a graph even if the weights of the model are frozen.
    state = State(*(part.detach().requires_grad_() for part in decoder.initial_state(memory, words.shape[1])))
    states: list[State] = []
    loss = memory.values.new_zeros(())
    for step, (word, target) in enumerate(pairwise(words.unbind(-1)), start=1):
        states.append(state)
        logits, state, _ = decoder.step(word, state, memory)
        last = lengths == step
        loss = loss + F.cross_entropy(logits[last], target[last], reduction="sum")
    parts = [[each.hidden for each in states]]
    if state.cell_state.shape[-1]:
        parts.append([each.cell_state for each in states])
    gradients = torch.autograd.grad(loss, [tensor for part in parts for tensor in part], materialize_grads=True)
    # The squares of a vanished gradient would underflow in single precision.
    norms = torch.stack([gradient.double().flatten(2).norm(dim=-1) for gradient in gradients], dim=-1)  # (B, K, P T)
    steps_back = torch.arange(1, len(states) + 1, device=words.device)
    places = lengths.unsqueeze(-1) - steps_back  # (B, K, T), index of s_{t-k} in the states
    found = [
        norm.gather(-1, places.clamp_min(0)).masked_fill(places < 0, torch.nan)
        for norm in norms.split(len(states), dim=-1)
    ]
    return GradientFlow(found[0], found[1] if len(found) > 1 else None)


def geometric_mean(norms: Tensor) -> Tensor:
    """Return the geometric mean of norms, (..., T), over the captions that have k words before, (T,).

    It suits quantities that decay or grow exponentially: a few captions with large norms do not dominate it.
    """
    return norms.flatten(0, -2).log().nanmean(0).exp()


def spectral_radius(matrix: Tensor) -> float:
    """Return the largest absolute eigenvalue of a square matrix."""
    return torch.linalg.eigvals(matrix.detach().double().cpu()).abs().max().item()


def spectral_radii(decoder: Decoder) -> dict[str, float]:
    """Return the spectral radius of U for every layer of an RNN, and for every gate of every layer of an LSTM.

    Raises:
        UserError: The decoder is a window of words.
    """
    radii = {}
    for number, cell in enumerate(recurrent_cells(decoder), start=1):
        gates = Gates._fields if isinstance(cell, LSTMCell) else ("state",)
        for gate, matrix in zip(gates, cell.state_to_gates.weight.chunk(len(gates)), strict=True):
            radii[f"layer {number}, {gate}"] = spectral_radius(matrix)
    return radii


def recurrent_cells(decoder: Decoder) -> list[LSTMCell | RNNCell]:
    """Return the layers of the decoder, from bottom to top.

    Raises:
        UserError: The decoder is a window of words.
    """
    if isinstance(decoder.cell, WindowCell):
        raise UserError("a window of words has no recurrent path for gradients; choose an RNN or an LSTM")
    return [decoder.cell, *cast("list[LSTMCell | RNNCell]", list(decoder.upper_cells))]
