"""The numerical precision of a training."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Literal

Precision = Literal["auto", "32-true", "bf16-mixed", "32", "bf16"]


def full_name(precision: Precision) -> Precision:
    """Return Lightning's name of a precision that may be given in short."""
    names: dict[str, Precision] = {"32": "32-true", "bf16": "bf16-mixed"}
    return names.get(precision, precision)


def resolved_precision(precision: Precision, device: str) -> Literal["32-true", "bf16-mixed"]:
    """Return what `auto` stands for: bf16 where the hardware multiplies it, since it is slow where it is emulated."""
    name = full_name(precision)
    return "bf16-mixed" if name == "bf16-mixed" or (name == "auto" and multiplies_bf16(device)) else "32-true"


def training_precision(precision: Precision, device: str) -> Literal["32-true", "bf16-mixed"]:
    """Return `resolved_precision`, after a note of a choice that was made."""
    from vision_rnn.console import note

    resolved = resolved_precision(precision, device)
    if precision == "auto" and resolved == "bf16-mixed":
        note(f"training.precision: {resolved}, which this {device} multiplies; --training.precision=32 avoids it")
    return resolved


def multiplies_bf16(device: str) -> bool:
    """Return whether the processor, or the GPU, has instructions for products of bf16 numbers."""
    import torch

    if device == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    return device == "cpu" and (torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported())


@contextmanager
def products_in(precision: Literal["32-true", "bf16-mixed"]) -> Iterator[None]:
    """Let products of float32 matrices have their factors rounded to bf16, or not, within the block."""
    import torch

    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("medium" if precision == "bf16-mixed" else "highest")
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(before)
