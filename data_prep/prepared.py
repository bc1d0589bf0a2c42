"""A prepared caption data set as it lies on disk: what `data-prep captions` writes and the captioner reads."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from data_prep.errors import UserError
from data_prep.files import read_json
from data_prep.vocabulary import Vocabulary

if TYPE_CHECKING:
    from datasets import Dataset

MANIFEST = "manifest.json"
VOCABULARY = "vocabulary.json"
KIND = "captions"
_MANIFEST_KEYS = {"source", "format", "splits", "without_split", "left_out", "vocabulary", "content_hash"}


@dataclass(frozen=True)
class PreparedCaptions:
    """Images with their captions and the vocabulary of the training split.

    Attributes:
        folder: Where the data set lies.
        manifest: Source, options, counts, images left out, content hash.
        vocabulary: The words of the training split that occur often enough.
    """

    folder: Path
    manifest: dict[str, Any]
    vocabulary: Vocabulary

    @classmethod
    def open(cls, folder: str | Path) -> "PreparedCaptions":
        """Open a prepared data set; the splits are read only when asked for.

        Raises:
            UserError: The folder holds no prepared caption data set, or a damaged one.
        """
        folder = Path(folder)
        manifest = read_manifest(folder)
        if missing := _MANIFEST_KEYS - manifest.keys():
            raise _damaged(folder / MANIFEST, f"no '{min(missing)}'")
        words = read_json(folder / VOCABULARY)
        if not isinstance(words, list) or not all(isinstance(word, str) for word in words):
            raise _damaged(folder / VOCABULARY, "no list of words")
        try:
            return cls(folder, manifest, Vocabulary(words))
        except ValueError as error:
            raise _damaged(folder / VOCABULARY, error) from error

    @property
    def content_hash(self) -> str:
        """SHA-256 of the splits, names, images and captions, in hexadecimal."""
        return self.manifest["content_hash"]

    def split(self, name: str) -> "Dataset":
        """Memory-map one split, sorted by name.

        Columns: `name` (str), `image` (a dictionary with the encoded `bytes`), `captions` (list of str) and
        `tokens` (for each caption its list of str).

        Raises:
            UserError: The data set has no such split, or its files are damaged.
        """
        splits = self.manifest["splits"]
        if name not in splits:
            raise UserError(f"{self.folder}: no split '{name}'; choose one of: {', '.join(splits)}")
        from datasets import Dataset

        try:
            return Dataset.load_from_disk(str(self.folder / name))
        except (OSError, ValueError, KeyError) as error:  # What Arrow finds wrong is a ValueError.
            raise _damaged(self.folder / name, error) from error


def read_manifest(folder: Path) -> dict[str, Any]:
    """Read the manifest of a prepared caption data set, which may be damaged otherwise.

    Raises:
        UserError: The folder holds no prepared caption data set.
    """
    manifest = read_json(folder / MANIFEST) if (folder / MANIFEST).is_file() else None
    if not isinstance(manifest, dict) or manifest.get("kind") != KIND:
        raise UserError(
            f"{folder}: not a prepared caption data set; make one with: data-prep captions SOURCE -o {folder}"
        )
    return manifest


def _damaged(path: Path, reason: object) -> UserError:
    return UserError(f"{path}: damaged ({' '.join(str(reason).split())}); prepare it again with data-prep captions")
