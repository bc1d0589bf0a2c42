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
from data_prep.prepared_folder import check_unprepared
from data_prep.splits import complete_splits
from vision_rnn.console import Progress

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
        check_unprepared(source, "captions")
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
