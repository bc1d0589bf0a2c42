"""Captioning many photos: which ones, batch by batch, into an output and into pictures."""

import os
import re
import sys
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Unpack

from PIL import Image

from captioning.attention_picture import attention_picture, reduced
from captioning.caption_generator import CaptionGenerator, CaptionOptions
from captioning.outputs import Output, Written
from data_prep.image_files import list_images, note_skipped
from data_prep.images import ImageError, load_image
from vision_rnn.console import Progress, note, problem
from vision_rnn.errors import UserError

# Fewer equal captions may be chance.
_SUSPICIOUS = 10


def find_photos(sources: Sequence[str], recursive: bool) -> tuple[list[Path], int]:
    """Return the photos that the sources name, each once, and the number of sources that hold none.

    A note is printed on what is skipped in the folders.

    Args:
        sources: Photos and folders; `-` stands for paths on standard input, one per line.
        recursive: Include the photos of subfolders.

    Raises:
        UserError: There is no photo at all.
    """
    images: dict[Path, None] = {}
    problems, listings = [], []
    for source in _with_lines_of_stdin(sources):
        try:
            if re.match(r"[a-z][a-z0-9+.-]+://", source, re.IGNORECASE):
                problems.append(f"{source}: an address, and nothing is downloaded; save the photo and name the file")
            elif Path(source).is_dir():
                listings.append(list_images(source, recursive))
                images |= dict.fromkeys(listings[-1].images)
            else:
                images[Path(source)] = None
        except UserError as error:
            problems.append(str(error))
    if not images:
        raise UserError(problems[0] if problems else "nothing to caption; name a photo or a folder")
    for text in problems:
        problem(text)
    note_skipped(listings)
    return list(images), len(problems)


def picture_paths(images: Sequence[Path], folders: Mapping[str, str | None]) -> dict[str, dict[Path, Path]]:
    """Return, for each kind of picture that is wanted, the path of each photo's: `STEM.png`, `STEM-2.png` and so on.

    Args:
        images: The photos.
        folders: For each kind of picture, by the option's name, its folder; None where it is not wanted.

    Raises:
        UserError: A picture would overwrite a photo or another picture.
    """
    pictures = {kind: _numbered(images, Path(folder)) for kind, folder in folders.items() if folder}
    taken = {path.resolve() for path in images}
    for kind, paths in pictures.items():
        resolved = {path.resolve() for path in paths.values()}
        if overwritten := resolved & taken:
            raise UserError(f"--{kind}: would overwrite {min(overwritten)}; choose another folder")
        taken |= resolved
    return pictures


def check_photo_model(captioner: CaptionGenerator, pictures: Mapping[str, Any]) -> None:
    """Refuse a model that cannot caption photos, or that lacks what the wanted pictures show.

    Raises:
        UserError: The model is a language model, or lacks attention or gates.
    """
    if captioner.blind:
        raise UserError("--model: this is a language model, which takes no photo; use it with: captioning sample")
    if "attention" in pictures and not captioner.decoder_config.attends:
        raise UserError("--attention: this model has no attention; choose another model, or omit --attention")
    if "gates" in pictures and captioner.decoder_config.cell != "lstm":
        raise UserError("--gates: this model is not an LSTM and has no gates; choose another model, or omit --gates")


def caption_photos(
    captioner: CaptionGenerator,
    images: Sequence[Path],
    output: Output,
    *,
    keep: int = 1,
    prepend: str = "",
    append: str = "",
    pictures: Mapping[str, Mapping[Path, Path]] | None = None,
    **options: Unpack[CaptionOptions],
) -> int:
    """Caption photos, batch by batch, into `output`; return how many could not be read, each of which is named.

    Args:
        captioner: The model.
        images: The photos.
        output: Takes the captions of each photo.
        keep: How many captions of each photo it takes.
        prepend: Text written before every caption, with a space.
        append: Text written after every caption, with a space unless it starts with punctuation.
        pictures: From `picture_paths`.
        options: See `CaptionOptions`.
    """
    pictures = pictures or {}
    texts: list[str] = []
    with Progress(len(images), "writing captions", "photo") as progress:
        # Photos that were read and wait for their captions, each as small as pictures show it.
        waiting: deque[tuple[Path, Image.Image]] = deque()
        for best in captioner.stream(_read(images, waiting, progress), **options):
            path, thumbnail = waiting.popleft()
            if "attention" in pictures:
                attention_picture(thumbnail, best[0], pictures["attention"][path])
            if "gates" in pictures and best[0].words:
                from captioning.studies.gates import gates_picture

                gates = captioner.open_gates(load_image(path), best[0].words)
                gates_picture(thumbnail, best[0], gates, pictures["gates"][path])
            output.add(
                path,
                [Written(framed(caption.text, prepend, append), caption.log_probability) for caption in best[:keep]],
            )
            texts.append(best[0].text)
            progress.update()
    note_if_all_equal(texts)
    return len(images) - len(texts)


def framed(text: str, prepend: str, append: str) -> str:
    """Return a caption between two texts."""
    before = f"{prepend} " if prepend and not prepend[-1].isspace() else prepend
    after = f" {append}" if append and append[0].isalnum() else append
    return f"{before}{text}{after}"


def note_if_all_equal(texts: Sequence[str]) -> None:
    """Remark on many images that got the same caption."""
    if len(texts) >= _SUSPICIOUS and len(set(texts)) == 1:
        note(f"all {len(texts)} images got the same caption; is the model trained, and are the images intact?")


def _with_lines_of_stdin(sources: Sequence[str]) -> Iterator[str]:
    for source in sources:
        if source == "-":
            yield from (os.fsdecode(line) for line in sys.stdin.buffer.read().splitlines() if line.strip())
        else:
            yield source


def _numbered(images: Sequence[Path], folder: Path) -> dict[Path, Path]:
    paths: dict[Path, Path] = {}
    taken: set[str] = set()
    for image in images:
        name, number = image.stem, 1
        while name in taken:
            number += 1
            name = f"{image.stem}-{number}"
        taken.add(name)
        paths[image] = folder / f"{name}.png"
    return paths


def _read(
    images: Sequence[Path], waiting: deque[tuple[Path, Image.Image]], progress: Progress
) -> Iterator[Image.Image]:
    """Yield the photos that can be read, one at a time, after adding them to `waiting`; name the others."""
    for path in images:
        try:
            photo = load_image(path)
        except ImageError as error:
            problem(str(error))
            progress.update()
            continue
        waiting.append((path, reduced(photo)))
        yield photo
