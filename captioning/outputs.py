"""Outputs for captions: standard output, one file (JSON lines, CSV or text), or a text file beside each photo.

A record contains the captions of one photo, best first:
`{"image": PATH, "captions": [{"caption": TEXT, "log_probability": NATS, "confidence": PROBABILITY}, ...]}`,
the confidence only of a calibrated model.
File names that are not valid UTF-8 are written with their original bytes.
"""

import contextlib
import csv
import json
import os
import re
import sys
from abc import ABC, abstractmethod
from collections.abc import Callable, Container, Iterable, Iterator, Sequence
from pathlib import Path
from typing import IO, Any, BinaryIO, NamedTuple

from data_prep.image_files import PHOTO_SUFFIXES
from vision_rnn.console import note, result
from vision_rnn.errors import UserError
from vision_rnn.files import atomic_path, check_no_device, unwritable
from vision_rnn.locks import InUseError, remove_locked, take_lock

Record = dict[str, Any]

_SUFFIX = ".txt"

CSV_COLUMNS = ("image", "rank", "caption", "log_probability", "confidence")


class Written(NamedTuple):
    """A caption as it is written.

    Attributes:
        text: The sentence.
        log_probability: Natural log-probability of its words under the model.
        confidence: Probability that it is a good one; None if the model was not calibrated.
    """

    text: str
    log_probability: float
    confidence: float | None = None


class Output(ABC):
    """An output for captions."""

    def holds(self, image: Path) -> bool:
        """Whether an earlier run captioned this photo."""
        return False

    def check(self, image: Path) -> None:
        """Refuse a photo, before it is captioned, whose captions cannot be written.

        Raises:
            UserError: It is such a photo.
        """
        return

    @abstractmethod
    def add(self, image: Path, captions: Sequence[Written]) -> None:
        """Add the captions of one photo, best first."""

    @abstractmethod
    def finish(self) -> None:
        """Complete the output after the last photo."""

    def close(self) -> None:
        """Release what a run holds, whether it is finished or not."""
        return


class Lines(Output):
    """Standard output with one line per caption, printed immediately.

    Args:
        named: Print the photo's path and a tab before each caption.
    """

    def __init__(self, named: bool) -> None:
        self._named = named

    def add(self, image: Path, captions: Sequence[Written]) -> None:
        """Print the captions."""
        for caption in captions:
            result(f"{image}\t{caption.text}" if self._named else caption.text)

    def finish(self) -> None:
        """Do nothing: all captions are already printed."""


class Document(Output):
    """Standard output with one JSON document, the list of all records, printed at the end."""

    def __init__(self) -> None:
        self._records: list[Record] = []

    def add(self, image: Path, captions: Sequence[Written]) -> None:
        """Keep the captions."""
        self._records.append(_record(image, captions))

    def finish(self) -> None:
        """Print the document."""
        result(json.dumps(self._records, indent=2, ensure_ascii=False))


class Sidecars(Output):
    """A text file beside each photo, `photo.txt` for `photo.jpg`, with one caption per line.

    Args:
        suffix: Suffix of the text files, from its dot on.
        keep: Allow existing text files; the caller skips their photos.
        overwrite: Overwrite existing text files, and count them.

    Raises:
        UserError: The suffix is none or that of an image.
    """

    def __init__(self, suffix: str, keep: bool, overwrite: bool) -> None:
        if not re.fullmatch(r"\.\w[\w.-]*", suffix) or suffix.lower() in PHOTO_SUFFIXES:
            raise UserError(f"--extension {suffix}: not the suffix of a text file; give one such as .txt or .caption")
        self._suffix, self._may_exist, self._overwritten = suffix, keep or overwrite, 0
        # The suffix of the photo that each text file belongs to; the files by a hash, as there may be millions.
        self._suffixes: dict[int, str] = {}

    def check(self, image: Path) -> None:
        """Refuse a photo whose text file is that of another photo, or exists without `keep` or `overwrite`."""
        sidecar = self._text_file(image)
        owner = image.with_suffix(self._suffixes.setdefault(hash(sidecar), sys.intern(image.suffix)))
        if owner != image:
            raise UserError(f"{image}: would share its text file with {owner}; rename one, or use -o FILE instead")
        if not self._may_exist and sidecar.exists():
            raise UserError(
                f"{sidecar}: exists; add --skip-existing to keep such files, or --overwrite to replace them"
            )

    def holds(self, image: Path) -> bool:
        """Whether the photo's text file exists and is not empty."""
        sidecar = self._text_file(image)
        return sidecar.exists() and sidecar.stat().st_size > 0

    def add(self, image: Path, captions: Sequence[Written]) -> None:
        """Write the photo's text file."""
        self._overwritten += self.holds(image)
        with atomic_path(self._text_file(image)) as staged:
            staged.write_text("".join(f"{caption.text}\n" for caption in captions), encoding="utf-8")

    def finish(self) -> None:
        """Print how many text files were overwritten."""
        if self._overwritten:
            note(f"{self._overwritten} text files were overwritten")

    def _text_file(self, image: Path) -> Path:
        return image.with_suffix(self._suffix)


