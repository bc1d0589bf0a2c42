"""Rows with an image column and optionally a label column: Parquet files, and data sets on the Hugging Face hub."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from data_prep.hub import downloads, encoded_image, find_image_column, load_hub, parquet_rows, split_of_file, undecoded
from data_prep.pixel_sources.encoded import decode
from data_prep.pixel_sources.source import PixelSource, SourceSplit, checked_labels
from data_prep.splits import SPLIT_NAMES
from vision_rnn.console import note
from vision_rnn.errors import UserError
from vision_rnn.files import check_no_device

if TYPE_CHECKING:
    from datasets import Dataset

LABEL_COLUMNS = ("label", "labels", "class", "target", "fine_label")


@dataclass(frozen=True)
class ImageCells:
    """The cells of an image column, read on request."""

    rows: "Dataset"
    column: str
    folders: Sequence[Path]

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: int) -> np.ndarray:
        return decode(self.encoded(index), f"image of row {index}")

    def encoded(self, index: int) -> bytes:
        """Read the content of a cell."""
        row: dict[str, Any] = self.rows[index]
        return encoded_image(row[self.column], self.folders)


def read_parquet(source: Path) -> PixelSource:
    """Read a Parquet file, or all in and below a folder; words such as `train` in their paths determine the splits.

    Raises:
        UserError: There is no such file, only some paths name a split, a file is corrupt, or there is no image column.
    """
    files: dict[str | None, list[Path]] = {}
    for path in sorted(source.glob("**/*.parquet")) if source.is_dir() else [source]:
        check_no_device(path)
        files.setdefault(split_of_file(path, source), []).append(path)
    if not files:
        raise UserError(f"{source}: contains no .parquet file; name a folder that does")
    if None in files and len(files) > 1:
        raise UserError(
            f"{files[None][0]}: names no split, but other files do; rename it, for example to train-0.parquet"
        )
    return _source_of_rows(
        {split: parquet_rows(paths, str(source)) for split, paths in files.items()}, str(source), folders=()
    )


def read_hub(source: str) -> PixelSource:
    """Read the training, validation and test splits of the data set `hub:owner/name` or `owner/name`.

    Raises:
        UserError: There is no such data set, no network, no such split, or no image column.
    """
    data = {str(name): rows for name, rows in load_hub(source).items()}
    splits: dict[str | None, Dataset] = {
        SPLIT_NAMES[name.lower()]: rows for name, rows in data.items() if name.lower() in SPLIT_NAMES
    }
    if not splits:
        raise UserError(
            f"{source}: no train, validation or test among its splits ({', '.join(data)}); choose another data set"
        )
    return _source_of_rows(splits, source, folders=downloads())


def _source_of_rows(splits: dict[str | None, "Dataset"], where: str, folders: Sequence[Path]) -> PixelSource:
    return PixelSource(
        {split: _split_of_rows(rows, f"{where}, {split or 'all rows'}", folders) for split, rows in splits.items()},
        256,
    )


def _split_of_rows(rows: "Dataset", where: str, folders: Sequence[Path]) -> SourceSplit:
    column = find_image_column(rows, where)
    labels = None
    if label_column := next((name for name in LABEL_COLUMNS if name in rows.column_names), None):
        column_alone: dict[str, Any] = rows.select_columns([label_column])[:]
        labels = np.array(column_alone[label_column])
    if others := [name for name in rows.column_names if name not in (column, label_column)]:
        note(f"{where}: columns not read: {', '.join(others)}")
    names = [f"row {index}" for index in range(len(rows))]
    return SourceSplit(ImageCells(undecoded(rows, column), column, folders), names, _told(labels, where))


def _told(labels: np.ndarray | None, where: str) -> np.ndarray | None:
    """Return the labels, or None if they are hidden, which test splits on the hub mark with -1."""
    if labels is None or (labels.dtype.kind == "i" and (labels == -1).all()):
        return None
    return checked_labels(labels, len(labels), where)
