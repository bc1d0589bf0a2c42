"""The processes of a training on several devices: Lightning starts them, or torchrun or Slurm.

Each process reads its share of the images. What is computed of a share is gathered where all have to know it.
"""

import os
from collections.abc import Callable, Iterator, Sequence
from typing import Any, TypeVar

import lightning
import torch.distributed
from lightning.fabric.utilities.rank_zero import rank_zero_only
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, DistributedSampler, Sampler

from vision_rnn.console import fall_silent, note
from vision_rnn.errors import UserError

Item = TypeVar("Item")
# In jobs of Slurm with these names Lightning starts the processes itself.
_INTERACTIVE = ("bash", "interactive")


def is_first_process() -> bool:
    """Return whether this is the process that writes files and speaks."""
    # Known from the environment before the processes are connected.
    return getattr(rank_zero_only, "rank", 0) == 0


def rank() -> int:
    """Return the number of this process among those that train together, from 0."""
    return torch.distributed.get_rank() if torch.distributed.is_initialized() else 0


def num_processes() -> int:
    """Return how many processes train together."""
    return torch.distributed.get_world_size() if torch.distributed.is_initialized() else 1


def check_started(devices: int, num_nodes: int) -> None:
    """Check that as many processes were started as are to train, if torchrun or Slurm started this one.

    Args:
        devices: Number of devices per machine, each with a process of its own.
        num_nodes: Number of machines.

    Raises:
        UserError: They were not, or not in a way that Lightning knows.
    """
    environment, expected = os.environ, devices * num_nodes
    by_slurm = "TORCHELASTIC_RUN_ID" not in environment and "SLURM_NTASKS" in environment
    interactive = environment.get("SLURM_JOB_NAME") in _INTERACTIVE
    if by_slurm and "SLURM_STEP_NUM_TASKS" in environment:
        launcher, started = "srun", int(environment["SLURM_STEP_NUM_TASKS"])
        each = started // int(environment["SLURM_STEP_NUM_NODES"])
    elif "TORCHELASTIC_RUN_ID" in environment:
        launcher, started, each = "torchrun", int(environment["WORLD_SIZE"]), int(environment["LOCAL_WORLD_SIZE"])
    elif by_slurm and expected > 1 and not interactive:
        raise UserError(
            f"trainer.devices: a job of Slurm starts one process by itself, not {expected}; write "
            f"srun --ntasks-per-node={devices} before the command"
        )
    else:
        return
    if started != expected:
        raise UserError(
            f"{launcher} started {started} processes, and trainer.devices x trainer.num_nodes is {expected}; give "
            f"--trainer.devices={each} --trainer.num_nodes={started // each}"
        )
    if by_slurm and started > 1 and "SLURM_NTASKS_PER_NODE" not in environment:
        raise UserError(f"srun: the number of tasks of each machine is needed; give --ntasks-per-node={each}")
    if by_slurm and started > 1 and interactive:
        raise UserError(
            f"srun: to Lightning the job name {environment['SLURM_JOB_NAME']} means a job of one process; "
            "add --job-name=train"
        )


def leave_speaking_to_the_first() -> None:
    """Let only the first process print notes and progress."""
    if not is_first_process():
        fall_silent()


def gathered(value: Item) -> list[Item]:
    """Return the values of all processes, in order of rank; every process has to call this."""
    values: list[Any] = [value] * num_processes()
    if torch.distributed.is_initialized():
        torch.distributed.all_gather_object(values, value)
    return values


def summed(tensor: Tensor) -> Tensor:
    """Return the sum of a tensor over all processes; every process has to call this."""
    if torch.distributed.is_initialized():
        tensor = tensor.clone()
        torch.distributed.all_reduce(tensor)
    return tensor


def weight_of(count: Tensor) -> Tensor:
    """Return what a mean over `count` items of this process is multiplied by.

    Lightning takes the mean of all processes' gradients. By this factor, the number of items relative to the others',
    each item of any process has the same weight in it.

    Args:
        count: Number of this process's items, ().
    """
    return count * num_processes() / summed(count)


def in_order(shares: Sequence[Sequence[Item]]) -> list[Item]:
    """Return the items of all processes' shares of a split in the order of the split; undoes `_Share`."""
    items: list[Any] = [None] * sum(map(len, shares))
    for rank, share in enumerate(shares):
        items[rank :: len(shares)] = share
    return items


