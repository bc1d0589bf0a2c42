"""A tiny captioner for tests: untrained, but complete."""

from pathlib import Path

import pytest
import torch

from captioning.captioner import Captioner
from captioning.captioner_config import DecoderConfig, EncoderConfig, SearchConfig
from captioning.network import backbones
from data_prep.vocabulary import EOS

WORDS = ["a", "dog", "cat", "red", "ball", "runs", "sits", "on", "grass", "the"]


build_timm = backbones._timm


def use_random_backbones(patch: pytest.MonkeyPatch) -> None:
    """Keep the random weights of timm's backbones, since tests have no network; the seed makes them reproducible."""
    patch.setattr(backbones, "_timm", lambda name, pretrained: build_timm(name, pretrained=False))


@pytest.fixture
def random_backbones(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let a test train with `use_random_backbones`."""
    use_random_backbones(monkeypatch)


def make_captioner(attention: str = "dot") -> Captioner:
    torch.manual_seed(0)
    captioner = Captioner(
        EncoderConfig(backbone="timm:test_resnet", image_size=64),
        DecoderConfig(hidden_size=16, embedding_size=16, attention_size=16, attention=attention),  # type: ignore[arg-type]
        WORDS,
        SearchConfig(beam_size=2, max_words=6),
    )
    # With its default weights, an untrained decoder ends immediately and hardly depends on the image.
    for parameter in captioner.decoder.parameters():
        torch.nn.init.normal_(parameter, std=0.8)
    captioner.decoder.output_bias.data[EOS] = -2.0
    return captioner.eval()


@pytest.fixture(scope="session")
def tiny_captioner() -> Captioner:
    """A captioner of ten words and a 2x2 grid."""
    return make_captioner()


@pytest.fixture(scope="session")
def model_folder(tmp_path_factory: pytest.TempPathFactory, tiny_captioner: Captioner) -> Path:
    """The model folder of `tiny_captioner`. Tests must not write to it."""
    folder = tmp_path_factory.mktemp("model") / "tiny"
    tiny_captioner.save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def model_folder_without_attention(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model folder whose decoder has no attention. Tests must not write to it."""
    folder = tmp_path_factory.mktemp("model") / "blind"
    make_captioner("none").save_pretrained(folder)
    return folder
