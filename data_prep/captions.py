"""Preparation of captioned images: images are checked, captions tokenised, and both written to one folder."""

import hashlib
import itertools
import json
from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from data_prep.caption_sources.caption_formats import read_captions, resolve_format
from data_prep.caption_sources.record import CaptionRecord, Skipped
from data_prep.images import ImageError, load_image, read_encoded
from data_prep.prepared_captions import KIND, VOCABULARY
from data_prep.prepared_folder import check_replaceable, save_rows
from data_prep.splits import SPLITS, complete_splits, count_repeated, draw_at_most
from data_prep.tokenizer import tokenize
from data_prep.vocabulary import Vocabulary
from vision_rnn.console import Progress
from vision_rnn.errors import UserError
from vision_rnn.files import MANIFEST, atomic_path, write_json
from vision_rnn.version import tool_version

if TYPE_CHECKING:
    from datasets import Dataset

# Rows held in memory while writing; photos take several megabytes each.
ROWS_PER_BATCH = 100


def prepare_captions(
    source: str | Path,
    output: str | Path,
    format: str = "auto",
    image_root: str | Path | None = None,
    min_count: int = 5,
    seed: int = 0,
    max_images: int | None = None,
) -> dict[str, Any]:
    """Read captioned images and write the prepared data set that `PreparedCaptions` opens, complete or not at all.

    Every image is decoded once. Broken or missing images and captions without words are skipped and listed in the
    manifest under `left_out` with the reason. In a source with splits, images without a split are not used and only
    counted, as `without_split`. A source without splits is split 80/10/10 by a hash of `seed` and the image name. If a
    source has splits but no validation split, a tenth of the training images is used for validation, selected by the
    same hash. Images whose bytes occur in more than one split stay in each, and are counted as `in_several_splits`.

    Args:
        source: File or folder in one of `caption_sources.caption_formats.FORMATS`, or `hub:owner/name`.
        output: Folder to write; a prepared caption data set that exists there is replaced.
        format: Layout of the source; `auto` detects it (a hub data set by its prefix `hub:`).
        image_root: Folder of the images, if not beside the captions.
        min_count: Number of occurrences in the training captions that a word needs to enter the vocabulary.
        seed: Random seed for the splits that the source lacks and for the draw of `max_images`.
        max_images: Maximum number of images per split, drawn at random (default: all); the manifest has the number of
            images before the draw, of the splits that had more, as `drawn_from`.

    Returns:
        The manifest, as written to `manifest.json`.

    Raises:
        UserError: The source cannot be read in this format or has no usable training image, no word occurs `min_count`
            times, or `output` holds something else.
    """
    source, output = str(source), Path(output).absolute()
    check_replaceable(output, KIND)
    format = resolve_format(source, format)
    skipped = Skipped()
    root = None if image_root is None else Path(image_root)
    records = merge_records(read_captions(source, format, root, skipped), skipped)
    given = [record.split for record in records]
    names = [record.name for record in records]
    splits_made, split_by = complete_splits(given, names, seed)
    without_split = splits_made.count(None)
    splits_made, drawn_from = draw_at_most(splits_made, names, max_images, seed)
    records = [replace(record, split=split) for record, split in zip(records, splits_made, strict=True)]
    with atomic_path(output) as folder:
        splits = _write_splits(records, folder, skipped)
        if "train" not in splits:
            reason = f" ({skipped.entries[0]['reason']})" if skipped.entries else ""
            raise UserError(f"{source}: no usable image for training{reason}; check the source and --image-root")
        vocabulary = Vocabulary.build(_running_tokens(splits["train"]), min_count)
        if not vocabulary.words:
            raise UserError(f"{source}: no word occurs {min_count} times in the training captions; lower --min-count")
        digests = _image_digests(splits)
        write_json(folder / VOCABULARY, vocabulary.words)
        manifest = {
            "kind": KIND,
            "version": tool_version(),
            "source": source if format == "hub" else Path(source).absolute().name,
            "format": format,
            "options": {"min_count": min_count, "seed": seed, "split_by": split_by, "max_images": max_images},
            "splits": {name: _count(rows) for name, rows in splits.items()},
            "without_split": without_split,
            "drawn_from": drawn_from,
            "in_several_splits": count_repeated(digests.values()),
            "left_out": skipped.entries,
            "vocabulary": {"size": len(vocabulary), "min_count": min_count},
            "content_hash": _content_hash(splits, digests),
        }
        write_json(folder / MANIFEST, manifest)
    return manifest


def merge_records(records: Iterable[CaptionRecord], skipped: Skipped) -> list[CaptionRecord]:
    """Merge the records of each image, since many formats have one per caption; sort by split and name.

    Args:
        records: Records of a reader.
        skipped: Takes captions without words, images without captions, and an image with the name of another one of
            its split; all are dropped.
    """
    merged: dict[tuple[str, str], CaptionRecord] = {}
    for record in records:
        first = merged.setdefault((record.split or "", record.name), replace(record, captions=[]))
        if first.image != record.image:
            skipped.add(record.name, f"{record.where}: another image of this name is at {first.where}; rename one")
            continue
        captions = [caption.strip() for caption in record.captions if any(map(str.isalnum, caption))]
        if len(captions) < len(record.captions) or not captions:
            reason = "a caption without words" if record.captions else "no caption"
            skipped.add(record.name, f"{record.where}: {reason}")
        first.captions.extend(captions)
    return [merged[key] for key in sorted(merged) if merged[key].captions]


def _write_splits(records: list[CaptionRecord], folder: Path, skipped: Skipped) -> dict[str, "Dataset"]:
    """Write each split that has usable images into its own folder, and open it."""
    splits = {}
    total = sum(record.split is not None for record in records)
    with Progress(total, "reading images", "image") as progress:
        for split in SPLITS:
            rows = _rows([record for record in records if record.split == split], progress, skipped)
            first = next(rows, None)
            if first is not None:
                splits[split] = _write_split(itertools.chain([first], rows), folder / split)
    return splits


def _rows(records: list[CaptionRecord], progress: Progress, skipped: Skipped) -> Iterator[dict[str, Any]]:
    """Yield the rows of the images that can be decoded; add the others to `skipped`."""
    for record in records:
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


def _count(rows: "Dataset") -> dict[str, int]:
    return {"images": len(rows), "captions": sum(map(len, rows["captions"]))}


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
