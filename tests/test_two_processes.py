"""Trainings by two processes against the same by one: losses, scores and weights; and one goes on where two stopped."""

import csv
import os
import socket
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file

from data_prep.captions import prepare_captions
from data_prep.pixels import prepare_pixels

# Weights of timm's backbones are not at hand; random ones of the seed are the same in every process.
SCRIPT = """
import os, sys
from captioning.network import backbones
from vision_rnn import trainer
from vision_rnn.errors import UserError
timm = backbones._timm
backbones._timm = lambda name, pretrained: timm(name, pretrained=False)
def end(self, trainer, task):
    if str(trainer.current_epoch) == os.environ.get("KILLED_IN_EPOCH"):
        os._exit(9)
    if str(trainer.global_rank) == os.environ.get("FAILS"):
        raise UserError("this process has had enough")
trainer._TrainingProgress.on_train_epoch_start = end
if sys.argv[1] == "captioning":
    from captioning.cli import main
else:
    from pixelrnn.cli import main
sys.exit(main(sys.argv[2:]))
"""
OPTIONS = {
    "captioning": [
        "--encoder.backbone=timm:test_resnet",
        "--encoder.image_size=64",
        *(f"--decoder.{size}=16" for size in ("hidden_size", "embedding_size", "attention_size")),
        "--decoder.dropout=0",
        "--search.beam_size=2",
        "--training.precision=32",
        "--training.average_decay=0.9",
        "--training.doubly_stochastic=0.5",
    ],
    "pixelrnn": [
        "--model.num_layers=1",
        "--model.hidden_channels=4",
        "--model.output_channels=4",
        "--training.precision=32",
        # Muon computes in bf16, so that at its usual rate a difference in the last bit of a gradient grows to 1e-3.
        "--training.matrix_learning_rate=1e-4",
    ],
}
SCORES = {"captioning": ("BLEU-4", "CIDEr-D", "perplexity"), "pixelrnn": ("validation",)}
EPOCHS, STEPS = 5, 20


@dataclass(frozen=True)
class Setting:
    """What is trained, and where."""

    program: str
    script: Path
    data: Path

    def train(
        self, output: Path, *options: str, launcher: Sequence[str] = (), killed_in: int = -1, fails: int = -1
    ) -> subprocess.CompletedProcess[str]:
        started = self.start(output, *options, launcher=launcher, KILLED_IN_EPOCH=str(killed_in), FAILS=str(fails))
        out, err = started.communicate(timeout=600)
        return subprocess.CompletedProcess(started.args, started.returncode, out, err)

    def start(
        self, output: Path, *options: str, launcher: Sequence[str] = (), **variables: str
    ) -> subprocess.Popen[str]:
        command = [
            sys.executable,
            *launcher,
            str(self.script),
            self.program,
            "train",
            f"--data={self.data}",
            f"--output={output}",
        ]
        command += [*OPTIONS[self.program], f"--training.epochs={EPOCHS}", "--training.batch_size=8", "--device=cpu"]
        root = str(Path(__file__).parents[1])
        environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": root} | variables
        pipe = subprocess.PIPE
        return subprocess.Popen([*command, *options], env=environment, stdout=pipe, stderr=pipe, text=True)


@pytest.fixture(scope="module", params=["captioning", "pixelrnn"])
def setting(
    request: pytest.FixtureRequest, synthetic_captions: Path, tmp_path_factory: pytest.TempPathFactory
) -> Setting:
    folder = tmp_path_factory.mktemp("two")
    (folder / "train.py").write_text(SCRIPT)
    if request.param == "captioning":
        prepare_captions(synthetic_captions / "captions.jsonl", folder / "data", min_count=1)
    else:
        images = np.random.default_rng(0).integers(2, size=(39, 6, 5), dtype=np.uint8)
        np.savez(folder / "images.npz", x_train=images[:32], x_valid=images[32:])
        prepare_pixels(folder / "images.npz", folder / "data")
    return Setting(request.param, folder / "train.py", folder / "data")


