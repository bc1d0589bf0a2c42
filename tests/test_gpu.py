"""The accelerator paths against the processor's, wherever torch finds an accelerator: `pytest -m gpu`."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from captioning import load_captioner
from captioning.captioner_config import DecoderConfig, EncoderConfig
from captioning.captioner_config import TrainingConfig as CaptionTrainingConfig
from captioning.cli import main as captioning
from captioning.training.run import train as train_captioner
from data_prep import prepare_captions, prepare_pixels
from pixelrnn import complete, load_pixel_model, sample
from pixelrnn.cli import main as pixelrnn
from pixelrnn.pixel_config import ModelConfig
from pixelrnn.pixel_config import TrainingConfig as PixelTrainingConfig
from pixelrnn.training.run import train as train_pixels
from vision_rnn.devices import Device

ROOT = Path(__file__).parents[1]
NAMES = ("row-lstm", "diagonal-bilstm")

pytestmark = pytest.mark.gpu


@pytest.fixture(scope="module")
def device() -> Device:
    if not torch.cuda.is_available():
        pytest.skip("torch finds no CUDA device")
    return "cuda"


def test_captions_are_those_of_the_processor(device: Device):
    photos = sorted((ROOT / "examples" / "photos").glob("*.jpg"))
    expected, actual = (load_captioner(device=each).caption(photos) for each in ("cpu", device))
    for one, other in zip(expected, actual, strict=True):
        assert other[0].text == one[0].text
        assert other[0].log_probability == pytest.approx(one[0].log_probability, abs=0.02)
        assert other[0].attention.device.type == "cpu"


@pytest.mark.parametrize("name", NAMES)
def test_likelihoods_and_gradients_are_those_of_the_processor(device: Device, name: str):
    images = torch.from_numpy(np.random.default_rng(0).integers(2, size=(8, 1, 28, 28), dtype=np.uint8))
    found = []
    for each in ("cpu", device):
        model = load_pixel_model(f"bundled:{name}", each).train()
        nats = -model.log_likelihood(images.to(model.device)).flatten(1).sum(1)
        nats.mean().backward()
        gradients = torch.cat(
            [parameter.grad.flatten() for parameter in model.parameters() if parameter.grad is not None]
        )
        found.append((nats.detach().cpu(), gradients.cpu()))
    (nats, gradients), (nats_there, gradients_there) = found
    torch.testing.assert_close(nats_there, nats, rtol=1e-4, atol=0)
    torch.testing.assert_close(gradients_there, gradients, rtol=0, atol=1e-3 * gradients.abs().max().item())


@pytest.mark.parametrize("name", NAMES)
def test_samples_and_completions_are_those_of_the_processor(device: Device, name: str):
    """From the same noise; a pixel whose probability is within rounding error of its noise may differ."""
    here, there = (load_pixel_model(f"bundled:{name}", each) for each in ("cpu", device))
    digits = sample(here, 8, seed=1)
    equal = (sample(there, 8, seed=1) == digits).flatten(1).all(1)
    assert equal.sum() >= 7
    halves = complete(there, digits, "lower-half", 2)
    assert torch.equal(halves[..., :14, :], digits[:, None, :, :14].expand(-1, 2, -1, -1, -1))


def test_both_models_train(device: Device, synthetic_captions: Path, tmp_path: Path):
    prepare_captions(synthetic_captions / "captions.jsonl", tmp_path / "captions", min_count=1)
    model = train_captioner(
        data=tmp_path / "captions",
        output=tmp_path / "captioner",
        encoder=EncoderConfig(image_size=64),
        decoder=DecoderConfig(hidden_size=16, embedding_size=16, attention_size=16),
        training=CaptionTrainingConfig(epochs=1, batch_size=4, encoder_learning_rate=1e-4),
        device=device,
    )
    photo = next((synthetic_captions / "images").iterdir())
    assert captioning(["caption", str(photo), "--model", str(model), "--device", device]) == 0

    (tmp_path / "digits" / "train").mkdir(parents=True)
    for number in range(20):
        levels = np.random.default_rng(number).integers(2, size=(8, 8), dtype=np.uint8) * 255
        Image.fromarray(levels).save(tmp_path / "digits" / "train" / f"{number}.png")
    prepare_pixels(tmp_path / "digits", tmp_path / "pixels", channels=1, binarize="threshold")
    model = train_pixels(
        data=tmp_path / "pixels",
        output=tmp_path / "pixel-model",
        model=ModelConfig(num_layers=2, hidden_channels=4, output_channels=4),
        training=PixelTrainingConfig(epochs=1, batch_size=4),
        device=device,
    )
    assert pixelrnn(["verify", "--model", str(model), "--device", device]) == 0
