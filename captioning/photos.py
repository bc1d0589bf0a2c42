"""Captioning many photos: which ones, listed meanwhile, batch by batch, into an output and into pictures."""

import itertools
import os
import re
import sys
import threading
import time
from collections import deque
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from queue import Queue
from typing import Any, Unpack

from PIL import Image

from captioning.attention_picture import attention_picture, reduced
from captioning.caption_generator import CaptionGenerator, CaptionOptions
from captioning.outputs import Output, Written
from data_prep.image_files import Listing, note_skipped, walk_images
from data_prep.images import ImageError, load_image
from vision_rnn.console import Progress, note, problem
from vision_rnn.errors import UserError
from vision_rnn.shard import Shard

# Fewer equal captions may be chance.
_SUSPICIOUS = 10
# How many photos are listed before the first is captioned: a refusal among these comes before anything is written.
_LISTED_FIRST = 1000
# How many wait at most, listed, for their captions, and how many lines of standard input: some 30 MB.
_WAITING_MOST = 50_000
# For how long the listing goes on at each photo that is read, so that it ends long before the captioning.
_SECONDS_OF_LISTING = 0.005


class Photos:
    """The photos to caption that sources name, each once, in order; they are listed while they are captioned.

    An iterator of portions, each of at least one photo. A portion must be used up before the next is asked for, which
    waits until there are more lines on standard input.

    Args:
        sources: Photos and folders; `-` stands for paths on standard input, one per line.
        recursive: Include the photos of subfolders.
        shard: Take the photos of this part alone.
        keep: Keep the paths of all photos in `found`; otherwise memory does not grow with their number.

    Attributes:
        found: All photos found so far, those with captions too, if they are kept.
        number_found: How many these are.
        skipped: How many of these are skipped, since they have captions.
        total: How many photos there are to caption, from the end of the listing on; None before.
        failures: How many sources hold no photo; each is named.

    Raises:
        UserError: There is no photo at all.
    """

    def __init__(self, sources: Sequence[str], recursive: bool, shard: Shard | None = None, keep: bool = False) -> None:
        self.found: list[Path] = []
        self.number_found, self.skipped, self.failures, self._listed = 0, 0, 0, 0
        # The photos by a hash, as there may be millions; not of a folder alone, where each is met once.
        self._seen: set[int] | None = None if len(sources) == 1 and sources[0] != "-" else set()
        self._shard, self._keeps = shard, keep
        self.total: int | None = None
        self._recursive = recursive
        self._problems: list[str] = []
        self._listings: list[Listing] = []
        self._all_known = False
        portions = _nonempty(map(self._photos_of, self._known(sources)))
        first = next(portions, None)
        if first is None:
            nothing = f"no photo is in part {shard.number}/{shard.shards} (--shard)" if shard else "nothing to caption"
            raise UserError(self._problems[0] if self._problems else f"{nothing}; name a photo or a folder")
        for text in self._problems:
            problem(text)
        self._portions = itertools.chain([first], portions)

    def __iter__(self) -> Iterator[Iterator[Path]]:
        """Return the portions that are left."""
        return self._portions

    def select(self, output: Output, skip_existing: bool) -> None:
        """Refuse photos that the output cannot take, by a UserError as they are listed.

        Args:
            output: The output.
            skip_existing: Skip the photos that it has captions of.
        """
        selected = (self._selected(portion, output, skip_existing) for portion in self._portions)
        self._portions = _nonempty(map(self._listed_ahead, selected))

    def complete(self) -> None:
        """List all photos now."""
        self._portions = _nonempty(iter([iter(list(itertools.chain.from_iterable(self._portions)))]))

    def is_empty(self) -> bool:
        """Whether no photo is left to caption."""
        first = next(self._portions, None)
        self._portions = itertools.chain([] if first is None else [first], self._portions)
        return first is None

    def note_skipped(self) -> None:
        """Print what was skipped, after the last photo."""
        if self.skipped:
            note(f"{self.skipped} of {self.number_found} photos have captions and are skipped")
        note_skipped(self._listings)

    def _known(self, sources: Sequence[str]) -> Iterator[list[str]]:
        """Yield the sources that are known at once: those given, up to `-`, and the lines that have come for it."""
        groups = [list(group) for _, group in itertools.groupby(sources, "-".__eq__)]
        for number, group in enumerate(groups, start=1):
            if group[0] != "-":
                self._all_known = number == len(groups)
                yield group
            else:
                for lines, is_last in _lines_of_stdin():
                    self._all_known = is_last and number == len(groups)
                    yield lines

    def _photos_of(self, sources: Iterable[str]) -> Iterator[Path]:
        for source in sources:
            try:
                if re.match(r"[a-z][a-z0-9+.-]+://", source, re.IGNORECASE):
                    raise UserError(
                        f"{source}: an address, and nothing is downloaded; save the photo and name the file"
                    )
                if Path(source).is_dir():
                    self._listings.append(Listing(Path(source)))
                    yield from filter(self._is_new, walk_images(self._listings[-1], self._recursive))
                elif self._is_new(Path(source)):
                    yield Path(source)
            except UserError as error:
                self.failures += 1
                if self.number_found:
                    problem(str(error))
                else:  # Without any photo, the first problem is the error of the command.
                    self._problems.append(str(error))

    def _is_new(self, path: Path) -> bool:
        if self._shard and not self._shard.holds(path):
            return False
        if self._seen is not None:
            if hash(path) in self._seen:
                return False
            self._seen.add(hash(path))
        if self._keeps:
            self.found.append(path)
        self.number_found += 1
        return True

    def _selected(self, paths: Iterator[Path], output: Output, skip_existing: bool) -> Iterator[Path]:
        for path in paths:
            output.check(path)
            if skip_existing and output.holds(path):
                self.skipped += 1
            else:
                yield path

    def _listed_ahead(self, paths: Iterator[Path]) -> Iterator[Path]:
        listed: deque[Path] = deque()
        until = time.monotonic()
        for path in paths:
            listed.append(path)
            self._listed += 1
            if len(listed) >= _WAITING_MOST or (len(listed) >= _LISTED_FIRST and time.monotonic() >= until):
                yield listed.popleft()
                until = time.monotonic() + _SECONDS_OF_LISTING
        if self._all_known:
            self.total = self._listed
        yield from listed


