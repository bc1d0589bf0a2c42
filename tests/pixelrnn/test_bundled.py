"""The released pixel model: it loads from the package, sees no future, and is as likely as its card says."""

import re
from pathlib import Path

import pytest

from data_prep.pixels import prepare_pixels
from data_prep.prepared_pixels import PreparedPixels
from pixelrnn.causality import certify
from pixelrnn.model import BUNDLED, load_pixel_model
from pixelrnn.scoring import evaluate


def test_it_predicts_from_the_past_alone():
    certificate = certify(load_pixel_model())
    assert certificate.num_leaks == 0
    assert certificate.coverage > 0.96


def test_it_fits_the_size_kept_for_it():
    assert sum(path.stat().st_size for path in BUNDLED.iterdir()) < 1e6


@pytest.mark.slow
@pytest.mark.data
def test_its_likelihood_on_the_test_split_is_that_released(binarized_mnist: Path, tmp_path: Path):
    prepare_pixels(binarized_mnist, tmp_path / "data")
    document = evaluate(load_pixel_model(), PreparedPixels.open(tmp_path / "data"), "test")
    assert document["images"] == 10_000
    assert document["nats_per_image"] <= 80.54
    stated = re.search(r"^\| test \| 10000 \| ([\d.]+) ", (BUNDLED / "README.md").read_text(), re.M)
    assert stated
    assert document["nats_per_image"] == pytest.approx(float(stated[1]), abs=0.01)
