"""The report on a pixel model: what it learned, draws and sees, and whether it copies, as one HTML file."""

import math
import re
import tempfile
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from data_prep.images import load_image
from data_prep.prepared_pixels import PreparedPixels
from evaluation.bootstrap import bootstrap
from pixelrnn.completion import complete, conditioning_note, masked_nats, sample
from pixelrnn.likelihood_maps import LikelihoodMaps, likelihood_maps
from pixelrnn.mask import read_mask
from pixelrnn.model import PixelModel, PixelNetwork, load_pixel_model
from pixelrnn.nearest_images import chunks, nearest_images
from pixelrnn.pictures import CompletionRow, completion_image, coverage_picture, heat_image, image_of
from pixelrnn.studies.causality import certify
from pixelrnn.training.batches import check_fit
from pixelrnn.training.run import export
from vision_rnn.charts import histogram
from vision_rnn.console import Progress
from vision_rnn.devices import Device
from vision_rnn.errors import UserError
from vision_rnn.files import MANIFEST, read_json
from vision_rnn.page import Element, element, figure, page, picture, section, small_figure, table
from vision_rnn.report_parts import facts, training_curves
from vision_rnn.run_folder import data_folder, default_split, load_best, settings_of_run

# The likelihood is measured on at most this many images, drawn at random; `pixelrnn evaluate` measures all.
_MEASURED, _BATCH_SIZE = 1000, 100
_MAPS = 8
_COMPLETED, _COMPLETIONS, _MASK = 4, 6, "lower-half"
_SAMPLES = 24
_GRIDS = 8
_BINS = 12
STYLE = """
.row { display: grid; grid-auto-flow: column; grid-auto-columns: minmax(0, 1fr); gap: .75rem; }
.row img { width: 100%; }
.pairs { grid-template-columns: repeat(auto-fill, minmax(min(100%, 11rem), 1fr)); }
.wide img { max-width: none; width: max(100%, 46rem); }
"""


@dataclass(frozen=True, eq=False)
class Subject:
    """What a report is about.

    Attributes:
        run: The run folder.
        model: The model of its best epoch.
        data: The prepared data set that it was trained on.
        split: The split that the report is of.
        pixels: (N, C, H, W) uint8, images of the split, in an order drawn at random.
        labels: (N,) int64, their classes; None for an unconditional model.
        images: Number of images of the split.
    """

    run: Path
    model: PixelModel
    data: PreparedPixels
    split: str
    pixels: Tensor
    labels: Tensor | None
    images: int


def open_subject(run: Path, data: str | None, split: str | None, seed: int, device: Device) -> Subject:
    """Open a run folder.

    Args:
        run: Run folder of `pixelrnn train`.
        data: The prepared data set that it was trained on (default: the folder that it names).
        split: Split (default: `test` if the data set has it, otherwise `validation`).
        seed: Random seed that chooses the images.
        device: Device to compute on.

    Raises:
        UserError: It is no such run, has no completed epoch, or was trained on other data; or the split does not exist.
    """
    settings = settings_of_run(run, ("data", "model"), "pixelrnn train")
    prepared = PreparedPixels.open(data_folder(run, data, settings["data"]))
    if read_json(run / MANIFEST)["content_hash"] != prepared.content_hash:
        raise UserError(f"{prepared.folder}: not the data that {run} was trained on; name them with --data FOLDER")
    split = split or default_split(prepared.manifest["splits"])
    rows = prepared.split(split)
    model = load_best(run, lambda folder: load_pixel_model(folder, device), export).eval()
    check_fit(prepared, model.shape)
    if model.shape.num_classes and rows.labels is None:
        raise UserError(f"{prepared.folder}, split {split}: has no labels, but the model needs them; add --split")
    chosen = np.random.default_rng(seed).permutation(len(rows.pixels))[:_MEASURED]
    labels = torch.tensor(rows.labels[chosen]) if model.shape.num_classes and rows.labels is not None else None
    pixels = torch.tensor(rows.pixels[chosen]).permute(0, 3, 1, 2).contiguous()
    return Subject(run, model, prepared, split, pixels, labels, len(rows.pixels))


def pixel_report(subject: Subject, seed: int = 0, coverage: bool = True) -> str:
    """Return the report as HTML.

    Args:
        subject: From `open_subject`.
        seed: Random seed of samples and completions.
        coverage: Whether to determine what the model sees, with a backward pass for every pixel and channel.

    Raises:
        UserError: The log of the run cannot be read.
    """
    maps = _measure(subject)
    sections = [
        _about(subject),
        training_curves(subject.run, "validation", "loss"),
        _samples_through_training(subject.run),
        _likelihood(subject, maps),
        _maps(subject, maps),
        _completions(subject, seed),
        _nearest(subject, seed),
    ]
    if coverage:
        sections.append(_coverage(subject.model))
    introduction = "What the pixel model learned, what it draws and completes, where it is uncertain, and what it sees."
    return page(f"Pixels: {subject.run}", introduction, sections, STYLE)


