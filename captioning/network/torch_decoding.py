"""Decoding steps by torch, for the searches of `captioning.search`.

Shapes: B images, K captions per image, L grid locations, V vocabulary size.
"""

import numpy as np
import torch

from captioning.network.decoder import Decoder, Memory, State


class TorchDecoding:
    """A batch of images that the decoder captions.

    Args:
        decoder: The decoder.
        memory: Result of `Decoder.remember` for the images.
    """

    def __init__(self, decoder: Decoder, memory: Memory) -> None:
        self.num_images = len(memory.values)
        self._decoder, self._memory = decoder, memory
        self._state: State

    @torch.no_grad()
    def start(self, captions: int) -> None:
        """Start `captions` captions of every image."""
        self._state = self._decoder.initial_state(self._memory, captions)

    @torch.no_grad()
    def step(self, words: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return the log-probabilities of the next word, (B, K, V), and the attention weights, (B, K, L)."""
        word = torch.from_numpy(words).to(self._memory.values.device)
        logits, self._state, weights = self._decoder.step(word, self._state, self._memory)
        return logits.float().log_softmax(-1).cpu().numpy(), weights.float().cpu().numpy()

    def follow(self, parents: np.ndarray) -> None:
        """Reorder the states of the captions."""
        parent = torch.from_numpy(parents).to(self._memory.values.device)
        images = torch.arange(self.num_images, device=parent.device).unsqueeze(1)
        self._state = State(*(tensor[images, parent] for tensor in self._state))
