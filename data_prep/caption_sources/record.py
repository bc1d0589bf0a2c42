"""What every reader yields: an image with its captions; and the names of splits, of which the formats have many."""

from dataclasses import dataclass

from data_prep.errors import UserError
from data_prep.images import ImageFile

# Karpathy's "restval" is the part of COCO's validation images that everybody trains on.
SPLIT_NAMES = {
    **dict.fromkeys(("train", "training", "restval"), "train"),
    **dict.fromkeys(("validation", "val", "valid", "dev", "development"), "validation"),
    **dict.fromkeys(("test", "testing"), "test"),
}


@dataclass(frozen=True)
class CaptionRecord:
    """An image and some of its captions; records of one split and name are later merged into one.

    Attributes:
        name: POSIX path of the image relative to the image root, the same in whatever format the data comes.
        image: The image file; it need not exist.
        captions: Raw captions; they may be empty.
        split: `train`, `validation`, `test`, or None if the source gives none.
        where: The place in the source, for messages: the file and its line or entry.
    """

    name: str
    image: ImageFile
    captions: list[str]
    split: str | None
    where: str


def parse_split(value: str | None, where: str) -> str | None:
    """Normalise the name of a split; None and blanks mean that there is none.

    Raises:
        UserError: The name is unknown.
    """
    key = (value or "").strip().lower()
    if key and key not in SPLIT_NAMES:
        raise UserError(f"{where}: unknown split '{value}'; use one of: {', '.join(SPLIT_NAMES)}")
    return SPLIT_NAMES.get(key)
