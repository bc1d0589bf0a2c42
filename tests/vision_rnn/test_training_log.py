"""Curves from the logs of runs, also of runs that were interrupted and resumed."""

import math
from pathlib import Path

import pytest

from vision_rnn.errors import UserError
from vision_rnn.report_parts import training_curves
from vision_rnn.training_log import finite, read_training_log


def log(run: Path, version: int, text: str) -> None:
    folder = run / "logs" / "csv" / f"version_{version}"
    folder.mkdir(parents=True)
    (folder / "metrics.csv").write_text(text)


def test_a_resumed_run_gives_one_curve(tmp_path: Path) -> None:
    log(tmp_path, 0, "epoch,loss,step,validation\n0,3.0,0,\n0,,1,9.0\n1,2.0,2,\n1,1.9,3,\n")
    log(tmp_path, 2, "epoch,loss,step,validation\n1,2.5,2,\n1,,3,8.0\n")
    log(tmp_path, 10, "epoch,loss,step\n2,1.0,4\n")
    assert read_training_log(tmp_path) == {
        "loss": [(0, 3.0), (2, 2.5), (3, 1.9), (4, 1.0)],
        "validation": [(1, 9.0), (3, 8.0)],
    }


def test_a_run_without_logs_has_no_curves(tmp_path: Path) -> None:
    assert read_training_log(tmp_path) == {}
    assert "nothing" in "".join(training_curves(tmp_path).itertext())


@pytest.mark.parametrize("text", ["loss\n1.0\n", "loss,step\nmuch,1\n", "loss,step\n1.0,\n"])
def test_another_file_is_named(tmp_path: Path, text: str) -> None:
    log(tmp_path, 0, text)
    with pytest.raises(UserError, match=r"metrics\.csv: not the log of a training"):
        read_training_log(tmp_path)


def test_values_that_no_chart_can_show_are_counted(tmp_path: Path) -> None:
    log(tmp_path, 0, "perplexity,step\ninf,0\n30.0,1\n20.0,2\n")
    points = read_training_log(tmp_path)["perplexity"]
    assert points[0] == (0, math.inf)
    assert finite(points) == points[1:]
    text = "".join(training_curves(tmp_path).itertext())
    assert "perplexity: 30 at step 1 and 20 at step 2" in text
    assert "not finite, omitted: 1" in text


def test_named_curves_come_first(tmp_path: Path) -> None:
    log(tmp_path, 0, "a,b,loss,step\n1,1,1,0\n")
    captions = [caption.text or "" for caption in training_curves(tmp_path, "loss", "b").iter("figcaption")]
    assert [caption.partition(":")[0] for caption in captions] == ["loss", "b", "a"]
