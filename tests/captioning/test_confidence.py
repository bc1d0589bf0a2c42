"""Confidence: the fit against a known truth, the distance against a slow reference, both engines, and its uses."""

import csv
import json
import math
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from captioning.captioner import Captioner, load_torch_captioner
from captioning.captioner_config import DecoderConfig, EncoderConfig, SearchConfig
from captioning.cli import main
from captioning.confidence import GOOD, Calibration, fit_calibration
from captioning.loading import load_captioner
from captioning.model_card import model_card
from captioning.network.familiarity import Familiarity
from captioning.training import calibrate as calibration_module
from captioning.training.calibrate import calibrate
from captioning.training.run import export
from data_prep.captions import prepare_captions
from data_prep.prepared_captions import PreparedCaptions
from vision_rnn.errors import UserError
from vision_rnn.saved_model import save_model

CALIBRATION = Calibration(
    intercept=1.0,
    log_probability=2.0,
    distance=-1.0,
    good=GOOD,
    farthest=[2.0, 3.0, 4.0, 5.0, 6.0],
    images=99,
    directions=4,
    correlation=0.5,
    reliability=[[0.25, 0.25, 50], [0.75, 0.8, 49]],
)


def test_the_fit_finds_the_coefficients_that_made_the_data() -> None:
    generator = np.random.default_rng(0)
    log_probabilities, distances = -generator.gamma(4, 0.3, 20_000), np.exp(generator.normal(0, 0.3, 20_000))
    truth = 1 / (1 + np.exp(-(3.0 + 2.0 * log_probabilities - 1.5 * np.log(distances))))
    scores = np.where(generator.random(20_000) < truth, GOOD, 0.0)
    found = fit_calibration(log_probabilities, distances, scores, directions=4)
    assert (found.intercept, found.log_probability, found.distance) == pytest.approx((3.0, 2.0, -1.5), abs=0.15)
    assert found.images == 20_000
    assert len(found.farthest) == 1000
    assert min(found.farthest) == pytest.approx(np.quantile(distances, 0.95), rel=1e-3)
    for confidence, share, count in found.reliability:
        assert share == pytest.approx(confidence, abs=0.04)
        assert count == 2000
    assert found.correlation > 0.4


def test_a_fit_to_captions_that_their_probability_separates_stays_finite() -> None:
    log_probabilities = np.linspace(-3, 0, 60)
    found = fit_calibration(log_probabilities, np.ones(60), np.where(log_probabilities > -1.5, 1.0, 0.0), directions=4)
    assert found.confidence(-3.0, 1.0) < 0.01
    assert found.confidence(0.0, 1.0) > 0.99


@pytest.mark.parametrize(
    ("distance", "share"),
    [
        (1.0, 1.0),
        (2.0, 6 / 100 / 0.05),
        (2.5, 5 / 100 / 0.05),
        (3.5, 4 / 100 / 0.05),
        (6.0, 2 / 100 / 0.05),
        (60.0, 0.2),
    ],
)
def test_a_photo_among_the_farthest_is_doubted_by_how_few_are_as_far(distance: float, share: float) -> None:
    """Of 99 validation images, five lie at 2, 3, 4, 5 and 6."""
    regression = 1 / (1 + math.exp(-(1.0 + 2.0 * -0.5 - math.log(distance))))
    assert CALIBRATION.confidence(-0.5, distance) == pytest.approx(regression * min(1.0, share))


