"""Where captions go: standard output, one file (JSON lines, CSV, text), or a text file beside each photo.

A record is what is kept of one photo, `{"image": PATH, "captions": [{"caption": TEXT, "log_probability": NATS}, ...]}`,
the best caption first. A file name that is not valid UTF-8 is written as the bytes that it is.
"""

import contextlib
import csv
import errno
import json
import os
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from vision_rnn.console import note, result
from vision_rnn.errors import UserError
from vision_rnn.files import atomic_path, check_not_existing

if TYPE_CHECKING:
    from captioning.captioner import Caption

Record = dict[str, Any]

CSV_COLUMNS = ("image", "rank", "caption", "log_probability")


class Output(ABC):
    """A place for captions."""

    def holds(self, image: Path) -> bool:
        """Whether an earlier run captioned this photo."""
        return False

    @abstractmethod
    def add(self, image: Path, captions: "Sequence[Caption]") -> None:
        """Take the captions of one photo, the best first."""

    @abstractmethod
    def finish(self) -> None:
        """All photos are done."""


class Lines(Output):
    """One line a caption on standard output, at once.

    Args:
        named: Whether the photo's path and a tab come before the caption.
    """

    def __init__(self, named: bool) -> None:
        self._named = named

    def add(self, image: Path, captions: "Sequence[Caption]") -> None:
        """Print the captions."""
        for caption in captions:
            result(f"{image}\t{caption.text}" if self._named else caption.text)

    def finish(self) -> None:
        """All is printed."""


class Document(Output):
    """One JSON document on standard output, when all is done: the list of the records."""

    def __init__(self) -> None:
        self._records: list[Record] = []

    def add(self, image: Path, captions: "Sequence[Caption]") -> None:
        """Keep the captions."""
        self._records.append(_record(image, captions))

    def finish(self) -> None:
        """Print the document."""
        result(json.dumps(self._records, indent=2, ensure_ascii=False))


class Sidecars(Output):
    """A text file beside each photo, `photo.txt` for `photo.jpg`, with one caption per line.

    Args:
        images: The photos that may come.
        keep: Text files that exist are kept, by not captioning their photos.
        overwrite: Text files that exist may be overwritten; this is counted.

    Raises:
        UserError: Two photos would share a text file, or one exists and may be neither kept nor overwritten.
    """

    def __init__(self, images: Sequence[Path], keep: bool, overwrite: bool) -> None:
        self._overwritten = 0
        if not keep:
            options = "" if overwrite else "--skip-existing to keep them, or --overwrite to replace them"
            check_not_existing(
                [image.with_suffix(".txt") for image in images if self.holds(image)], "text files", options
            )
        owners: dict[Path, Path] = {}
        for image in images:
            owner = owners.setdefault(image.with_suffix(".txt"), image)
            if owner != image:
                raise UserError(f"{image}: would share its text file with {owner}; rename one, or use -o FILE instead")

    def holds(self, image: Path) -> bool:
        """Whether the photo's text file exists and is not empty."""
        sidecar = image.with_suffix(".txt")
        return sidecar.exists() and sidecar.stat().st_size > 0

    def add(self, image: Path, captions: "Sequence[Caption]") -> None:
        """Write the photo's text file."""
        self._overwritten += self.holds(image)
        with atomic_path(image.with_suffix(".txt")) as staged:
            staged.write_text("".join(f"{caption.text}\n" for caption in captions), encoding="utf-8")

    def finish(self) -> None:
        """Say how many text files were overwritten."""
        if self._overwritten:
            note(f"{self._overwritten} text files were overwritten")


