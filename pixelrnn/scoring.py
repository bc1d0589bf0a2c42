"""Scoring a pixel model on a split of a prepared data set, by the exact likelihood of its images."""

import math
from collections.abc import Callable
from typing import Any

import torch

from data_prep.prepared_pixels import PreparedPixels
from evaluation.likelihood import summarize_likelihood
from pixelrnn.batches import batches, check_fit
from pixelrnn.model import PixelModel

PROTOCOL = (
    "Exact log-likelihood of all {images} images of the split {split}, {height}x{width}x{channels} pixels of {levels} "
    "levels (binarization: {binarization}), by the chain rule in {order} order: every pixel is predicted from the true "
    "values of those before it{conditioned}, which is exact, neither a bound nor an estimate."
)


@torch.inference_mode()
def evaluate(
    model: PixelModel,
    data: PreparedPixels,
    split: str,
    batch_size: int = 100,
    progress: Callable[[int], object] | None = None,
) -> dict[str, Any]:
    """Measure the likelihood of every image of a split; return sums, means, counts and the protocol.

    Args:
        model: The model.
        data: The prepared data set.
        split: Which split.
        batch_size: Images at once: no result depends on it.
        progress: Called after each batch with its number of images.

    Returns:
        `nats_per_image` with `standard_error`, `bits_per_dimension` with `bits_standard_error` (None, the errors, for a
        single image), `sum_nats`, `images`, `dimensions` of an image, and what they were measured on.

    Raises:
        UserError: The images are not of the model's shape, there is no such split, or the model is conditional and
            the images have no labels.
    """
    model.eval()
    shape = model.shape
    check_fit(data, shape)
    nats = []
    for pixels, labels in batches(data, split, shape, batch_size):
        log_likelihood = model.log_likelihood(pixels.to(model.device), labels.to(model.device))
        nats.append(-log_likelihood.double().flatten(1).sum(1).cpu())
        if progress is not None:
            progress(len(pixels))
    likelihood = summarize_likelihood(torch.cat(nats).numpy(), shape.channels * shape.height * shape.width)
    error = likelihood.standard_error if likelihood.images > 1 else None
    return {
        "split": split,
        "content_hash": data.content_hash,
        "protocol": PROTOCOL.format(
            images=likelihood.images,
            split=split,
            height=shape.height,
            width=shape.width,
            channels=shape.channels,
            levels=shape.levels,
            binarization=data.binarization,
            order=model.config.order,
            conditioned=" and the image's class" if shape.num_classes else "",
        ),
        "images": likelihood.images,
        "dimensions": likelihood.dimensions,
        "levels": shape.levels,
        "nats_per_image": likelihood.nats_per_image,
        "standard_error": error,
        "bits_per_dimension": likelihood.bits_per_dimension,
        "bits_standard_error": None if error is None else error / (likelihood.dimensions * math.log(2)),
        "sum_nats": likelihood.sum,
    }
