"""A folder of images, each with a text file of the same name beside it, one caption a line."""

from collections.abc import Iterator
from pathlib import Path

from data_prep.caption_sources.caption_files import read_lines
from data_prep.caption_sources.record import SPLIT_NAMES, CaptionRecord
from data_prep.errors import UserError
from data_prep.images import find_images


def read_sidecar(source: Path, image_root: Path | None) -> Iterator[CaptionRecord]:
    """Yield one record an image; subfolders `train`, `validation` and `test` give the splits."""
    if image_root is not None:
        raise UserError(f"{source}: sidecar captions lie beside their images; leave --image-root away")
    for image in find_images(source, recursive=True):
        top, *rest = image.relative_to(source).parts
        split = SPLIT_NAMES.get(top.lower()) if rest else None
        name = Path(*rest) if split else image.relative_to(source)
        sidecar = image.with_suffix(".txt")
        captions = [line for _, line in read_lines(sidecar)] if sidecar.is_file() else []
        yield CaptionRecord(name.as_posix(), image, captions, split, str(sidecar))
