"""The device that a command computes on."""

from typing import TYPE_CHECKING, Literal

from vision_rnn.errors import UserError

if TYPE_CHECKING:
    import torch

Device = Literal["auto", "cpu", "cuda", "mps"]


def resolve_device(name: Device) -> "torch.device":
    """Return the device of a name; `auto` is a CUDA GPU where there is one, else the processor.

    Apple's GPU (`mps`) is used only if named: it has no double precision, which sampling and coding need.

    Raises:
        UserError: This machine, or its torch, has no such device.
    """
    import torch

    available = {"cpu": True, "cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
    if name == "auto":
        return torch.device("cuda" if available["cuda"] else "cpu")
    if not available[name]:
        usable = ", ".join(device for device, usable in available.items() if usable)
        raise UserError(f"--device {name}: torch finds no such device on this machine; choose one of: auto, {usable}")
    return torch.device(name)