class _Share(Sampler[int]):
    """Every process's share of a split, in order: no image twice, none missing."""

    def __init__(self, images: int, processes: int, rank: int):
        self._indices = range(rank, images, processes)

    def __iter__(self) -> Iterator[int]:
        return iter(self._indices)

    def __len__(self) -> int:
        return len(self._indices)


class _Shuffled(DistributedSampler):
    """Every process's share of the training images, in an order that the seed and the number of the epoch decide.

    It is the only sampler of torch with such an order, which exact resumption needs. Images that depend on the epoch
    too, as random crops do, find its number in their `epoch`, before other processes begin to read them.
    """

    def set_epoch(self, epoch: int) -> None:
        """Begin an epoch."""
        super().set_epoch(epoch)
        self.dataset.epoch = epoch  # type: ignore[attr-defined]


class _Loader(DataLoader):
    """Begins to read when the first batch is asked for.

    When Lightning resumes a training, it makes the iterator before it tells the sampler the number of the epoch.
    """

    def __iter__(self) -> Iterator[Any]:  # type: ignore[override]
        try:
            yield from super().__iter__()
        except UserError as error:
            if not self.num_workers:
                raise
            # torch puts the traceback of the process that read before its message. The one here holds the iterator,
            # and with it that process, in a cycle.
            message = str(error).rpartition(f"{UserError.__qualname__}: ")[-1].strip()
            raise UserError(message) from error.with_traceback(None)


class Batches(lightning.LightningDataModule):
    """The batches of training and validation images, divided among the processes.

    In each epoch the training images are in another order, which depends on the seed and the number of the epoch alone,
    so that a resumed training sees the same. If they cannot be divided evenly, a few are repeated at the end of the
    epoch, so that all processes have as many batches; validation images never are.

    Args:
        training: The training images.
        validation: The validation images.
        batch_size: Images per batch of all processes together.
        seed: Random seed of the order of the training images.
        collate: What makes a batch of items (default: torch's).
        prepare: What every process does before it reads the first image, together with the others; it gets its device.
        workers: Number of further processes, for each of these, that read batches ahead; 0 for none.

    Raises:
        UserError: While it starts: the batch size cannot be divided, or there are fewer images than processes.
    """

    def __init__(
        self,
        training: Dataset,
        validation: Dataset,
        batch_size: int,
        *,
        seed: int,
        collate: Callable[[list[Any]], Any] | None = None,
        prepare: Callable[[torch.device], None] | None = None,
        workers: int = 0,
    ):
        super().__init__()
        self._training, self._validation = training, validation
        self._batch_size, self._seed, self._collate, self._prepare = batch_size, seed, collate, prepare
        self._workers = workers

    def setup(self, stage: str) -> None:
        """Check that the images can be divided, and prepare them."""
        assert self.trainer is not None
        processes = self._processes[0]
        if self._batch_size % processes:
            raise UserError(
                f"training.batch_size: {self._batch_size} images cannot be divided among {processes} processes; give a "
                f"multiple of {processes}"
            )
        fewest = min(len(self._training), len(self._validation))  # type: ignore[arg-type]
        if fewest < processes:
            raise UserError(f"trainer.devices: a split has {fewest} images for {processes} processes; use fewer")
        if missing := -len(self._training) % processes:  # type: ignore[arg-type]
            note(f"training images repeated in every epoch, so that {processes} processes have as many: {missing}")
        if self._prepare:
            self._prepare(self.trainer.strategy.root_device)

    def train_dataloader(self) -> DataLoader:
        """Return this process's share of the training images."""
        processes, rank = self._processes
        sampler = _Shuffled(self._training, num_replicas=processes, rank=rank, shuffle=True, seed=self._seed)
        return self._loader(self._training, sampler)

    def val_dataloader(self) -> DataLoader:
        """Return this process's share of the validation images."""
        images = len(self._validation)  # type: ignore[arg-type]
        return self._loader(self._validation, _Share(images, *self._processes))

    @property
    def _processes(self) -> tuple[int, int]:
        """Number of processes, and which this is."""
        assert self.trainer is not None
        return self.trainer.world_size, self.trainer.global_rank

    def _loader(self, images: Dataset, sampler: Sampler[int]) -> DataLoader:
        assert self.trainer is not None
        return _Loader(
            images,
            self._batch_size // self._processes[0],
            sampler=sampler,
            collate_fn=self._collate,
            num_workers=self._workers,
            pin_memory=self.trainer.strategy.root_device.type == "cuda",
        )