def _about(subject: Subject) -> Element:
    model, manifest = subject.model, subject.data.manifest
    assert isinstance(model, PixelNetwork)  # A mixture has no run.
    config, shape = model.config, model.shape
    parameters = sum(parameter.numel() for parameter in model.parameters())
    colour = "grey" if shape.channels == 1 else "RGB"
    classes = f", {shape.num_classes} classes" if shape.num_classes else ""
    of_model = f"{config.architecture}, {config.num_layers} layers of {config.hidden_channels}, order {config.order}"
    return section(
        "About",
        facts(
            {
                "Model": f"{of_model}, {parameters:,} parameters",
                "Images": f"{colour}, {shape.height}x{shape.width} pixels, {shape.levels} levels{classes}",
                "Data": f"{manifest['source']} ({manifest['format']}), binarization: {subject.data.binarization}",
                "Split": f"{subject.split}: {subject.images:,} images",
            }
        ),
    )


def _samples_through_training(run: Path) -> Element:
    grids = sorted((run / "samples").glob("epoch-*.png"), key=lambda path: int(re.sub(r"\D", "", path.stem) or 0))
    title = "Samples through training"
    if not grids:
        return section(title, element("p", "The run has no samples."))
    # Evenly spaced, with the first and the last.
    number = min(len(grids), _GRIDS)
    chosen = [grids[round(index * (len(grids) - 1) / max(1, number - 1))] for index in range(number)]
    cards = []
    for path in chosen:
        epoch = f"epoch {int(re.sub(r'[^0-9]', '', path.stem) or 0)}"
        image = load_image(path)
        cards.append(element("div", figure(picture(image, f"samples after {epoch}"), epoch), class_="card"))
    text = "Samples of every epoch, from the same noise."
    if number < len(grids):
        text = f"Samples of {number} of {len(grids)} epochs, from the same noise."
    return section(title, element("p", text), element("div", *cards, class_="cards"))


def _measure(subject: Subject) -> LikelihoodMaps:
    """Compute the maps of all chosen images."""
    maps = []
    with Progress(len(subject.pixels), f"measuring {subject.split}", "image") as progress:
        for start in range(0, len(subject.pixels), _BATCH_SIZE):
            chosen = slice(start, start + _BATCH_SIZE)
            labels = None if subject.labels is None else subject.labels[chosen]
            maps.append(likelihood_maps(subject.model, subject.pixels[chosen], labels))
            progress.update(len(subject.pixels[chosen]))
    return LikelihoodMaps(torch.cat([each.surprise for each in maps]), torch.cat([each.entropy for each in maps]))


def _likelihood(subject: Subject, maps: LikelihoodMaps) -> Element:
    shape = subject.model.shape
    values = maps.surprise.sum((1, 2)).numpy()[:, None] * math.log(2)
    found = bootstrap(values, lambda sums, images: sums[..., 0] / images)
    bits = 1 / (math.log(2) * shape.height * shape.width * shape.channels)
    rows = [
        ["Nats per image", f"{found.score:.2f}", f"{found.low:.2f} to {found.high:.2f}"],
        ["Bits/dim", f"{bits * found.score:.4f}", f"{bits * found.low:.4f} to {bits * found.high:.4f}"],
    ]
    some = len(values) < subject.images
    text = (
        f"Exact negative log-likelihood of {len(values):,} of the {subject.images:,} images of the split "
        f"{subject.split}{', drawn at random; pixelrnn evaluate measures all' if some else ''}. Intervals: "
        "percentiles of 1000 bootstrap samples of these images."
    )
    return section("Likelihood", table(["", "Value", "95 % interval"], rows, "Likelihood"), element("p", text))


def _maps(subject: Subject, maps: LikelihoodMaps) -> Element:
    surprise, entropy = maps.surprise[:_MAPS].numpy(), maps.entropy[:_MAPS].numpy()
    # One pixel in a hundred may be brighter, so that the others can be told apart.
    top = max(float(np.quantile(surprise, 0.99)), 1e-3)
    most = max(float(entropy.max()), 1e-3)
    rows = []
    for number, (pixels, found, expected) in enumerate(zip(subject.pixels, surprise, entropy, strict=False), start=1):
        rows.append(
            _row(
                small_figure(image_of(pixels, subject.model.shape.levels), f"image {number}", "image"),
                small_figure(heat_image(found, top), "map of the surprise", f"surprise, {found.sum():.0f} bits"),
                small_figure(heat_image(expected, most), "map of the entropy", f"entropy, {expected.sum():.0f} bits"),
            )
        )
    mean, mean_entropy = maps.surprise.mean(0).numpy(), maps.entropy.mean(0).numpy()
    limit = max(float(mean.max()), float(mean_entropy.max()), 1e-3)
    rows.append(
        _row(
            small_figure(heat_image(mean, limit), "map of the mean surprise", "mean surprise"),
            small_figure(heat_image(mean_entropy, limit), "map of the mean entropy", "mean entropy"),
        )
    )
    text = (
        "Surprise is -log2 p of each pixel given those before it; the entropy is the surprise that the model expects. "
        f"Dark is 0 bits; the brightest colour is {top:.2f} bits or more for surprise and {most:.2f} for entropy, and "
        f"{limit:.2f} for the means over all {len(maps.surprise):,} measured images."
    )
    return section("Surprise and entropy by pixel", element("p", text), element("div", *rows, class_="cards"))


