"""A source of images, made into a prepared pixel data set: one size, numbers instead of files, one folder."""

import hashlib
import itertools
import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from data_prep.images import ImageError
from data_prep.pixel_shape import THRESHOLD, Shaper, binarized
from data_prep.pixel_sources.pixel_formats import read_pixels, resolve_format
from data_prep.pixel_sources.source import PixelSource, SourceSplit
from data_prep.prepared_folder import check_replaceable, save_rows
from data_prep.prepared_pixels import KIND, LABEL, PIXELS
from data_prep.splits import SPLITS, complete_splits, count_repeated
from vision_rnn.console import Progress
from vision_rnn.errors import UserError
from vision_rnn.files import MANIFEST, atomic_path, write_json
from vision_rnn.version import tool_version

IMAGES_PER_BATCH = 1000

Place = tuple[SourceSplit, int]
Labelled = tuple[np.ndarray, int | None]  # One image (H, W, C) and its label.
Written = list[tuple[str, int | None]]  # The SHA-256 of the pixels of each image, in hexadecimal, and its label.


def prepare_pixels(
    source: str | Path,
    output: str | Path,
    format: str = "auto",
    size: tuple[int, int] | None = None,
    channels: int | None = None,
    binarize: str = "none",
    seed: int = 0,
) -> dict[str, Any]:
    """Read images and write the prepared data set that `PreparedPixels` opens; whole or not at all.

    Images keep the order of the source. Broken ones are left out and listed in the manifest under `left_out` with the
    reason. A source without splits is split 80/10/10 by a hash of `seed` and the images' names or numbers; if it has
    splits but none for validation, a tenth of the training images becomes that, by the same hash. Images with the same
    pixels in more than one split are used in each, and counted as `in_several_splits`.

    Args:
        source: A file or folder in one of `pixel_sources.formats.FORMATS`, or `hub:owner/name`.
        output: The folder to write; an earlier prepared pixel data set there is replaced.
        format: How the source is laid out; `auto` recognises all but hub data sets.
        size: Height and width to resize to, see `pixel_shape.resized`; by default images keep theirs.
        channels: 1 for grey, 3 for RGB; by default what the first image has.
        binarize: One of `pixel_shape.BINARIZATIONS`.
        seed: Seed, from 0 up, of a stochastic binarization and of the splits that the source does not have.

    Returns:
        The manifest, as written to `manifest.json`.

    Raises:
        UserError: The source is no such data set or has no usable training image, its images cannot be made alike or
            binary as asked, or `output` holds something else.
    """
    source, output = str(source), Path(output).absolute()
    check_replaceable(output, KIND)
    format = resolve_format(source, format)
    data = read_pixels(source, format)
    if data.levels == 2 and binarize != "none":
        raise UserError(f"{source}: the images are binary already; leave --binarize away")
    places, split_by = _complete_splits(data, seed)
    shaper = Shaper(source, size, channels, data.levels)
    left_out: list[dict[str, str]] = []
    with atomic_path(output) as folder:
        folder.mkdir()
        splits = {}
        with Progress(sum(map(len, places.values())), "reading images", "image") as progress:
            for split, of_split in places.items():
                images = _decode(of_split, shaper, left_out, progress)
                # Each split has its own draws, which the others do not change.
                generator = np.random.default_rng([seed, SPLITS.index(split)])
                if written := _write_split(_batches(images, binarize, generator), folder / split):
                    splits[split] = written
        if shaper.shape is None or "train" not in splits:
            reason = f" ({left_out[0]['reason']})" if left_out else ""
            raise UserError(f"{source}: no usable image for training{reason}; check the source")
        height, width, num_channels = shaper.shape
        levels = 2 if binarize != "none" else data.levels
        labels = [label for rows in splits.values() for _, label in rows if label is not None]
        manifest = {
            "kind": KIND,
            "version": tool_version(),
            "source": source if format == "hub" else Path(source).absolute().name,
            "format": format,
            "options": {"size": size, "channels": channels, "binarize": binarize, "seed": seed, "split_by": split_by},
            "height": height,
            "width": width,
            "channels": num_channels,
            "levels": levels,
            "binarization": _describe_binarization(data.levels, binarize, seed),
            "num_classes": 1 + max(labels, default=-1),
            "splits": {split: {"images": len(rows)} for split, rows in splits.items()},
            "in_several_splits": count_repeated([digest for digest, _ in rows] for rows in splits.values()),
            "left_out": left_out,
            "content_hash": _content_hash((*shaper.shape, levels), splits),
        }
        write_json(folder / MANIFEST, manifest)
    return manifest


