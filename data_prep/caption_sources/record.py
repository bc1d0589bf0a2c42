"""What every reader yields: images with their captions; and what it lists: inputs that could not be read."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from data_prep.images import ImageFile
from vision_rnn.errors import UserError


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


@dataclass
class Skipped:
    """The inputs of a source that cannot be used; a source is refused only if nothing usable is left.

    Attributes:
        entries: `name` and `reason` of each input, in the order of the source.
    """

    entries: list[dict[str, str]] = field(default_factory=list)

    def add(self, name: str, reason: str) -> None:
        """List an input."""
        self.entries.append({"name": name, "reason": reason})

    @contextmanager
    def on_error(self, where: str) -> Iterator[None]:
        """List the input at `where` if reading it within the block fails."""
        try:
            yield
        except UserError as error:
            self.add(where, str(error).removeprefix(where).lstrip(":, "))
