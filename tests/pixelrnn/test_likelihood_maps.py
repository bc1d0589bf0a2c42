"""Maps of surprise and entropy: known values of uniform models, and the model's own likelihood."""

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch

from pixelrnn.likelihood_maps import likelihood_maps
from pixelrnn.model import PixelModel

MakeModel = Callable[..., PixelModel]


@pytest.mark.parametrize(("channels", "levels", "bits"), [(1, 2, 1), (1, 256, 8), (3, 256, 24), (3, 2, 3)])
def test_a_uniform_model_has_the_bits_of_the_levels(make_model: MakeModel, channels: int, levels: int, bits: int):
    model = make_model(3, 4, channels, levels)
    for parameter in model.parameters():
        parameter.data.zero_()
    pixels = torch.randint(levels, (2, channels, 3, 4), dtype=torch.uint8)
    maps = likelihood_maps(model, pixels)
    for each in (maps.surprise, maps.entropy):
        assert each.shape == (2, 3, 4)
        assert torch.allclose(each, torch.tensor(float(bits), dtype=torch.float64))


def test_the_surprise_is_the_likelihood_by_pixel(
    make_model: MakeModel, variant: dict[str, Any], monkeypatch: pytest.MonkeyPatch
):
    model = make_model(4, 5, 3, 256, **variant)
    pixels = torch.randint(256, (5, 3, 4, 5), dtype=torch.uint8)
    monkeypatch.setattr("pixelrnn.model._LOGITS", 2 * 256 * pixels[0].numel())  # Three batches.
    maps = likelihood_maps(model, pixels)
    assert torch.allclose(maps.surprise * math.log(2), -model.log_likelihood(pixels).sum(1).double())


def test_the_entropy_is_the_mean_surprise_over_the_levels(make_model: MakeModel):
    model = make_model(1, 1, num_classes=2)
    black, white = (torch.full((2, 1, 1, 1), level, dtype=torch.uint8) for level in (0, 1))
    labels = torch.tensor([0, 1])
    surprises = torch.stack([likelihood_maps(model, pixels, labels).surprise for pixels in (black, white)])
    expected = (2.0**-surprises * surprises).sum(0)
    assert torch.allclose(likelihood_maps(model, black, labels).entropy, expected)
    assert expected[0] != expected[1]  # The class counts.


def test_a_certain_model_has_no_entropy(make_parity_model: Callable[[int], PixelModel]):
    model = make_parity_model(2)
    pixels = torch.tensor([0, 1], dtype=torch.uint8).view(2, 1, 1, 1).expand(2, 1, 8, 8)
    maps = likelihood_maps(model, pixels, torch.tensor([0, 1]))
    assert maps.entropy.isfinite().all()
    assert maps.entropy.max() < 1e-9
    assert maps.surprise.max() < 1e-9
