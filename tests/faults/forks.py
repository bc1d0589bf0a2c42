"""Commands in processes forked from this one: they start at once, can be killed at any moment, and are bounded."""

import contextlib
import functools
import json
import os
import re
import resource
import signal
import sys
import time
import traceback
import warnings
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import IO, NamedTuple

SECONDS, BYTES = 20, 2 * 10**9  # What one input may take.
_HARM = 2 * 10**9  # How much more memory a process gets than it has: what takes more must not harm the machine.
FAILED = 99  # Exit status of a command that raised an exception, whose traceback is on standard error.

Main = Callable[[Sequence[str]], int]


@functools.cache
def programs() -> dict[str, Main]:
    """Return the programs by name, after importing what their commands import late, so that no child need do so."""
    import datasets  # noqa: F401
    import lightning.pytorch  # noqa: F401
    import matplotlib.pyplot  # noqa: F401
    import pyarrow.parquet  # noqa: F401

    import captioning.captioner
    import captioning.cli
    import captioning.loading
    import captioning.onnx.engine
    import captioning.report
    import captioning.scoring.file
    import captioning.training.task
    import data_prep.captions
    import data_prep.cli
    import data_prep.pixels
    import pixelrnn.cli
    import pixelrnn.coding.coded_file
    import pixelrnn.completion
    import pixelrnn.report
    import pixelrnn.training.task

    return {"captioning": captioning.cli.main, "pixelrnn": pixelrnn.cli.main, "data-prep": data_prep.cli.main}


class Ended(NamedTuple):
    """How a command ended.

    Attributes:
        status: Its exit status, or minus the signal that ended its process; 99 if it raised an exception.
        output: What it wrote on standard output.
        error: What it wrote on standard error.
        seconds: How long it took.
        peak: The memory of its process at its highest, in bytes.
        found: What was found in its results, if its process did not end.
    """

    status: int
    output: str
    error: str
    seconds: float
    peak: int = 0
    found: object = None


