"""The devices, machines and processes that a training uses; `workers` is torch's, the rest is Lightning's.

They are separate from the trainer, so that a command can show its options without importing torch.
"""

from dataclasses import dataclass

from vision_rnn.option_types import check_range


@dataclass(frozen=True, kw_only=True)
class TrainerConfig:
    """How a training is spread over devices.

    Attributes:
        devices: Number of devices per machine, each with a process of its own; of the processor, the number of
            processes.
        num_nodes: Number of machines; on each, torchrun or Slurm starts this command.
        strategy: How the processes work together, as Lightning names it, such as `ddp`; `auto` chooses.
        accumulate_grad_batches: Number of batches whose gradients are summed up for one step.
        workers: Number of processes that read batches ahead, for each device; 0 reads them in the training process. By
            default 1 where photos are decoded in every epoch, which an encoder that is trained needs, and 0 elsewhere.
    """

    devices: int = 1
    num_nodes: int = 1
    strategy: str = "auto"
    accumulate_grad_batches: int = 1
    workers: int | None = None

    def __post_init__(self) -> None:
        """Check the settings; an error names the invalid one."""
        for name in ("devices", "num_nodes", "accumulate_grad_batches"):
            check_range(f"trainer.{name}", getattr(self, name), 1, 100_000)
        if self.workers is not None:
            check_range("trainer.workers", self.workers, 0, 1000)
