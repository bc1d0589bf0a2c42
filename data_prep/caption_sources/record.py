"""The record that every reader yields: an image with its captions."""

from dataclasses import dataclass

from data_prep.images import ImageFile


@dataclass(frozen=True)
class CaptionRecord:
    """An image and some of its captions; records with the same split and name are merged later.

    Attributes:
        name: POSIX path of the image relative to the image root, the same for every source format.
        image: Image file; it need not exist.
        captions: Raw captions; they may be empty.
        split: `train`, `validation`, `test`, or None if the source assigns none.
        where: Place in the source for messages: the file and its line or entry.
        id: Other identifier of the image in the source, used by results in COCO's format.
    """

    name: str
    image: ImageFile
    captions: list[str]
    split: str | None
    where: str
    id: str | None = None
