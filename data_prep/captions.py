"""Preparation of captioned images: images are checked, captions tokenised, and both written to one folder."""

import hashlib
import itertools
import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from data_prep.caption_parts import write_part
from data_prep.caption_records import SourceRecords, read_sources
from data_prep.caption_sources.record import CaptionRecord, Skipped
from data_prep.images import ImageError, load_image, read_encoded
from data_prep.prepared_captions import BETWEEN_SOURCES, KIND, VOCABULARY
from data_prep.prepared_folder import CAPTIONS_PART, check_replaceable, save_rows
from data_prep.splits import SPLITS, count_repeated, draw_at_most
from data_prep.tokenizer import tokenize
from data_prep.vocabulary import Vocabulary
from vision_rnn.checksums import write_sums
from vision_rnn.console import Progress
from vision_rnn.errors import UserError
from vision_rnn.files import MANIFEST, atomic_path, write_json
from vision_rnn.shard import Shard
from vision_rnn.version import tool_version

if TYPE_CHECKING:
    from datasets import Dataset

# Rows held in memory while writing; photos take several megabytes each.
ROWS_PER_BATCH = 100


def prepare_captions(
    sources: str | Path | Sequence[str | Path],
    output: str | Path,
    format: str = "auto",
    image_root: str | Path | None = None,
    min_count: int = 5,
    seed: int = 0,
    max_images: int | None = None,
    train_only: Sequence[str | Path] = (),
    allow_outside: bool = False,
    shard: Shard | None = None,
) -> dict[str, Any]:
    """Read captioned images and write the prepared data set that `PreparedCaptions` opens, complete or not at all.

    Every image is decoded once. Broken or missing images and captions without words are skipped and listed in the
    manifest under `left_out` with the reason. In a source with splits, images without a split are not used and only
    counted, as `without_split`. A source without splits is split 80/10/10 by a hash of `seed` and the image name. If a
    source has splits but no validation split, a tenth of the training images is used for validation, selected by the
    same hash. Images whose bytes occur in more than one split stay in each, and are counted as `in_several_splits`.

    Several sources become one data set, split by split. Each is split as it is alone, and the names of its images begin
    with its own, such as `coco/17.jpg`; the manifest counts its images under `sources`.

    Args:
        sources: Files or folders in the formats `caption_sources.caption_formats.FORMATS`, or `hub:owner/name`; one or
            several.
        output: Folder to write; a prepared caption data set that exists there is replaced.
        format: Layout of all sources; `auto` detects that of each (a hub data set by its prefix `hub:`).
        image_root: Folder of the images of all sources, if not beside the captions.
        min_count: Number of occurrences in the training captions that a word needs to enter the vocabulary.
        seed: Random seed for the splits that the source lacks and for the draw of `max_images`.
        max_images: Maximum number of images per split, drawn at random (default: all); the manifest has the number of
            images before the draw, of the splits that had more, as `drawn_from`.
        train_only: Those of the sources, or their names, of which only the training images are used; at least one other
            must be left.
        allow_outside: Whether images may lie outside the folder of their source, or outside `image_root` if given: by
            absolute paths, `../` or links. They are skipped otherwise.
        shard: Prepare one part of the images alone, for `caption_parts.merge_captions`; all parts must be given the
            same other arguments.

    Returns:
        The manifest, as written to `manifest.json`.

    Raises:
        UserError: A source cannot be read in this format, has no usable image, is given twice or is a prepared data
            set; no image is for training; no word occurs `min_count` times; `train_only` names something else; or
            `output` holds something else.
    """
    given = [str(source) for source in ([sources] if isinstance(sources, str | Path) else sources)]
    output = Path(output).absolute()
    check_replaceable(output, CAPTIONS_PART if shard else KIND)
    root = None if image_root is None else Path(image_root)
    read = read_sources(given, format, root, seed, list(map(str, train_only)), allow_outside)
    read, drawn_from = _draw(read, max_images, seed)
    options = {"min_count": min_count, "seed": seed, "max_images": max_images, "drawn_from": drawn_from}
    with atomic_path(output) as folder:
        if shard:
            unusable = [len(source.skipped.entries) for source in read]
            splits = _write_splits(read, folder, shard)
            return write_part(folder, shard, read, unusable, options, _counts(splits), _image_digests(splits))
        splits = _write_splits(read, folder, Shard(1, 1))
        return complete(folder, read, options, splits, _image_digests(splits))


