"""The command `data-prep`. Each command imports what it reads data with, so that no help imports it."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

from vision_rnn.cli import Outcome, run
from vision_rnn.console import counted, note, problem
from vision_rnn.errors import UserError
from vision_rnn.option_types import PositiveInt, Seed
from vision_rnn.shard import Shard

_MOST_PIXELS = 10_000  # Of a side; a larger image would fill the memory.


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command with `argv`, by default the arguments of the process, and return its exit status."""
    return run("data-prep", COMMANDS, argv)


def captions(
    sources: list[str],
    *,
    output: str,
    train_only: list[str] | None = None,
    format: Literal[
        "auto", "flickr8k", "karpathy", "coco", "csv", "jsonl", "json", "parquet", "sidecar", "hub"
    ] = "auto",
    image_root: str | None = None,
    min_count: PositiveInt = 5,
    max_images: PositiveInt | None = None,
    allow_outside: bool = False,
    shard: str | None = None,
    seed: Seed = 0,
) -> Outcome:
    """Prepare captioned images: read and check every one, and write a self-contained data set.

    Several sources become one data set, split by split. Each is split as it is alone, and the names of its images begin
    with the source's name.

    Args:
        sources: caption file, folder or hub:OWNER/NAME; one or several
        output: folder to write
        train_only: those of several sources of which only the training images are used
        format: layout of all sources; auto detects that of each
        image_root: folder of the images of all sources, if not beside their captions
        min_count: how often a word must occur in the training captions to be kept
        max_images: maximum number of images per split, drawn by --seed (default: all)
        allow_outside: also read images outside the source's folder (or IMAGE_ROOT) that it names by absolute paths, ../
            or links
        shard: prepare one part of the images alone, such as 2/8 for the second of eight; data-prep merge makes one data
            set of all parts
    """
    from data_prep.captions import prepare_captions

    _disable_further_bars()
    part = Shard.parse(shard) if shard else None
    manifest = prepare_captions(
        sources, output, format, image_root, min_count, seed, max_images, train_only or (), allow_outside, part
    )
    if not part:
        return _prepared_captions(output, manifest)
    if unusable := sum(len(source["unusable"]) for source in manifest["sources"]):
        note(f"{counted(unusable, 'input')} cannot be used by any part; data-prep merge names them")
    return _prepared_part(output, manifest, [entry for source in manifest["sources"] for entry in source["skipped"]])


def merge(parts: list[str], *, output: str) -> Outcome:
    """Merge all parts of a data set, which captions --shard or pixels --shard prepared, into the data set.

    It is the same as if it had been prepared at once. No image is decoded again, and on one disk files are not copied.

    Args:
        parts: the folders of all parts, in any order
        output: folder to write
    """
    from data_prep.caption_parts import merge_captions
    from data_prep.pixel_parts import merge_pixels
    from data_prep.prepared_folder import PIXELS_PART, kind_of

    _disable_further_bars()
    if kind_of(Path(parts[0])) in ("pixels", PIXELS_PART):
        return _prepared_pixels(output, merge_pixels(parts, output))
    return _prepared_captions(output, merge_captions(parts, output))


def _prepared_part(output: str, manifest: dict[str, Any], skipped: list[dict[str, str]]) -> Outcome:
    """Say what a part holds, and name the images that it skipped."""
    lines = [f"{name}: {counted(count['images'], 'image')}" for name, count in manifest["splits"].items()]
    _name_skipped(skipped)
    lines.append(
        f"part {manifest['part']} written to {output}; merge all parts with: data-prep merge PART PART ... -o DIR"
    )
    return Outcome("\n".join(lines), manifest, int(bool(skipped)))


def _prepared_captions(output: str, manifest: dict[str, Any]) -> Outcome:
    """Say what a data set holds."""
    if manifest["without_split"]:
        note(f"{manifest['without_split']} images are in no split and were not used")
    _note_sources(manifest)
    splits = manifest["splits"].items()
    counts = [
        f"{name}: {counted(count['images'], 'image')}, {counted(count['captions'], 'caption')}"
        for name, count in splits
    ]
    return _prepared(output, manifest, [*counts, f"vocabulary: {manifest['vocabulary']['size']} tokens"])


def pixels(
    source: str,
    *,
    output: str,
    format: Literal["auto", "idx", "npz", "folder", "parquet", "hub"] = "auto",
    size: str | None = None,
    channels: Literal[1, 3] | None = None,
    binarize: Literal["none", "threshold", "stochastic"] = "none",
    max_images: PositiveInt | None = None,
    last_for_validation: PositiveInt | None = None,
    allow_outside: bool = False,
    shard: str | None = None,
    seed: Seed = 0,
) -> Outcome:
    """Prepare images as pixels: bring them to one shape, and write a self-contained data set of numbers.

    Images keep the order of SOURCE.

    Args:
        source: file, folder or hub:OWNER/NAME
        output: folder to write
        format: layout of SOURCE; auto detects it
        size: N or HEIGHTxWIDTH in pixels: the largest region of that aspect ratio around the centre is cropped, then
            scaled by averaging over areas (default: the images' size)
        channels: 1 for grey, 3 for RGB (default: those of SOURCE)
        binarize: binarization of grey pixels: threshold gives 1 from grey level 128 on, stochastic draws each pixel
            once with P(1) = level / 255
        max_images: maximum number of images per split, drawn by --seed (default: all)
        last_for_validation: number of the last training images to use for validation, if SOURCE has no such split
            (default: a tenth, drawn by --seed)
        allow_outside: also read images outside SOURCE that links in it lead to
        shard: prepare one part of the images alone, such as 2/8 for the second of eight; data-prep merge makes one data
            set of all parts
    """
    from data_prep.pixels import prepare_pixels

    _disable_further_bars()
    part = Shard.parse(shard) if shard else None
    manifest = prepare_pixels(
        source,
        output,
        format,
        _height_and_width(size),
        channels,
        binarize,
        seed,
        max_images,
        last_for_validation,
        allow_outside,
        part,
    )
    if part:
        return _prepared_part(output, manifest, [entry for each in manifest["left_out"].values() for entry in each])
    return _prepared_pixels(output, manifest)


