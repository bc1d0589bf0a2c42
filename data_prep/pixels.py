"""Preparation of images as pixels: all are converted to one shape and written as numbers to one folder."""

import hashlib
import itertools
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from data_prep.images import ImageError
from data_prep.pixel_parts import write_part
from data_prep.pixel_shape import THRESHOLD, Shaper, binarized
from data_prep.pixel_sources.pixel_formats import read_pixels, resolve_format
from data_prep.pixel_sources.source import PixelSource, SourceSplit
from data_prep.prepared_folder import PIXELS_PART, check_replaceable, save_rows
from data_prep.prepared_pixels import KIND, LABEL, PIXELS
from data_prep.splits import SPLITS, complete_splits, count_repeated, draw_at_most
from vision_rnn.checksums import write_sums
from vision_rnn.console import Progress
from vision_rnn.errors import UserError
from vision_rnn.files import MANIFEST, atomic_path, write_json
from vision_rnn.shard import Shard
from vision_rnn.version import tool_version

IMAGES_PER_BATCH = 1000

Place = tuple[SourceSplit, int]
Labelled = tuple[np.ndarray, int | None]  # One image (H, W, C) and its label.
Written = Sequence[tuple[str, int | None]]  # The SHA-256 of the pixels of each image, in hexadecimal, and its label.


def prepare_pixels(
    source: str | Path,
    output: str | Path,
    format: str = "auto",
    size: tuple[int, int] | None = None,
    channels: int | None = None,
    binarize: str = "none",
    seed: int = 0,
    max_images: int | None = None,
    last_for_validation: int | None = None,
    allow_outside: bool = False,
    shard: Shard | None = None,
) -> dict[str, Any]:
    """Read images and write the prepared data set that `PreparedPixels` opens, complete or not at all.

    Images keep the order of the source. Broken images are skipped and listed in the manifest under `left_out` with the
    reason. A source without splits is split 80/10/10 by a hash of `seed` and the names or numbers of the images. If a
    source has splits but no validation split, a tenth of the training images is used for validation, selected by the
    same hash. Images whose pixels occur in more than one split stay in each, and are counted as `in_several_splits`.

    Args:
        source: File or folder in one of `pixel_sources.pixel_formats.FORMATS`, or `hub:owner/name`.
        output: Folder to write; a prepared pixel data set that exists there is replaced.
        format: Layout of the source; `auto` detects it (a hub data set by its prefix `hub:`).
        size: Height and width to resize to, see `pixel_shape.resized` (default: the size of the images).
        channels: 1 for grey, 3 for RGB (default: the channels of the first image).
        binarize: Binarization method, one of `pixel_shape.BINARIZATIONS`.
        seed: Random seed (0 or more) for a stochastic binarization, for the splits that the source lacks and for the
            draw of `max_images`.
        max_images: Maximum number of images per split, drawn at random (default: all); the manifest has the number of
            images before the draw, of the splits that had more, as `drawn_from`.
        last_for_validation: Number of the last training images that are used for validation instead of a tenth.
        allow_outside: Whether links in a folder of images may lead to images outside the folder.
        shard: Prepare one part of the images alone, for `pixel_parts.merge_pixels`; all parts must be given the same
            other arguments.

    Returns:
        The manifest, as written to `manifest.json`.

    Raises:
        UserError: The source cannot be read in this format or has no usable training image, its images cannot be
            converted to one shape or binarized as requested, a part is to be binarized by chance, or `output` holds
            something else.
    """
    check_replaceable(Path(output).absolute(), PIXELS_PART if shard else KIND)
    format = resolve_format(str(source), format)
    data = read_pixels(str(source), format, allow_outside)
    return prepare_source(
        data, str(source), format, output, size, channels, binarize, seed, max_images, last_for_validation, shard
    )


def prepare_source(
    data: PixelSource,
    source: str,
    format: str,
    output: str | Path,
    size: tuple[int, int] | None = None,
    channels: int | None = None,
    binarize: str = "none",
    seed: int = 0,
    max_images: int | None = None,
    last_for_validation: int | None = None,
    shard: Shard | None = None,
) -> dict[str, Any]:
    """Write the prepared data set of images that were read from a source, as `prepare_pixels` does.

    Args:
        data: What was read.
        source: Where it was read from.
        format: Its format, not `auto`.
        output: Folder to write.
        size: Height and width to resize to.
        channels: 1 for grey, 3 for RGB.
        binarize: Binarization method.
        seed: Random seed.
        max_images: Maximum number of images per split.
        last_for_validation: Number of the last training images that are used for validation.
        shard: Which part of the images to prepare; None for all.

    Raises:
        UserError: As there.
    """
    output = Path(output).absolute()
    check_replaceable(output, PIXELS_PART if shard else KIND)
    if data.levels == 2 and binarize != "none":
        raise UserError(f"{source}: the images are already binary; omit --binarize")
    if shard and binarize == "stochastic":
        raise UserError("--binarize stochastic: draws one image after the other; omit --shard, and prepare all at once")
    places, split_by, drawn_from = places_by_split(data, seed, max_images, last_for_validation)
    of_part = {split: every[(shard or Shard(1, 1)).range_of(len(every))] for split, every in places.items()}
    shaper = Shaper(source, size, channels, data.levels)
    left_out: dict[str, list[dict[str, str]]] = {split: [] for split in places}
    origin = {
        "source": source,
        "format": format,
        "options": {
            "size": size,
            "channels": channels,
            "binarize": binarize,
            "seed": seed,
            "split_by": split_by,
            "max_images": max_images,
        },
        "levels": 2 if binarize != "none" else data.levels,
        "binarization": _describe_binarization(data.levels, binarize, seed),
        "drawn_from": drawn_from,
    }
    with atomic_path(output) as folder:
        folder.mkdir()
        splits = {}
        with Progress(sum(map(len, of_part.values())), "reading images", "image") as progress:
            for split, of_split in of_part.items():
                images = _decode(of_split, shaper, left_out[split], progress)
                # Each split has its own generator, so that its draws do not depend on the other splits.
                generator = np.random.default_rng([seed, SPLITS.index(split)])
                if written := _write_split(_batches(images, binarize, generator), folder / split):
                    splits[split] = written
        if shard:
            return write_part(folder, shard, origin, shaper.shape, splits, left_out)
        return complete(folder, origin, shaper.shape, splits, left_out)


