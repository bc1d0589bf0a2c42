"""What parts of caption and of pixel data sets have in common: their order, and the joining of their rows.

A part holds a range of the images of each split: one part after the other, they are the data set. So their files become
its files as they are.
"""

import os
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from data_prep.prepared_folder import check_files, load_rows, read_manifest
from data_prep.splits import SPLITS
from vision_rnn.checksums import write_sums
from vision_rnn.errors import UserError
from vision_rnn.files import MANIFEST, read_json, write_json
from vision_rnn.shard import Shard
from vision_rnn.version import tool_version

if TYPE_CHECKING:
    from datasets import Dataset

_DIGESTS = "digests.json"


def describe_part(
    folder: Path, kind: str, shard: Shard, own: dict[str, Any], digests: dict[str, list[Any]]
) -> dict[str, Any]:
    """Write what a part holds beside its images, and return its manifest.

    Args:
        folder: Its folder, with the images.
        kind: Its kind.
        shard: Which part it is.
        own: What its manifest says besides.
        digests: What is to be known of every image by split, in the order of the rows.
    """
    manifest = {"kind": kind, "version": tool_version(), "part": str(shard), **own}
    write_json(folder / _DIGESTS, digests)
    write_json(folder / MANIFEST, manifest)
    write_sums(folder)
    return manifest


def parts_in_order(
    parts: Sequence[str | Path], kind: str, keys: frozenset[str], common: Callable[[dict[str, Any]], Any]
) -> list[tuple[Path, dict[str, Any]]]:
    """Return the folders and the manifests of all parts of one data set, in the order of their numbers.

    Args:
        parts: The folders, in any order.
        kind: Kind of the parts.
        keys: What their manifests need to have.
        common: What the manifests of all parts of a data set have in common.

    Raises:
        UserError: A part is missing, given twice, damaged, or of another data set.
    """
    found: dict[int, tuple[Path, dict[str, Any]]] = {}
    shards = 1
    for part in map(Path, parts):
        manifest = read_manifest(part, kind, keys)
        check_files(part, kind, MANIFEST, _DIGESTS)
        for split in manifest["splits"]:
            load_rows(part, manifest, split)  # Damage is found here, where the part can be named.
        number, shards = Shard.parse(manifest["part"])
        if number in found:
            raise UserError(f"{part}: part {number}/{shards}, as {found[number][0]}; name each part once")
        found[number] = part, manifest
        first, of_first = next(iter(found.values()))
        if (shards, common(manifest)) != (Shard.parse(of_first["part"]).shards, common(of_first)):
            raise UserError(f"{part}: of another data set than {first}, or prepared with other options")
    if missing := [str(number) for number in range(1, shards + 1) if number not in found]:
        raise UserError(f"missing of {shards} parts: {', '.join(missing)}; name the folders of all parts")
    return [found[number] for number in sorted(found)]


def join_parts(folders: Sequence[Path], whole: Path) -> tuple[dict[str, "Dataset"], dict[str, list[Any]]]:
    """Make the files of all parts those of the whole; return its rows by split, and what is known of every image.

    Files are shared if they are on one disk, and copied otherwise.

    Args:
        folders: The parts, in their order.
        whole: Folder of the whole.
    """
    splits = {split: rows for split in SPLITS if (rows := _join(folders, split, whole))}
    found = [read_json(folder / _DIGESTS) for folder in folders]
    return splits, {split: [one for of_part in found for one in of_part.get(split, [])] for split in splits}


def _join(parts: Sequence[Path], split: str, whole: Path) -> "Dataset | None":
    """Make the files of a split in all parts those of one split; None if there are none."""
    from datasets import Dataset

    files, states = [], []
    for part in (part / split for part in parts if (part / split).is_dir()):
        states.append(read_json(part / "state.json"))
        files += [part / entry["filename"] for entry in states[-1]["_data_files"]]
    if not files:
        return None
    folder = whole / split
    folder.mkdir(parents=True)
    names = [f"data-{number:05}-of-{len(files):05}.arrow" for number in range(len(files))]
    for file, name in zip(files, names, strict=True):
        try:
            os.link(file, folder / name)
        except OSError:  # On another disk, or one that has no links.
            shutil.copyfile(file, folder / name)
    shutil.copyfile(files[0].with_name("dataset_info.json"), folder / "dataset_info.json")
    write_json(folder / "state.json", states[0] | {"_data_files": [{"filename": name} for name in names]})
    return Dataset.load_from_disk(str(folder))
