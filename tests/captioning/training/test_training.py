"""Training: losses against slow references, a tiny overfit, and resuming after a kill."""

import csv
import dataclasses
import itertools
import json
import os
import re
import shutil
import signal
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from PIL import Image
from torch.nn import functional as F
from torch.optim.swa_utils import AveragedModel

from captioning.captioner import load_torch_captioner
from captioning.captioner_config import DecoderConfig, EncoderConfig, SearchConfig, TrainingConfig
from captioning.cli import main
from captioning.confidence import Calibration
from captioning.model_card import model_card
from captioning.network.attention import Attention
from captioning.network.familiarity import Familiarity
from captioning.network.gradient_flow import gradient_flow
from captioning.network.torch_decoding import TorchDecoding
from captioning.scoring.model import evaluate
from captioning.search import sample
from captioning.training import features
from captioning.training.batches import CaptionBatch, CaptionedImages, collate
from captioning.training.run import export, train
from captioning.training.task import CaptioningTask
from data_prep.captions import prepare_captions
from data_prep.prepared_captions import PreparedCaptions
from data_prep.vocabulary import BOS, EOS, PAD, UNK
from evaluation.cider import DocumentFrequencies, cider_d
from tests.captioning.conftest import use_random_backbones
from vision_rnn.checksums import write_sums
from vision_rnn.errors import UserError
from vision_rnn.saved_model import save_model
from vision_rnn.trainer_config import TrainerConfig

pytestmark = pytest.mark.usefixtures("random_backbones")
# One of timm's smallest backbones.
ENCODER = EncoderConfig(backbone="timm:test_resnet", image_size=64)
DECODER = DecoderConfig(hidden_size=64, embedding_size=64, attention_size=32, dropout=0.1)
SEARCH = SearchConfig(beam_size=2, max_words=12)
TRAINING = TrainingConfig(epochs=4, batch_size=4, warmup_steps=2, learning_rate=1e-3, average_decay=0.5, precision="32")


