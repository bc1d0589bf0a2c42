"""What a command says: results on standard output; notes, problems and the progress of long work on standard error."""

import contextlib
import re
import sys
import time
from collections.abc import Iterator
from contextvars import ContextVar
from dataclasses import dataclass, replace
from typing import Self

from tqdm import tqdm

# Control characters, ends of lines and paragraphs, and what changes the direction of text.
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069]")
# Where standard error is no terminal, a line of progress comes this often.
SECONDS_BETWEEN_LINES = 30.0


@dataclass(frozen=True)
class _Speaker:
    """Who speaks, whether only problems are worth saying, and whether notes are."""

    name: str = "vision-rnn"
    quiet: bool = False
    notes: bool = True


_SPEAKER = ContextVar("speaker", default=_Speaker())


@contextlib.contextmanager
def speaking_as(name: str, quiet: bool = False) -> Iterator[None]:
    """Begin every line with `name` within the block; with `quiet`, print problems alone."""
    token = _SPEAKER.set(_Speaker(name, quiet))
    try:
        yield
    finally:
        _SPEAKER.reset(token)


def fall_silent() -> None:
    """From now on, print problems alone, as with `--quiet`."""
    _SPEAKER.set(replace(_SPEAKER.get(), quiet=True))


@contextlib.contextmanager
def without_notes() -> Iterator[None]:
    """Print no notes within the block, which would repeat earlier ones; problems and progress are printed."""
    token = _SPEAKER.set(replace(_SPEAKER.get(), notes=False))
    try:
        yield
    finally:
        _SPEAKER.reset(token)


def note(text: str) -> None:
    """Print a line that is good to know; not with `--quiet`."""
    speaker = _SPEAKER.get()
    if speaker.notes and not speaker.quiet:
        problem(text)


def problem(text: str) -> None:
    """Print a line about something that failed, such as an input that was skipped.

    Characters that a file's name or content may have to act on the terminal, or to look like more than one line, are
    shown as escapes.
    """
    text = _CONTROL.sub(lambda match: match[0].encode("unicode_escape").decode(), text)
    tqdm.write(f"{_SPEAKER.get().name}: {text}", file=sys.stderr)


def result(text: str) -> None:
    """Print a result above any progress bar, and at once: a reader of the pipe need not wait.

    A file name that is not valid UTF-8 is printed as the bytes that it is.
    """
    with tqdm.external_write_mode(sys.stdout):
        sys.stdout.buffer.write(text.encode("utf-8", "surrogateescape") + b"\n")
        sys.stdout.buffer.flush()


class Progress:
    """The progress of long work: a bar on a terminal, elsewhere a line every so often, both with rate and time left.

    Args:
        total: How much there is to do; None, with which no time left is shown, until it is known.
        description: What is being done.
        unit: What is counted, in the singular. A single one shows no progress.
        units: Its plural (default: with an s).
    """

    def __init__(self, total: int | None, description: str, unit: str, units: str | None = None):
        self._total, self._description, self._unit, self._units = total, description, unit, units or f"{unit}s"
        quiet, terminal = _SPEAKER.get().quiet or total == 1, sys.stderr.isatty()
        self._bar = tqdm(total=total, desc=description, unit=unit, dynamic_ncols=True, disable=quiet or not terminal)
        self._lines = not quiet and not terminal
        self._done, self._figures = 0, ""
        self._start = self._last_line = time.monotonic()

    def __enter__(self) -> Self:
        """Start the clock."""
        self._start = self._last_line = time.monotonic()
        return self

    def __exit__(self, *_: object) -> None:
        """Leave the bar as it is."""
        self._bar.close()

    def expect(self, total: int) -> None:
        """Set how much there is to do, now that it is known."""
        self._total = self._bar.total = total

    def update(self, number: int = 1) -> None:
        """Count `number` more as done."""
        self._bar.update(number)
        self._done += number
        now = time.monotonic()
        if self._lines and now - self._last_line >= SECONDS_BETWEEN_LINES:
            self._last_line = now
            problem(self._line(now - self._start))

    def show(self, figures: str) -> None:
        """Show `figures` behind the progress, until others come."""
        self._figures = figures
        self._bar.set_postfix_str(figures, refresh=False)

    def _line(self, seconds: float) -> str:
        rate = self._done / seconds
        line = f"{self._description}: {self._counts()}, {_rate(rate, self._unit, self._units)}"
        if self._total is not None:
            left = duration((self._total - self._done) / rate) if self._done else "unknown time"
            line = f"{line}, {left} left"
        return f"{line}; {self._figures}" if self._figures else line

    def _counts(self) -> str:
        if self._total is None:
            return f"{self._done:,} {self._units}"
        return f"{self._done:,} of {self._total:,} {self._units} ({self._done / max(self._total, 1):.0%})"


def _rate(rate: float, unit: str, units: str) -> str:
    return f"{rate:.1f} {units}/s" if rate >= 1 or not rate else f"{1 / rate:.1f} s/{unit}"


def counted(number: int, unit: str) -> str:
    """Return a number with what it counts, given in the singular: `1 image`, `2 images`."""
    return f"{number} {unit}" if number == 1 else f"{number} {unit}s"


def duration(seconds: float) -> str:
    """Return a time in the units that suit it."""
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours} h {minutes:02} min"
    return f"{minutes} min {seconds:02} s" if minutes else f"{seconds} s"
