"""Long captions: where they are cut, what they cost, and perplexities that count all their words."""

import csv
from pathlib import Path

import pytest
import torch

from captioning.captioner import load_torch_captioner
from captioning.captioner_config import DecoderConfig, EncoderConfig, TrainingConfig
from captioning.network.decoder import Decoder
from captioning.scoring.model import evaluate
from captioning.training.batches import pad_captions
from captioning.training.encoded_captions import encode_caption
from captioning.training.run import train
from data_prep import PreparedCaptions, prepare_captions
from data_prep.vocabulary import BOS, EOS, Vocabulary


def test_a_cut_caption_teaches_no_end():
    vocabulary = Vocabulary(["a", "dog", "runs"])
    a, dog, runs = vocabulary.encode(["a", "dog", "runs"])
    caption = ["a", "dog", "runs"]
    assert encode_caption(vocabulary, caption).tolist() == [BOS, a, dog, runs, EOS]
    assert encode_caption(vocabulary, caption, max_words=3).tolist() == [BOS, a, dog, runs, EOS]
    assert encode_caption(vocabulary, caption, max_words=2).tolist() == [BOS, a, dog]


@pytest.fixture(scope="module")
def trained(synthetic_captions: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("long")
    prepare_captions(synthetic_captions / "captions.jsonl", folder / "data", min_count=1)
    train(
        data=folder / "data",
        output=folder / "run",
        encoder=EncoderConfig(backbone="none", image_size=1),
        decoder=DecoderConfig(attention="none", hidden_size=8, embedding_size=8),
        training=TrainingConfig(
            epochs=1, batch_size=4, max_words=5, mirror=False, monitor="perplexity", precision="32", learning_rate=0.1
        ),
    )
    return folder


def test_cut_captions_are_counted(trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    data = PreparedCaptions.open(trained / "data")
    lengths = [len(caption) for captions in data.split("train")["tokens"] for caption in captions]
    for most in (5, 6, 20):
        train(
            data=trained / "data",
            output=tmp_path / str(most),
            encoder=EncoderConfig(backbone="none", image_size=1),
            decoder=DecoderConfig(attention="none", hidden_size=8, embedding_size=8),
            training=TrainingConfig(epochs=1, batch_size=16, max_words=most, mirror=False, monitor="perplexity"),
        )
        notes = [line for line in capsys.readouterr().err.splitlines() if "are cut there" in line]
        long = sum(length > most for length in lengths)
        assert notes == [
            f"vision-rnn: {long} of {len(lengths)} training captions have more than {most} words, and are cut there "
            "(training.max_words)"
        ] * (long > 0)
    assert sum(length > 5 for length in lengths) > 0 == sum(length > 20 for length in lengths)


def test_validation_and_evaluation_have_one_perplexity(trained: Path):
    """Although training cuts captions, both count all words and the end token."""
    rows = csv.DictReader((trained / "run" / "logs" / "csv" / "version_0" / "metrics.csv").read_text().splitlines())
    (logged,) = [float(row["perplexity"]) for row in rows if row.get("perplexity")]
    captioner = load_torch_captioner(trained / "run" / "model")
    document = evaluate(captioner, PreparedCaptions.open(trained / "data"), "validation")
    # The model folder contains weights in half precision.
    assert document["perplexity"] == pytest.approx(logged, rel=2e-3)


@pytest.fixture
def decoder() -> Decoder:
    torch.manual_seed(0)
    decoder = Decoder(DecoderConfig(hidden_size=8, embedding_size=6, attention_size=5), 3, 12).double().eval()
    for parameter in decoder.parameters():
        torch.nn.init.normal_(parameter, std=0.5)
    return decoder


@pytest.mark.parametrize("positions", [1, 7, 64, 10_000])
def test_likelihoods_in_bounded_memory_are_the_same(decoder: Decoder, positions: int):
    generator = torch.Generator().manual_seed(1)
    sizes = [[3, 17, 1], [40, 2], [5]]
    captions = [
        [torch.tensor([BOS, *torch.randint(4, 12, (size,), generator=generator).tolist(), EOS]) for size in of_image]
        for of_image in sizes
    ]
    words = pad_captions(captions)
    memory = decoder.remember(torch.randn(3, 4, 3, generator=generator).double())
    expected = decoder.log_likelihoods(memory, words)
    found = decoder.bounded_log_likelihoods(memory, words, positions)
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-6)
    assert (found != 0).sum() == sum(size + 1 for of_image in sizes for size in of_image)


def test_one_long_caption_makes_no_others_longer(decoder: Decoder, monkeypatch: pytest.MonkeyPatch):
    forward, seen = Decoder.forward, []

    def counted(self: Decoder, memory: object, words: torch.Tensor):
        seen.append(words.numel())
        return forward(self, memory, words)  # type: ignore[arg-type]

    monkeypatch.setattr(Decoder, "forward", counted)
    long, short = (torch.tensor([BOS, *[5] * length, EOS]) for length in (4000, 9))
    captions = [[long, *[short] * 4], *[[short] * 5 for _ in range(31)]]
    decoder.bounded_log_likelihoods(decoder.remember(torch.zeros(32, 4, 3).double()), pad_captions(captions))
    assert sum(seen) == 159 * 10 + 4001
    assert max(seen) <= 4096
