"""Reference captions to score other captions against, read from a caption source or a prepared data set.

The image files need not exist.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from data_prep.caption_records import merge_records
from data_prep.caption_sources.caption_formats import read_captions, resolve_format
from data_prep.caption_sources.record import Skipped
from data_prep.prepared_captions import PreparedCaptions
from data_prep.prepared_folder import kind_of
from vision_rnn.console import note
from vision_rnn.errors import UserError


@dataclass(frozen=True)
class Reference:
    """The reference captions of one image.

    Attributes:
        name: POSIX path of the image, relative to the image root; the id if the source names no files.
        id: Other identifier of the image in the source, such as its COCO id; None if there is none.
        split: `train`, `validation`, `test`, or None if the source assigns none.
        captions: Original captions, at least one.
    """

    name: str
    id: str | None
    split: str | None
    captions: list[str]

    @property
    def label(self) -> str:
        """The name, and the id if it is another, for messages."""
        return self.name if self.id in (None, self.name) else f"{self.name} (id {self.id})"


def read_references(source: str | Path) -> list[Reference]:
    """Read the captions of all images from a source in any format of `data-prep captions`, or a prepared data set.

    COCO's images need no `file_name`, as in the ground truth of LAVIS. Captions without words and images without
    captions are skipped; their number is printed.

    Raises:
        UserError: The source is neither of these, or contains no captions.
    """
    source = str(source)
    if Path(source).is_dir() and kind_of(Path(source)):
        references = _of_prepared(PreparedCaptions.open(source))
    else:
        skipped = Skipped()
        records = merge_records(read_captions(source, resolve_format(source, "auto"), None, skipped), skipped)
        references = [Reference(record.name, record.id, record.split, record.captions) for record in records]
        if skipped.entries:
            first = skipped.entries[0]
            note(f"{source}: inputs skipped: {len(skipped.entries)}, such as {first['name']} ({first['reason']})")
    if not references:
        raise UserError(f"{source}: contains no captions; name another source")
    return references


def in_split(references: Sequence[Reference], split: str) -> list[Reference]:
    """Return the images of a split.

    Raises:
        UserError: The split has no images.
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
