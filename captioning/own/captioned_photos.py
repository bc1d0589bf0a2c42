"""The captioned photos of a source, as they are on the disk now."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from data_prep.caption_records import merge_records
from data_prep.caption_sources.caption_formats import read_captions, resolve_format
from data_prep.caption_sources.record import CaptionRecord, Skipped
from data_prep.images import ImageError, read_encoded
from data_prep.prepared_folder import kind_of
from data_prep.splits import complete_splits
from vision_rnn.console import Progress
from vision_rnn.errors import UserError

# With fewer, the score of the held-out tenth says nothing.
FEWEST_PHOTOS = 50


@dataclass(frozen=True)
class CaptionedPhotos:
    """Photos with their captions.

    Attributes:
        records: Photos with captions and splits, as preparation will use them; it names those that are broken.
        digests: Digest of the captions and the file of every photo, by its name in the source.
        size: Bytes of the files together.
    """

    records: Sequence[CaptionRecord]
    digests: Mapping[str, str]
    size: int

    @classmethod
    def read(cls, source: Path) -> "CaptionedPhotos":
        """Read the captions and the files of a source.

        Raises:
            UserError: There is no such source, or its format is not recognised; the message says what was looked for.
        """
        if str(source).startswith("hub:"):
            raise UserError(f"{source}: not a folder; prepare it with data-prep captions, and train with --data")
        if not source.exists():
            raise UserError(f"{source}: no such file or folder; check the path")
        if source.is_dir() and kind_of(source):
            raise UserError(f"{source}: a prepared data set; train on it with --data {source} --output RUN")
        skipped = Skipped()  # Preparation names these.
        merged = merge_records(read_captions(str(source), resolve_format(str(source), "auto"), None, skipped), skipped)
        splits, _ = complete_splits([record.split for record in merged], [record.name for record in merged], seed=0)
        records, digests, size = [], {}, 0
        with Progress(len(merged), "checking photos", "photo") as progress:
            for record, split in zip(merged, splits, strict=True):
                progress.update()
                try:
                    encoded = read_encoded(record.image)
                except ImageError:
                    continue
                if split:
                    records.append(replace(record, split=split))
                    # The split that the source gives: one that is drawn depends on the other photos.
                    name = f"{record.split}/{record.name}" if record.split else record.name
                    digests[name] = hashlib.sha256(json.dumps(record.captions).encode() + encoded).hexdigest()
                    size += len(encoded)
        return cls(records, digests, size)

    def count(self, split: str) -> int:
        """Return the number of photos of a split."""
        return sum(record.split == split for record in self.records)

    @property
    def training_captions(self) -> int:
        """The number of captions to train on."""
        return sum(len(record.captions) for record in self.records if record.split == "train")

    def check_enough(self, source: Path, force: bool) -> None:
        """Refuse fewer photos than `FEWEST_PHOTOS`; with `force`, fewer than one for each split.

        Raises:
            UserError: There are fewer.
        """
        fewest = 3 if force else FEWEST_PHOTOS
        if len(self.records) < fewest:
            fix = "at least one each is needed to train, validate and test" if force else "--force goes on nevertheless"
            raise UserError(
                f"{source}: {len(self.records)} photos with captions are too few to learn from; add more, to have "
                f"{fewest} ({fix})"
            )

    def check_same(self, before: Mapping[str, str], folder: Path) -> None:
        """Refuse photos or captions that differ from those that `folder` was started with, given by their digests.

        Raises:
            UserError: Some differ; the message names one of each kind.
        """
        now = self.digests
        kinds = {
            "added": [name for name in now if name not in before],
            "removed": [name for name in before if name not in now],
            "changed": [name for name in now if before.get(name, now[name]) != now[name]],
        }
        if changes := [f"{len(names)} {kind}, such as {names[0]}" for kind, names in kinds.items() if names]:
            raise UserError(
                f"{folder}: was started with other photos or captions ({'; '.join(changes)}); undo that to continue, "
                "or choose another --output"
            )
