"""The script that reads drawn digits with a classifier."""

import runpy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from data_prep.prepared_pixels import PreparedPixels
from pixelrnn.model import PixelModel
from vision_rnn.saved_model import save_model

SCRIPT = runpy.run_path(str(Path(__file__).with_name("read_digits.py")))


def test_a_score_has_the_standard_error_of_a_share():
    right = torch.tensor([True] * 90 + [False] * 10)
    assert SCRIPT["score"](right) == "90.00 +- 3.00 % of 100 are read correctly"


@pytest.mark.parametrize(("swapped", "read"), [(False, "100.00"), (True, "0.00")])
def test_what_is_drawn_is_read_as_it_looks(
    swapped: bool,
    read: str,
    make_parity_model: Callable[[int], PixelModel],
    make_data: Callable[..., PreparedPixels],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
):
    """Images of one class are full and those of the other blank: with noise in the data, exactly in drawn images."""
    random = np.random.default_rng(0)
    arrays: dict[str, Any] = {}
    for split, count in (("train", 1000), ("valid", 10), ("test", 200)):
        labels = np.arange(count) % 2
        arrays[f"x_{split}"] = (labels[:, None, None] ^ (random.random((count, 8, 8)) < 0.1)).astype(np.uint8)
        arrays[f"y_{split}"] = 1 - labels if swapped else labels
    data = make_data(**arrays)
    save_model(make_parity_model(2), tmp_path / "model", "# A model for tests\n")
    assert SCRIPT["measure"](str(tmp_path / "model"), str(data.folder), seed=0) == 0
    real, drawn, each = capsys.readouterr().out.splitlines()
    assert real == "real digits of the test split: 100.00 +- 0.00 % of 200 are read correctly"
    assert drawn == f"drawn digits: {read} +- 0.00 % of 200 are read correctly"
    assert each == f"of each: 0: {float(read):.0f}, 1: {float(read):.0f}"
