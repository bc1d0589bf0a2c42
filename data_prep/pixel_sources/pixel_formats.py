"""The pixel formats by name, and the detection of the format of a source."""

from pathlib import Path

from data_prep.hub import is_on_hub
from data_prep.image_files import PHOTO_SUFFIXES
from data_prep.pixel_sources import folder, idx, npz, parquet
from data_prep.pixel_sources.source import PixelSource
from vision_rnn.errors import UserError

READERS = {
    "idx": idx.read_idx,
    "npz": npz.read_npz,
    "folder": folder.read_folder,
    "parquet": parquet.read_parquet,
}
FORMATS = ("auto", *READERS, "hub")


def resolve_format(source: str, format: str) -> str:
    """Return the format of `source`: the given format or, for `auto`, the detected one.

    Hub data sets are not detected: they are written `hub:owner/name`, or the format is `hub`.

    Raises:
        UserError: There is no such source, or its format is not recognised.
    """
    if is_on_hub(source, format):
        return "hub"
    if format != "auto":
        return format
    found = recognise(Path(source))
    if found is None:
        raise UserError(f"{source}: the format is not recognised; name it with --format {'|'.join(FORMATS[1:])}")
    return found


def read_pixels(source: str, format: str, allow_outside: bool = False) -> PixelSource:
    """Read a source in a format that is not `auto`; image files are opened only on request.

    Args:
        source: File, folder or `hub:owner/name`.
        format: Its format.
        allow_outside: Whether links in a folder of images may lead to images outside the folder.

    Raises:
        UserError: The source does not have that format; the message names the file.
    """
    if format == "folder":
        return folder.read_folder(Path(source), allow_outside)
    return parquet.read_hub(source) if format == "hub" else READERS[format](Path(source))


def recognise(source: Path) -> str | None:
    """Return the format of a file or folder, or None if it is not recognised.

    Raises:
        UserError: There is no such source, or it holds several data sets.
    """
    if idx.find_image_files(source):
        return "idx"
    found = _recognise_folder(source) if source.is_dir() else source.suffix.lower().removeprefix(".")
    return found if found in ("npz", "parquet", "folder") else None


def _recognise_folder(folder: Path) -> str | None:
    if any(folder.glob("*.npz")):
        return "npz"
    suffixes = {path.suffix.lower() for path in folder.rglob("*")}
    if ".parquet" in suffixes:
        return "parquet"
    return "folder" if suffixes & PHOTO_SUFFIXES else None
