"""Muon and AdamW as one optimiser: each updates its own parameters, and both are saved and scheduled."""

from collections.abc import Callable
from typing import Any

import pytest
import torch

from pixelrnn.model import PixelModel
from pixelrnn.training.optimizer import MuonAdamW


@pytest.fixture
def model(make_model: Callable[..., PixelModel], variant: dict[str, Any]) -> PixelModel:
    return make_model(4, 5, **variant, dtype=torch.float32)


def optimizer_of(model: PixelModel) -> MuonAdamW:
    return MuonAdamW(model, model.inner_matrices(), 0.02, 4e-3, 0.1)


def take_steps(model: PixelModel, optimizer: torch.optim.Optimizer, steps: int, seed: int = 0) -> None:
    generator = torch.Generator().manual_seed(seed)
    for _ in range(steps):
        optimizer.zero_grad()
        pixels = torch.randint(2, (3, 1, 4, 5), generator=generator)
        (-model.log_likelihood(pixels).sum()).backward()
        optimizer.step()


def weights(model: PixelModel) -> dict[str, torch.Tensor]:
    return {name: parameter.detach().clone() for name, parameter in model.named_parameters()}


def test_every_parameter_belongs_to_one_part(model: PixelModel):
    held = [id(parameter) for group in optimizer_of(model).param_groups for parameter in group["params"]]
    assert sorted(held) == sorted(map(id, model.parameters()))


def test_the_parts_are_those_of_torch(
    model: PixelModel, make_model: Callable[..., PixelModel], variant: dict[str, Any]
):
    """Separate optimisers give the same weights; AdamW updates the first and the last kernel."""
    take_steps(model, optimizer_of(model), 3)
    alone = make_model(4, 5, **variant, dtype=torch.float32)
    parameters = dict(alone.named_parameters())
    matrices = [name for name in parameters if name in alone.inner_matrices()]
    last = max(name for name in parameters if name.startswith("output.") and name.endswith("weight"))
    assert matrices
    assert not {"first.weight", last} & set(matrices)
    muon = torch.optim.Muon([parameters[name] for name in matrices], lr=0.02, weight_decay=0.1)
    others = [parameters[name] for name in parameters if name not in matrices]
    adam = torch.optim.AdamW(others, lr=4e-3, betas=(0.9, 0.98), weight_decay=0.0)

    class Both:
        def zero_grad(self) -> None:
            muon.zero_grad()
            adam.zero_grad()

        def step(self) -> None:
            muon.step()
            adam.step()

    take_steps(alone, Both(), 3)  # type: ignore[arg-type]
    torch.testing.assert_close(weights(model), weights(alone), rtol=0, atol=0)


def test_its_state_goes_round_through_a_state_dict(
    model: PixelModel, make_model: Callable[..., PixelModel], variant: dict[str, Any], tmp_path
):
    first = optimizer_of(model)
    take_steps(model, first, 3)
    torch.save({"optimizer": first.state_dict(), "model": model.state_dict()}, tmp_path / "saved")
    take_steps(model, first, 2, seed=1)

    again = make_model(4, 5, **variant, dtype=torch.float32)
    second = optimizer_of(again)
    saved = torch.load(tmp_path / "saved", weights_only=True)
    again.load_state_dict(saved["model"])
    second.load_state_dict(saved["optimizer"])
    take_steps(again, second, 2, seed=1)
    torch.testing.assert_close(weights(again), weights(model), rtol=0, atol=0)


def test_a_rate_of_zero_stops_both_parts_after_loading_too(model: PixelModel):
    """A schedule writes learning rates to the groups, which must be those of both optimisers, not copies."""
    optimizer = optimizer_of(model)
    take_steps(model, optimizer, 1)
    optimizer.load_state_dict(optimizer.state_dict())
    for group in optimizer.param_groups:
        group["lr"] = 0.0
    before = weights(model)
    take_steps(model, optimizer, 1)
    torch.testing.assert_close(weights(model), before, rtol=0, atol=0)


def test_a_closure_is_evaluated_with_gradients(model: PixelModel):
    def closure() -> torch.Tensor:
        loss = -model.log_likelihood(torch.zeros(1, 1, 4, 5)).sum()
        loss.backward()
        return loss

    before = weights(model)
    with torch.no_grad():
        loss = optimizer_of(model).step(closure)
    assert loss > 0
    assert any(not torch.equal(before[name], after) for name, after in weights(model).items())