def test_the_distance_is_that_of_the_whole_covariance() -> None:
    """The inverse of the covariance that Tipping and Bishop's model has, built in full."""
    generator = torch.Generator().manual_seed(0)
    features = torch.randn(500, 12, generator=generator) @ torch.randn(12, 12, generator=generator) + 3.0
    found = Familiarity.fitted(features, 4)
    grid = features[:7, None] + torch.randn(7, 5, 12, generator=generator)
    unit = features.double() / features.double().square().sum(1, keepdim=True).sqrt()
    centred = unit - unit.mean(0)
    values, vectors = torch.linalg.eigh(centred.T @ centred / 500)
    values[:8] = values[:8].mean()
    inverse = torch.linalg.inv(vectors @ torch.diag(values) @ vectors.T)
    means = grid.mean(1).double()
    deviation = means / means.square().sum(1, keepdim=True).sqrt() - unit.mean(0)
    expected = torch.einsum("bi,ij,bj->b", deviation, inverse, deviation).div(12).sqrt()
    torch.testing.assert_close(found(grid).double(), expected, rtol=1e-2, atol=0)
    assert found(features[:, None]).square().mean() == pytest.approx(1.0, abs=0.02)
    # Only where features point counts, not how long they are.
    torch.testing.assert_close(found(20 * grid), found(grid))
    assert (found(-features[:5, None]) > 2).all()


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """120 photos of noise in grey or in colour, which are captioned so."""
    folder = tmp_path_factory.mktemp("photos")
    generator = np.random.default_rng(0)
    lines = []
    for number in range(120):
        is_grey = number % 2 == 0
        noise = generator.integers(0, 255, (32, 32, 1 if is_grey else 3), dtype=np.uint8)
        Image.fromarray(np.broadcast_to(noise, (32, 32, 3)).copy()).save(folder / f"{number:03}.png")
        text = "a grey dog sits" if is_grey else "red cats and balls run on"
        split = "validation" if number < 60 else "train"
        lines.append({"image": f"{number:03}.png", "captions": [text, f"{text} again"], "split": split})
    (folder / "captions.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    return folder


@pytest.fixture(scope="module")
def data(photos: Path, tmp_path_factory: pytest.TempPathFactory) -> PreparedCaptions:
    folder = tmp_path_factory.mktemp("data") / "noise"
    prepare_captions(photos, folder, min_count=1)
    return PreparedCaptions.open(folder)


@pytest.fixture(scope="module")
def calibrated(data: PreparedCaptions, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model that captions every photo as a grey dog, calibrated on photos half of which are."""
    torch.manual_seed(0)
    captioner = Captioner(
        EncoderConfig(backbone="timm:test_resnet", image_size=64),
        DecoderConfig(hidden_size=16, embedding_size=16, attention_size=16),
        data.vocabulary.words,
        SearchConfig(beam_size=2, max_words=4),
    )
    # Only the bias counts, and the words in their order.
    with torch.no_grad():
        for parameter in captioner.decoder.parameters():
            parameter.mul_(0.5)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(calibration_module, "score_captions", lambda texts, references: _Scores(references))
        calibrate(captioner, data)
    folder = tmp_path_factory.mktemp("model") / "calibrated"
    captioner.save_pretrained(folder)
    return folder


class _Scores:
    """Scores of captions: 1 for the images whose references are about dogs."""

    def __init__(self, references: list[list[list[str]]]) -> None:
        self.statistics = np.zeros((len(references), 13))
        self.statistics[:, -2] = ["dog" in captions[0] for captions in references]


def test_both_engines_have_the_same_confidence_and_unlike_photos_have_less(calibrated: Path, photos: Path) -> None:
    like = [photos / f"{number:03}.png" for number in range(0, 20)]
    unlike = [Image.new("RGB", (32, 32), colour) for colour in ("white", "black", "blue")]
    found = {}
    for engine in ("torch", "onnx"):
        captioner = load_captioner(calibrated, engine=engine)
        found[engine] = [captions[0].confidence for captions in captioner.caption([*like, *unlike])]
    assert found["torch"] == pytest.approx(found["onnx"], abs=1e-3)
    assert all(0 <= confidence <= 1 for confidence in found["onnx"])
    assert max(found["onnx"][20:]) < 0.35 < max(found["onnx"][:20])
    assert min(found["onnx"][:20]) < max(found["onnx"][:20])


def test_a_model_without_calibration_has_none(model_folder: Path) -> None:
    photo = Image.new("RGB", (32, 32))
    for engine in ("torch", "onnx"):
        assert load_captioner(model_folder, engine=engine).caption(photo)[0].confidence is None


def test_files_hold_the_confidence_and_uncertain_photos_are_left_out_and_counted(
    calibrated: Path, photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copy(photos / "000.png", tmp_path / "like.png")
    Image.new("RGB", (32, 32), "white").save(tmp_path / "unlike.png")
    command = ["caption", str(tmp_path), "--model", str(calibrated)]
    assert main([*command, "-o", str(tmp_path / "all.jsonl")]) == 0
    records = [json.loads(line) for line in (tmp_path / "all.jsonl").read_text().splitlines()]
    confidences = {Path(record["image"]).stem: record["captions"][0]["confidence"] for record in records}
    least = confidences["unlike"] * 1.01
    assert least < confidences["like"]
    assert main([*command, "--min-confidence", str(least), "-o", str(tmp_path / "some.csv")]) == 0
    with (tmp_path / "some.csv").open(newline="") as file:
        (row,) = csv.DictReader(file)
    assert Path(row["image"]).stem == "like"
    assert float(row["confidence"]) == confidences["like"]
    assert "1 of 2 photos are left without a caption, for a confidence of less than" in capsys.readouterr().err
    # Continued, nothing is added and the confidence is kept.
    before = (tmp_path / "some.csv").read_bytes()
    assert main([*command, "--min-confidence", str(least), "-o", str(tmp_path / "some.csv"), "--skip-existing"]) == 0
    assert (tmp_path / "some.csv").read_bytes() == before
    capsys.readouterr()
    assert main([*command, "--json", "--min-confidence", str(least)]) == 0
    (document,) = json.loads(capsys.readouterr().out)
    assert document["captions"][0]["confidence"] == confidences["like"]


def test_a_model_without_calibration_cannot_leave_photos_out(
    model_folder: Path, photos: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["caption", str(photos / "000.png"), "--model", str(model_folder), "--min-confidence", "0.5"]
    assert main(command) == 2
    assert "--min-confidence: this model is not calibrated; run: captioning calibrate" in capsys.readouterr().err


def test_the_command_calibrates_a_model_of_its_own_scores(
    model_folder: Path, data: PreparedCaptions, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The untrained model has no good caption, and says so; too few images are counted."""
    command = ["calibrate", str(model_folder), "--data", str(data.folder), "-o", str(tmp_path / "model")]
    assert main(command) == 2
    assert "none have a CIDEr-D of at least 0.5, so nothing tells good ones from others" in capsys.readouterr().err
    assert main([*command, "--split", "nonesuch"]) == 2
    assert not (tmp_path / "model").exists()


def test_a_written_model_keeps_its_calibration_and_another_search_loses_it(
    calibrated: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    captioner = load_torch_captioner(calibrated)
    captioner.history.append({"data": {"source": "x", "format": "y", "splits": {}, "content_hash": "0" * 64}})
    save_model(captioner, tmp_path / "with", model_card(captioner))
    again = load_torch_captioner(export(tmp_path / "with", output=tmp_path / "again"))
    assert again.calibration == captioner.calibration
    assert "rank correlation" in again.card
    other = load_torch_captioner(export(tmp_path / "with", output=tmp_path / "other", length_exponent=0.1))
    assert other.calibration is None
    assert f"no confidence; run: captioning calibrate {tmp_path / 'other'} --data DATA" in capsys.readouterr().err


def test_too_few_images_are_counted(calibrated: Path, data: PreparedCaptions) -> None:
    few = replace(data, manifest=data.manifest)
    captioner = load_torch_captioner(calibrated)
    rows = data.split("validation").select(range(49))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(PreparedCaptions, "split", lambda self, name: rows)
        with pytest.raises(UserError, match="validation has 49 images, and a calibration needs 50"):
            calibrate(captioner, few)
