"""A prepared caption data set on disk, as written by `data-prep captions` and read by the captioner."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from data_prep.prepared_folder import check_files, damaged, load_rows, read_manifest
from data_prep.vocabulary import Vocabulary
from vision_rnn.files import MANIFEST, read_json

if TYPE_CHECKING:
    from datasets import Dataset

VOCABULARY = "vocabulary.json"
KIND = "captions"
# In the manifest's source and format, and in what is made of them.
BETWEEN_SOURCES = " + "
_MANIFEST_KEYS = frozenset({"source", "format", "splits", "without_split", "left_out", "vocabulary", "content_hash"})


def images_by_source(manifest: dict[str, Any], split: str) -> str:
    """Return how many images of a split each of several sources gave; empty for a data set of one source."""
    counts = {name: source["splits"].get(split) for name, source in manifest.get("sources", {}).items()}
    return ", ".join(f"{count['images']} of {name}" for name, count in counts.items() if count)


@dataclass(frozen=True)
class PreparedCaptions:
    """Images with their captions and the vocabulary of the training split.

    Attributes:
        folder: Folder of the data set.
        manifest: Source, options, counts, skipped images, content hash.
        vocabulary: Words that occur often enough in the training split.
    """

    folder: Path
    manifest: dict[str, Any]
    vocabulary: Vocabulary

    @classmethod
    def open(cls, folder: str | Path) -> "PreparedCaptions":
        """Open a prepared data set; the splits are read only on request.

        Raises:
            UserError: The folder is not a prepared caption data set, or it is damaged.
        """
        folder = Path(folder)
        manifest = read_manifest(folder, KIND, _MANIFEST_KEYS)
        check_files(folder, KIND, MANIFEST, VOCABULARY)
        words = read_json(folder / VOCABULARY)
        if not isinstance(words, list) or not all(isinstance(word, str) for word in words):
            raise damaged(folder / VOCABULARY, KIND, "not a list of words")
        try:
            return cls(folder, manifest, Vocabulary(words))
        except ValueError as error:
            raise damaged(folder / VOCABULARY, KIND, error) from error

    @property
    def content_hash(self) -> str:
        """SHA-256 of the splits, names, images and captions, in hexadecimal."""
        return self.manifest["content_hash"]

    def split(self, name: str) -> "Dataset":
        """Memory-map one split, sorted by name.

        Columns: `name` (str), `image` (a dictionary with the encoded `bytes`), `captions` (list of str) and
        `tokens` (a list of str for each caption).

        Raises:
            UserError: The data set has no such split, or its files are damaged.
        """
        return load_rows(self.folder, self.manifest, name)

    def tokens(self, split: str) -> Iterator[list[list[str]]]:
        """Yield the words of the captions of each image of a split, without holding all of them.

        Raises:
            UserError: As for `split`.
        """
        for batch in self.split(split).select_columns("tokens").iter(batch_size=1000):
            yield from cast("dict[str, Any]", batch)["tokens"]
