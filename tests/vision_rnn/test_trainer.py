"""What the shared training loop adds to Lightning's; the trainings themselves are tested with the models."""

import gc
import multiprocessing
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import lightning
import pytest
import torch
from torch.utils.data import Dataset, TensorDataset

from vision_rnn.errors import UserError
from vision_rnn.processes import Batches
from vision_rnn.run_folder import BEST, LAST, checkpoint_folder
from vision_rnn.trainer import AtomicCheckpoints, fit


def test_a_checkpoint_is_staged_beside_its_target_and_replaces_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    # The temporary folder is no place for it: it may be another device.
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "missing"))
    path = tmp_path / "checkpoints" / "last.ckpt"
    for step in (1, 2):
        AtomicCheckpoints().save_checkpoint({"step": step}, path)
        assert torch.load(path, weights_only=True) == {"step": step}
    assert list(path.parent.iterdir()) == [path]


def test_a_checkpoint_that_cannot_be_written_leaves_the_last_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    path = tmp_path / "last.ckpt"
    AtomicCheckpoints().save_checkpoint({"step": 1}, path)
    write_bytes = Path.write_bytes

    def full(staged: Path, content: bytes) -> None:
        write_bytes(staged, content[: len(content) // 2])
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(UserError, match=r"last.ckpt: cannot be written \(No space left on device\); free some space"):
        AtomicCheckpoints().save_checkpoint({"step": 2}, path)
    assert torch.load(path, weights_only=True) == {"step": 1}
    assert list(tmp_path.iterdir()) == [path]


class Constant(lightning.LightningModule):
    """Learns nothing; its score in every epoch is given."""

    def __init__(self, scores: list[float]) -> None:
        super().__init__()
        self.scores = scores
        self.weight = torch.nn.Parameter(torch.ones(1))

    def training_step(self, batch: list[torch.Tensor], batch_idx: int) -> torch.Tensor:
        return (self.weight * batch[0]).sum()

    def validation_step(self, batch: list[torch.Tensor], batch_idx: int) -> None:
        self.log("score", self.scores[self.current_epoch])

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=0.0)


def test_a_run_that_was_moved_keeps_its_best_epoch(tmp_path: Path):
    scores = [3.0, 1.0, 2.0, 4.0]

    def epochs(run: Path, number: int, checkpoint: Path | None = None) -> int:
        """Train for so many epochs, and return the best one's number."""
        how: dict[str, Any] = {"monitor": "score", "mode": "max", "callbacks": [], "gradient_clip": 0.0}
        images = TensorDataset(torch.ones(2, 1))
        fit(
            Constant(scores),
            Batches(images, images, 1, seed=0),
            run,
            epochs=number,
            checkpoint=checkpoint,
            device="cpu",
            **how,
        )
        return torch.load(checkpoint_folder(run) / BEST, weights_only=True)["epoch"]

    assert epochs(tmp_path / "run", 2) == 0
    (tmp_path / "run").rename(tmp_path / "moved")
    assert epochs(tmp_path / "moved", 3, checkpoint_folder(tmp_path / "moved") / LAST) == 0
    assert epochs(tmp_path / "moved", 4, checkpoint_folder(tmp_path / "moved") / LAST) == 3
    assert [path.name for path in tmp_path.iterdir()] == ["moved"]


class Unreadable(Dataset):
    """One image that can be read, and one that cannot."""

    def __len__(self) -> int:
        return 2

    def __getitem__(self, item: int) -> torch.Tensor:
        if item:
            raise UserError("photo.jpg: damaged; copy it again")
        return torch.ones(1)


@pytest.mark.parametrize("workers", [0, 1])
def test_what_cannot_be_read_is_one_line_from_any_process(workers: int, tmp_path: Path):
    with pytest.raises(UserError, match=r"^photo\.jpg: damaged; copy it again$"):
        fit(
            Constant([1.0]),
            Batches(Unreadable(), Unreadable(), 1, seed=0, workers=workers),
            tmp_path,
            epochs=1,
            monitor="score",
            mode="max",
            callbacks=[],
            gradient_clip=0.0,
            device="cpu",
        )


def test_a_process_that_could_not_read_ends_at_once():
    """Left to a search for cycles, it would have to be killed then: what tells it to end may be collected before it."""
    batches = Batches(Unreadable(), Unreadable(), 1, seed=0, workers=1)
    batches.trainer = SimpleNamespace(  # type: ignore[assignment]
        world_size=1, global_rank=0, strategy=SimpleNamespace(root_device=torch.device("cpu"))
    )
    gc.collect()
    gc.disable()
    try:
        with pytest.raises(UserError):
            list(batches.val_dataloader())
        assert multiprocessing.active_children() == []
    finally:
        gc.enable()


@pytest.mark.parametrize(("given", "expected"), [(None, "passive"), ("active", "active")])
def test_idle_threads_do_not_spin_unless_asked_to(given: str | None, expected: str):
    environment = {name: value for name, value in os.environ.items() if name != "OMP_WAIT_POLICY"}
    environment |= {"OMP_WAIT_POLICY": given} if given else {}
    code = "import captioning, os, sys; print(os.environ['OMP_WAIT_POLICY'], 'torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    assert done.stdout == f"{expected} False\n"