class Forked:
    """A command that runs in a process group of its own.

    Args:
        command: The program and its arguments.
        folder: The working directory.
        is_bounded: Limit its memory, so that what takes far more than it may fails, and does no harm.
    """

    def __init__(self, command: Sequence[object], folder: Path, is_bounded: bool = False):
        program, *arguments = map(str, command)
        main = programs()[program]
        self._files = _Files(folder.parent, folder.name)
        self._start = time.monotonic()
        self._process = _fork()
        if not self._process:
            with _as_child(folder, self._files) as end:
                if is_bounded:
                    _limit_memory()
                end(_status(main, arguments))

    def kill(self) -> None:
        """Kill it, with all processes that it started."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process, signal.SIGKILL)

    def wait(self) -> Ended:
        """Wait until it has ended."""
        _, status, usage = os.wait4(self._process, 0)
        self.kill()
        seconds = time.monotonic() - self._start
        return Ended(os.waitstatus_to_exitcode(status), *self._files.read(), seconds, usage.ru_maxrss * 1024)


def run(command: Sequence[object], folder: Path, kill_after: float | None = None, is_bounded: bool = False) -> Ended:
    """Run a command; kill it after some seconds, if it has not ended by then. See `Forked`."""
    forked = Forked(command, folder, is_bounded)
    if kill_after is not None:
        time.sleep(kill_after)
        forked.kill()
    return forked.wait()


def run_on_each(
    number: int,
    command: Sequence[object],
    folder: Path,
    before: Callable[[int], object],
    after: Callable[[int], object],
) -> Iterator[Ended]:
    """Run a command again and again in one process, as long as it lives; every time may take 20 seconds.

    Args:
        number: How many times.
        command: The program and its arguments.
        folder: The working directory.
        before: Called with the number of the time, it prepares the command's inputs.
        after: Called likewise, it returns what it finds in the results.
    """
    program, *arguments = map(str, command)
    main, files = programs()[program], _Files(folder.parent, folder.name)
    first = 0
    while first < number:
        reading, writing = os.pipe()
        process = _fork()
        if not process:
            os.close(reading)
            with _as_child(folder, files), os.fdopen(writing, "w") as report:
                _limit_memory()
                for time_ in range(first, number):
                    before(time_)
                    files.empty()
                    Path("/proc/self/clear_refs").write_text("5")  # This resets the peak.
                    start = time.monotonic()
                    signal.setitimer(signal.ITIMER_REAL, SECONDS)  # Its signal ends the process.
                    status = _status(main, arguments)
                    signal.setitimer(signal.ITIMER_REAL, 0)
                    seconds, peak = time.monotonic() - start, _memory("VmHWM")
                    report.write(json.dumps([status, *files.read(), seconds, peak, after(time_)]) + "\n")
                    report.flush()
        os.close(writing)
        with os.fdopen(reading) as reports:
            for line in reports:
                yield Ended(*json.loads(line))
                first += 1
        _, status = os.waitpid(process, 0)
        if first < number:
            yield Ended(os.waitstatus_to_exitcode(status), *files.read(), 0.0)
            first += 1


def do_apart(action: Callable[[], object], folder: Path) -> None:
    """Do something that takes much memory in a process of its own, whose memory is free afterwards."""
    process = _fork()
    if not process:
        with _as_child(folder, _Files(folder.parent, folder.name)) as end:
            action()
            end(0)
    _, status = os.waitpid(process, 0)
    assert status == 0, _Files(folder.parent, folder.name).read()


class _Files:
    """The files that take what a process writes on its standard output and standard error."""

    def __init__(self, folder: Path, name: str):
        self.paths = [folder / f"{name}.{stream}" for stream in ("stdout", "stderr")]
        for path in self.paths:
            path.touch()  # A process may be killed before it writes anything.

    def open(self) -> list[int]:
        flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_APPEND
        return [os.open(path, flags) for path in self.paths]

    def empty(self) -> None:
        for path in self.paths:
            os.truncate(path, 0)

    def read(self) -> list[str]:
        return [path.read_text(encoding="utf-8", errors="replace") for path in self.paths]


def _fork() -> int:
    with warnings.catch_warnings():
        # Newer versions of Python warn of threads; those of the test runner hold no lock that matters here.
        warnings.simplefilter("ignore")
        return os.fork()


@contextlib.contextmanager
def _as_child(folder: Path, files: _Files) -> Iterator[Callable[[int], None]]:
    """Be a process as a shell starts it, and end with the block, whatever happens in it."""
    status = FAILED
    try:
        os.setsid()
        os.chdir(folder)
        descriptors = [os.open(os.devnull, os.O_RDONLY), *files.open()]
        for number, descriptor in enumerate(descriptors):
            os.dup2(descriptor, number)
        sys.stdin, sys.stdout, sys.stderr = (_stream(number) for number in range(3))
        warnings.resetwarnings()  # Warnings are errors in the tests.
        warnings.simplefilter("default")

        def end(with_status: int) -> None:
            nonlocal status
            status = with_status

        yield end
    except BaseException:
        traceback.print_exc()
    finally:
        with contextlib.suppress(OSError):
            sys.stderr.flush()
        os._exit(status)


def _stream(number: int) -> IO[str]:
    return open(number, "r" if number == 0 else "w", encoding="utf-8", errors="replace", closefd=False)


def _status(main: Main, arguments: Sequence[str]) -> int:
    """Run a command; return its exit status, or 99 if it raised an exception, whose traceback it prints."""
    try:
        status = main(arguments)
    except BaseException:
        traceback.print_exc()
        status = FAILED
    sys.stdout.flush()
    sys.stderr.flush()
    return status


def _limit_memory() -> None:
    resource.setrlimit(resource.RLIMIT_DATA, (_memory("VmData") + _HARM,) * 2)


def _memory(name: str) -> int:
    """Return a figure of this process's memory, in bytes."""
    found = re.search(rf"^{name}:\s*(\d+) kB", Path("/proc/self/status").read_text(), re.MULTILINE)
    assert found
    return int(found[1]) * 1024
