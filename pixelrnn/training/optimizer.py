"""Muon for the matrices within the model, AdamW for the rest, as one optimiser.

Muon (Jordan et al. 2024, kellerjordan.github.io/posts/muon) makes each update's matrix orthogonal, so that all its
directions are learned at one speed. Here it takes about a quarter of AdamW's steps to the same likelihood (RESULTS.md).
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import nn


class MuonAdamW(torch.optim.Optimizer):
    """Both of torch's own optimisers, stepped together.

    Args:
        model: Its two-dimensional parameters named in `matrices` go to Muon, all others to AdamW.
        matrices: Names of parameters, as `model.named_parameters()` has them.
        matrix_learning_rate: Muon's.
        learning_rate: AdamW's.
        weight_decay: Of the matrices.
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
        """Update all parameters, after evaluating `closure`."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for part in self._parts:
            part.step()
        return loss

    def state_dict(self) -> dict[str, Any]:
        """Return the state of both parts."""
        return {"parts": [part.state_dict() for part in self._parts]}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take up the state of both parts."""
        for part, state in zip(self._parts, state_dict["parts"], strict=True):
            part.load_state_dict(state)
        self._share_groups()

    def _share_groups(self) -> None:
        """A schedule writes rates into this optimiser's groups: they are to be the parts' own."""
        self.param_groups = [group for part in self._parts for group in part.param_groups]
