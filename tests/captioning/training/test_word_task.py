"""Teaching the encoder words: the targets, a tiny overfit, and what a captioner trained from it reads."""

import csv
import dataclasses
import statistics
from pathlib import Path

import pytest
import torch

from captioning.captioner import load_torch_captioner
from captioning.captioner_config import DecoderConfig, EncoderConfig, SearchConfig, TrainingConfig
from captioning.loading import load_captioner
from captioning.network.decoder import Decoder
from captioning.training.batches import pad_captions
from captioning.training.run import train
from captioning.training.word_task import word_shares
from data_prep.captions import prepare_captions
from data_prep.images import load_image
from data_prep.prepared_captions import PreparedCaptions
from data_prep.vocabulary import BOS, EOS, SPECIAL_TOKENS, UNK
from tests.captioning.conftest import use_random_backbones
from vision_rnn.errors import UserError

FIRST = len(SPECIAL_TOKENS)
ENCODER = EncoderConfig(backbone="timm:test_resnet", image_size=64)
DECODER = DecoderConfig(hidden_size=32, embedding_size=32, attention_size=16, dropout=0.0, detected_words=6)
SEARCH = SearchConfig(beam_size=2, max_words=12)
WORDS = TrainingConfig(
    objective="words",
    monitor="word-AP",
    epochs=12,
    patience=12,
    batch_size=4,
    warmup_steps=2,
    learning_rate=1e-2,
    encoder_learning_rate=3e-3,
    crops=1,
    precision="32",
)
pytestmark = pytest.mark.usefixtures("random_backbones")


@pytest.fixture(scope="module")
def prepared(synthetic_captions: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("prepared") / "shapes"
    prepare_captions(synthetic_captions / "captions.jsonl", folder, min_count=1)
    return folder


@pytest.fixture(scope="module")
def taught(prepared: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that taught words to a backbone of random weights."""
    output = tmp_path_factory.mktemp("words") / "run"
    with pytest.MonkeyPatch.context() as patch:
        use_random_backbones(patch)
        train(data=prepared, output=output, encoder=ENCODER, decoder=DECODER, search=SEARCH, training=WORDS)
    return output


def test_the_targets_are_the_shares_of_an_images_captions() -> None:
    first, second, third = (
        [torch.tensor([BOS, *ids, EOS]) for ids in captions]
        for captions in (
            [[FIRST, FIRST + 2, FIRST], [FIRST + 1], [UNK, FIRST]],
            [[FIRST + 3, FIRST + 7]],  # the last is not among the detected words
            [[UNK], [FIRST + 2]],
        )
    )
    shares = word_shares(pad_captions([first, second, third]), 4)
    expected = [[2 / 3, 1 / 3, 1 / 3, 0], [0, 0, 0, 1], [0, 0, 1 / 2, 0]]
    torch.testing.assert_close(shares, torch.tensor(expected))


def test_words_are_learnt_and_their_precision_is_logged(taught: Path, prepared: Path) -> None:
    vocabulary = load_torch_captioner(taught / "model").vocabulary
    tokens = PreparedCaptions.open(prepared).split("train")["tokens"][:]
    ids = [[torch.tensor([BOS, *vocabulary.encode(words)]) for words in captions] for captions in tokens]
    shares = word_shares(pad_captions(ids), 6)
    rates = shares.mean(0)
    same_for_all_images = -(shares * rates.log() + (1 - shares) * (1 - rates).clamp_min(1e-9).log()).sum(1).mean()
    with next(taught.glob("logs/csv/*/metrics.csv")).open(newline="") as file:
        rows = list(csv.DictReader(file))
    losses = [float(row["loss"]) for row in rows if row["loss"]]
    assert statistics.mean(losses[-8:]) < 0.75 * float(same_for_all_images)
    precisions = [float(row["word-AP"]) for row in rows if row["word-AP"]]
    assert len(precisions) == WORDS.epochs
    assert all(0 < precision <= 1 for precision in precisions)


def test_a_decoder_trained_from_it_reads_the_words_and_leaves_them_alone(
    taught: Path, prepared: Path, tmp_path: Path
) -> None:
    training = TrainingConfig(epochs=1, batch_size=4, warmup_steps=2, precision="32")
    common = {"encoder": ENCODER, "decoder": DECODER, "search": SEARCH, "training": training}
    train(data=prepared, output=tmp_path / "run", init_from=str(taught / "model"), **common)  # type: ignore[arg-type]
    before, after = (load_torch_captioner(folder / "model") for folder in (taught, tmp_path / "run"))
    weights, trained = before.state_dict(), after.state_dict()
    same = {name for name in weights if torch.equal(weights[name], trained[name])}
    assert {name for name in weights if name.startswith(("encoder.", "decoder.word_detector."))} <= same
    assert "decoder.words_to_start.1.weight" not in same
    grid = torch.randn(1, 4, after.encoder.channels, generator=torch.Generator().manual_seed(0))
    memory = after.decoder.remember(grid)
    other = after.decoder.initial_state(memory._replace(words=memory.words.flip(-1)), 1)
    assert not torch.allclose(after.decoder.initial_state(memory, 1).hidden, other.hidden, atol=1e-4)


def test_both_engines_read_the_words(taught: Path, prepared: Path) -> None:
    image = load_image(PreparedCaptions.open(prepared).split("test")[0]["image"]["bytes"])
    torchs, onnxs = (load_captioner(taught / "model", engine=engine).caption([image]) for engine in ("torch", "onnx"))
    assert [caption.words for caption in torchs[0]] == [caption.words for caption in onnxs[0]]
    for one, other in zip(torchs[0], onnxs[0], strict=True):
        assert one.log_probability == pytest.approx(other.log_probability, abs=1e-4)


def test_what_does_not_fit_together_names_the_setting(prepared: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"training\.monitor: the objective words is validated by word-AP"):
        TrainingConfig(objective="words")
    with pytest.raises(UserError, match=r"training\.monitor: .* CIDEr-D, BLEU-4 or perplexity"):
        TrainingConfig(monitor="word-AP")
    with pytest.raises(UserError, match=r"decoder\.detected_words: a window"):
        DecoderConfig(cell="window", attention="none", detected_words=5)
    without = dataclasses.replace(DECODER, detected_words=0)
    with pytest.raises(UserError, match=r"give decoder\.detected_words"):
        train(data=prepared, output=tmp_path / "run", encoder=ENCODER, decoder=without, training=WORDS)
    with pytest.raises(UserError, match=r"a language model has no image to find words in"):
        Decoder(dataclasses.replace(DECODER, attention="none"), 0, 20)
