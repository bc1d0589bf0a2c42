"""The bundled pixel models: they load from the package, are causal, and have the likelihoods stated in their cards."""

import dataclasses
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from data_prep.pixels import prepare_pixels
from data_prep.prepared_pixels import PreparedPixels
from pixelrnn.completion import masked_nats
from pixelrnn.exact_likelihood import evaluate
from pixelrnn.mask import named_masks
from pixelrnn.model import PixelModel, PixelNetwork, load_pixel_model
from pixelrnn.studies.causality import certify, half_known
from pixelrnn.training.batches import pixels_and_labels
from vision_rnn.errors import UserError

# Minimum coverage of the past, and maximum nats per image (the paper's results for the data set of the paper).
RELEASED = {
    "row-lstm": (0.96, 80.54),
    "diagonal-bilstm": (1.0, 79.20),
    "digits": (0.96, 53.1),
    "any-region": (0.96, 80.54),
}
# Maximum nats of the named regions given all other pixels, as a share of what the Row LSTM gives for the same pixels.
REGIONS = {"upper-half": 0.92, "lower-half": 1.01, "left-half": 0.96, "right-half": 0.96, "center": 0.97}


def test_those_named_are_all_there_are():
    assert {folder.name for folder in PixelModel.bundled.iterdir()} == set(RELEASED)
    with pytest.raises(UserError, match="choose one of: any-region, diagonal-bilstm, digits, row-lstm"):
        load_pixel_model("bundled:../../tests")


# The model of digits has the layers of the Row LSTM; that a class vector opens no path is tested with small models.
@pytest.mark.parametrize("name", ["row-lstm", "diagonal-bilstm", "any-region"])
def test_it_predicts_from_the_past_alone(name: str):
    model = load_pixel_model(f"bundled:{name}")
    assert isinstance(model, PixelNetwork)
    # Its structure with fewer channels: the certificate draws new weights anyway, and the width opens no path.
    narrow = dataclasses.replace(model.config, hidden_channels=2, output_channels=2)
    certificate = certify(PixelNetwork(narrow, model.shape))
    assert certificate.num_leaks == 0
    assert certificate.coverage >= RELEASED[name][0]
    if narrow.context_layers:
        given = certify(PixelNetwork(narrow, model.shape), mask=half_known(model.shape.height, model.shape.width))
        assert given.num_leaks == 0


def test_loading_does_not_import_the_compiler_of_torch():
    """It takes two seconds."""
    load = "".join(f"load_pixel_model('bundled:{name}');" for name in RELEASED)
    code = f"import sys; from pixelrnn import load_pixel_model; {load} print('torch._dynamo' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"


@pytest.mark.parametrize("name", RELEASED)
def test_it_fits_the_size_kept_for_it(name: str):
    assert sum(path.stat().st_size for path in (PixelModel.bundled / name).iterdir()) < 1e6


@pytest.mark.slow
@pytest.mark.data
@pytest.mark.parametrize("name", ["row-lstm", "digits"])
def test_its_likelihood_on_the_test_split_is_that_released(
    name: str, binarized_mnist: Path, mnist: Path, tmp_path: Path
):
    if name == "digits":
        prepare_pixels(mnist, tmp_path / "data", binarize="threshold")
    else:
        prepare_pixels(binarized_mnist, tmp_path / "data")
    document = evaluate(load_pixel_model(f"bundled:{name}"), PreparedPixels.open(tmp_path / "data"), "test")
    assert document["images"] == 10_000
    assert document["nats_per_image"] <= RELEASED[name][1]
    stated = re.search(r"^\| test \| 10000 \| ([\d.]+) ", (PixelModel.bundled / name / "README.md").read_text(), re.M)
    assert stated
    assert document["nats_per_image"] == pytest.approx(float(stated[1]), abs=0.01)


@pytest.mark.slow
@pytest.mark.data
def test_the_likelihood_of_the_diagonal_bilstm_is_known(binarized_mnist: Path, tmp_path: Path):
    """Of every twentieth test image: all 10,000 take two minutes of CI's twenty."""
    prepare_pixels(binarized_mnist, tmp_path / "data")
    model = load_pixel_model("bundled:diagonal-bilstm")
    pixels, labels = pixels_and_labels(PreparedPixels.open(tmp_path / "data"), "test", model.shape)[::20]
    with torch.inference_mode():
        nats = -model.log_likelihood(pixels, labels).double().sum().item() / len(pixels)
    assert nats == pytest.approx(78.356, abs=0.01)


@pytest.mark.slow
@pytest.mark.data
def test_known_pixels_on_every_side_make_a_region_likelier(binarized_mnist: Path, tmp_path: Path):
    """On every twentieth test image."""
    prepare_pixels(binarized_mnist, tmp_path / "data")
    model, raster = (load_pixel_model(f"bundled:{name}") for name in ("any-region", "row-lstm"))
    pixels, _ = pixels_and_labels(PreparedPixels.open(tmp_path / "data"), "test", model.shape)[::20]
    for name, mask in named_masks(28, 28).items():
        given, before = (masked_nats(each, pixels, mask).sum().item() for each in (model, raster))
        assert given <= REGIONS[name] * before, name