@pytest.fixture(scope="module")
def alone(setting: Setting, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The run of one process."""
    output = tmp_path_factory.mktemp("alone") / "run"
    assert setting.train(output).returncode == 0
    return output


def logged(run: Path, name: str) -> list[float]:
    values = []
    for version in sorted((run / "logs" / "csv").iterdir()):
        with open(version / "metrics.csv", newline="") as file:
            values += [float(row[name]) for row in csv.DictReader(file) if row.get(name)]
    return values


def check_same(setting: Setting, run: Path, alone: Path) -> None:
    """The last score is of 20 steps; rounding differs from one division of the images to another."""
    for name in SCORES[setting.program]:
        assert logged(run, name) == pytest.approx(logged(alone, name), abs=1e-5)
    ours, theirs = (load_file(folder / "model" / "model.safetensors") for folder in (run, alone))
    assert ours.keys() == theirs.keys()
    for name, weights in theirs.items():
        # The keys' bias adds the same to the scores of all locations, which leaves the attention as it is: its gradient
        # is rounding errors alone, which Adam turns into 20 steps of up to its learning rate, 1e-3, each.
        most = 20 * 1e-3 if name == "decoder.attention.key.bias" else 1e-5
        # Half precision keeps eleven bits.
        np.testing.assert_allclose(ours[name].astype(float), weights.astype(float), rtol=2e-3, atol=most, err_msg=name)


def test_two_processes_train_as_one(setting: Setting, alone: Path, tmp_path: Path) -> None:
    """Also the features are computed by both, each half of the batches."""
    done = setting.train(tmp_path / "run", "--trainer.devices=2")
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == [str(tmp_path / "run" / "model")]
    check_same(setting, tmp_path / "run", alone)
    losses = logged(tmp_path / "run", "loss")
    assert losses == pytest.approx(logged(alone, "loss"), abs=1e-5)
    assert len(losses) == STEPS or setting.program == "pixelrnn"
    # Every note is said once.
    notes = [
        line for line in done.stderr.splitlines() if "training captions have more" in line or "TensorBoard" in line
    ]
    assert len(notes) == len(set(notes))


def test_one_process_goes_on_where_two_stopped(setting: Setting, alone: Path, tmp_path: Path) -> None:
    assert setting.train(tmp_path / "run", "--trainer.devices=2", killed_in=3).returncode == 9
    done = setting.train(tmp_path / "run", "--ckpt_path=last")
    assert done.returncode == 0, done.stderr
    check_same(setting, tmp_path / "run", alone)


def test_torchrun_starts_the_processes(setting: Setting, alone: Path, tmp_path: Path) -> None:
    torchrun = ["-m", "torch.distributed.run", "--nproc_per_node=2"]
    refused = setting.train(tmp_path / "run", launcher=torchrun)
    assert refused.returncode == 1
    assert "torchrun started 2 processes, and trainer.devices x trainer.num_nodes is 1; give --trainer.devices=2" in (
        refused.stderr
    )
    done = setting.train(tmp_path / "run", "--trainer.devices=2", launcher=torchrun)
    assert done.returncode == 0, done.stderr
    check_same(setting, tmp_path / "run", alone)


def slurm(task: int, **variables: str) -> dict[str, str]:
    """Return what Slurm tells one of two tasks that srun starts on one machine."""
    told = {"NTASKS": "2", "NTASKS_PER_NODE": "2", "STEP_NUM_TASKS": "2", "STEP_NUM_NODES": "1", "JOB_NAME": "train"}
    told |= {"JOB_ID": "7", "NODELIST": "127.0.0.1", "NODEID": "0", "PROCID": str(task), "LOCALID": str(task)}
    return {f"SLURM_{name}": value for name, value in (told | variables).items()}


def test_slurm_starts_the_processes(setting: Setting, alone: Path, tmp_path: Path) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    tasks = [
        setting.start(tmp_path / "run", "--trainer.devices=2", MASTER_PORT=port, **slurm(task)) for task in range(2)
    ]
    ended = [task.communicate(timeout=600) for task in tasks]
    assert [task.returncode for task in tasks] == [0, 0], ended
    assert [out.split() for out, _ in ended] == [[str(tmp_path / "run" / "model")], []]
    check_same(setting, tmp_path / "run", alone)


def test_a_machine_of_a_cluster_can_be_used_without_its_scheduler(
    setting: Setting, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "srun").touch(mode=0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    done = setting.train(tmp_path / "run", "--training.epochs=1")
    assert done.returncode == 0
    assert "srun" not in done.stderr


def test_an_error_ends_all_processes_with_its_reason(setting: Setting, tmp_path: Path) -> None:
    done = setting.train(tmp_path / "run", "--trainer.devices=2", "--training.batch_size=9")
    assert done.returncode == 2
    assert "training.batch_size: 9 images cannot be divided among 2 processes; give a multiple of 2" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("rank", [0, 1])
def test_an_error_in_one_process_ends_the_others(setting: Setting, rank: int, tmp_path: Path) -> None:
    done = setting.train(tmp_path / "run", "--trainer.devices=2", fails=rank)
    assert done.returncode == 2
    assert done.stderr.count("error: this process has had enough") == 1
    assert "Traceback" not in done.stderr
