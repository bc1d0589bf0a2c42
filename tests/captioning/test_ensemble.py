"""Several captioners as one, against the mean of their probabilities word by word, on both engines."""

import itertools
import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from captioning.captioner import Captioner, load_torch_captioner
from captioning.captioner_config import DecoderConfig, EncoderConfig, SearchConfig
from captioning.cli import main
from captioning.ensemble import Ensemble, mean_probability
from captioning.loading import load_captioner, load_ensemble
from captioning.scoring.model import evaluate
from captioning.training.encoded_captions import encode_caption
from data_prep.captions import prepare_captions
from data_prep.images import load_image
from data_prep.prepared_captions import PreparedCaptions
from data_prep.vocabulary import BOS, EOS, PAD, UNK

WORDS = ["a", "red", "blue", "square", "circle", "on", "background"]


def save(folder: Path, seed: int, image_size: int = 64, words: list[str] = WORDS) -> Path:
    """Save a captioner of random weights whose captions depend on the photo."""
    torch.manual_seed(seed)
    captioner = Captioner(
        EncoderConfig(backbone="timm:test_resnet", image_size=image_size),
        DecoderConfig(hidden_size=12, embedding_size=10, attention_size=6),
        words,
        SearchConfig(beam_size=3, max_words=4),
    )
    for parameter in captioner.decoder.parameters():
        torch.nn.init.normal_(parameter, std=0.8)
    captioner.save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """Two models, which see photos in different sizes."""
    folder = tmp_path_factory.mktemp("models")
    return [str(save(folder / "one", 1)), str(save(folder / "two", 2, image_size=96))]


@pytest.fixture(scope="module")
def photos() -> list[Image.Image]:
    generator = np.random.default_rng(0)
    return [Image.fromarray(generator.integers(0, 255, (40, 50, 3), dtype=np.uint8)) for _ in range(3)]


def word_probabilities(captioner: Captioner, photo: Image.Image, words: list[int]) -> list[torch.Tensor]:
    """Return the probabilities of every next word, computed from the begin token one word at a time."""
    memory = captioner.remember([photo])
    state, found = captioner.decoder.initial_state(memory, 1), []
    for word in [BOS, *words]:
        logits, state, _ = captioner.decoder.step(torch.tensor([[word]]), state, memory)
        found.append(logits[0, 0].softmax(-1).double())
    return found


@torch.inference_mode()
def best_caption(models: list[str], photo: Image.Image, search: SearchConfig) -> tuple[list[int], float]:
    """Try all captions of up to two words by the mean of the models' probabilities."""
    captioners = [load_torch_captioner(model) for model in models]
    words = [word for word in range(len(captioners[0].vocabulary)) if word not in (PAD, BOS, UNK, EOS)]
    ranked = []
    for caption in [[], *([word] for word in words), *map(list, itertools.product(words, repeat=2))]:
        ids = [*caption, EOS][: search.max_words]
        of_models = [word_probabilities(captioner, photo, ids[:-1]) for captioner in captioners]
        means = [torch.stack(probabilities).mean(0) for probabilities in zip(*of_models, strict=True)]
        total = sum(math.log(mean[word]) for mean, word in zip(means, ids, strict=True))
        ranked.append((total / len(ids) ** search.length_exponent, caption, total))
    _, caption, total = max(ranked)
    return caption, total


@pytest.mark.parametrize("engine", ["torch", "onnx"])
def test_its_best_caption_is_the_best_of_all_by_the_mean_probability(
    models: list[str], photos: list[Image.Image], engine: str
) -> None:
    # A beam of all words keeps every caption, and two words are all that fit.
    search = SearchConfig(beam_size=100, max_words=2)
    ensemble = load_ensemble(models, engine=engine)  # type: ignore[arg-type]
    for photo, captions in zip(photos, ensemble.caption(photos, search=search), strict=True):
        expected, total = best_caption(models, photo, search)
        assert ensemble.vocabulary.encode(captions[0].words) == expected[:2]
        assert captions[0].log_probability == pytest.approx(total, abs=1e-4)


def test_a_model_with_itself_is_that_model(models: list[str], photos: list[Image.Image]) -> None:
    alone = load_captioner(models[0])
    twice = Ensemble([models[0]] * 2, [alone, alone])
    for expected, found in zip(alone.caption(photos), twice.caption(photos), strict=True):
        assert [caption.words for caption in found] == [caption.words for caption in expected]
        np.testing.assert_allclose(
            [caption.log_probability for caption in found], [each.log_probability for each in expected], atol=1e-5
        )
        np.testing.assert_allclose(found[0].attention, expected[0].attention, atol=1e-6)


def test_impossible_words_stay_impossible() -> None:
    scores = np.log(np.array([[0.5, 0.5, 0.0], [0.1, 0.9, 0.0]], dtype=np.float32).clip(1e-45))
    np.testing.assert_allclose(np.exp(mean_probability(scores)), [0.3, 0.7, 0.0], atol=1e-6)


def test_evaluation_averages_the_probabilities_of_the_references(
    models: list[str], synthetic_captions: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    prepare_captions(synthetic_captions, tmp_path / "data", min_count=1)
    data = PreparedCaptions.open(tmp_path / "data")
    command = ["evaluate", "--data", str(data.folder), "--split", "validation", "-o", str(tmp_path / "scores.json")]
    assert main([*command, "--model", models[0], "--ensemble", *models[1:]]) == 0
    document = json.loads((tmp_path / "scores.json").read_text())
    assert document["model"] == models
    rows, captioners = data.split("validation"), [load_torch_captioner(model) for model in models]
    nats, words = 0.0, 0
    with torch.inference_mode():
        for image, captions in zip(rows["image"], rows["tokens"], strict=True):
            photo = load_image(image["bytes"])
            for caption in captions:
                ids = encode_caption(captioners[0].vocabulary, caption)[1:].tolist()
                of_models = [word_probabilities(captioner, photo, ids[:-1]) for captioner in captioners]
                for word, *probabilities in zip(ids, *of_models, strict=True):
                    nats -= math.log(torch.stack(probabilities).mean(0)[word])
                words += len(ids)
    assert document["perplexity"] == pytest.approx(math.exp(nats / words), rel=1e-4)
    assert document["captions"] == evaluate(captioners, data, "validation")["captions"]
    capsys.readouterr()
    assert main(["report", str(tmp_path / "scores.json"), "-o", str(tmp_path / "report.html")]) == 2
    assert "is of several models, and a report shows one; evaluate it alone" in capsys.readouterr().err


def test_the_command_captions_by_several_models(
    models: list[str], photos: list[Image.Image], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    photos[0].save(tmp_path / "photo.png")
    assert main(["caption", str(tmp_path / "photo.png"), "--model", models[0], "--ensemble", *models[1:]]) == 0
    expected = load_ensemble(models).caption(photos[0])[0].text
    assert capsys.readouterr().out.strip() == expected


def test_models_that_do_not_fit_together(
    models: list[str], synthetic_captions: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    other = str(save(tmp_path / "other", 3, words=WORDS[::-1]))
    Image.new("RGB", (8, 8)).save(tmp_path / "photo.png")
    prepare_captions(synthetic_captions, tmp_path / "data", min_count=1)
    for command in (["caption", str(tmp_path / "photo.png")], ["evaluate", "--data", str(tmp_path / "data")]):
        assert main([*command, "--model", models[0], "--ensemble", other]) == 2
        assert f"{other}: knows other words than {models[0]}" in capsys.readouterr().err