def complete(
    folder: Path,
    read: Sequence[SourceRecords],
    options: dict[str, Any],
    splits: dict[str, "Dataset"],
    digests: dict[str, list[str]],
) -> dict[str, Any]:
    """Write what a prepared data set holds beside its images, and return the manifest.

    Args:
        folder: Its folder, with the images.
        read: The sources; their records are not used.
        options: Its options, and from how many images it was drawn.
        splits: Its rows.
        digests: SHA-256 of every image, in the order of the rows.

    Raises:
        UserError: A source has no usable image, none is for training, or no word is frequent enough.
    """
    counts = {source.name: _counts(splits, source.prefix) for source in read}
    _check_usable(read, counts)
    min_count = options["min_count"]
    vocabulary = Vocabulary.build(_running_tokens(splits["train"]), min_count)
    if not vocabulary.words:
        words = f"no word occurs {min_count} times in the training captions"
        raise UserError(f"{', '.join(source.given for source in read)}: {words}; lower --min-count")
    write_json(folder / VOCABULARY, vocabulary.words)
    manifest = {
        "kind": KIND,
        "version": tool_version(),
        "source": BETWEEN_SOURCES.join(source.name for source in read),
        "format": BETWEEN_SOURCES.join(source.format for source in read),
        "options": {
            "min_count": min_count,
            "seed": options["seed"],
            "split_by": BETWEEN_SOURCES.join(source.split_by for source in read),
            "max_images": options["max_images"],
        },
        "splits": _counts(splits),
        "without_split": sum(source.without_split for source in read),
        "drawn_from": options["drawn_from"],
        "in_several_splits": count_repeated(digests.values()),
        "left_out": [entry for source in read for entry in source.skipped.entries],
        "vocabulary": {"size": len(vocabulary), "min_count": min_count},
        "content_hash": _content_hash(splits, digests),
    }
    if len(read) > 1:
        manifest["sources"] = {source.name: _describe(source, counts[source.name]) for source in read}
    write_json(folder / MANIFEST, manifest)
    write_sums(folder)
    return manifest


def _draw(read: list[SourceRecords], most: int | None, seed: int) -> tuple[list[SourceRecords], dict[str, int]]:
    """Draw at most `most` images of each split of all sources; the others are in no split afterwards."""
    records = [record for source in read for record in source.records]
    splits, drawn_from = draw_at_most([each.split for each in records], [each.name for each in records], most, seed)
    drawn = iter(splits)
    return [
        replace(source, records=[replace(record, split=next(drawn)) for record in source.records]) for source in read
    ], drawn_from


def _write_splits(read: list[SourceRecords], folder: Path, shard: Shard) -> dict[str, "Dataset"]:
    """Write each split that has usable images into its own folder, sorted by name, and open it."""
    records = [(record, source.skipped) for source in read for record in source.records if record.split]
    records.sort(key=lambda pair: pair[0].name)
    of_split = {split: [pair for pair in records if pair[0].split == split] for split in SPLITS}
    parts = {split: pairs[shard.range_of(len(pairs))] for split, pairs in of_split.items()}
    splits = {}
    with Progress(sum(map(len, parts.values())), "reading images", "image") as progress:
        for split, pairs in parts.items():
            rows = _rows(pairs, progress)
            first = next(rows, None)
            if first is not None:
                splits[split] = _write_split(itertools.chain([first], rows), folder / split)
    return splits