def picture_paths(images: Collection[Path], folders: Mapping[str, str | None]) -> dict[str, dict[Path, Path]]:
    """Return, for each kind of picture that is wanted, the path of each photo's: `STEM.png`, `STEM-2.png` and so on.

    Args:
        images: The photos.
        folders: For each kind of picture, by the option's name, its folder; None where it is not wanted.

    Raises:
        UserError: A picture would overwrite a photo or another picture.
    """
    pictures = {kind: _numbered(images, Path(folder)) for kind, folder in folders.items() if folder}
    taken = {path.resolve() for path in images} if pictures else set()
    for kind, paths in pictures.items():
        resolved = {path.resolve() for path in paths.values()}
        if overwritten := resolved & taken:
            raise UserError(f"--{kind}: would overwrite {min(overwritten)}; choose another folder")
        taken |= resolved
    return pictures


def check_photo_model(captioner: CaptionGenerator, pictures: Mapping[str, Any], min_confidence: float = 0.0) -> None:
    """Refuse a model that cannot caption photos, or that lacks what the wanted pictures show or a calibration.

    Raises:
        UserError: The model is a language model, lacks attention or gates, or has no confidence to compare.
    """
    if captioner.blind:
        raise UserError("--model: this is a language model, which takes no photo; use it with: captioning sample")
    if "attention" in pictures and not captioner.decoder_config.attends:
        raise UserError("--attention: this model has no attention; choose another model, or omit --attention")
    if "gates" in pictures and captioner.decoder_config.cell != "lstm":
        raise UserError("--gates: this model is not an LSTM and has no gates; choose another model, or omit --gates")
    if min_confidence and not captioner.is_calibrated:
        raise UserError(
            "--min-confidence: this model is not calibrated; run: captioning calibrate MODEL --data DIR -o FOLDER, "
            "with its validation images, or omit the option"
        )


