"""One optimiser that applies Muon to the inner weight matrices and AdamW to all other parameters.

Muon (Jordan et al. 2024, kellerjordan.github.io/posts/muon) orthogonalises the matrix of each update, so that all its
directions are learned at the same speed. Here it reaches the same likelihood in about a quarter of the steps of AdamW
(RESULTS.md).
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import nn


class MuonAdamW(torch.optim.Optimizer):
    """`torch.optim.Muon` and `torch.optim.AdamW` as one optimiser.

    Args:
        model: Model whose parameters are optimised.
        matrices: Names, as in `model.named_parameters()`, of the two-dimensional parameters that Muon updates; AdamW
            updates all others.
        matrix_learning_rate: Learning rate of Muon.
        learning_rate: Learning rate of AdamW.
        weight_decay: Weight decay of the matrices; other parameters have none.
    """

    def __init__(
        self,
        model: nn.Module,
        matrices: set[str],
        matrix_learning_rate: float,
        learning_rate: float,
        weight_decay: float,
    ):
        parameters = dict(model.named_parameters())
        inner = [parameters[name] for name in parameters if name in matrices]
        outer = [parameters[name] for name in parameters if name not in matrices]
        self._parts: list[torch.optim.Optimizer] = [
            torch.optim.AdamW(outer, lr=learning_rate, betas=(0.9, 0.98), weight_decay=0.0)
        ]
        if inner:
            self._parts.append(torch.optim.Muon(inner, lr=matrix_learning_rate, weight_decay=weight_decay))
        super().__init__([group for part in self._parts for group in part.param_groups], {})
        self._share_groups()

    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """Evaluate `closure`, if given, and update all parameters."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for part in self._parts:
            part.step()
        return loss

    def state_dict(self) -> dict[str, Any]:
        """Return the states of both optimisers."""
        return {"parts": [part.state_dict() for part in self._parts]}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Load the states of both optimisers."""
        for part, state in zip(self._parts, state_dict["parts"], strict=True):
            part.load_state_dict(state)
        self._share_groups()

    def _share_groups(self) -> None:
        """Share the parameter groups with both optimisers, so that a schedule changes their learning rates."""
        self.param_groups = [group for part in self._parts for group in part.param_groups]
