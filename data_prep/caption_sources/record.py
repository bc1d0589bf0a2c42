"""What every reader yields: an image with its captions."""

from dataclasses import dataclass

from data_prep.images import ImageFile


@dataclass(frozen=True)
class CaptionRecord:
    """An image and some of its captions; records of one split and name are later merged into one.

    Attributes:
        name: POSIX path of the image relative to the image root, the same in whatever format the data comes.
        image: The image file; it need not exist.
        captions: Raw captions; they may be empty.
        split: `train`, `validation`, `test`, or None if the source gives none.
        where: The place in the source, for messages: the file and its line or entry.
        id: What else the source calls the image, as results in COCO's format do.
    """

    name: str
    image: ImageFile
    captions: list[str]
    split: str | None
    where: str
    id: str | None = None
