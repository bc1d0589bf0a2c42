"""Evaluation of a pixel model: the exact likelihood of the images of a split of a prepared data set."""

import math
from typing import Any

import numpy as np
import torch
from torch import Tensor

from data_prep.prepared_pixels import PreparedPixels
from evaluation.likelihood import Likelihood, summarize_likelihood
from pixelrnn.mask import named_masks
from pixelrnn.model import PixelModel
from pixelrnn.training.batches import batches, check_fit
from vision_rnn.console import Progress
from vision_rnn.errors import UserError

_MEASURED = (
    "Exact log-likelihood of all {images} images of the split {split}: {height}x{width}x{channels} pixels with "
    "{levels} levels (binarization: {binarization})."
)


@torch.inference_mode()
def evaluate(
    model: PixelModel,
    data: PreparedPixels,
    split: str,
    batch_size: int = 100,
    regions: bool = False,
) -> dict[str, Any]:
    """Compute the likelihood of every image of a split.

    Args:
        model: Pixel model.
        data: Prepared data set.
        split: Name of the split.
        batch_size: Number of images per batch; does not affect the result.
        regions: Whether to compute the likelihood of the named regions of every image too. With a context, that takes
            a pass for each of them.

    Returns:
        `nats_per_image` with `standard_error`, `bits_per_dimension` with `bits_standard_error` (both errors are None
        for a single image), `sum_nats`, `images`, `dimensions` per image, and the `protocol`, `split`, `levels` and
        `content_hash` of the data; if asked for, the `regions` by name, each with its `nats` per image,
        `standard_error` and number of `pixels`.

    Raises:
        UserError: The images do not have the shape of the model's images, the split does not exist, the model is
            class-conditional and the images have no labels, or the model's weights are too large to compute with.
    """
    model.eval()
    shape = model.shape
    check_fit(data, shape)
    masks = {name: mask.to(model.device) for name, mask in named_masks(shape.height, shape.width).items() if regions}
    where = f"{data.folder}, split {split}"
    nats, of_regions = [], {name: [] for name in masks}
    loader = batches(data, split, shape, batch_size)
    with Progress(data.manifest["splits"][split]["images"], f"evaluating {split}", "image") as progress:
        for pixels, labels in loader:
            pixels, labels = pixels.to(model.device), labels.to(model.device)
            log_likelihood = model.log_likelihood(pixels, labels)
            nats.append(_total(log_likelihood, where))
            for name, mask in masks.items():
                given = model.log_likelihood(pixels, labels, mask) if model.config.context_layers else log_likelihood
                of_regions[name].append(_total(given[..., mask], where))
            progress.update(len(pixels))
    order = f"By the chain rule in {model.config.order} order, every pixel is predicted from the true values of the"
    conditioned = " and the image's class" if shape.num_classes else ""
    protocol = f"{order} pixels before it{conditioned}. The result is exact: neither a bound nor an estimate."
    document = likelihood_document(torch.cat(nats).numpy(), data, split, protocol)
    if masks:
        document["regions"] = {
            name: _region(torch.cat(of_regions[name]).numpy(), int(mask.sum())) for name, mask in masks.items()
        }
        before = f"the pixels before each one in {model.config.order} order"
        document["regions_given"] = "all other pixels" if model.config.context_layers else before
    return document


def _total(log_likelihood: Tensor, where: str) -> Tensor:
    """Return -ln p of every image, (B,) float64, from the logarithms of its parts, (B, ...)."""
    total = -log_likelihood.double().flatten(1).sum(1).cpu()
    if not torch.isfinite(total).all():
        raise UserError(f"{where}: the model gives probabilities that are not numbers; choose another model")
    return total


def _region(nats: np.ndarray, pixels: int) -> dict[str, Any]:
    found = summarize_likelihood(nats, pixels)
    return {"nats": found.nats_per_image, "standard_error": _error(found), "pixels": pixels}


def _error(likelihood: Likelihood) -> float | None:
    return likelihood.standard_error if likelihood.images > 1 else None


