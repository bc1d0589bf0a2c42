"""The devices and machines that a training uses; the settings are Lightning's, under their names there.

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
    """

    devices: int = 1
    num_nodes: int = 1
    strategy: str = "auto"
    accumulate_grad_batches: int = 1

    def __post_init__(self) -> None:
        """Check the settings; an error names the invalid one."""
        for name in ("devices", "num_nodes", "accumulate_grad_batches"):
            check_range(f"trainer.{name}", getattr(self, name), 1, 100_000)
