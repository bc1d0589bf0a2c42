"""Decoding steps by torch, for the searches of `captioning.search`."""

from typing import Any

import numpy as np
import torch

from captioning.network.decoder import Decoder, Memory, State
from captioning.rows import RowDecoding, Rows


class TorchDecoding(RowDecoding):
    """A batch of images that the decoder captions.

    Args:
        decoder: The decoder.
        memory: Result of `Decoder.remember` for the images.
        distances: Distance of each image from the training photos, (B,); None if the model was not calibrated.
    """

    @torch.no_grad()
    def __init__(self, decoder: Decoder, memory: Memory, distances: np.ndarray | None = None) -> None:
        self._decoder = decoder
        super().__init__(memory, decoder.initial_state(memory, 1), distances)

    @torch.no_grad()
    def _advance(
        self, rows: Rows, state: tuple[Any, ...], memory: tuple[Any, ...]
    ) -> tuple[np.ndarray, np.ndarray, tuple[Any, ...]]:
        device = memory[0].device
        on_device = Rows(*(torch.from_numpy(part).to(device) for part in rows))
        logits, state, weights = self._decoder.step_rows(on_device, State(*state), Memory(*memory))
        return logits.float().log_softmax(-1).cpu().numpy(), weights.float().cpu().numpy(), state
