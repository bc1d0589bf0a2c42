"""Whether torchrun or Slurm started as many processes as are to train, by what they say in the environment."""

import os

import pytest

from vision_rnn.errors import UserError
from vision_rnn.processes import check_started

TORCHRUN = {"TORCHELASTIC_RUN_ID": "1", "WORLD_SIZE": "6", "LOCAL_WORLD_SIZE": "3"}
JOB = {"SLURM_NTASKS": "4", "SLURM_NTASKS_PER_NODE": "2", "SLURM_JOB_NAME": "train"}
TASK = JOB | {"SLURM_STEP_NUM_TASKS": "4", "SLURM_STEP_NUM_NODES": "2"}


@pytest.fixture(autouse=True)
def outside(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith(("SLURM_", "TORCHELASTIC_"))]:
        monkeypatch.delenv(name)


@pytest.mark.parametrize(
    ("environment", "devices", "num_nodes"),
    [
        ({}, 1, 1),
        ({}, 2, 1),
        (TORCHRUN, 3, 2),
        (TASK, 2, 2),
        # A job whose command is not started by srun is one process.
        (JOB, 1, 1),
        ({"SLURM_NTASKS": "1", "SLURM_STEP_NUM_TASKS": "1", "SLURM_STEP_NUM_NODES": "1"}, 1, 1),
        # In an interactive job Lightning starts the processes.
        (JOB | {"SLURM_JOB_NAME": "interactive"}, 2, 1),
        # torchrun may be started by Slurm.
        (JOB | TORCHRUN, 3, 2),
    ],
)
def test_they_agree(environment: dict[str, str], devices: int, num_nodes: int, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    check_started(devices, num_nodes)


@pytest.mark.parametrize(
    ("environment", "devices", "message"),
    [
        (TORCHRUN, 1, "torchrun started 6 processes, .* is 1; give --trainer.devices=3 --trainer.num_nodes=2"),
        (TASK, 1, "srun started 4 processes, .* is 1; give --trainer.devices=2 --trainer.num_nodes=2"),
        (JOB, 2, "starts one process by itself, not 2; write srun --ntasks-per-node=2 before the command"),
        (
            {name: value for name, value in TASK.items() if name != "SLURM_NTASKS_PER_NODE"},
            4,
            "tasks of each machine is needed; give --ntasks-per-node=2",
        ),
        (TASK | {"SLURM_JOB_NAME": "bash"}, 4, "the job name bash means a job of one process; add --job-name=train"),
    ],
)
def test_what_does_not_agree_is_said_with_what_to_give(
    environment: dict[str, str], devices: int, message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(UserError, match=message):
        check_started(devices, 1)
