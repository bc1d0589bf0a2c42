"""How likely a captioner finds given captions: teacher forcing without smoothing."""

import torch
from torch import Tensor

from captioning.decoder import Decoder, Memory
from data_prep.vocabulary import PAD


def log_likelihoods(decoder: Decoder, memory: Memory, words: Tensor) -> Tensor:
    """Return the natural log-probability of every word but the first, given those before it, (B, K, T); 0 for padding.

    Args:
        decoder: The decoder, in evaluation mode; in training mode units drop out.
        memory: From `Decoder.remember`, of B images.
        words: Captions from the begin token to the end token, then padding, (B, K, T + 1).
    """
    targets = words[..., 1:]
    mask = targets != PAD
    logits = decoder.logits(decoder(memory, words[..., :-1]).outputs[mask]).float()
    found = torch.zeros(targets.shape, device=words.device)
    found[mask] = logits.log_softmax(-1).gather(-1, targets[mask].unsqueeze(-1)).squeeze(-1)
    return found