@pytest.fixture(scope="module")
def prepared(synthetic_captions: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("prepared") / "shapes"
    prepare_captions(synthetic_captions / "captions.jsonl", folder, min_count=1)
    return folder


def run(prepared: Path, output: Path, training: TrainingConfig = TRAINING, **options) -> Path:
    configs = {"encoder": ENCODER, "decoder": DECODER, "search": SEARCH, "training": training}
    return train(data=prepared, output=output, **(configs | options))


def logged(output: Path, name: str) -> dict[int, str]:
    """Return a value logged at every step, from all runs in a folder; later runs take precedence."""
    found = {}
    for path in sorted(output.glob("logs/csv/version_*/metrics.csv")):
        with path.open(newline="") as file:
            found |= {int(row["step"]): row[name] for row in csv.DictReader(file) if row[name]}
    return found


def losses(output: Path) -> dict[int, str]:
    return logged(output, "loss")


@pytest.fixture(scope="module")
def uninterrupted(prepared: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    output = tmp_path_factory.mktemp("uninterrupted")
    with pytest.MonkeyPatch.context() as monkeypatch:
        use_random_backbones(monkeypatch)
        run(prepared, output)
    return output


def test_every_step_is_logged_and_the_model_folder_captions(uninterrupted: Path, prepared: Path):
    assert sorted(losses(uninterrupted)) == list(range(4 * 8))  # 16 images and their mirror images, 4 per batch
    captioner = load_torch_captioner(uninterrupted / "model")
    scores = evaluate(captioner, PreparedCaptions.open(prepared), "test")
    assert scores["images"] == 4
    assert len(scores["captions"]) == 4
    saved = yaml.safe_load((uninterrupted / "config.yaml").read_text())
    assert saved["training"]["epochs"] == 4
    assert saved["decoder"]["hidden_size"] == 64


def stop_and_resume(steps: int, prepared: Path, output: Path, monkeypatch: pytest.MonkeyPatch, **options: Any) -> None:
    class Killed(BaseException):
        pass

    training_step = CaptioningTask.training_step

    def stop_at_step(task: CaptioningTask, batch, batch_idx):
        if task.global_step == steps:
            raise Killed
        return training_step(task, batch, batch_idx)

    with monkeypatch.context() as patch:
        patch.setattr(CaptioningTask, "training_step", stop_at_step)
        with pytest.raises(Killed):
            run(prepared, output, **options)
    run(prepared, output, ckpt_path="last", **options)


def assert_same(run_folder: Path, other: Path) -> None:
    assert losses(run_folder) == losses(other)
    weights = "model/model.safetensors"
    assert (run_folder / weights).read_bytes() == (other / weights).read_bytes()


@pytest.mark.parametrize("steps", [8, 13, 30])
def test_resuming_after_an_interruption_gives_the_losses_of_an_uninterrupted_run(
    steps: int, prepared: Path, uninterrupted: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """The runs stop at the first step of an epoch, within an epoch, and in the last epoch."""
    stop_and_resume(steps, prepared, tmp_path, monkeypatch)
    assert_same(tmp_path, uninterrupted)


def test_photos_that_another_process_decodes_are_the_same_after_an_interruption(
    prepared: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """Their order and their crops, which differ between epochs."""
    options = {"training": dataclasses.replace(TRAINING, epochs=3, encoder_learning_rate=1e-3, mirror=False, crops=1)}
    run(prepared, tmp_path / "whole", **options, trainer=TrainerConfig(workers=0))
    assert len(set(losses(tmp_path / "whole").values())) == 3 * 8
    stop_and_resume(19, prepared, tmp_path / "resumed", monkeypatch, **options, trainer=TrainerConfig(workers=2))
    assert_same(tmp_path / "resumed", tmp_path / "whole")


@pytest.mark.parametrize(
    "decoder",
    [
        {"hard": True},
        {"cell": "window", "attention": "none"},
        {"cell": "rnn", "num_layers": 2, "residual": True},
    ],
)
def test_every_rung_trains_resumes_and_captions(
    decoder: dict[str, Any], prepared: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    options = {
        "decoder": dataclasses.replace(DECODER, **decoder),
        "training": dataclasses.replace(TRAINING, epochs=2),
    }
    run(prepared, tmp_path / "whole", **options)
    stop_and_resume(11, prepared, tmp_path / "resumed", monkeypatch, **options)
    assert_same(tmp_path / "resumed", tmp_path / "whole")
    captioner = load_torch_captioner(tmp_path / "whole" / "model")
    assert len(evaluate(captioner, PreparedCaptions.open(prepared), "test")["captions"]) == 4


@pytest.mark.slow
def test_resuming_after_a_killed_process_gives_the_losses_of_an_uninterrupted_run(
    prepared: Path, uninterrupted: Path, tmp_path: Path
):
    """A real SIGKILL, at any time after the first epoch."""
    program = (
        "import sys, pytest; sys.path.insert(0, sys.argv[1]); from pathlib import Path; import test_training as t\n"
        "with pytest.MonkeyPatch.context() as patch:\n"
        "    t.use_random_backbones(patch)\n"
        "    t.run(Path(sys.argv[2]), Path(sys.argv[3]))"
    )
    arguments = [sys.executable, "-c", program, str(Path(__file__).parent), str(prepared), str(tmp_path)]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    process = subprocess.Popen(arguments, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 120
    while not (tmp_path / "checkpoints" / "last.ckpt").is_file() and process.poll() is None:
        assert time.monotonic() < deadline
        time.sleep(0.05)
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    run(prepared, tmp_path, ckpt_path="last")
    known = losses(uninterrupted)
    assert {step: loss for step, loss in losses(tmp_path).items()} == {step: known[step] for step in losses(tmp_path)}
    assert max(losses(tmp_path)) == max(known)


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("epochs", 0),
        ("batch_size", 0),
        ("samples", 1),
        ("learning_rate", -1.0),
        ("average_decay", 1.0),
        ("temperature", 0.0),
        ("patience", 0),
    ],
)
def test_numbers_that_no_training_can_use_are_named(option: str, value: float):
    with pytest.raises(UserError, match=rf"training\.{option}: {value} is (too|out of range)"):
        dataclasses.replace(TRAINING, **{option: value})


def test_a_training_finds_the_features_that_were_computed_in_parts(
    uninterrupted: Path,
    prepared: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
):
    data = tmp_path / "data"
    shutil.copytree(prepared, data, ignore=shutil.ignore_patterns("features"))
    settings = tmp_path / "settings.yaml"
    shutil.copyfile(uninterrupted / "config.yaml", settings)
    command = ["train", "--config", str(settings), f"--data={data}", f"--output={tmp_path / 'run'}"]
    for part, images in (("1/2", 0), ("2/2", 16 + 16 + 4), ("2/2", 0)):
        assert main([*command, f"--feature_shard={part}"]) == 0
        assert capsys.readouterr().out == f"part {part} of the features in {data}: {images} images encoded\n"
    assert not (tmp_path / "run").exists()
    monkeypatch.setattr(features, "load_image", lambda *_: pytest.fail("encoded again"))
    assert main(command) == 0
    assert losses(tmp_path / "run") == losses(uninterrupted)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--feature_shard=3/2", "--data={data}"], "--feature_shard 3/2: not a part of several; give one such as 2/8"),
        (["--feature_shard=1/2"], "--feature_shard: goes with --data, and neither with a folder of photos nor"),
        (["photos", "--feature_shard=1/2", "--data={data}"], "--feature_shard: goes with --data, and neither with"),
        (["--feature_shard=1/2", "--data={data}", "--force"], "nor with --ckpt_path, --from-scratch or --force"),
        (
            ["--feature_shard=1/2", "--data={data}", "--training.encoder_learning_rate=1e-4"],
            "training.encoder_learning_rate: where the encoder is trained, features are not kept; give 0",
        ),
        (
            ["--feature_shard=1/2", "--data={data}", "--encoder.backbone=none", "--decoder.attention=none"],
            "encoder.backbone: a language model has no features",
        ),
    ],
)
def test_features_that_are_not_computed_in_parts(
    options: list[str], message: str, prepared: Path, capsys: pytest.CaptureFixture[str]
):
    assert main(["train", *(option.format(data=prepared) for option in options)]) == 2
    assert message in capsys.readouterr().err


def test_a_run_is_not_resumed_on_other_data(uninterrupted: Path, known: PreparedCaptions):
    with pytest.raises(UserError, match="not the data"):
        run(known.folder, uninterrupted, ckpt_path="last")


def test_training_needs_a_validation_split_and_says_so_before_any_work(prepared: Path, tmp_path: Path):
    shutil.copytree(prepared, tmp_path / "prepared")
    manifest = json.loads((prepared / "manifest.json").read_text())
    del manifest["splits"]["validation"]
    (tmp_path / "prepared" / "manifest.json").write_text(json.dumps(manifest))
    write_sums(tmp_path / "prepared")
    with pytest.raises(UserError, match="no split 'validation'"):
        run(tmp_path / "prepared", tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_a_model_tells_how_it_came_about(uninterrupted: Path, prepared: Path, tmp_path: Path):
    """A second training starts from the decoder of the first, regardless of the configuration, and records it."""
    again = dataclasses.replace(TRAINING, epochs=1, learning_rate=1e-5)
    model = run(prepared, tmp_path, again, init_from=str(uninterrupted / "model"), decoder=DecoderConfig())
    first, second = load_torch_captioner(model).history
    assert (first["training"]["epochs"], second["training"]["epochs"]) == (4, 1)
    assert second["decoder"] == first["decoder"] == dataclasses.asdict(DECODER)
    best = max(map(float, logged(uninterrupted, "CIDEr-D").values()))
    assert first["validation"] == {"CIDEr-D": pytest.approx(best)}
    card = (model / "README.md").read_text()
    assert card.count("hidden_size: 64") == 2
    assert f"this training's best epoch reached: CIDEr-D {best:.4f}" in card
    assert str(tmp_path) not in card
    assert "Not yet measured" in card


def test_a_model_may_keep_a_share_of_the_weights_it_began_with(uninterrupted: Path, prepared: Path, tmp_path: Path):
    began = uninterrupted / "model"
    again = dataclasses.replace(TRAINING, epochs=1)
    ended = run(prepared, tmp_path / "run", again, init_from=str(began))
    export(tmp_path / "run", output=tmp_path / "mean", initial_share=0.25, length_exponent=0.5)
    first, last, mean = (load_torch_captioner(folder) for folder in (began, ended, tmp_path / "mean"))
    for name in ("decoder.embedding.weight", "decoder.cell.input_to_gates.weight"):
        expected = 0.25 * first.state_dict()[name] + 0.75 * last.state_dict()[name]
        torch.testing.assert_close(mean.state_dict()[name], expected, atol=1e-3, rtol=1e-3)
    assert mean.search.length_exponent == 0.5
    assert mean.history[-1]["initial_share"] == 0.25
    assert "validation" not in mean.history[-1]  # It was not measured.
    with pytest.raises(UserError, match="did not start from a trained model"):
        export(uninterrupted, output=tmp_path / "none", initial_share=0.5)


def test_a_model_may_keep_a_share_of_the_weights_of_an_earlier_stage(
    uninterrupted: Path, prepared: Path, tmp_path: Path
):
    once = dataclasses.replace(TRAINING, epochs=1)
    first = uninterrupted / "model"
    second = run(prepared, tmp_path / "second", once, init_from=str(first))
    third = run(prepared, tmp_path / "third", once, init_from=str(second))
    export(third.parent, output=tmp_path / "mean", initial_share=0.25, initial=str(first))
    mean, began, ended = (load_torch_captioner(folder) for folder in (tmp_path / "mean", first, third))
    expected = 0.25 * began.decoder.embedding.weight + 0.75 * ended.decoder.embedding.weight
    torch.testing.assert_close(mean.decoder.embedding.weight, expected, atol=1e-3, rtol=1e-3)
    assert (mean.history[-1]["initial_share"], mean.history[-1]["initial_stage"]) == (0.25, 1)
    other = run(prepared, tmp_path / "other", dataclasses.replace(once, seed=3))
    for options, reason in (
        ({"initial_share": 0.25, "initial": str(other)}, "no earlier stage of .*third; omit --initial"),
        ({"initial": str(first)}, "goes with --initial-share"),
    ):
        with pytest.raises(UserError, match=reason):
            export(third.parent, output=tmp_path / "none", **options)
    assert not (tmp_path / "none").exists()


def test_a_model_may_be_the_mean_of_several_runs(uninterrupted: Path, prepared: Path, tmp_path: Path):
    began = str(uninterrupted / "model")
    runs = [tmp_path / f"run-{seed}" for seed in range(3)]
    trained = [
        run(prepared, folder, dataclasses.replace(TRAINING, epochs=1, seed=seed), init_from=began)
        for seed, folder in enumerate(runs)
    ]
    mean = load_torch_captioner(export(runs[0], output=tmp_path / "mean", average_with=list(map(str, runs[1:]))))
    weights = [load_torch_captioner(model).decoder.embedding.weight for model in trained]
    torch.testing.assert_close(mean.decoder.embedding.weight, sum(weights) / 3, atol=1e-3, rtol=1e-3)
    assert not torch.equal(weights[0], weights[1])
    assert [training["seed"] for training in mean.history[-1]["averaged_with"]] == [1, 2]
    once = dataclasses.replace(TRAINING, epochs=1)
    elsewhere = run(prepared, tmp_path / "elsewhere", once, init_from=str(trained[0]))
    for first, second, reason in (
        (runs[0], elsewhere.parent, "elsewhere: started from .*run-0.*, and .*run-0 from"),
        (uninterrupted, runs[0], "did not start from a trained model; omit --average-with"),
        (trained[0], runs[1], "a model, and not the run that trained it; omit --average-with"),
    ):
        with pytest.raises(UserError, match=reason):
            export(first, output=tmp_path / "none", average_with=[str(second)])


def first_batch(images: CaptionedImages, size: int) -> CaptionBatch:
    return collate([images[index] for index in range(size)])


def test_the_cross_entropy_is_that_of_its_equation(known: PreparedCaptions, tmp_path: Path):
    """Equation 14: the mean over words of the smoothed negative log-probability, plus the attention penalty."""
    captioner = load_torch_captioner(learn(known, tmp_path, epochs=1))
    images = CaptionedImages(known, "train", captioner.encoder, captioner.vocabulary, cached=True)
    training = dataclasses.replace(TRAINING, label_smoothing=0.1, doubly_stochastic=0.5)
    task = CaptioningTask(captioner, training, images, images)
    task.log = lambda *_, **__: None  # type: ignore[method-assign]
    batch = first_batch(images, 3)  # images with two and with three captions
    words, penalties = [], []
    for index in range(3):
        memory = captioner.decoder.remember(batch.images[index : index + 1])
        for caption in images.captions[index]:
            state, attended = captioner.decoder.initial_state(memory, 1), torch.zeros(memory.values.shape[1])
            for last, word in itertools.pairwise(caption.tolist()):
                logits, state, weights = captioner.decoder.step(torch.tensor([[last]]), state, memory)
                log_probabilities = logits[0, 0].log_softmax(-1)
                words.append(-0.9 * log_probabilities[word].item() - 0.1 * log_probabilities.mean().item())
                attended += weights[0, 0].detach()
            penalties.append((1 - attended).square().sum().item())
    expected = statistics.fmean(words) + 0.5 * statistics.fmean(penalties)
    assert task.training_step(batch, 0).item() == pytest.approx(expected, rel=1e-4)


@pytest.mark.parametrize("cell", ["window", "rnn", "lstm"])
def test_without_an_image_the_captioner_learns_to_write(cell: str, known: PreparedCaptions, tmp_path: Path, capsys):
    run(
        known.folder,
        tmp_path,
        dataclasses.replace(
            TRAINING, epochs=6, monitor="perplexity", learning_rate=1e-2, mirror=False, label_smoothing=0
        ),
        encoder=EncoderConfig(backbone="none", image_size=1),
        decoder=dataclasses.replace(DECODER, attention="none", cell=cell),
    )
    perplexities = [float(value) for value in logged(tmp_path, "perplexity").values()]
    assert perplexities[-1] < 0.5 * perplexities[0]
    card = (tmp_path / "model" / "README.md").read_text()
    assert "takes no image" in card
    assert "captioning sample" in card
    capsys.readouterr()
    assert main(["sample", "--model", str(tmp_path / "model"), "--prefix", "a", "-n", "7"]) == 0
    sentences = capsys.readouterr().out.splitlines()
    assert len(sentences) == 7
    assert all(sentence.split()[0] == "a" for sentence in sentences)
    assert len(set(sentences)) > 1
    photo = tmp_path / "photo.png"
    Image.new("RGB", (8, 8)).save(photo)
    assert main(["caption", str(photo), "--model", str(tmp_path / "model")]) == 2
    assert "captioning sample" in capsys.readouterr().err


def test_writing_needs_a_language_model(uninterrupted: Path, capsys):
    assert main(["sample", "--model", str(uninterrupted / "model")]) == 2
    assert "this model captions photos" in capsys.readouterr().err


def test_averaging_the_weights_copies_no_features(known: PreparedCaptions, uninterrupted: Path):
    captioner = load_torch_captioner(uninterrupted / "model")
    images = CaptionedImages(known, "train", captioner.encoder, captioner.vocabulary, cached=True)
    images.prepare()
    task = CaptioningTask(captioner, TRAINING, images, images)
    averaged = AveragedModel(task).module
    assert averaged.captioner.decoder.output_bias is not task.captioner.decoder.output_bias
    assert np.shares_memory(averaged._validation._grids[0], images._grids[0])


def test_a_look_earns_the_words_from_its_own_on_less_their_moving_average(known: PreparedCaptions, tmp_path: Path):
    captioner = load_torch_captioner(learn(known, tmp_path, epochs=1, decoder=dataclasses.replace(DECODER, hard=True)))
    images = CaptionedImages(known, "train", captioner.encoder, captioner.vocabulary, cached=True)
    task = CaptioningTask(captioner, TRAINING, images, images)
    words = torch.tensor([[[-1.0, -2.0, -4.0], [-3.0, -5.0, 0.0]]])
    mask = torch.tensor([[[True, True, True], [True, True, False]]])
    first = task._advantages(words, mask)
    torch.testing.assert_close(first[mask], torch.tensor([-7.0, -6.0, -4.0, -8.0, -5.0]))
    # A tenth of the way to the mean of the rewards with one, two and three remaining words.
    expected = torch.tensor([0.0, -0.45, -0.7, -0.7])
    torch.testing.assert_close(task.look_baseline[:4], expected)
    assert task.look_baseline[4:].count_nonzero() == 0
    second = task._advantages(words, mask)
    torch.testing.assert_close(second[mask], torch.tensor([-6.3, -5.3, -3.55, -7.3, -4.55]))


def test_a_look_gains_nothing_where_all_locations_are_alike(known: PreparedCaptions, tmp_path: Path):
    """Then the expectation equals the look for any dropout mask, and the gain is only rounding error."""
    decoder = dataclasses.replace(DECODER, hard=True, dropout=0.5)
    captioner = load_torch_captioner(learn(known, tmp_path, epochs=1, decoder=decoder)).train()
    images = CaptionedImages(known, "train", captioner.encoder, captioner.vocabulary, cached=True)
    task = CaptioningTask(captioner, TRAINING, images, images)
    batch = first_batch(images, 4)
    mask = batch.targets != PAD
    for grid, alike in ((batch.images, False), (batch.images.mean(1, keepdim=True).expand_as(batch.images), True)):
        expected = task._expected_log_likelihoods(grid, batch)[mask]
        outputs = captioner.decoder(captioner.decoder.remember(grid), batch.inputs).outputs[mask]
        log_likelihoods = -F.cross_entropy(captioner.decoder.logits(outputs), batch.targets[mask], reduction="none")
        assert torch.allclose(log_likelihoods, expected, atol=1e-4) == alike


def test_hard_attention_is_soft_until_it_begins_to_look(
    prepared: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("captioning.training.task.SHARPNESS", (1.0, 1.0))
    decoder = dataclasses.replace(DECODER, dropout=0.0)
    training = dataclasses.replace(TRAINING, epochs=1, look_warmup=0.5, look_entropy=0.0)
    run(prepared, tmp_path / "soft", training, decoder=decoder)
    run(prepared, tmp_path / "hard", training, decoder=dataclasses.replace(decoder, hard=True))
    soft, hard = losses(tmp_path / "soft"), losses(tmp_path / "hard")
    # The fifth of eight steps is the first that draws looks.
    assert [hard[step] == soft[step] for step in range(8)] == [True] * 4 + [False] * 4


def test_hard_attention_sharpens_once_it_looks(prepared: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    seen = []
    forward = Attention.forward

    def spy(attention: Attention, *arguments: torch.Tensor) -> Any:
        if attention.training and torch.is_grad_enabled():
            seen.append((attention.expected_share, attention.sharpness))
        return forward(attention, *arguments)

    monkeypatch.setattr(Attention, "forward", spy)
    monkeypatch.setattr("captioning.training.task.SHARPNESS", (2.0, 32.0))
    training = dataclasses.replace(TRAINING, epochs=1, look_warmup=0.5)
    run(prepared, tmp_path, training, decoder=dataclasses.replace(DECODER, hard=True))
    # Eight steps with several words each.
    steps = [value for value, _ in itertools.groupby(seen)]
    assert steps == [(1.0, 2.0), (0.5, 2.0), (0.5, 4.0), (0.5, 8.0), (0.5, 16.0)]


def test_training_stops_early_and_shows_captions(prepared: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    """With a tiny learning rate, no epoch is better than the first."""
    run(prepared, tmp_path, dataclasses.replace(TRAINING, epochs=9, patience=2, learning_rate=1e-12))
    assert max(losses(tmp_path)) == 3 * 8 - 1
    epochs = {name: torch.load(tmp_path / "checkpoints" / f"{name}.ckpt")["epoch"] for name in ("best", "last")}
    assert epochs == {"best": 0, "last": 2}
    assert len(list(tmp_path.glob("logs/tensorboard/version_0/events*"))) == 1
    assert len(re.findall(r"epoch \d:", capsys.readouterr().err)) == 3


def test_a_run_is_not_overwritten(uninterrupted: Path, prepared: Path):
    with pytest.raises(UserError, match="--ckpt_path last"):
        run(prepared, uninterrupted)


def test_resuming_needs_a_checkpoint(prepared: Path, tmp_path: Path):
    with pytest.raises(UserError, match="no such checkpoint"):
        run(prepared, tmp_path, ckpt_path="last")


@pytest.mark.parametrize("damage", [b"", b"PK not a checkpoint", None])
def test_a_damaged_checkpoint_is_refused(damage: bytes | None, uninterrupted: Path, prepared: Path, tmp_path: Path):
    whole = (uninterrupted / "checkpoints" / "last.ckpt").read_bytes()
    (tmp_path / "last.ckpt").write_bytes(whole[: len(whole) // 2] if damage is None else damage)
    with pytest.raises(UserError, match="damaged"):
        run(prepared, tmp_path / "run", ckpt_path=str(tmp_path / "last.ckpt"))


def test_exporting_needs_a_trained_run(tmp_path: Path):
    with pytest.raises(UserError, match="captioning train"):
        export(tmp_path, output=tmp_path / "model")


# Random features do not distinguish a small circle from a square; those of the installed encoder do.
LITE = EncoderConfig(backbone="efficientnet_lite2", image_size=128)


@pytest.fixture(scope="module")
def known(synthetic_captions: Path, tmp_path_factory: pytest.TempPathFactory) -> PreparedCaptions:
    """Only the training split, also for validation, so that the best epoch is the one that fits it best."""
    folder = tmp_path_factory.mktemp("known")
    lines = [json.loads(line) for line in (synthetic_captions / "captions.jsonl").read_text().splitlines()]
    twice = [line | {"split": split} for line in lines if line["split"] == "train" for split in ("train", "validation")]
    (folder / "known.jsonl").write_text("\n".join(map(json.dumps, twice)))
    prepare_captions(folder / "known.jsonl", folder / "known", image_root=synthetic_captions / "images", min_count=1)
    return PreparedCaptions.open(folder / "known")


def learn(known: PreparedCaptions, output: Path, epochs: int, **options: Any) -> Path:
    training = dataclasses.replace(
        TRAINING,
        epochs=epochs,
        patience=epochs,
        learning_rate=3e-3,
        label_smoothing=0.0,
        mirror=False,
        average_decay=0.0,
    )
    return run(known.folder, output, training, encoder=LITE, **options)


def test_a_synthetic_set_is_overfitted(known: PreparedCaptions, tmp_path: Path):
    scores = evaluate(load_torch_captioner(learn(known, tmp_path, epochs=60)), known, "train")
    assert scores["BLEU-4"] == pytest.approx(1.0)


def test_the_self_critical_objective_raises_the_reward(known: PreparedCaptions, tmp_path: Path):
    model = learn(known, tmp_path / "learn", epochs=16)
    training = dataclasses.replace(TRAINING, objective="self_critical", epochs=12, learning_rate=3e-3, patience=12)
    run(known.folder, tmp_path / "reward", training, encoder=LITE, init_from=str(model))
    rewards = [float(reward) for reward in logged(tmp_path / "reward", "reward").values()]
    assert statistics.fmean(rewards[-8:]) > 1.3 * statistics.fmean(rewards[:8])


def test_the_self_critical_loss_is_that_of_its_equation(
    known: PreparedCaptions, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """Minus (reward - mean reward of the other samples) log p(caption), averaged over captions, one word at a time.

    The words are drawn at a temperature; p is the probability at that temperature among the tokens that can be drawn.
    """
    captioner = load_torch_captioner(learn(known, tmp_path, epochs=1))
    images = CaptionedImages(known, "train", captioner.encoder, captioner.vocabulary, cached=True)
    training = dataclasses.replace(TRAINING, objective="self_critical", samples=3)
    task = CaptioningTask(captioner, training, images, images)
    monkeypatch.setattr(task, "log", lambda *_, **__: None)
    batch = first_batch(images, 2)
    drawn = sample(
        TorchDecoding(captioner.decoder, captioner.decoder.remember(batch.images)), 3, max_words=SEARCH.max_words
    )
    monkeypatch.setattr("captioning.training.task.sample", lambda *_, **__: drawn)
    loss = task.training_step(batch, 0)

    references = [[[str(word) for word in ids[1:].tolist()] for ids in captions] for captions in images.captions]
    frequencies = DocumentFrequencies(references)
    terms = []
    for image in range(2):
        captions = [[word for word in ids if word != PAD] for ids in drawn.words[image].tolist()]
        rewards = [
            cider_d([[str(word) for word in caption]], [references[image]], frequencies).score for caption in captions
        ]
        memory = captioner.decoder.remember(batch.images[image : image + 1])
        for number, caption in enumerate(captions):
            advantage = rewards[number] - (sum(rewards) - rewards[number]) / 2
            state, last = captioner.decoder.initial_state(memory, 1), BOS
            for word in caption:
                logits, state, _ = captioner.decoder.step(torch.tensor([[last]]), state, memory)
                drawable = [token for token in range(len(logits[0, 0])) if token not in (PAD, BOS, UNK)]
                odds = (logits[0, 0] / training.temperature).exp()
                terms.append(-advantage * (odds[word] / odds[drawable].sum()).log().item())
                last = word
    assert loss.item() == pytest.approx(sum(terms) / 6, rel=1e-4)


def test_a_resumed_fine_tuning_sees_the_crops_of_an_uninterrupted_one(
    prepared: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    training = dataclasses.replace(TRAINING, epochs=2, encoder_learning_rate=1e-3, mirror=False, crops=1)
    run(prepared, tmp_path / "whole", training)
    stop_and_resume(11, prepared, tmp_path / "resumed", monkeypatch, training=training)  # in the second epoch
    assert_same(tmp_path / "whole", tmp_path / "resumed")


def test_a_calibrated_model_can_be_a_share_of_the_mean(uninterrupted: Path, prepared: Path, tmp_path: Path):
    initial = load_torch_captioner(uninterrupted / "model")
    initial.calibration = Calibration(
        intercept=0.0,
        log_probability=1.0,
        distance=-1.0,
        good=0.5,
        farthest=[1.0],
        images=50,
        directions=2,
        correlation=0.5,
        reliability=[],
    )
    initial.familiarity = Familiarity(initial.encoder.channels, 2)
    save_model(initial, tmp_path / "calibrated", model_card(initial))
    training = dataclasses.replace(TRAINING, epochs=1)
    run(prepared, tmp_path / "run", training, init_from=str(tmp_path / "calibrated"))
    mean = load_torch_captioner(export(tmp_path / "run", output=tmp_path / "mean", initial_share=0.25))
    trained = load_torch_captioner(tmp_path / "run" / "model").decoder.output_bias
    expected = 0.75 * trained + 0.25 * initial.decoder.output_bias
    torch.testing.assert_close(mean.decoder.output_bias, expected, rtol=2e-3, atol=1e-4)
    assert mean.calibration is None


def test_the_encoder_is_fine_tuned_only_when_asked(prepared: Path, tmp_path: Path):
    frozen = run(prepared, tmp_path / "frozen", dataclasses.replace(TRAINING, epochs=1))
    tuned = run(prepared, tmp_path / "tuned", dataclasses.replace(TRAINING, epochs=1, encoder_learning_rate=1e-3))
    before, after = (load_torch_captioner(model).encoder.state_dict() for model in (frozen, tuned))
    changed = [name for name in before if not torch.equal(before[name], after[name])]
    assert any("conv" in name for name in changed)
    assert not any("running" in name for name in changed)


def test_logging_gradients_changes_nothing_else(uninterrupted: Path, prepared: Path, tmp_path: Path):
    run(prepared, tmp_path, dataclasses.replace(TRAINING, log_gradients=3))
    assert losses(tmp_path) == losses(uninterrupted)
    for back in (1, 5):
        norms = logged(tmp_path, f"gradient_norm_{back}")
        assert sorted(norms) == list(range(0, 4 * 8, 3))
        assert all(float(norm) > 0 for norm in norms.values())
    with (uninterrupted / "logs" / "csv" / "version_0" / "metrics.csv").open(newline="") as file:
        assert not any("gradient" in name for name in csv.DictReader(file).fieldnames or [])


def test_the_logged_norms_are_those_of_each_caption_that_is_long_enough(
    known: PreparedCaptions, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    class Logger:
        def log_metrics(self, metrics: dict[str, float], step: int) -> None:
            found.update(metrics)

    captioner = load_torch_captioner(learn(known, tmp_path, epochs=1)).train()
    images = CaptionedImages(known, "train", captioner.encoder, captioner.vocabulary, cached=True)
    task = CaptioningTask(captioner, dataclasses.replace(TRAINING, log_gradients=1), images, images)
    found: dict[str, float] = {}
    monkeypatch.setattr(task, "log", lambda *_, **__: None)
    monkeypatch.setattr(CaptioningTask, "loggers", [Logger()])
    task.training_step(first_batch(images, 3), 0)  # images with two and with three captions
    assert captioner.decoder.training
    captioner.eval()
    norms: dict[int, list[float]] = {1: [], 5: [], 10: []}
    for index in range(3):
        memory = captioner.decoder.remember(images[index][0][None])
        for caption in images.captions[index]:
            words = caption[caption != EOS]
            flow = gradient_flow(captioner.decoder, memory, words[None, None]).hidden[0, 0]
            for back in norms:
                if back < len(words):
                    norms[back].append(flow[back - 1].item())
    assert len(norms[1]) > len(norms[10])
    for back, of_captions in norms.items():
        if of_captions:
            assert found[f"gradient_norm_{back}"] == pytest.approx(statistics.geometric_mean(of_captions), rel=1e-4)
        else:
            assert f"gradient_norm_{back}" not in found


def test_gradients_of_a_window_are_not_logged(prepared: Path, tmp_path: Path):
    window = dataclasses.replace(DECODER, cell="window", attention="none")
    with pytest.raises(UserError, match=r"training\.log_gradients: a window"):
        run(prepared, tmp_path, dataclasses.replace(TRAINING, log_gradients=1), decoder=window)