def complete(
    folder: Path,
    origin: Mapping[str, Any],
    shape: Sequence[int] | None,
    splits: Mapping[str, Written],
    left_out: Mapping[str, Sequence[dict[str, str]]],
) -> dict[str, Any]:
    """Write what a prepared data set holds beside its images, and return the manifest.

    Args:
        folder: Its folder, with the images.
        origin: Where the images are from, and how they were prepared.
        shape: Height, width and channels of all images; None if there are none.
        splits: What was written.
        left_out: The images of each split that were skipped, with the reasons.

    Raises:
        UserError: No image is for training.
    """
    source, skipped = origin["source"], [entry for of_split in left_out.values() for entry in of_split]
    if shape is None or "train" not in splits:
        reason = f" ({skipped[0]['reason']})" if skipped else ""
        raise UserError(f"{source}: no usable image for training{reason}; check the source")
    height, width, channels = shape
    labels = [label for rows in splits.values() for _, label in rows if label is not None]
    manifest = {
        "kind": KIND,
        "version": tool_version(),
        **origin,
        "source": source if origin["format"] == "hub" else Path(source).absolute().name,
        "height": height,
        "width": width,
        "channels": channels,
        "num_classes": 1 + max(labels, default=-1),
        "splits": {split: {"images": len(rows)} for split, rows in splits.items()},
        "in_several_splits": count_repeated([digest for digest, _ in rows] for rows in splits.values()),
        "left_out": skipped,
        "content_hash": _content_hash((*shape, origin["levels"]), splits),
    }
    write_json(folder / MANIFEST, manifest)
    write_sums(folder)
    return manifest


def places_by_split(
    data: PixelSource, seed: int, max_images: int | None, last_for_validation: int | None = None
) -> tuple[dict[str, list[Place]], str, dict[str, int]]:
    """Return the images of each split that training needs, in the order of the source.

    The other results are the origin of the splits and what `draw_at_most` returns: the number of images before the draw
    of the splits that had more than `max_images`.
    """
    places = [(part, index) for part in data.splits.values() for index in range(len(part.names))]
    given = [split for split, part in data.splits.items() for _ in part.names]
    names = [part.names[index] for part, index in places]
    made, split_by = complete_splits(given, names, seed, last_for_validation)
    made, drawn_from = draw_at_most(made, names, max_images, seed)
    chosen = {
        split: [place for place, of in zip(places, made, strict=True) if of == split]
        for split in SPLITS
        if split in made
    }
    return chosen, split_by, drawn_from


def _decode(
    places: list[Place], shaper: Shaper, left_out: list[dict[str, str]], progress: Progress
) -> Iterator[Labelled]:
    """Yield the images that can be decoded, converted to one shape, with labels; add the others to `left_out`."""
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
    """Yield (n, H, W, C) uint8, binarized if requested, with n labels."""
    while batch := list(itertools.islice(images, IMAGES_PER_BATCH)):
        pixels = np.stack([image for image, _ in batch])
        if binarize != "none" and pixels.shape[-1] != 1:
            raise UserError(f"--binarize {binarize}: the images are in colour; add --channels 1")
        yield binarized(pixels, binarize, generator), [label for _, label in batch]


def _write_split(batches: Iterable[tuple[np.ndarray, list[int | None]]], folder: Path) -> Written:
    """Write a split into its own folder; write nothing if there are no images."""
    import pyarrow as pa

    written: list[tuple[str, int | None]] = []

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


def _content_hash(shape: tuple[int, ...], splits: Mapping[str, Written]) -> str:
    """Hash the content, independent of the source format: height, width, channels, levels, splits, pixels, labels."""
    digest = hashlib.sha256(json.dumps(shape).encode() + b"\n")
    for split in sorted(splits):
        for pixels, label in splits[split]:
            digest.update(json.dumps([split, pixels, label]).encode() + b"\n")
    return digest.hexdigest()
