"""What the shared training loop adds to Lightning's; the trainings themselves are tested with the models."""

import os
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest
import torch

from vision_rnn.errors import UserError
from vision_rnn.trainer import AtomicCheckpoints


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


@pytest.mark.parametrize(("given", "expected"), [(None, "passive"), ("active", "active")])
def test_idle_threads_do_not_spin_unless_asked_to(given: str | None, expected: str):
    environment = {name: value for name, value in os.environ.items() if name != "OMP_WAIT_POLICY"}
    environment |= {"OMP_WAIT_POLICY": given} if given else {}
    code = "import captioning, os, sys; print(os.environ['OMP_WAIT_POLICY'], 'torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    assert done.stdout == f"{expected} False\n"
