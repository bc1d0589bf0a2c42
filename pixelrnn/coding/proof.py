"""Proof of a likelihood by coding: the images of a split are coded with the measured probabilities and decoded."""

from typing import Any

import numpy as np
import torch

from data_prep.prepared_pixels import PreparedPixels
from pixelrnn.coding.codec import BATCH_SIZE, Undecodable, decode, double, encode_as_measured
from pixelrnn.model import PixelModel
from pixelrnn.training.batches import batches, check_fit
from vision_rnn.console import Progress


def prove(model: PixelModel, data: PreparedPixels, split: str) -> dict[str, Any]:
    """Code every image of a split with the probabilities of a forward pass, decode it pixel by pixel, and compare.

    In decoding, the network sees only pixels that are decoded already. This exposes a model whose likelihood depends on
    pixels that it must not see: its images are not decoded correctly.

    Args:
        model: Pixel model, in any precision.
        data: Prepared data set.
        split: Name of the split.

    Returns:
        `coded_bits`, the bits of all images in whole 32-bit words per batch; `images`, the number of images; and
        `decoded`, the number of images that were decoded exactly.

    Raises:
        UserError: See `exact_likelihood.evaluate`.
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
    """Return the number of images of a batch that are decoded exactly."""
    try:
        found = decode(model, words, len(pixels), labels)
    except Undecodable:
        return 0
    return int((found == pixels).flatten(1).all(1).sum())
