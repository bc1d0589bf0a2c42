"""Data sets with an image column, read with `datasets` from the Hugging Face hub or from files in its format."""

import errno
import re
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from data_prep.columns import IMAGE_COLUMNS, find_column
from data_prep.images import ImageError, read_encoded
from data_prep.outside import OutsideImage, inside
from data_prep.packed import largest_unpacked, too_large
from data_prep.splits import SPLIT_NAMES
from vision_rnn.errors import UserError

if TYPE_CHECKING:
    from datasets import Dataset, DatasetDict

PREFIX = "hub:"
# Rows that are unpacked at once.
_ROWS = 256


def is_on_hub(source: str, format: str) -> bool:
    """Whether `source` is a hub data set: it is written `hub:owner/name`, or the format is `hub`.

    Raises:
        UserError: It is neither a hub data set nor an existing file or folder.
    """
    if source.startswith(PREFIX) or format == "hub":
        return True
    if not Path(source).exists():
        raise UserError(f"{source}: no such file or folder; check the path (a hub data set is written hub:owner/name)")
    return False


def load_hub(source: str) -> "DatasetDict":
    """Load all splits of a data set on the hub, `hub:owner/name` or `owner/name`.

    Raises:
        UserError: There is no such data set, no network, or it has no splits.
    """
    from datasets import DatasetDict, load_dataset

    name = source.removeprefix(PREFIX)
    try:
        data = load_dataset(name)
    # Connection failures, unknown names and rejected loading scripts have no closer common base class.
    except (OSError, ValueError, RuntimeError) as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise UserError(
            f"{PREFIX}{name}: cannot be loaded ({reason}); check the name, the network and the disk space"
        ) from error
    if not isinstance(data, DatasetDict):
        raise UserError(f"{PREFIX}{name}: has no splits; choose another data set")
    return data


def parquet_rows(paths: Sequence[Path], where: str) -> "Dataset":
    """Memory-map the rows of Parquet files with equal columns.

    `datasets` converts them to a temporary copy on disk.

    Raises:
        UserError: A file is corrupt or unpacks to far more than its size, the columns differ, or the temporary folder
            is full.
    """
    from datasets import Dataset
    from datasets.exceptions import DatasetsError

    for path in paths:
        _check_unpacked(path)

    # The copy stays mapped after its folder is gone, and so is deleted even if this process is killed.
    with tempfile.TemporaryDirectory(prefix="vision-rnn-", ignore_cleanup_errors=True) as cache:
        try:
            rows = Dataset.from_parquet(list(map(str, paths)), cache_dir=cache)
        except (OSError, ValueError, DatasetsError) as error:
            cause = error.__cause__ or error
            if isinstance(cause, OSError) and cause.errno == errno.ENOSPC:
                raise UserError(f"{cache}: the disk is full; free some space, or set TMPDIR") from error
            raise _invalid(where, cause) from error
    assert isinstance(rows, Dataset)
    return rows


def _check_unpacked(path: Path) -> None:
    """Check what a Parquet file unpacks to, batch by batch: its size, and that its text is UTF-8.

    Its metadata tell the size of compressed pages, but a dictionary may repeat a long value any number of times.

    Raises:
        UserError: It is corrupt, or unpacks to too much.
    """
    from pyarrow.parquet import ParquetFile

    packed = path.stat().st_size
    limit = largest_unpacked(packed)
    try:
        with ParquetFile(path) as file:
            groups = [file.metadata.row_group(index) for index in range(file.metadata.num_row_groups)]
            unpacked = sum(group.total_byte_size for group in groups)
            batches = file.iter_batches(batch_size=_ROWS) if unpacked <= limit else iter(())
            repeated = 0
            while repeated <= limit and (batch := next(batches, None)):
                repeated += batch.nbytes
                batch.validate(full=True)
    except (OSError, ValueError) as error:
        raise _invalid(str(path), error) from error
    if max(unpacked, repeated) > limit:
        raise too_large(path, packed, f"more than {limit / 1e9:.1f} GB", "use a smaller part of it")


def _invalid(where: str, reason: BaseException) -> UserError:
    described = " ".join(str(reason).split())
    return UserError(f"{where}: not valid Parquet with equal columns ({described}); download it again")


def split_of_file(path: Path, source: Path) -> str | None:
    """Return the split that a word such as `train` in the path of a file within its source names, or None."""
    inside = path.relative_to(source if source.is_dir() else source.parent)
    words = re.split(r"[^a-z]+", inside.as_posix().lower())
    return next((SPLIT_NAMES[word] for word in words if word in SPLIT_NAMES), None)


def find_image_column(rows: "Dataset", where: str) -> str:
    """Return the column of the encoded images: the only one, or the one with the most usual name.

    Such a column has the type of images, or contains bytes or objects with `bytes`, as other programs write them.

    Raises:
        UserError: There is no such column.
    """
    from datasets import Image

    columns = [column for column, feature in rows.features.items() if isinstance(feature, Image)]
    columns = columns or [column for column, feature in rows.features.items() if _is_bytes(feature)]
    return columns[0] if len(columns) == 1 else find_column(columns, IMAGE_COLUMNS, where)


def _is_bytes(feature: Any) -> bool:
    if isinstance(feature, dict):
        feature = feature.get("bytes")
    return getattr(feature, "dtype", None) in ("binary", "large_binary")


def undecoded(rows: "Dataset", image_column: str) -> "Dataset":
    """Return the rows with encoded images, as `encoded_image` expects them."""
    from datasets import Image

    return rows.cast_column(image_column, Image(decode=False))


def downloads() -> list[Path]:
    """Return the folders that hold what was downloaded from the hub."""
    from datasets import config
    from huggingface_hub.constants import HF_HUB_CACHE

    return [Path(config.HF_DATASETS_CACHE), Path(HF_HUB_CACHE)]


def encoded_image(cell: dict[str, Any] | None, folders: Sequence[Path]) -> bytes:
    """Return the encoded image of a cell; empty bytes for a cell without an image, which `load_image` rejects.

    Args:
        cell: The cell.
        folders: Folders whose files a cell may name instead, as those of the hub's folders of images do after a
            download: `downloads()`. A Parquet file could name any picture of this machine, and so may name none.

    Raises:
        ImageError: The cell names a file that cannot be read, or may not.
    """
    if cell is None or (cell["bytes"] is None and cell["path"] is None):
        return b""
    if cell["bytes"] is not None:
        return cell["bytes"]
    image = inside(Path(cell["path"]), folders, "captions")
    if not folders or isinstance(image, OutsideImage):
        raise ImageError(f"{cell['path']}: named by a cell that does not contain it; save the data with their images")
    return read_encoded(image)