def _complete_splits(data: PixelSource, seed: int) -> tuple[dict[str, list[Place]], str]:
    """Return the images of each split that training needs, in the order of the source, and who made the splits."""
    places = [(part, index) for part in data.splits.values() for index in range(len(part.names))]
    given = [split for split, part in data.splits.items() for _ in part.names]
    made, split_by = complete_splits(given, [part.names[index] for part, index in places], seed)
    return {
        split: [place for place, of in zip(places, made, strict=True) if of == split]
        for split in SPLITS
        if split in made
    }, split_by


def _decode(
    places: list[Place], shaper: Shaper, left_out: list[dict[str, str]], progress: Progress
) -> Iterator[Labelled]:
    """Yield the images that can be decoded, made alike, with their labels; list the others."""
    for part, index in places:
        progress.update()
        name = part.names[index]
        try:
            image = part.images[index]
        except ImageError as error:
            left_out.append({"name": name, "reason": str(error)})
            continue
        yield shaper(image, name), None if part.labels is None else int(part.labels[index])


def _batches(
    images: Iterator[Labelled], binarize: str, generator: np.random.Generator
) -> Iterator[tuple[np.ndarray, list[int | None]]]:
    """Yield (n, H, W, C) uint8, made binary if that was asked for, with n labels."""
    while batch := list(itertools.islice(images, IMAGES_PER_BATCH)):
        pixels = np.stack([image for image, _ in batch])
        if binarize != "none" and pixels.shape[-1] != 1:
            raise UserError(f"--binarize {binarize}: the images are in colour; add --channels 1")
        yield binarized(pixels, binarize, generator), [label for _, label in batch]


def _write_split(batches: Iterable[tuple[np.ndarray, list[int | None]]], folder: Path) -> Written:
    """Write a split into its own folder, or nothing if there are no images."""
    import pyarrow as pa

    written: Written = []

    def tables() -> Iterator[pa.Table]:
        for pixels, labels in batches:
            written.extend(zip(map(_digest, pixels), labels, strict=True))
            columns: dict[str, pa.Array] = {
                PIXELS: pa.FixedSizeListArray.from_arrays(pa.array(pixels.reshape(-1)), pixels[0].size)
            }
            if labels[0] is not None:
                columns[LABEL] = pa.array(labels, pa.int64())
            yield pa.table(columns)

    remaining = tables()
    first = next(remaining, None)
    if first is not None:
        unsaved = folder.with_name(f"{folder.name}.arrow")
        with pa.ipc.new_stream(unsaved, first.schema) as writer:
            for table in itertools.chain([first], remaining):
                writer.write_table(table)
        save_rows(unsaved, folder)
    return written


def _digest(image: np.ndarray) -> str:
    return hashlib.sha256(image.tobytes()).hexdigest()


def _describe_binarization(levels: int, binarize: str, seed: int) -> str:
    if levels == 2:
        return "fixed by the source"
    descriptions = {
        "none": "none",
        "threshold": f"threshold at {THRESHOLD}",
        "stochastic": f"drawn once with seed {seed}, pixel by pixel, P(1) = grey level / 255",
    }
    return descriptions[binarize]


def _content_hash(shape: tuple[int, ...], splits: dict[str, Written]) -> str:
    """Hash what a data set says, however it came: height, width, channels and levels; splits, pixels and labels."""
    digest = hashlib.sha256(json.dumps(shape).encode() + b"\n")
    for split in sorted(splits):
        for pixels, label in splits[split]:
            digest.update(json.dumps([split, pixels, label]).encode() + b"\n")
    return digest.hexdigest()
