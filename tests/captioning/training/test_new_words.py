"""New words: exact probabilities against a slow reference, learning them, and every use of an extended vocabulary."""

import copy
import csv
import math
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor

from captioning.captioner import Captioner, load_torch_captioner
from captioning.captioner_config import SearchConfig, TrainingConfig
from captioning.network.decoder import Memory
from captioning.scoring.model import evaluate
from captioning.training.new_words import add_words
from captioning.training.run import export, train
from captioning.training.task import CaptioningTask
from data_prep.captions import prepare_captions
from data_prep.images import load_image
from data_prep.prepared_captions import PreparedCaptions
from data_prep.vocabulary import BOS, EOS, SPECIAL_TOKENS, UNK

TRAINING = TrainingConfig(
    epochs=2, batch_size=4, warmup_steps=2, learning_rate=1e-2, label_smoothing=0.0, mirror=False, precision="32"
)


@pytest.fixture
def extended(tiny_captioner: Captioner) -> Captioner:
    torch.manual_seed(1)
    captioner = copy.deepcopy(tiny_captioner)
    add_words(captioner, ["zebra", "emu"])
    return captioner


@pytest.fixture(scope="module")
def data(synthetic_captions: Path, tmp_path_factory: pytest.TempPathFactory) -> PreparedCaptions:
    """Captions of which the tiny captioner knows `a`, `on`, `the`, `red` alone; `picture` occurs fewer than 9 times."""
    folder = tmp_path_factory.mktemp("data")
    prepare_captions(synthetic_captions / "captions.jsonl", folder / "shapes", min_count=9)
    return PreparedCaptions.open(folder / "shapes")


def probabilities(captioner: Captioner, memory: Memory, words: list[int]) -> Tensor:
    """The distribution after every word of a caption, by a softmax in double precision, one step at a time."""
    state, found = captioner.decoder.initial_state(memory, 1), []
    for word in [BOS, *words]:
        logits, state, _ = captioner.decoder.step(torch.tensor([[word]]), state, memory)
        odds = [math.exp(logit) for logit in logits[0, 0].double().tolist()]
        found.append([odd / sum(odds) for odd in odds])
    return torch.tensor(found, dtype=torch.float64)


def test_known_words_keep_their_probabilities_up_to_the_share_of_the_new_ones(
    tiny_captioner: Captioner, extended: Captioner
):
    """p'(word) = p(word) (1 - sum of p'(new)), in every context of known words."""
    grid = torch.randn(1, 4, tiny_captioner.encoder.channels)
    with torch.no_grad():
        memory = tiny_captioner.decoder.remember(grid)
        for words in ([], [4, 5, 9], [UNK, 4, EOS]):
            before, after = (probabilities(captioner, memory, words) for captioner in (tiny_captioner, extended))
            size = before.shape[1]
            assert after.shape[1] == size + 2
            new = after[:, size:].sum(1, keepdim=True)
            assert (new > 0).all()
            torch.testing.assert_close(after[:, :size], before * (1 - new), rtol=1e-5, atol=0)


def test_ids_stay_and_new_words_start_as_rare_ones(tiny_captioner: Captioner, extended: Captioner):
    assert extended.vocabulary.words == [*tiny_captioner.vocabulary.words, "zebra", "emu"]
    rows, biases = extended.decoder.embedding.weight, extended.decoder.output_bias
    size = len(tiny_captioner.vocabulary)
    assert torch.equal(rows[:size], tiny_captioner.decoder.embedding.weight)
    assert torch.equal(biases[:size], tiny_captioner.decoder.output_bias)
    assert biases[size:].tolist() == [min(biases[len(SPECIAL_TOKENS) : size].tolist())] * 2
    assert rows.requires_grad
    assert biases.requires_grad
    assert not torch.equal(rows[-1], rows[-2])


def test_new_rows_have_the_mean_and_the_spread_of_the_known_ones_in_every_dimension(tiny_captioner: Captioner):
    torch.manual_seed(2)
    captioner = copy.deepcopy(tiny_captioner)
    known = captioner.decoder.embedding.weight[len(SPECIAL_TOKENS) :].detach()
    add_words(captioner, [f"w{number}" for number in range(20_000)])
    new = captioner.decoder.embedding.weight[-20_000:].detach()
    torch.testing.assert_close(new.mean(0), known.mean(0), atol=0.03, rtol=0)
    torch.testing.assert_close(new.std(0), known.std(0), atol=0, rtol=0.03)


@pytest.mark.parametrize("words", [["dog"], ["emu", "emu"], ["<unk>"]])
def test_a_word_is_added_once(tiny_captioner: Captioner, words: list[str]):
    captioner = copy.deepcopy(tiny_captioner)
    with pytest.raises(ValueError, match="differ"):
        add_words(captioner, words)
    assert len(captioner.decoder.output_bias) == len(captioner.vocabulary)


def run(data: PreparedCaptions, output: Path, init_from: Path, **options) -> Path:
    training = replace(TRAINING, **options.pop("training", {}))
    search = SearchConfig(beam_size=2, max_words=12)
    return train(data=data.folder, output=output, init_from=str(init_from), search=search, training=training, **options)


