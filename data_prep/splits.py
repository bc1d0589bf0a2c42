"""The splits of a data set: their names in the various formats, and the creation of those that a source lacks."""

import hashlib
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any

from vision_rnn.errors import UserError

SPLITS = ("train", "validation", "test")
# Karpathy's "restval" is the part of COCO's validation images that is commonly used for training.
SPLIT_NAMES = {
    **dict.fromkeys(("train", "training", "restval"), "train"),
    **dict.fromkeys(("validation", "val", "valid", "dev", "development"), "validation"),
    **dict.fromkeys(("test", "testing"), "test"),
}


def parse_split(value: str | None, where: str) -> str | None:
    """Normalise the name of a split; None and blanks mean no split.

    Raises:
        UserError: The name is unknown.
    """
    key = (value or "").strip().lower()
    if key and key not in SPLIT_NAMES:
        raise UserError(f"{where}: unknown split '{value}'; use one of: {', '.join(SPLIT_NAMES)}")
    return SPLIT_NAMES.get(key)


def complete_splits(
    given: Sequence[str | None], names: Sequence[str], seed: int, last: int | None = None
) -> tuple[list[str | None], str]:
    """Add the splits that training needs to those of the source.

    If the source has no splits, a tenth of the images is used for validation and a tenth for testing. If it has no
    validation split, a tenth of the training images is used for validation. The selection depends on the seed and the
    names, not on the order.

    Args:
        given: Split of each image, or None if the source assigns none.
        names: Name of each image.
        seed: Random seed for the selection.
        last: Number of images to use for validation instead of a tenth: the last training images in their order.

    Returns:
        Split of each image, and the origin of the splits: `source`, `seed`, or both; or the number of the last images.

    Raises:
        UserError: `last` is given, but the source has a validation split, no training split, or too few images there.
    """
    if last is not None:
        return _cut_last(given, last), f"source; validation is the last {last} images of train"
    if not any(given):
        return _cut_tenths(given, names, None, ("validation", "test"), seed), "seed"
    if "validation" in given:
        return list(given), "source"
    return _cut_tenths(given, names, "train", ("validation",), seed), "source; validation cut from train by seed"


def draw_at_most(
    splits: Sequence[str | None], names: Sequence[str], most: int | None, seed: int
) -> tuple[list[str | None], dict[str, int]]:
    """Draw at most `most` images of each split; the same seed draws the same ones, whatever their order.

    Args:
        splits: Split of each image, or None if it is in none.
        names: Name of each image.
        most: Number of images to keep per split; None keeps all.
        seed: Random seed for the selection.

    Returns:
        Split of each image, None where it was not drawn, and the number of images before the draw, by the splits that
        had more.
    """
    places, larger = list(splits), {}
    for split in SPLITS if most is not None else ():
        chosen = _shuffled([index for index, of in enumerate(splits) if of == split], names, f"{seed}/draw")
        for index in chosen[most:]:
            places[index] = None
            larger[split] = len(chosen)
    return places, larger


def _cut_last(given: Sequence[str | None], last: int) -> list[str | None]:
    """Move the last images of the split train to validation."""
    if "validation" in given:
        raise UserError("--last-for-validation: the source has a validation split already; omit it")
    training = [index for index, split in enumerate(given) if split == "train"]
    if last >= len(training):
        few = f"has only {len(training)} images in its split train; give fewer than that"
        raise UserError(
            f"--last-for-validation {last}: the source {few if training else 'has no split train; omit it'}"
        )
    places = list(given)
    for index in training[len(training) - last :]:
        places[index] = "validation"
    return places


def _cut_tenths(
    given: Sequence[str | None], names: Sequence[str], cut: str | None, into: Sequence[str], seed: int
) -> list[str | None]:
    """Move a tenth of the images of split `cut` to each of `into`, and the rest to train."""
    places = list(given)
    chosen = _shuffled([index for index, split in enumerate(given) if split == cut], names, str(seed))
    tenth = max(1, len(chosen) // 10) if len(chosen) > len(into) else 0
    new = [split for split in into for _ in range(tenth)]
    new += ["train"] * (len(chosen) - len(new))
    for index, split in zip(chosen, new, strict=True):
        places[index] = split
    return places


def _shuffled(indices: list[int], names: Sequence[str], key: str) -> list[int]:
    """Sort the indices by a hash of the key and the name of each: a random order that depends on nothing else."""
    return sorted(indices, key=lambda index: hashlib.sha256(f"{key}/{names[index]}".encode()).digest())


def count_repeated(digests: Iterable[Iterable[Any]]) -> int:
    """Count the images that occur in more than one split, given the digests of the images of each split."""
    num_splits = Counter(digest for of_split in digests for digest in set(of_split))
    return sum(number > 1 for number in num_splits.values())
