"""Parts of a pixel data set that several processes or machines prepared, and their union."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from data_prep.parts import describe_part, join_parts, parts_in_order
from data_prep.prepared_folder import PIXELS_PART, check_replaceable
from data_prep.prepared_pixels import KIND
from data_prep.splits import SPLITS
from vision_rnn.errors import UserError
from vision_rnn.files import atomic_path
from vision_rnn.shard import Shard

_KEYS = frozenset({"part", "splits", "origin", "shape", "left_out"})


def write_part(
    folder: Path,
    shard: Shard,
    origin: Mapping[str, Any],
    shape: Sequence[int] | None,
    splits: Mapping[str, Sequence[tuple[str, int | None]]],
    left_out: Mapping[str, Sequence[dict[str, str]]],
) -> dict[str, Any]:
    """Write what a part holds beside its images, and return its manifest.

    Args:
        folder: Its folder, with the images.
        shard: Which part it is.
        origin: Where the images are from, and how they were prepared: the same for all parts.
        shape: Height, width and channels of all images; None if there are none.
        splits: SHA-256 of the pixels and label of every image by split, in the order of the rows.
        left_out: The images of each split that were skipped, with the reasons.
    """
    own = {
        "splits": {split: {"images": len(rows)} for split, rows in splits.items()},
        "origin": origin,
        "shape": shape,
        "left_out": left_out,
    }
    return describe_part(folder, PIXELS_PART, shard, own, {split: list(rows) for split, rows in splits.items()})


def merge_pixels(parts: Sequence[str | Path], output: str | Path) -> dict[str, Any]:
    """Merge parts into the data set that would have been prepared at once, complete or not at all.

    Files are shared with the parts if they are on one disk, and copied otherwise.

    Args:
        parts: The folders of all parts, in any order.
        output: Folder to write; a prepared pixel data set that exists there is replaced.

    Returns:
        The manifest of the data set.

    Raises:
        UserError: A part is missing, given twice, damaged, of another data set, or of images of another shape; or no
            image is for training, or `output` holds something else.
    """
    from data_prep.pixels import complete

    output = Path(output).absolute()
    check_replaceable(output, KIND)
    found = parts_in_order(parts, PIXELS_PART, _KEYS, lambda manifest: manifest["origin"])
    shaped = [(folder, manifest["shape"]) for folder, manifest in found if manifest["shape"]]
    for folder, shape in shaped:
        if shape != shaped[0][1]:
            raise UserError(
                f"{folder}: images are {_text(shape)}, but those of {shaped[0][0]} {_text(shaped[0][1])}; "
                "prepare all parts with --size and --channels"
            )
    with atomic_path(output) as whole:
        _, splits = join_parts([folder for folder, _ in found], whole)
        left_out: dict[str, list[dict[str, str]]] = {split: [] for split in SPLITS}
        for _, manifest in found:
            for split, of_split in manifest["left_out"].items():
                left_out[split] += of_split
        return complete(whole, found[0][1]["origin"], shaped[0][1] if shaped else None, splits, left_out)


def _text(shape: Sequence[int]) -> str:
    return "x".join(map(str, shape))
