"""Notes, problems and progress: what a terminal, a log and --quiet show."""

import io
import re
import sys
from types import SimpleNamespace

import pytest

from vision_rnn import console
from vision_rnn.console import Progress, counted, note, problem, speaking_as, without_notes


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The time, in its only element.

    It stands still for the progress alone: for the whole process, whatever waits there with a limit waits for ever.
    """
    now = [100.0]
    monkeypatch.setattr(console, "time", SimpleNamespace(monotonic=lambda: now[0]))
    return now


def work(clock: list[float], seconds: list[float], total: int, per_update: int = 1) -> None:
    with Progress(total, "captioning", "photo") as progress:
        for each in seconds:
            clock[0] += each
            progress.update(per_update)


def test_a_log_gets_a_line_every_half_minute_with_rate_and_time_left(clock: list[float], capsys):
    with speaking_as("captioning"):
        work(clock, [10.0] * 12, total=1200, per_update=10)
    assert capsys.readouterr().err.splitlines() == [
        "captioning: captioning: 30 of 1,200 photos (2%), 1.0 photos/s, 19 min 30 s left",
        "captioning: captioning: 60 of 1,200 photos (5%), 1.0 photos/s, 19 min 00 s left",
        "captioning: captioning: 90 of 1,200 photos (8%), 1.0 photos/s, 18 min 30 s left",
        "captioning: captioning: 120 of 1,200 photos (10%), 1.0 photos/s, 18 min 00 s left",
    ]


def test_slow_work_is_measured_in_seconds_per_unit_and_hours(clock: list[float], capsys):
    with Progress(1000, "training", "epoch") as progress:
        progress.show("loss 3.2")
        clock[0] += 36.0
        progress.update()
    assert capsys.readouterr().err == (
        "vision-rnn: training: 1 of 1,000 epochs (0%), 36.0 s/epoch, 9 h 59 min left; loss 3.2\n"
    )


def test_a_unit_has_the_plural_that_it_is_given(clock: list[float], capsys):
    with Progress(3128, "training", "batch", "batches") as progress:
        clock[0] += 39.0
        progress.update(78)
    assert capsys.readouterr().err == (
        "vision-rnn: training: 78 of 3,128 batches (2%), 2.0 batches/s, 25 min 25 s left\n"
    )


def test_without_a_total_there_is_a_rate_and_with_it_the_time_left(clock: list[float], capsys):
    with Progress(None, "captioning", "photo") as progress:
        for total in (None, 1200):
            if total:
                progress.expect(total)
            clock[0] += 30.0
            progress.update(600 if total else 300)
    assert capsys.readouterr().err.splitlines() == [
        "vision-rnn: captioning: 300 photos, 10.0 photos/s",
        "vision-rnn: captioning: 900 of 1,200 photos (75%), 15.0 photos/s, 20 s left",
    ]


def test_a_bar_gets_its_total_later(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(sys, "stderr", terminal := Terminal())
    with Progress(None, "captioning", "photo") as progress:
        progress.expect(4)
        progress.update(4)
    assert re.search(r"captioning: 100%.* 4/4 \[.*photo/s\]", terminal.getvalue())


def test_one_thing_is_singular():
    assert [counted(number, "image") for number in (0, 1, 2)] == ["0 images", "1 image", "2 images"]


def test_short_work_leaves_a_log_empty(clock: list[float], capsys):
    work(clock, [0.1] * 20, total=20)
    assert capsys.readouterr().err == ""


def test_a_terminal_gets_a_bar(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(sys, "stderr", terminal := Terminal())
    with Progress(4, "captioning", "photo") as progress:
        progress.update(4)
    assert re.search(r"captioning: 100%.* 4/4 \[.*photo/s\]", terminal.getvalue())


def test_a_single_unit_shows_no_bar(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(sys, "stderr", terminal := Terminal())
    with Progress(1, "captioning", "photo") as progress:
        progress.update()
    assert terminal.getvalue() == ""


def test_without_notes_there_are_problems_and_progress(clock: list[float], capsys: pytest.CaptureFixture[str]):
    with speaking_as("tool"):
        with without_notes():
            work(clock, [40.0], total=2)
            note("said before")
            problem("a.jpg: no such file")
        note("good to know")
    assert capsys.readouterr().err.splitlines() == [
        "tool: captioning: 1 of 2 photos (50%), 40.0 s/photo, 40 s left",
        "tool: a.jpg: no such file",
        "tool: good to know",
    ]


@pytest.mark.parametrize("terminal", [False, True])
def test_quiet_leaves_problems_alone(
    clock: list[float], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], terminal: bool
):
    if terminal:
        monkeypatch.setattr(sys, "stderr", Terminal())
    with speaking_as("tool", quiet=True):
        work(clock, [40.0] * 3, total=3)
        note("good to know")
        problem("a.jpg: no such file")
    written = sys.stderr.getvalue() if isinstance(sys.stderr, Terminal) else capsys.readouterr().err
    assert written == "tool: a.jpg: no such file\n"


def test_what_is_named_cannot_act_on_the_terminal_or_look_like_another_line(capsys):
    named = "a\nerror: b\t\x1b[2J\x1c\x85\u2028c\u202ed é"
    problem(f"{named}: unreadable")
    assert capsys.readouterr().err == ("vision-rnn: a\\nerror: b\\t\\x1b[2J\\x1c\\x85\\u2028c\\u202ed é: unreadable\n")
