"""What an earlier version wrote still loads: prepared data sets, model folders, run folders."""

import json
import shutil
from pathlib import Path

import pytest
from PIL import Image

from captioning.captioner import load_torch_captioner
from captioning.captioner_config import DecoderConfig, EncoderConfig
from captioning.captioner_config import TrainingConfig as CaptionTrainingConfig
from captioning.scoring.model import evaluate as evaluate_captions
from captioning.training import run as captioning_run
from data_prep import PreparedCaptions, PreparedPixels
from pixelrnn import load_pixel_model
from pixelrnn.exact_likelihood import evaluate as evaluate_pixels
from pixelrnn.pixel_config import ModelConfig
from pixelrnn.pixel_config import TrainingConfig as PixelTrainingConfig
from pixelrnn.training import run as pixelrnn_run

EXPECTED = json.loads((Path(__file__).parent / "earlier" / "expected.json").read_text())


@pytest.fixture
def earlier(tmp_path: Path) -> Path:
    return shutil.copytree(Path(__file__).parent / "earlier", tmp_path / "earlier")


def test_a_captioner_gives_the_same_sentence_and_perplexity(earlier: Path):
    captioning_run.export(earlier / "captioning-run", output=earlier / "exported")
    for model in ("captioning-run/model", "exported"):
        captioner = load_torch_captioner(earlier / model)
        assert captioner.caption(Image.new("RGB", (1, 1)))[0].words == EXPECTED["best_sentence"]
        document = evaluate_captions(captioner, PreparedCaptions.open(earlier / "captions"), "test")
        assert document["perplexity"] == pytest.approx(EXPECTED["perplexity"], rel=1e-6)


def test_a_pixel_model_gives_the_same_likelihood(earlier: Path):
    pixelrnn_run.export(earlier / "pixelrnn-run", output=earlier / "exported")
    for model in ("pixelrnn-run/model", "exported"):
        document = evaluate_pixels(load_pixel_model(earlier / model), PreparedPixels.open(earlier / "pixels"), "test")
        assert document["sum_nats"] == pytest.approx(EXPECTED["sum_nats"], rel=1e-6)


@pytest.mark.filterwarnings("ignore:The dirpath has changed")  # A copied run: Lightning forgets its best score.
def test_runs_are_continued(earlier: Path):
    captioning_run.train(
        data=earlier / "captions",
        output=earlier / "captioning-run",
        encoder=EncoderConfig(backbone="none", image_size=1),
        decoder=DecoderConfig(attention="none", hidden_size=4, embedding_size=4, attention_size=4),
        training=CaptionTrainingConfig(epochs=2, batch_size=4, mirror=False, monitor="perplexity"),
        ckpt_path="last",
    )
    pixelrnn_run.train(
        data=earlier / "pixels",
        output=earlier / "pixelrnn-run",
        model=ModelConfig(num_layers=1, hidden_channels=3, output_channels=3),
        training=PixelTrainingConfig(epochs=2, batch_size=4),
        ckpt_path="last",
    )
    for run in ("captioning-run", "pixelrnn-run"):
        versions = sorted(path.name for path in (earlier / run / "logs" / "csv").iterdir())
        assert versions == ["version_0", "version_1"]
        # Of the second epoch alone: the first is not trained again.
        header, *lines = (earlier / run / "logs" / "csv" / "version_1" / "metrics.csv").read_text().splitlines()
        epoch = header.split(",").index("epoch")
        assert {line.split(",")[epoch] for line in lines} == {"1"}