def caption_photos(
    captioner: CaptionGenerator,
    photos: Photos,
    output: Output,
    *,
    keep: int = 1,
    prepend: str = "",
    append: str = "",
    min_confidence: float = 0.0,
    pictures: Mapping[str, Mapping[Path, Path]] | None = None,
    **options: Unpack[CaptionOptions],
) -> int:
    """Caption photos, batch by batch, into `output`; return how many could not be read, each of which is named.

    Args:
        captioner: The model.
        photos: The photos.
        output: Takes the captions of each photo.
        keep: How many captions of each photo it takes.
        prepend: Text written before every caption, with a space.
        append: Text written after every caption, with a space unless it starts with punctuation.
        min_confidence: Photos whose best caption has less are left without a caption; a note counts them.
        pictures: From `picture_paths`.
        options: See `CaptionOptions`.
    """
    pictures = pictures or {}
    equal = EqualCaptions()
    unread = uncertain = 0
    # Photos in order: those that were read, each as small as pictures show it, if they are wanted, and None for those
    # that cannot be read.
    waiting: deque[tuple[Path, Image.Image | None] | None] = deque()
    with Progress(photos.total, "writing captions", "photo") as progress:
        for portion in photos:
            for best in captioner.stream(_read(portion, waiting, bool(pictures)), **options):
                while (read := waiting.popleft()) is None:
                    unread += 1
                    progress.update()
                path, thumbnail = read
                progress.update()
                if photos.total is not None:
                    progress.expect(photos.total)
                if (best[0].confidence or 0.0) < min_confidence:
                    uncertain += 1
                    continue
                if thumbnail and "attention" in pictures:
                    attention_picture(thumbnail, best[0], pictures["attention"][path])
                if thumbnail and "gates" in pictures and best[0].words:
                    from captioning.studies.gates import gates_picture

                    gates = captioner.open_gates(load_image(path), best[0].words)
                    gates_picture(thumbnail, best[0], gates, pictures["gates"][path])
                output.add(
                    path,
                    [
                        Written(framed(each.text, prepend, append), each.log_probability, each.confidence)
                        for each in best[:keep]
                    ],
                )
                equal.add(best[0].text)
            unread += len(waiting)
            progress.update(len(waiting))
            waiting.clear()
    equal.note()
    if uncertain:
        note(
            f"{uncertain} of {uncertain + equal.number} photos are left without a caption, for a confidence of less "
            f"than {min_confidence:g} (--min-confidence)"
        )
    return unread


def framed(text: str, prepend: str, append: str) -> str:
    """Return a caption between two texts."""
    before = f"{prepend} " if prepend and not prepend[-1].isspace() else prepend
    after = f" {append}" if append and append[0].isalnum() else append
    return f"{before}{text}{after}"


class EqualCaptions:
    """Remarks on many images that all got the same caption.

    Attributes:
        number: How many captions there were.
    """

    def __init__(self) -> None:
        self.number, self._first, self._are_equal = 0, "", True

    def add(self, text: str) -> None:
        """Take the caption of one more image."""
        self._first = text if not self.number else self._first
        self._are_equal &= text == self._first
        self.number += 1

    def note(self) -> None:
        """Print the remark, after the last image."""
        if self.number >= _SUSPICIOUS and self._are_equal:
            note(f"all {self.number} images got the same caption; is the model trained, and are the images intact?")


def _nonempty(portions: Iterable[Iterator[Path]]) -> Iterator[Iterator[Path]]:
    for portion in portions:
        for first in portion:
            yield itertools.chain([first], portion)
            break


def _lines_of_stdin() -> Iterator[tuple[list[str], bool]]:
    """Yield the lines of standard input that have come since the last time, at least one, and whether it has ended.

    Another thread reads them, so that what writes them need not wait for the captions, unless it is far ahead, and the
    end is known early.
    """
    if sys.stdin is None:
        raise UserError("-: standard input is closed; name photos or folders instead")
    lines: Queue[bytes | OSError | None] = Queue(_WAITING_MOST)

    def read() -> None:
        try:
            with open(sys.stdin.fileno(), "rb", closefd=False) as file:
                for line in file:
                    lines.put(line)
            lines.put(None)
        except OSError as error:
            lines.put(error)

    # A daemon, since nothing can end its wait for a line when the user interrupts.
    threading.Thread(target=read, daemon=True).start()
    come: list[bytes] = []
    while True:
        line = lines.get()
        if isinstance(line, OSError):
            raise UserError(f"-: standard input cannot be read ({line.strerror}); name photos or folders instead")
        if line is not None and line.strip():
            come.append(line)
        if line is None or (come and (lines.empty() or len(come) >= _WAITING_MOST)):
            yield [os.fsdecode(each.rstrip(b"\r\n")) for each in come], line is None
            come = []
        if line is None:
            return


def _numbered(images: Iterable[Path], folder: Path) -> dict[Path, Path]:
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
    paths: Iterable[Path], waiting: deque[tuple[Path, Image.Image | None] | None], keep: bool
) -> Iterator[Image.Image]:
    """Yield the photos that can be read, one at a time, after adding them to `waiting`; name the others.

    With `keep`, they wait together with a reduced copy.
    """
    for path in paths:
        try:
            photo = load_image(path)
        except ImageError as error:
            problem(str(error))
            waiting.append(None)
            continue
        waiting.append((path, reduced(photo) if keep else None))
        yield photo