class RecordFile(Output):
    """One file of all captions, in the format that its suffix names.

    Records are appended to a journal beside the file, `FILE.part` (JSON lines), as they are made; at the end the file
    is written whole and the journal removed. So whatever stops a run, what it has finished is in the journal.

    Args:
        path: The file: `.jsonl`, `.csv` (a row a caption) or `.txt` (path, tab, caption).
        go_on: Keep what the file and the journal hold, and add to it; otherwise begin anew.

    Raises:
        UserError: The format is unknown, the place cannot be written, or the file holds something else.
    """

    def __init__(self, path: Path, go_on: bool) -> None:
        if path.suffix.lower() not in _FORMATS:
            raise UserError(f"{path}: not a format for captions; name a file that ends in {', '.join(_FORMATS)}")
        if path.is_dir():
            raise UserError(f"{path}: is a folder; name a file")
        self._path, self._journal = path, path.with_name(f"{path.name}.part")
        self._write, read = _FORMATS[path.suffix.lower()]
        self._records: dict[str, Record] = {}
        # An earlier journal is dropped only when there is something to put in its place.
        self._mode = "a" if go_on else "w"
        with _one_line(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            if go_on and self._journal.exists():
                _drop_incomplete_line(self._journal)
            for kept, reader in ((path, read), (self._journal, _read_jsonl)):
                if go_on and kept.exists():
                    self._records |= _kept(kept, reader)

    def holds(self, image: Path) -> bool:
        """Whether the file or the journal held the photo."""
        return str(image) in self._records

    def add(self, image: Path, captions: "Sequence[Caption]") -> None:
        """Append the captions to the journal."""
        record = self._records[str(image)] = _record(image, captions)
        with _one_line(self._journal), _open(self._journal, self._mode) as file:
            _write_jsonl([record], file)
        self._mode = "a"

    def finish(self) -> None:
        """Write the file and remove the journal, unless there is nothing to write."""
        if self._records:
            with atomic_path(self._path) as staged, _open(staged, "w") as file:
                self._write(self._records.values(), file)
            self._journal.unlink(missing_ok=True)


def choose_output(
    images: Sequence[Path], file: str | None, sidecar: bool, json: bool, skip_existing: bool, overwrite: bool
) -> Output:
    """Return the place that the options ask for.

    Args:
        images: The photos that may come.
        file: Path of a file of all captions.
        sidecar: Write a text file beside each photo.
        json: Print one JSON document.
        skip_existing: Keep what the file or the text files hold.
        overwrite: Overwrite text files that exist.

    Raises:
        UserError: Options exclude each other, or as `RecordFile` and `Sidecars` do.
    """
    chosen = [name for name, given in (("--output", file), ("--sidecar", sidecar), ("--json", json)) if given]
    if len(chosen) > 1:
        raise UserError(f"{chosen[1]}: cannot be combined with {chosen[0]}; choose one of them")
    if overwrite and (skip_existing or not sidecar):
        raise UserError("--overwrite: goes with --sidecar, and not with --skip-existing")
    if skip_existing and not (file or sidecar):
        raise UserError("--skip-existing: there is nothing to compare with; add -o FILE or --sidecar")
    if file:
        return RecordFile(Path(file), skip_existing)
    if sidecar:
        return Sidecars(images, skip_existing, overwrite)
    return Document() if json else Lines(named=len(images) > 1)


def _record(image: Path, captions: "Sequence[Caption]") -> Record:
    kept = [{"caption": caption.text, "log_probability": caption.log_probability} for caption in captions]
    return {"image": str(image), "captions": kept}


def _open(path: Path, mode: str) -> IO[str]:
    # Line ends as they are: the csv module brings its own, and a file name may hold any.
    return open(path, mode, encoding="utf-8", errors="surrogateescape", newline="\n")


@contextlib.contextmanager
def _one_line(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        fix = "free some space" if error.errno == errno.ENOSPC else "choose another path"
        raise UserError(f"{path}: cannot be written ({error.strerror}); {fix}") from error


def _drop_incomplete_line(path: Path) -> None:
    """Cut off what a killed run, or a full disk, left of its last line."""
    os.truncate(path, path.read_bytes().rfind(b"\n") + 1)


def _kept(path: Path, read: Callable[[IO[str]], Iterator[Record]]) -> dict[str, Record]:
    """Read what an earlier run wrote; the captions of a photo may come in several entries."""
    records: dict[str, Record] = {}
    entries = 0
    with _open(path, "r") as file:
        try:
            for entry in read(file):
                record = records.setdefault(entry["image"], {"image": entry["image"], "captions": []})
                record["captions"] += entry["captions"]
                entries += 1
        except (csv.Error, KeyError, TypeError, ValueError):
            raise UserError(
                f"{path}, entry {entries + 1}: not a photo's captions; omit --skip-existing to replace the file"
            ) from None
    return records


def _write_jsonl(records: Iterable[Record], file: IO[str]) -> None:
    file.writelines(json.dumps(record, ensure_ascii=False) + "\n" for record in records)


def _read_jsonl(file: IO[str]) -> Iterator[Record]:
    return map(json.loads, file)


def _write_csv(records: Iterable[Record], file: IO[str]) -> None:
    writer = csv.DictWriter(file, CSV_COLUMNS)
    writer.writeheader()
    for record in records:
        for rank, caption in enumerate(record["captions"], start=1):
            writer.writerow({"image": record["image"], "rank": rank, **caption})


def _read_csv(file: IO[str]) -> Iterator[Record]:
    for row in csv.DictReader(file):
        caption = {"caption": row["caption"], "log_probability": float(row["log_probability"])}
        yield {"image": row["image"], "captions": [caption]}


def _write_text(records: Iterable[Record], file: IO[str]) -> None:
    for record in records:
        file.writelines(f"{record['image']}\t{caption['caption']}\n" for caption in record["captions"])


def _read_text(file: IO[str]) -> Iterator[Record]:
    for line in file:
        image, caption = line.rstrip("\n").rsplit("\t", 1)
        yield {"image": image, "captions": [{"caption": caption}]}


_FORMATS = {
    ".jsonl": (_write_jsonl, _read_jsonl),
    ".csv": (_write_csv, _read_csv),
    ".txt": (_write_text, _read_text),
}