def likelihood_document(nats: np.ndarray, data: PreparedPixels, split: str, protocol: str) -> dict[str, Any]:
    """Return the result of `evaluate` for the likelihoods of the images of a split.

    Args:
        nats: -ln p of every image, in nats, (N,) float64.
        data: Prepared data set.
        split: Name of the split.
        protocol: How the likelihoods were computed, in sentences.
    """
    dimensions = data.channels * data.height * data.width
    likelihood = summarize_likelihood(nats, dimensions)
    error = _error(likelihood)
    measured = _MEASURED.format(
        images=likelihood.images,
        split=split,
        height=data.height,
        width=data.width,
        channels=data.channels,
        levels=data.levels,
        binarization=data.binarization,
    )
    return {
        "split": split,
        "content_hash": data.content_hash,
        "protocol": f"{measured} {protocol}",
        "images": likelihood.images,
        "dimensions": dimensions,
        "levels": data.levels,
        "nats_per_image": likelihood.nats_per_image,
        "standard_error": error,
        "bits_per_dimension": likelihood.bits_per_dimension,
        "bits_standard_error": None if error is None else error / (dimensions * math.log(2)),
        "sum_nats": likelihood.sum,
    }


def likelihood_table(document: dict[str, Any]) -> str:
    """Format the results of `evaluate` and `coding.proof.prove` as text."""

    def row(name: str, value: float, error: float | None, digits: int) -> str:
        return f"{name:<16}{value:10.{digits}f}" + ("" if error is None else f" +- {error:.{digits}f}")

    lines = [
        document["protocol"],
        "",
        f"{'images':<16}{document['images']:10}",
        row("nats per image", document["nats_per_image"], document["standard_error"], 3),
        row("bits/dim", document["bits_per_dimension"], document["bits_standard_error"], 5),
    ]
    if "regions" in document:
        lines += ["", *_region_lines(document)]
    if "proof" in document:
        proof, images = document["proof"], document["images"]
        nats = proof["coded_bits"] * math.log(2) / images
        lines += [
            "",
            "Proof: images coded with these probabilities and decoded pixel by pixel, each from earlier pixels only.",
            f"{row('coded, nats', nats, None, 3)} ({100 * (nats / document['nats_per_image'] - 1):+.4f} % overhead)",
            f"{'decoded exactly':<16}{proof['decoded']:10} of {images}",
            "",
            f"{'bytes per image':<24}{'one file each':>16}{'all on sheets':>16}",
            f"{'this model':<24}{'':>16}{proof['coded_bits'] / 8 / images:16.2f}",
            *(
                f"{name:<24}{sizes['files'] / images:16.2f}{sizes['sheets'] / images:16.2f}"
                for name, sizes in proof["format_bytes"].items()
            ),
        ]
        if "JPEG XL" not in proof["format_bytes"]:
            lines.append("JPEG XL is skipped; to include it, run: pip install imagecodecs")
    return "\n".join(lines)


def _region_lines(document: dict[str, Any]) -> list[str]:
    """Format the regions of an evaluation and, beside them, those of the model that it is compared with."""

    def cell(measured: dict[str, Any], nats: str) -> str:
        error = measured["standard_error"]
        return f"{measured[nats]:.2f}" + ("" if error is None else f" +- {error:.2f}")

    other = document.get("compared")
    lines = [f"Nats per image of the true pixels of a region, given {document['regions_given']}"]
    if other:
        lines[0] += f"; beside them those of {other['model']}, given {other['regions_given']}"
    lines[0] += ":"
    for name, measured, nats in [
        ("whole image", document, "nats_per_image"),
        *((name, region, "nats") for name, region in document["regions"].items()),
    ]:
        line = f"{name:<16}{cell(measured, nats):>16}"
        if other:
            beside = other if measured is document else other["regions"][name]
            line += f"{cell(beside, nats):>20}{100 * (measured[nats] / beside[nats] - 1):+10.1f} %"
        lines.append(line)
    return lines