def _completions(subject: Subject, seed: int) -> Element:
    model, shape = subject.model, subject.model.shape
    region = read_mask(_MASK, shape.height, shape.width)
    pixels = subject.pixels[:_COMPLETED]
    labels = [None] * len(pixels) if subject.labels is None else subject.labels[:_COMPLETED].tolist()
    rows, nats = [], []
    with Progress(model.rows * len(pixels), "completing", "row") as progress:
        for image, label in zip(pixels.split(1), labels, strict=True):
            drawn = complete(model, image, region, _COMPLETIONS, seed, label, progress.update)
            rows.append(CompletionRow(image[0], drawn[0]))
            nats.append(float(masked_nats(model, image, region, label)))
    drawing = picture(
        completion_image(rows, region, shape.levels), f"{len(rows)} images completed {_COMPLETIONS} times"
    )
    of_images = ", ".join(f"{each:.1f}" for each in nats)
    text = f"The lower half drawn given the upper half (seed {seed}). Nats of the true lower halves: {of_images}."
    if note := conditioning_note(model.config, region):
        text += f" Note: {note}."
    return section("Completions", figure(drawing, text))


def _nearest(subject: Subject, seed: int) -> Element:
    """Compare samples with all training images, and as many held-out images as a measure of what is near."""
    shape = subject.model.shape
    drawn = _draw(subject.model, seed)
    rows = subject.data.split("train").pixels
    held_out = subject.pixels[: 4 * _SAMPLES].permute(0, 2, 3, 1).numpy()
    queries = np.concatenate([drawn.permute(0, 2, 3, 1).numpy(), held_out])
    with Progress(chunks(len(rows)), "comparing with training images", "chunk") as progress:
        indices, squared = nearest_images(queries, rows, progress.update)
    of_samples, of_held_out = np.split(_distance(squared, rows[0].size, shape.levels), [len(drawn)])
    unit = " %" if shape.levels == 2 else ""
    measure = "share of pixels that differ" if unit else "root mean square difference of the levels, 0 to 255"
    cards = []
    for index in of_samples.argsort(kind="stable").tolist():
        found = torch.tensor(rows[indices[index]]).permute(2, 0, 1)
        distance = f"nearest, {of_samples[index]:.1f}{unit}"
        cards.append(
            _row(
                small_figure(image_of(drawn[index], shape.levels), "sample", "sample"),
                small_figure(image_of(found, shape.levels), "nearest training image", distance),
            )
        )
    copies = int((of_samples == 0).sum())
    text = (
        f"{len(drawn)} samples, each with the nearest of all {len(rows):,} training images; {copies} of them are "
        f"copies. The distance is the {measure}. Median: {np.median(of_samples):.1f}{unit} for samples, "
        f"{np.median(of_held_out):.1f}{unit} for {len(held_out)} images of the split {subject.split}. A sample that is "
        "much nearer than those was copied."
    )
    edges = np.histogram_bin_edges(np.concatenate([of_samples, of_held_out]), _BINS)
    series = {
        name: (100 * np.histogram(values, edges)[0] / len(values)).tolist()
        for name, values in (("samples", of_samples), (subject.split, of_held_out))
    }
    labels = [f"{low:.1f}-{high:.1f}" for low, high in pairwise(edges)]
    chart = histogram(labels, series, f"Per cent of the images by distance. {text}", "")
    return section(
        "Nearest training images",
        element("p", text),
        figure(chart, f"Per cent of the images by distance to the nearest training image: {measure}."),
        element("div", *cards, class_="cards pairs"),
    )


def _distance(squared: np.ndarray, dimensions: int, levels: int) -> np.ndarray:
    """Convert sums of squared differences to per cent of the pixels (2 levels) or to a root mean square."""
    return 100 * squared / dimensions if levels == 2 else np.sqrt(squared / dimensions)


def _draw(model: PixelModel, seed: int) -> Tensor:
    """Draw samples, of all classes in turn for a class-conditional model."""
    classes = model.shape.num_classes
    counts = np.bincount(np.arange(_SAMPLES) % classes).tolist() if classes else [_SAMPLES]
    with Progress(model.rows * len(counts), "sampling", "row") as progress:
        drawn = [
            sample(model, count, seed + label, label if classes else None, progress.update)
            for label, count in enumerate(counts)
        ]
    return torch.cat(drawn)


def _coverage(model: PixelModel) -> Element:
    with Progress(model.shape.height, "verifying", "row") as progress:
        certificate = certify(model, progress.update)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "coverage.png")
        coverage_picture(certificate, path)
        drawing = picture(load_image(path), "fields of view of three pixels, and how often each pixel is not seen")
    scrolling = element("div", drawing, class_="scroll wide", tabindex=0, role="region", aria_label="Fields of view")
    return section("Coverage", figure(scrolling, certificate.describe()))


def _row(*parts: Element) -> Element:
    return element("div", *parts, class_="card row")
