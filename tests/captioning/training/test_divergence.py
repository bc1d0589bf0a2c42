"""Failing training of a captioner: it ends with an error and keeps earlier checkpoints."""

import math
from pathlib import Path

import pytest
import torch

from captioning.captioner_config import DecoderConfig, EncoderConfig, TrainingConfig
from captioning.cli import main
from captioning.training.task import CaptioningTask
from data_prep import prepare_captions
from vision_rnn.errors import UserError


@pytest.fixture
def options(synthetic_captions: Path, tmp_path: Path) -> list[str]:
    prepare_captions(synthetic_captions / "captions.jsonl", tmp_path / "data", min_count=1)
    return [
        *("--data", str(tmp_path / "data"), "--output", str(tmp_path / "run")),
        *("--encoder.backbone=none", "--encoder.image_size=1", "--decoder.attention=none", "--decoder.hidden_size=8"),
        *("--training.monitor=perplexity", "--training.mirror=false", "--training.batch_size=4"),
    ]


def test_a_learning_rate_that_is_far_too_high_is_one_line_that_names_the_step(
    options: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    diverging = ["--training.learning_rate=2e9", "--training.gradient_clip=2e9", "--training.epochs=9"]
    assert main(["train", *options, *diverging]) == 2
    last = capsys.readouterr().err.splitlines()[-1]
    assert last.startswith("captioning: error: training: the loss is not a finite number in epoch ")
    assert last.endswith("; start again with a lower training.learning_rate")
    assert not (tmp_path / "run" / "model").exists()


def test_the_last_good_checkpoint_is_kept(
    options: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    """The weights become NaN in the last step of the second epoch, so that only validation detects it."""
    step = CaptioningTask.on_train_batch_start

    def breaking(self: CaptioningTask, batch: object, batch_idx: int) -> None:
        step(self, batch, batch_idx)  # type: ignore[arg-type]
        if self.current_epoch == 1 and batch_idx == 3:
            self.captioner.decoder.output_bias.data.fill_(math.nan)
            self.captioner.decoder.output_bias.requires_grad_(False)

    monkeypatch.setattr(CaptioningTask, "on_train_batch_start", breaking)
    assert main(["train", *options, "--training.epochs=3"]) == 2
    assert "not a finite number in epoch 1" in capsys.readouterr().err
    for name in ("last", "best"):
        checkpoint = torch.load(tmp_path / "run" / "checkpoints" / f"{name}.ckpt", weights_only=True)
        assert checkpoint["epoch"] == 0
        assert all(tensor.isfinite().all() for tensor in checkpoint["state_dict"].values())


@pytest.mark.parametrize("value", [math.nan, math.inf, -1.0])
def test_a_rate_that_no_training_can_use_is_refused_by_name(value: float):
    with pytest.raises(UserError, match=f"training.learning_rate: {value} is out of range"):
        TrainingConfig(learning_rate=value)


def test_the_defaults_are_possible():
    EncoderConfig(), DecoderConfig(), TrainingConfig()