@pytest.fixture(scope="module")
def learned(data: PreparedCaptions, model_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    output = tmp_path_factory.mktemp("learned")
    run(data, output, model_folder, training={"epochs": 30, "patience": 30, "monitor": "perplexity"})
    return output


def test_new_words_are_learned_and_counted(learned: Path, data: PreparedCaptions, tiny_captioner: Captioner):
    captioner = load_torch_captioner(learned / "model")
    new = set(data.vocabulary.words) - set(tiny_captioner.vocabulary.words)
    assert set(captioner.vocabulary.words) == new | set(tiny_captioner.vocabulary.words)
    scores = evaluate(captioner, data, "train")
    said = {word for caption in scores["captions"].values() for word in caption.split()}
    assert {"background", "square"} <= new & said
    assert scores["BLEU-1"] > 0.8
    assert f"a vocabulary of {10 + len(new)} words" in (learned / "model" / "README.md").read_text()
    assert captioner.history[-1]["words"] == 10 + len(new)


def test_validation_perplexity_is_that_of_the_extended_vocabulary(learned: Path, data: PreparedCaptions):
    """Every reference word in the vocabulary is scored by its own id: by hand from single steps."""
    captioner = load_torch_captioner(learned / "model")
    nats = words = 0
    rows = data.split("validation")
    for image, captions in zip(rows["image"], rows["tokens"], strict=True):
        with torch.no_grad():
            memory = captioner.remember([load_image(image["bytes"])])
            for tokens in captions:
                ids = [*captioner.vocabulary.encode(tokens), EOS]
                assert UNK not in ids or "picture" in tokens
                found = probabilities(captioner, memory, ids[:-1])
                nats -= sum(math.log(found[position, word]) for position, word in enumerate(ids))
                words += len(ids)
    best = min(_logged(learned, "perplexity"))
    # The model folder stores weights in half precision.
    assert math.exp(nats / words) == pytest.approx(best, rel=0.02)
    assert evaluate(captioner, data, "validation")["perplexity"] == pytest.approx(math.exp(nats / words), rel=1e-4)


def test_training_says_what_is_new_and_what_stays_unknown(
    data: PreparedCaptions, model_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    tokens = [word for captions in data.split("train")["tokens"] for caption in captions for word in caption]
    known = {*data.vocabulary.words, *load_torch_captioner(model_folder).vocabulary.words}
    new = len(known) - 10
    unknown = sum(word not in known for word in tokens) / len(tokens)
    assert 0 < unknown < 0.5
    run(data, tmp_path, model_folder, training={"epochs": 1})
    lines = [line for line in capsys.readouterr().err.splitlines() if "are new to" in line]
    assert len(lines) == 1
    assert f"{new} of its {len(data.vocabulary.words)} words are new to {model_folder}" in lines[0]
    assert f"{unknown:.2%} of the running words" in lines[0]
    assert "fewer than 9 times" in lines[0]


def test_a_resumed_run_gives_the_same_model(
    data: PreparedCaptions, model_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    class Killed(BaseException):
        pass

    step = CaptioningTask.training_step

    def stop(task: CaptioningTask, batch, batch_idx):
        if task.global_step == 6:
            raise Killed
        return step(task, batch, batch_idx)

    run(data, tmp_path / "whole", model_folder)
    with monkeypatch.context() as patch:
        patch.setattr(CaptioningTask, "training_step", stop)
        with pytest.raises(Killed):
            run(data, tmp_path / "resumed", model_folder)
    run(data, tmp_path / "resumed", model_folder, ckpt_path="last")
    whole, resumed = (tmp_path / name / "model" / "model.safetensors" for name in ("whole", "resumed"))
    assert whole.read_bytes() == resumed.read_bytes()


def test_a_run_that_began_without_new_words_is_resumed_without_them(
    data: PreparedCaptions, model_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """So did those of earlier versions."""
    with monkeypatch.context() as patch:
        patch.setattr("captioning.training.new_words.add_words", lambda *_: None)
        run(data, tmp_path, model_folder)
    resumed = run(data, tmp_path, model_folder, ckpt_path="last", training={"epochs": 2})
    assert len(load_torch_captioner(resumed).vocabulary.words) == 10


def test_self_critical_training_and_a_mean_of_weights_know_the_new_words(
    learned: Path, data: PreparedCaptions, model_folder: Path, tmp_path: Path
):
    first = learned / "model"
    objective = {"objective": "self_critical", "epochs": 1, "learning_rate": 1e-3}
    second = load_torch_captioner(run(data, tmp_path / "reward", first, training=objective))
    assert second.vocabulary.words == load_torch_captioner(first).vocabulary.words
    assert all(reward > 0 for reward in _logged(tmp_path / "reward", "reward"))

    mean = load_torch_captioner(export(learned, output=tmp_path / "mean", initial_share=0.25)).decoder
    initial, ended = load_torch_captioner(model_folder).decoder, load_torch_captioner(first).decoder
    size = len(initial.output_bias)
    expected = 0.25 * initial.embedding.weight + 0.75 * ended.embedding.weight[:size]
    torch.testing.assert_close(mean.embedding.weight[:size], expected, atol=1e-3, rtol=1e-2)
    torch.testing.assert_close(mean.embedding.weight[size:], ended.embedding.weight[size:], atol=1e-3, rtol=1e-2)
    expected = 0.25 * initial.hidden_to_output.weight + 0.75 * ended.hidden_to_output.weight
    torch.testing.assert_close(mean.hidden_to_output.weight, expected, atol=1e-3, rtol=1e-2)


def test_cached_features_stay_valid(learned: Path, data: PreparedCaptions, model_folder: Path, tmp_path: Path):
    """`learned` computed them from the model with few words."""
    before = {path: path.stat().st_mtime_ns for path in (data.folder / "features").rglob("*.npy")}
    assert before
    run(data, tmp_path, learned / "model", training={"epochs": 1})
    assert {path: path.stat().st_mtime_ns for path in (data.folder / "features").rglob("*.npy")} == before


def _logged(output: Path, name: str) -> list[float]:
    with (output / "logs" / "csv" / "version_0" / "metrics.csv").open(newline="") as file:
        return [float(row[name]) for row in csv.DictReader(file) if row[name]]
