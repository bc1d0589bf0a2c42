"""Parts of a caption data set that several processes or machines prepared, and their union.

A part holds a range of the images of each split, in the order of their names: one part after the other, they are the
data set. So their files become its files as they are.
"""

import os
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from data_prep.caption_records import SourceRecords
from data_prep.caption_sources.record import Skipped
from data_prep.prepared_captions import KIND
from data_prep.prepared_folder import PART_KIND, check_files, check_replaceable, load_rows, read_manifest
from data_prep.splits import SPLITS
from vision_rnn.checksums import write_sums
from vision_rnn.errors import UserError
from vision_rnn.files import MANIFEST, atomic_path, read_json, write_json
from vision_rnn.shard import Shard
from vision_rnn.version import tool_version

if TYPE_CHECKING:
    from datasets import Dataset

_DIGESTS = "digests.json"
_KEYS = frozenset({"part", "splits", "options", "sources"})
# Of what a part's manifest says of a source, what is its own.
_OWN = "skipped"


def write_part(
    folder: Path,
    shard: Shard,
    read: Sequence[SourceRecords],
    unusable: Sequence[int],
    options: dict[str, Any],
    counts: dict[str, dict[str, int]],
    digests: dict[str, list[str]],
) -> dict[str, Any]:
    """Write what a part holds beside its images, and return its manifest.

    Args:
        folder: Its folder, with the images.
        shard: Which part it is.
        read: The sources.
        unusable: How many inputs of each source were skipped before any image was read, the same in all parts.
        options: The options of the data set, and from how many images it was drawn.
        counts: Its images and captions by split.
        digests: SHA-256 of every image by split, in the order of the rows.
    """
    described = [
        {
            "given": source.given,
            "name": source.name,
            "prefix": source.prefix,
            "format": source.format,
            "split_by": source.split_by,
            "without_split": source.without_split,
            "not_used": source.not_used,
            "unusable": source.skipped.entries[:first],
            _OWN: source.skipped.entries[first:],
        }
        for source, first in zip(read, unusable, strict=True)
    ]
    manifest = {
        "kind": PART_KIND,
        "version": tool_version(),
        "part": str(shard),
        "splits": counts,
        "options": options,
        "sources": described,
    }
    write_json(folder / _DIGESTS, digests)
    write_json(folder / MANIFEST, manifest)
    write_sums(folder)
    return manifest


def merge_captions(parts: Sequence[str | Path], output: str | Path) -> dict[str, Any]:
    """Merge parts into the data set that would have been prepared at once, complete or not at all.

    Files are shared with the parts if they are on one disk, and copied otherwise.

    Args:
        parts: The folders of all parts, in any order.
        output: Folder to write; a prepared caption data set that exists there is replaced.

    Returns:
        The manifest of the data set.

    Raises:
        UserError: A part is missing, given twice, damaged, or of another data set; or the whole has no usable image, or
            `output` holds something else.
    """
    from data_prep.captions import complete

    output = Path(output).absolute()
    check_replaceable(output, KIND)
    folders = _in_order([Path(part) for part in parts])
    manifests = [manifest for _, manifest in folders]
    with atomic_path(output) as whole:
        splits = {split: found for split in SPLITS if (found := _join([part for part, _ in folders], split, whole))}
        found = [read_json(part / _DIGESTS) for part, _ in folders]
        digests = {split: [one for of_part in found for one in of_part.get(split, [])] for split in splits}
        return complete(whole, _sources(manifests), manifests[0]["options"], splits, digests)


def _in_order(parts: Sequence[Path]) -> list[tuple[Path, dict[str, Any]]]:
    """Return the folders and the manifests of all parts of one data set, in the order of their numbers."""
    found: dict[int, tuple[Path, dict[str, Any]]] = {}
    shards = 1
    for part in parts:
        manifest = read_manifest(part, PART_KIND, _KEYS)
        check_files(part, PART_KIND, MANIFEST, _DIGESTS)
        for split in manifest["splits"]:
            load_rows(part, manifest, split)  # Damage is found here, where the part can be named.
        number, shards = Shard.parse(manifest["part"])
        if number in found:
            raise UserError(f"{part}: part {number}/{shards}, as {found[number][0]}; name each part once")
        found[number] = part, manifest
        first, of_first = next(iter(found.values()))
        if _request(manifest) != _request(of_first):
            raise UserError(f"{part}: of another data set than {first}, or prepared with other options")
    if missing := [str(number) for number in range(1, shards + 1) if number not in found]:
        raise UserError(f"parts {', '.join(missing)} of {shards} are missing; name the folders of all parts")
    return [found[number] for number in sorted(found)]


def _request(manifest: dict[str, Any]) -> Any:
    """Return what the manifests of all parts of a data set have in common."""
    sources = [{key: value for key, value in source.items() if key != _OWN} for source in manifest["sources"]]
    return Shard.parse(manifest["part"]).shards, manifest["options"], sources


def _sources(manifests: Sequence[dict[str, Any]]) -> list[SourceRecords]:
    """Return the sources of the whole, without records."""
    sources = []
    for described in zip(*(manifest["sources"] for manifest in manifests), strict=True):
        first = dict(described[0])
        unusable = first.pop("unusable")
        del first[_OWN]
        skipped = Skipped([*unusable, *(entry for source in described for entry in source[_OWN])])
        sources.append(SourceRecords(**first, records=[], skipped=skipped))
    return sources


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
