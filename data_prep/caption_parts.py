"""Parts of a caption data set that several processes or machines prepared, and their union."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from data_prep.caption_records import SourceRecords
from data_prep.caption_sources.record import Skipped
from data_prep.parts import describe_part, join_parts, parts_in_order
from data_prep.prepared_captions import KIND
from data_prep.prepared_folder import CAPTIONS_PART, check_replaceable
from vision_rnn.files import atomic_path
from vision_rnn.shard import Shard

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
    own = {"splits": counts, "options": options, "sources": described}
    return describe_part(folder, CAPTIONS_PART, shard, own, digests)


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
    found = parts_in_order(parts, CAPTIONS_PART, _KEYS, _common)
    manifests = [manifest for _, manifest in found]
    with atomic_path(output) as whole:
        splits, digests = join_parts([folder for folder, _ in found], whole)
        return complete(whole, _sources(manifests), manifests[0]["options"], splits, digests)


def _common(manifest: dict[str, Any]) -> Any:
    """Return what the manifests of all parts of a data set have in common."""
    sources = [{key: value for key, value in source.items() if key != _OWN} for source in manifest["sources"]]
    return manifest["options"], sources


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
