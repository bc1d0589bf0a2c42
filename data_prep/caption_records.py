"""What is read of each source of a caption data set: one record per image, with its final name and split."""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from data_prep.caption_sources.caption_formats import read_captions, resolve_format
from data_prep.caption_sources.record import CaptionRecord, Skipped
from data_prep.hub import PREFIX
from data_prep.prepared_folder import kind_of
from data_prep.splits import complete_splits
from vision_rnn.errors import UserError


@dataclass(frozen=True)
class SourceRecords:
    """One source, and what is used of it.

    Attributes:
        given: The source as the user wrote it.
        name: Its name, for the manifest; of several sources the end of the path that tells it from the others.
        prefix: Beginning of the names of its images: the name and a slash, or nothing if it is the only source.
        format: Its layout.
        records: One record per image, sorted by name within each split.
        skipped: Its inputs that cannot be used.
        split_by: Origin of its splits.
        without_split: Number of its images that are in no split.
        not_used: Number of its images by split, of splits that are not used because only training images are.
    """

    given: str
    name: str
    prefix: str
    format: str
    records: list[CaptionRecord]
    skipped: Skipped
    split_by: str
    without_split: int
    not_used: dict[str, int]


def read_sources(
    sources: Sequence[str],
    format: str,
    image_root: Path | None,
    seed: int,
    train_only: Sequence[str] = (),
    allow_outside: bool = False,
) -> list[SourceRecords]:
    """Read every source, and split it as it is split alone.

    Args:
        sources: Files, folders and `hub:owner/name`, at least one.
        format: Layout of every source; `auto` detects it.
        image_root: Folder of the images of every source, if not beside its captions.
        seed: Random seed for the splits that a source lacks.
        train_only: Those of the sources, as in `sources` or by name, of which only the training images are used.
        allow_outside: Whether images may lie outside the folders of their sources.

    Raises:
        UserError: A source cannot be read (all that cannot are named), is given twice or is a prepared data set;
            `train_only` names something else, all sources, or one without training images.
    """
    names = _distinct_names(sources)
    only = _names_of(train_only, dict(zip(sources, names, strict=True)))
    found, errors = [], []
    for source, name in zip(sources, names, strict=True):
        try:
            told_apart_by = name if len(sources) > 1 else None
            found.append(_read(source, told_apart_by, format, image_root, seed, name in only, allow_outside))
        except UserError as error:
            errors.append(str(error))
    if errors:
        raise UserError("; ".join(errors))
    return found


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


def _read(
    source: str,
    told_apart_by: str | None,
    format: str,
    image_root: Path | None,
    seed: int,
    train_only: bool,
    allow_outside: bool,
) -> SourceRecords:
    if Path(source).is_dir() and kind_of(Path(source)):
        raise UserError(f"{source}: a prepared data set; name the source that it was prepared from")
    format, skipped = resolve_format(source, format), Skipped()
    name = told_apart_by or (source if format == "hub" else Path(source).absolute().name)
    prefix = f"{told_apart_by}/" if told_apart_by else ""
    read = read_captions(source, format, image_root, skipped, allow_outside)
    records = merge_records((replace(record, name=f"{prefix}{record.name}") for record in read), skipped)
    # The random choice depends on the names: with the prefix it would be another one than that of the source alone.
    own_names = [record.name.removeprefix(prefix) for record in records]
    splits, split_by = complete_splits([record.split for record in records], own_names, seed)
    not_used = Counter(split for split in splits if train_only and split not in ("train", None))
    if train_only and records and "train" not in splits:
        raise UserError(f"--train-only: {source} has no training images; omit this source")
    records = [
        replace(record, split=split) for record, split in zip(records, splits, strict=True) if split not in not_used
    ]
    return SourceRecords(source, name, prefix, format, records, skipped, split_by, splits.count(None), dict(not_used))


def _distinct_names(sources: Sequence[str]) -> list[str]:
    """Return the shortest ends of the paths that differ, all of as many parts.

    Raises:
        UserError: A source is given twice.
    """
    first_of: dict[str | Path, str] = {}
    for source in sources:
        if _identity(source) in first_of:
            other = first_of[_identity(source)]
            raise UserError(f"{source}: given twice{'' if other == source else f', as {other} too'}; name it once")
        first_of[_identity(source)] = source
    paths = [_parts(source) for source in sources]
    depth = 1
    while len({path[-depth:] for path in paths}) < len(paths):
        depth += 1
    return ["/".join(path[-depth:]) for path in paths]


def _identity(source: str) -> str | Path:
    return source if source.startswith(PREFIX) else Path(source).resolve()


def _parts(source: str) -> tuple[str, ...]:
    if source.startswith(PREFIX):
        return tuple(source.removeprefix(PREFIX).split("/"))
    return Path(source).resolve().parts


def _names_of(train_only: Sequence[str], names: dict[str, str]) -> set[str]:
    """Return the names of the sources in `train_only`, given those of all sources."""
    by_identity = {_identity(source): name for source, name in names.items()}
    chosen = set()
    for source in train_only:
        name = source if source in names.values() else by_identity.get(_identity(source))
        if name is None:
            raise UserError(f"--train-only: {source} is not one of the sources; choose from: {', '.join(names)}")
        chosen.add(name)
    if chosen and len(chosen) == len(names):
        raise UserError("--train-only: no source is left for validation; omit at least one")
    return chosen
