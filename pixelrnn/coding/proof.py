"""A likelihood proved by coding: the images of a split coded by the measured probabilities, and decoded again."""

from typing import Any

import numpy as np
import torch

from data_prep.prepared_pixels import PreparedPixels
from pixelrnn.coding.codec import BATCH_SIZE, Undecodable, decode, double, encode_as_measured
from pixelrnn.model import PixelModel
from pixelrnn.training.batches import batches, check_fit
from vision_rnn.console import Progress


def prove(model: PixelModel, data: PreparedPixels, split: str) -> dict[str, Any]:
    """Code every image of a split by the probabilities of a forward pass, decode it without one, and compare.

    Only the decoder's own pixels reach the network when it decodes. So a model whose likelihood rests on pixels that
    it must not see is found out: its images do not come back.

    Args:
        model: The model, in any precision.
        data: The prepared data set.
        split: Which split.

    Returns:
        `coded_bits` of all images, in whole words of 32 bits for each batch; `images`, and how many were `decoded`
        exactly.

    Raises:
        UserError: As `exact_likelihood.evaluate` does.
    """
    exact = double(model)
    check_fit(data, model.shape)
    bits, images, decoded = 0, 0, 0
    loader = batches(data, split, model.shape, BATCH_SIZE)
    with Progress(data.manifest["splits"][split]["images"], f"coding {split}", "image") as progress:
        for pixels, labels in loader:
            pixels, labels = pixels.to(model.device), labels.to(model.device)
            words = encode_as_measured(exact, pixels, labels)
            bits += 32 * len(words)
            images += len(pixels)
            decoded += _decoded(exact, words, pixels, labels)
            progress.update(len(pixels))
    return {"coded_bits": bits, "images": images, "decoded": decoded}


def _decoded(model: PixelModel, words: np.ndarray, pixels: torch.Tensor, labels: torch.Tensor) -> int:
    """Return how many images of a batch come back as they were."""
    try:
        found = decode(model, words, len(pixels), labels)
    except Undecodable:
        return 0
    return int((found == pixels).flatten(1).all(1).sum())
