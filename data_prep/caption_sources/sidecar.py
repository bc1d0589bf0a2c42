"""A folder of images, each beside a text file of the same name with one caption per line."""

from collections.abc import Iterator
from pathlib import Path

from data_prep.caption_sources.caption_files import read_lines
from data_prep.caption_sources.record import CaptionRecord
from data_prep.images import find_images
from data_prep.splits import SPLIT_NAMES
from vision_rnn.errors import UserError


def share_with_text(folder: Path) -> float:
    """Share of the images in and below a folder that have a text file, 0..1; 0 if there are no images."""
    try:
        images = find_images(folder, recursive=True)
    except UserError:
        return 0.0
    return sum(image.with_suffix(".txt").is_file() for image in images) / len(images)


def read_sidecar(source: Path, image_root: Path | None) -> Iterator[CaptionRecord]:
    """Yield one record per image; subfolders `train`, `validation` and `test` determine the splits."""
    if image_root is not None:
        raise UserError(f"{source}: sidecar captions are beside their images; omit --image-root")
    for image in find_images(source, recursive=True):
        top, *rest = image.relative_to(source).parts
        split = SPLIT_NAMES.get(top.lower()) if rest else None
        name = Path(*rest) if split else image.relative_to(source)
        sidecar = image.with_suffix(".txt")
        captions = [line for _, line in read_lines(sidecar)] if sidecar.is_file() else []
        yield CaptionRecord(name.as_posix(), image, captions, split, str(sidecar))