class RecordFile(Output):
    """One file with all captions; its suffix selects the format.

    Each record is immediately appended to a journal beside the file, `FILE.part` (JSON lines). At the end the complete
    file is written and the journal is removed. If a run stops early, the journal contains all finished photos. A run
    keeps the journal locked, so that no other one writes the file meanwhile. Memory holds no records.

    Args:
        path: Path of the file: `.jsonl`, `.csv` (one row per caption) or `.txt` (path, tab, caption).
        go_on: Keep the records of the file and the journal, and add to them; otherwise start again.

    Raises:
        UserError: The format is unknown, the file cannot be written, contains something else, or (`InUseError`) is
            written by another process.
    """

    def __init__(self, path: Path, go_on: bool) -> None:
        if path.suffix.lower() not in _FORMATS:
            raise UserError(f"{path}: unknown format for captions; end the file name in {', '.join(_FORMATS)}")
        if path.is_dir():
            raise UserError(f"{path}: is a folder; name a file")
        self._path, self._journal = path, path.with_name(f"{path.name}.part")
        self._write, self._read = _FORMATS[path.suffix.lower()]
        self._goes_on, self._is_empty = go_on, True
        # The photos of the file and of the journal if the run goes on, by a hash, as there may be millions.
        self._in_file: set[int] = set()
        self._in_journal: set[int] = set()
        # An earlier journal is kept until the first new record replaces it.
        self._is_kept = go_on
        with _one_line(self._journal):
            path.parent.mkdir(parents=True, exist_ok=True)
            lock = take_lock(self._journal)
        if lock is None:
            raise InUseError(path)
        self._file = lock.file
        try:
            if go_on:
                self._find_held()
        except BaseException:
            self.close()
            raise

    def _find_held(self) -> None:
        """Find the photos of an earlier run."""
        with _one_line(self._path):
            check_no_device(self._path)
            _drop_incomplete_line(self._file)
            if self._path.exists():
                self._in_file = {hash(record["image"]) for record in _records(self._path, self._read)}
            self._in_journal = {hash(record["image"]) for record in _records(self._journal, _read_jsonl)}
        self._is_empty = not (self._in_file or self._in_journal)

    def holds(self, image: Path) -> bool:
        """Whether the file or the journal contained the photo."""
        return hash(str(image)) in self._in_file or hash(str(image)) in self._in_journal

    def add(self, image: Path, captions: Sequence[Written]) -> None:
        """Append the captions to the journal."""
        if self._goes_on:
            self._in_journal.add(hash(str(image)))
        self._is_empty = False
        with _one_line(self._journal):
            if not self._is_kept:
                self._file.truncate(0)
            self._is_kept = True
            self._file.seek(0, os.SEEK_END)
            left = _json_line(_record(image, captions)).encode("utf-8", "surrogateescape")
            while left:  # An unbuffered file may take a part.
                left = left[self._file.write(left) :]

    def finish(self) -> None:
        """Write the file and remove the journal, unless there is nothing to write."""
        if not self._is_empty:
            with atomic_path(self._path) as staged, _open(staged, "w") as file:
                self._write(self._all_records(), file)
            remove_locked(self._file, self._journal)

    def _all_records(self) -> Iterator[Record]:
        """Yield the records of the file, if it is kept, and those that only the journal has.

        Where the journal has newer captions of a photo of the file, they take its place.
        """
        replaced = self._in_file & self._in_journal
        if self._in_file:
            with open(self._journal, "rb") as journal:
                places = _places(journal, replaced)
                for record in _records(self._path, self._read):
                    key = hash(record["image"])
                    if key not in replaced:
                        yield record
                    elif key in places:
                        journal.seek(places.pop(key))
                        yield _parsed(journal.readline())
        yield from (record for record in _records(self._journal, _read_jsonl) if hash(record["image"]) not in replaced)

    def close(self) -> None:
        """Unlock the journal, and remove it if it is empty."""
        if self._file.closed:
            return
        if os.fstat(self._file.fileno()).st_size:
            self._file.close()
        else:
            remove_locked(self._file, self._journal)