def _prepared_pixels(output: str, manifest: dict[str, Any]) -> Outcome:
    """Say what a data set holds."""
    counts = [f"{name}: {counted(count['images'], 'image')}" for name, count in manifest["splits"].items()]
    shape = f"images: {manifest['height']}x{manifest['width']}, channels: {manifest['channels']}"
    levels = f"levels: {manifest['levels']}, binarization: {manifest['binarization']}"
    return _prepared(output, manifest, [*counts, shape, levels])


def inspect(folder: str, *, output: str | None = None) -> Outcome:
    """Describe a prepared data set in numbers, and draw a contact sheet of random images.

    Args:
        folder: prepared data set
        output: .png file for the contact sheet (default: FOLDER/contact-sheet.png)
    """
    from data_prep import inspect_captions, inspect_pixels
    from data_prep.prepared_captions import PreparedCaptions
    from data_prep.prepared_folder import CAPTIONS_PART, PIXELS_PART, kind_of
    from data_prep.prepared_pixels import PreparedPixels

    kind = kind_of(Path(folder))
    sheet = Path(output) if output else Path(folder) / "contact-sheet.png"
    if kind in ("captions", CAPTIONS_PART):  # To open a part says what it is, and how to merge it.
        captioned = PreparedCaptions.open(folder)
        summary = inspect_captions.summarize(captioned)
        text = inspect_captions.describe(summary)
        inspect_captions.write_contact_sheet(captioned, sheet)
    elif kind in ("pixels", PIXELS_PART):
        images = PreparedPixels.open(folder)
        summary = inspect_pixels.summarize(images)
        text = inspect_pixels.describe(summary)
        inspect_pixels.write_contact_sheet(images, sheet)
    else:
        raise UserError(f"{folder}: not a prepared data set; make one with: data-prep captions or data-prep pixels")
    note(f"contact sheet written to {sheet}")
    return Outcome(text, summary)


def _disable_further_bars() -> None:
    from datasets import disable_progress_bars

    disable_progress_bars()  # One bar for the images is enough; datasets draws another for every split it saves.


def _height_and_width(size: str | None) -> tuple[int, int] | None:
    if size is None:
        return None
    sides = size.split("x")
    # Python refuses to convert thousands of digits.
    numbers = [int(side) if side.isdecimal() and len(side) < 10 else 0 for side in sides]
    if len(numbers) > 2 or not 1 <= min(numbers) <= max(numbers) <= _MOST_PIXELS:
        raise UserError(f"--size {size}: not a size; give 1 to {_MOST_PIXELS} pixels, as N or HEIGHTxWIDTH")
    return numbers[0], numbers[-1]


def _note_sources(manifest: dict[str, Any]) -> None:
    """Say what each of several sources gave to each split."""
    from data_prep.prepared_captions import images_by_source

    sources = manifest.get("sources", {})
    for name, source in sources.items():
        note(f"{name}: read as {source['format']}, split by {source['split_by']}")
        for split, number in source["not_used"].items():
            note(f"{name}: {number} {split} images were not used (--train-only)")
    for split in manifest["splits"] if sources else ():
        note(f"{split}: {images_by_source(manifest, split)}")


def _name_skipped(skipped: list[dict[str, str]]) -> None:
    for entry in skipped:
        problem(f"skipped {entry['name']}: {entry['reason']}")
    if skipped:
        problem(f"{counted(len(skipped), 'input')} skipped")


def _prepared(output: str, manifest: dict[str, Any], lines: list[str]) -> Outcome:
    """Name what was skipped, and say where the data set is."""
    skipped = manifest["left_out"]
    _name_skipped(skipped)
    if manifest["in_several_splits"]:
        note(
            f"{manifest['in_several_splits']} images are in several splits, which makes scores look better than they "
            "are; keep each in one"
        )
    if "sources" not in manifest:
        note(f"split by {manifest['options']['split_by']}")
    for split, number in manifest["drawn_from"].items():
        note(f"{split}: {manifest['options']['max_images']} of {number} images were drawn (--max-images)")
    lines.append(f"written to {output} (read as {manifest['format']})")
    return Outcome("\n".join(lines), manifest, int(bool(skipped)))


COMMANDS = {"captions": captions, "merge": merge, "pixels": pixels, "inspect": inspect}