def _rows(records: list[tuple[CaptionRecord, Skipped]], progress: Progress) -> Iterator[dict[str, Any]]:
    """Yield the rows of the images that can be decoded; add the others to those skipped of their source."""
    for record, skipped in records:
        progress.update()
        try:
            encoded = read_encoded(record.image)
            load_image(encoded, str(record.image))
        except ImageError as error:
            skipped.add(record.name, f"{record.where}: {error}")
            continue
        yield {
            "name": record.name,
            "image": {"bytes": encoded, "path": record.name},
            "captions": record.captions,
            "tokens": [tokenize(caption) for caption in record.captions],
        }


def _write_split(rows: Iterable[dict[str, Any]], folder: Path) -> "Dataset":
    # ArrowWriter instead of Dataset.from_generator, which would leave a second copy of the data in a cache.
    from datasets import Dataset, Features, Image, Value
    from datasets.arrow_writer import ArrowWriter

    text = Value("string")
    features = Features({"name": text, "image": Image(decode=False), "captions": [text], "tokens": [[text]]})
    unsaved = folder.with_name(f"{folder.name}.arrow")
    folder.parent.mkdir(exist_ok=True)
    with ArrowWriter(features=features, path=str(unsaved), writer_batch_size=ROWS_PER_BATCH) as writer:
        for row in rows:
            writer.write(row)
        writer.finalize()
    save_rows(unsaved, folder)
    return Dataset.load_from_disk(str(folder))


def _running_tokens(rows: "Dataset") -> Iterator[list[str]]:
    return (tokens for of_image in rows["tokens"] for tokens in of_image)


def _counts(splits: dict[str, "Dataset"], prefix: str = "") -> dict[str, dict[str, int]]:
    """Count the images and captions of each split, of those images whose names begin with `prefix`."""
    counts = {}
    for split, rows in splits.items():
        named = zip(rows["name"], rows["captions"], strict=True)
        if captions := [len(of_image) for name, of_image in named if name.startswith(prefix)]:
            counts[split] = {"images": len(captions), "captions": sum(captions)}
    return counts


def _check_usable(read: Sequence[SourceRecords], counts: dict[str, dict[str, dict[str, int]]]) -> None:
    """Check that every source has a usable image, and one of them a training image.

    Raises:
        UserError: One has none; the message names the first input that was skipped, and why.
    """
    unusable = [source for source in read if not counts[source.name]]
    to_train = any("train" in of_source for of_source in counts.values())
    if to_train and not unusable:
        return
    unusable = unusable or read
    reason = next((f" ({entry['reason']})" for source in unusable for entry in source.skipped.entries), "")
    names = ", ".join(source.given for source in unusable)
    purpose = "" if to_train else " for training"
    raise UserError(f"{names}: no usable image{purpose}{reason}; check the source and --image-root")


def _describe(source: SourceRecords, counts: dict[str, dict[str, int]]) -> dict[str, Any]:
    """Return what the manifest says of one of several sources."""
    return {
        "format": source.format,
        "split_by": source.split_by,
        "splits": counts,
        "without_split": source.without_split,
        "not_used": source.not_used,
    }


def _image_digests(splits: dict[str, "Dataset"]) -> dict[str, list[str]]:
    """Return the SHA-256 of the encoded bytes of every image, in hexadecimal, in the order of the rows."""
    return {
        split: [hashlib.sha256(row["image"]["bytes"]).hexdigest() for row in rows.to_iterable_dataset()]
        for split, rows in splits.items()
    }


def _content_hash(splits: dict[str, "Dataset"], digests: dict[str, list[str]]) -> str:
    """Hash the content, independent of the source format: splits, names, image bytes, and captions in any order."""
    digest = hashlib.sha256()
    for split in sorted(splits):
        rows = splits[split].select_columns(["name", "captions"]).to_iterable_dataset()
        for row, encoded in zip(rows, digests[split], strict=True):
            digest.update(json.dumps([split, row["name"], encoded, sorted(row["captions"])]).encode() + b"\n")
    return digest.hexdigest()