def choose_output(
    named: bool,
    file: str | None,
    sidecar: bool,
    extension: str | None,
    json: bool,
    skip_existing: bool,
    overwrite: bool,
) -> Output:
    """Return the output that the options select.

    Args:
        named: Print the photo's path before each caption, where captions are printed as lines.
        file: Path of one file for all captions.
        sidecar: Write a text file beside each photo.
        extension: Suffix of these text files (default: .txt).
        json: Print one JSON document.
        skip_existing: Keep the captions of an existing file or of existing text files.
        overwrite: Overwrite existing text files.

    Raises:
        UserError: Options exclude each other, or as for `RecordFile` and `Sidecars`.
    """
    chosen = [name for name, given in (("--output", file), ("--sidecar", sidecar), ("--json", json)) if given]
    if len(chosen) > 1:
        raise UserError(f"{chosen[1]}: cannot be combined with {chosen[0]}; choose one of them")
    if extension and not sidecar:
        raise UserError(f"--extension {extension}: only valid with --sidecar; add it, or omit --extension")
    if overwrite and (skip_existing or not sidecar):
        raise UserError("--overwrite: only valid with --sidecar and without --skip-existing; omit one of the options")
    if skip_existing and not (file or sidecar):
        raise UserError("--skip-existing: no output to continue; add -o FILE or --sidecar")
    if file:
        return RecordFile(Path(file), skip_existing)
    if sidecar:
        return Sidecars(extension or _SUFFIX, skip_existing, overwrite)
    return Document() if json else Lines(named)


def _record(image: Path, captions: Sequence[Written]) -> Record:
    kept = []
    for caption in captions:
        kept.append({"caption": caption.text, "log_probability": caption.log_probability})
        if caption.confidence is not None:
            kept[-1]["confidence"] = caption.confidence
    return {"image": str(image), "captions": kept}


def _open(path: Path, mode: str) -> IO[str]:
    # No translation of line ends: the csv module writes its own, and file names may contain any.
    return open(path, mode, encoding="utf-8", errors="surrogateescape", newline="\n")


@contextlib.contextmanager
def _one_line(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise unwritable(path, error) from error


def _drop_incomplete_line(file: BinaryIO) -> None:
    """Remove an incomplete last line, left by a killed run or a full disk."""
    file.truncate(file.read().rfind(b"\n") + 1)


def _places(journal: BinaryIO, keys: Container[int]) -> dict[int, int]:
    """Return where the lines of some photos begin, by the hashes of their names."""
    found, place = {}, 0
    for line in journal if keys else ():
        key = hash(_parsed(line)["image"])
        if key in keys:
            found[key] = place
        place += len(line)
    return found


def _parsed(line: bytes) -> Record:
    return json.loads(line.decode("utf-8", "surrogateescape"))


def _records(path: Path, read: Callable[[IO[str]], Iterator[Record]]) -> Iterator[Record]:
    """Read the records of an earlier run; the captions of a photo may be spread over several entries in succession."""
    record: Record | None = None
    entries = 0
    with _open(path, "r") as file:
        try:
            for entry in read(file):
                image, captions = entry["image"], [*entry["captions"]]
                if record and record["image"] == image:
                    record["captions"] += captions
                else:
                    if record:
                        yield record
                    record = {"image": image, "captions": captions}
                entries += 1
        except (csv.Error, KeyError, RecursionError, TypeError, ValueError):
            raise UserError(
                f"{path}, entry {entries + 1}: not the captions of a photo; omit --skip-existing to overwrite the file"
            ) from None
    if record:
        yield record


def _write_jsonl(records: Iterable[Record], file: IO[str]) -> None:
    file.writelines(map(_json_line, records))


def _json_line(record: Record) -> str:
    return json.dumps(record, ensure_ascii=False) + "\n"


def _read_jsonl(file: IO[str]) -> Iterator[Record]:
    for line in file:
        record = json.loads(line)
        if "\\u" in line:
            _json_line(record).encode("utf-8", "surrogateescape")  # Half of a character is an error here already.
        yield record


def _write_csv(records: Iterable[Record], file: IO[str]) -> None:
    writer = csv.DictWriter(file, CSV_COLUMNS)
    writer.writeheader()
    for record in records:
        name = _without_formula(record["image"], "./")
        for rank, caption in enumerate(record["captions"], start=1):
            text = _without_formula(caption["caption"], "'")
            writer.writerow({"image": name, "rank": rank, **caption, "caption": text})


def _read_csv(file: IO[str]) -> Iterator[Record]:
    for row in csv.DictReader(file):
        caption = {"caption": _with_formula(row["caption"], "'"), "log_probability": float(row["log_probability"])}
        if row.get("confidence"):  # Earlier versions had no such column.
            caption["confidence"] = float(row["confidence"])
        yield {"image": _with_formula(row["image"], "./"), "captions": [caption]}


def _without_formula(cell: str, mark: str) -> str:
    """Return a cell that spreadsheets take for text: one that they would compute gets a mark in front.

    A cell that could have got its marks so gets one more, so that `_with_formula` is the inverse.
    """
    return mark + cell if re.match(rf"({re.escape(mark)})*[=+\-@\t\r]", cell) else cell


def _with_formula(cell: str, mark: str) -> str:
    return cell.removeprefix(mark) if re.match(rf"({re.escape(mark)})+[=+\-@\t\r]", cell) else cell


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
