"""Images found by the names that programs give them: 42 and COCO_val2014_000000000042.jpg may be the same image."""

import re
from collections import defaultdict
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from data_prep.references import Reference
from data_prep.splits import SPLIT_NAMES

# How an image is found if not by its exact name or id, from the strictest to the loosest.
BY_PATH, BY_STEM, BY_NUMBER = "by the end of the path", "by the file name without suffix", "by the number"

_SUFFIX = re.compile(r"(?<=.)\.[A-Za-z][A-Za-z0-9]{0,4}$")
# A number alone, also as a float, or in a file name like COCO_val2014_000000000042.
_NUMBER = re.compile(r"(?:[A-Za-z0-9]+_(?:train|val|test)(?:20[0-9]{2})?_)?([0-9]+)(?:\.0+)?")

_Path = tuple[str, ...]


class Found(NamedTuple):
    """The images that a name may mean.

    Attributes:
        indices: Indices of the images in ascending order; empty if the name is unknown.
        by: How they were found: `BY_PATH`, `BY_STEM`, `BY_NUMBER`, or None by their exact name or id.
    """

    indices: list[int]
    by: str | None


class ImageNames:
    """Finds images by name, id or path.

    A name means the images that have exactly this name or id. If there are none, it means those that share the most
    last parts of the path with it, on POSIX or Windows, with the split as a folder (`test/42.jpg`); then the same
    without the suffixes of the file names; then those with the same number, zero-padded or not, as id or file name.

    Args:
        references: The images.
    """

    def __init__(self, references: Sequence[Reference]) -> None:
        self._exact: dict[str, set[int]] = defaultdict(set)
        self._ends: dict[_Path, set[int]] = defaultdict(set)
        self._ends_of_stems: dict[_Path, set[int]] = defaultdict(set)
        self._numbers: dict[str, set[int]] = defaultdict(set)
        for index, reference in enumerate(references):
            path = _path(reference.name)
            for name in {reference.name, reference.id} - {None}:
                self._exact[str(name)].add(index)
            for number in {_number(path), _number((reference.id or "",))} - {None}:
                self._numbers[str(number)].add(index)
            in_split = (reference.split, *path) if reference.split else path
            for end in _ends(in_split):
                self._ends[end].add(index)
            for end in _ends(_without_suffix(in_split)):
                self._ends_of_stems[end].add(index)

    def find(self, name: str) -> Found:
        """Return the images that a name may mean."""
        path = _path(name)
        stem = _without_suffix(path)
        for by, indices in (
            (None, self._exact.get(name)),
            (BY_PATH, _first(self._ends, _ends(path))),
            # A stem may itself look like a file name with a suffix.
            (BY_STEM, _first(self._ends_of_stems, _ends(path)) or _first(self._ends_of_stems, _ends(stem))),
            (BY_NUMBER, self._numbers.get(_number(path) or "")),
        ):
            if indices:
                return Found(sorted(indices), by)
        return Found([], None)


def _first(indices: dict[_Path, set[int]], keys: Iterator[_Path]) -> set[int] | None:
    return next((indices[key] for key in keys if key in indices), None)


def _path(name: str) -> _Path:
    """Return the parts of a POSIX or Windows path; folders named after a split have the split's name."""
    *folders, file_name = [part for part in re.split(r"[/\\]", name) if part not in ("", ".")] or [""]
    return (*(SPLIT_NAMES.get(folder.lower(), folder) for folder in folders), file_name)


def _ends(path: _Path) -> Iterator[_Path]:
    """Yield the last parts of a path, from all of them to the file name alone."""
    return (path[start:] for start in range(len(path)))


def _without_suffix(path: _Path) -> _Path:
    return (*path[:-1], _SUFFIX.sub("", path[-1]))


def _number(path: _Path) -> str | None:
    """Return the number that a file name consists of, without leading zeros."""
    found = _NUMBER.fullmatch(_without_suffix(path)[-1])
    return (found[1].lstrip("0") or "0") if found else None
