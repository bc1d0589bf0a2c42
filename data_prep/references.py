"""The captions that people wrote of images, to score others against: from a source of captions or a prepared data set.

The images themselves need not be there.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from data_prep.caption_sources.caption_formats import read_captions, resolve_format
from data_prep.captions import merge_records
from data_prep.prepared_captions import PreparedCaptions
from data_prep.prepared_folder import kind_of
from vision_rnn.errors import UserError


@dataclass(frozen=True)
class Reference:
    """One image with what was written of it.

    Attributes:
        name: POSIX path of the image, relative to its folder.
        id: What else the source calls it.
        split: `train`, `validation`, `test`, or None if the source gives none.
        captions: As they were written; at least one.
    """

    name: str
    id: str | None
    split: str | None
    captions: list[str]


def read_references(source: str | Path) -> list[Reference]:
    """Read the captions of all images of a source in any format of `data-prep captions`, or of a prepared data set.

    Captions without words, and images without captions, are left out.

    Raises:
        UserError: The source is none of these, or holds no caption.
    """
    source = str(source)
    if Path(source).is_dir() and kind_of(Path(source)):
        references = _of_prepared(PreparedCaptions.open(source))
    else:
        records = merge_records(read_captions(source, resolve_format(source, "auto"), None), [])
        references = [Reference(record.name, record.id, record.split, record.captions) for record in records]
    if not references:
        raise UserError(f"{source}: holds no captions; name another source")
    return references


def names_of(references: Iterable[Reference]) -> dict[str, int | None]:
    """Return the index of the image that each name, file name alone and id belongs to; None if several have it."""
    indices: dict[str, int | None] = {}
    for index, reference in enumerate(references):
        for name in {reference.name, Path(reference.name).name, reference.id} - {None}:
            assert name is not None
            indices[name] = None if name in indices else index
    return indices


def in_split(references: Sequence[Reference], split: str) -> list[Reference]:
    """Return the images of a split.

    Raises:
        UserError: There is none.
    """
    found = [reference for reference in references if reference.split == split]
    if not found:
        known = ", ".join(sorted({reference.split for reference in references if reference.split})) or "none at all"
        raise UserError(f"--split: no references of the split '{split}'; the splits are: {known}")
    return found


def _of_prepared(data: PreparedCaptions) -> list[Reference]:
    return [
        Reference(name, None, split, captions)
        for split in data.manifest["splits"]
        for name, captions in zip(*(data.split(split)[column][:] for column in ("name", "captions")), strict=True)
    ]
