"""The distributions of levels: both sum to one, and the mixture is the one of the papers, computed in another way."""

import itertools
import math
from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor

from pixelrnn.level_distribution import NARROWEST, WIDEST, Categorical, LogisticMixture, neighbour_means
from pixelrnn.model import PixelModel


def draw(mixture: LogisticMixture, number: int, channels: int, scale: float = 1.0) -> tuple[Tensor, Tensor, Tensor]:
    """Draw network outputs, levels and neighbours."""
    generator = torch.Generator().manual_seed(0)
    outputs = scale * torch.randn(number, mixture.outputs, generator=generator, dtype=torch.float64)
    pixels = torch.randint(mixture.levels, (number, channels), generator=generator)
    neighbours = torch.rand(number, channels, generator=generator, dtype=torch.float64) * (mixture.levels - 1)
    return outputs, pixels, neighbours


def all_pixels(channels: int, levels: int) -> Tensor:
    return torch.tensor(list(itertools.product(range(levels), repeat=channels)))


def sigmoid(x: float) -> float:
    return 1 / (1 + math.exp(-x)) if x > -700 else 0.0


def probability_of_pixel(outputs: np.ndarray, pixel: list[int], start: list[float], levels: int, K: int) -> float:
    """Probability of a whole pixel by equations 1 to 3 of PixelCNN++, in plain loops and differences of sigmoids."""
    C, half = len(pixel), (levels - 1) / 2
    table = outputs.reshape(-1, K)
    weights = np.exp(table[0]) / np.exp(table[0]).sum()
    total = 0.0
    for k in range(K):
        of_component, used = 1.0, 0
        for c in range(C):
            mean = start[c] + half * table[1 + c, k]
            for e in range(c):
                mean += math.tanh(table[1 + 2 * C + used, k]) * (pixel[e] - start[e])
                used += 1
            scale = min(max(half * math.exp(table[1 + C + c, k]), NARROWEST), WIDEST * levels)
            high = 1.0 if pixel[c] == levels - 1 else sigmoid((pixel[c] + 0.5 - mean) / scale)
            low = 0.0 if pixel[c] == 0 else sigmoid((pixel[c] - 0.5 - mean) / scale)
            of_component *= high - low
        total += weights[k] * of_component
    return total


@pytest.mark.parametrize(("channels", "levels", "components"), [(1, 256, 5), (3, 256, 10), (3, 4, 2), (1, 2, 3)])
def test_a_mixture_is_the_papers_formula(channels: int, levels: int, components: int) -> None:
    mixture = LogisticMixture(channels, levels, components)
    outputs, pixels, neighbours = draw(mixture, 40, channels)
    found = mixture.log_likelihood(outputs, pixels, neighbours).sum(1).exp()
    expected = [
        probability_of_pixel(out.numpy(), pixel.tolist(), start.tolist(), levels, components)
        for out, pixel, start in zip(outputs, pixels, neighbours, strict=True)
    ]
    np.testing.assert_allclose(found.numpy(), expected, rtol=1e-6, atol=1e-14)


@pytest.mark.parametrize(("channels", "levels"), [(1, 2), (1, 256), (3, 2), (3, 7)])
@pytest.mark.parametrize("scale", [0.3, 3, 30])
def test_all_levels_of_all_channels_sum_to_one(channels: int, levels: int, scale: float) -> None:
    mixture, pixels = LogisticMixture(channels, levels, 4), all_pixels(channels, levels)
    for outputs, _, neighbours in zip(*draw(mixture, 3, channels, scale), strict=True):
        together = mixture.log_likelihood(outputs.expand(len(pixels), -1), pixels, neighbours.expand(len(pixels), -1))
        assert together.sum(1).exp().sum().item() == pytest.approx(1, abs=1e-12)


@pytest.mark.parametrize(("channels", "levels"), [(1, 2), (1, 256), (3, 9), (3, 256)])
def test_the_levels_of_a_channel_have_the_probabilities_of_the_chain_rule(channels: int, levels: int) -> None:
    """Two ways to ln p of a channel: its own mixture given the earlier ones, and the ratio of two joint mixtures."""
    mixture = LogisticMixture(channels, levels, 5)
    outputs, pixels, neighbours = draw(mixture, 30, channels)
    given = mixture.given(outputs, pixels, neighbours)
    assert given.shape == (30, channels, mixture.parameters)
    expected = mixture.log_likelihood(outputs, pixels, neighbours)
    for channel in range(channels):
        each = mixture.log_probabilities(given[:, channel])
        assert each.shape == (30, levels)
        torch.testing.assert_close(each.exp().sum(1), torch.ones(30, dtype=torch.float64), rtol=0, atol=1e-12)
        found = each.gather(1, pixels[:, channel, None]).squeeze(1)
        torch.testing.assert_close(found, expected[:, channel], rtol=0, atol=1e-9)


def test_far_from_all_means_a_level_is_improbable_and_not_impossible() -> None:
    """Where a difference of sigmoids is 0 even in double precision, ln p still is that of an exponential tail."""
    mixture = LogisticMixture(1, 256, 1)
    outputs = torch.tensor([[0.0, 0.0, -20.0]], dtype=torch.float64).expand(2, -1)  # The narrowest scale.
    pixels, neighbours = torch.tensor([[200], [255]]), torch.full((2, 1), 20.0, dtype=torch.float64)
    expected = [-(180 - 0.5) / NARROWEST, -(235 - 0.5) / NARROWEST]
    found = mixture.log_likelihood(outputs, pixels, neighbours).flatten().tolist()
    assert found == pytest.approx(expected, rel=1e-4)
    single = mixture.log_likelihood(outputs.float(), pixels, neighbours.float()).flatten().tolist()
    assert single == pytest.approx(expected, rel=1e-4)


@pytest.mark.parametrize(("channels", "levels"), [(1, 256), (3, 256), (3, 2)])
def test_gradients(channels: int, levels: int) -> None:
    mixture = LogisticMixture(channels, levels, 3)
    outputs, pixels, neighbours = draw(mixture, 6, channels)
    outputs[0] = 30 * outputs[0].sign()  # Scales at both bounds, where their gradient is 0.
    pixels[1], pixels[2] = 0, levels - 1
    outputs.requires_grad_()
    torch.autograd.gradcheck(lambda x: mixture.log_likelihood(x, pixels, neighbours), outputs)
    torch.autograd.gradcheck(lambda x: mixture.given(x, pixels, neighbours), outputs)


@pytest.mark.parametrize("levels", [2, 3, 5, 256])
def test_levels_are_chosen_by_inverting_the_cumulative_function(levels: int) -> None:
    """Independent inversion: all levels' probabilities, cumulated."""
    mixture = LogisticMixture(1, levels, 4)
    outputs, pixels, neighbours = draw(mixture, 500, 1)
    parameters = mixture.given(outputs, pixels, neighbours)[:, 0]
    noise = torch.rand(500, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    chosen = mixture.choose(parameters, noise)
    assert chosen.dtype == torch.uint8
    cumulated = mixture.log_probabilities(parameters).exp().cumsum(1)
    assert torch.equal(chosen.long(), (cumulated[:, :-1] <= noise[:, None]).sum(1))
    if levels > 2:
        assert len(chosen.unique()) > 2


def test_the_first_and_the_last_noise_choose_within_the_levels() -> None:
    mixture = LogisticMixture(1, 256, 4)
    parameters = mixture.given(*draw(mixture, 200, 1))[:, 0]
    assert (mixture.choose(parameters, torch.zeros(200, dtype=torch.float64)) == 0).all()
    last = mixture.choose(parameters, torch.full((200,), 1 - 2**-53, dtype=torch.float64))
    assert last.max() == 255


def test_categorical_of_a_binary_pixel() -> None:
    logits = torch.tensor([[0.3], [0.3], [0.0], [1.0]]).logit()
    chosen = Categorical(1, 2).choose(logits, torch.tensor([0.2999, 0.3001, 0.0, 0.9999], dtype=torch.float64))
    assert chosen.tolist() == [1, 0, 0, 1]
    assert chosen.dtype == torch.uint8


def test_categorical_inverts_the_distribution_function() -> None:
    # Two levels have probability 0 and are never chosen, even by noise exactly at their place; the others have 1/4.
    logits = torch.tensor([-torch.inf, 0.0, -torch.inf, 0.0, 0.0, 0.0]).expand(7, -1)
    noise = torch.tensor([0.0, 0.2499, 0.25, 0.4999, 0.5, 0.75, 1 - 2**-53], dtype=torch.float64)
    chosen = Categorical(1, 6).choose(logits, noise)
    assert chosen.tolist() == [1, 1, 3, 3, 4, 5, 5]
    assert chosen.dtype == torch.uint8


def test_categorical_never_leaves_the_levels() -> None:
    logits = torch.randn(1000, 256, generator=torch.Generator().manual_seed(0))
    chosen = Categorical(1, 256).choose(logits, torch.full((1000,), 1 - 2**-53, dtype=torch.float64))
    assert (chosen == 255).all()


def test_neighbour_means() -> None:
    pixels = torch.tensor([[[[1, 2, 4], [8, 16, 32]]]], dtype=torch.uint8)
    found = neighbour_means(pixels, 256)
    assert found.tolist() == [[[[127.5, 1, 2], [1, (8 + 2) / 2, (16 + 4) / 2]]]]
    assert neighbour_means(pixels.double(), 256).dtype == torch.float64


def test_a_mixture_has_few_outputs_and_a_softmax_many() -> None:
    """PixelCNN++: 100 outputs for 10 components in colour, where a softmax has 768."""
    assert LogisticMixture(3, 256, 10).outputs == 100
    assert LogisticMixture(1, 256, 10).outputs == 30
    assert Categorical(3, 256).outputs == 768


@pytest.mark.parametrize("channels", [1, 3])
def test_the_likelihood_of_a_model_is_in_one_distribution_per_pixel_and_channel(
    make_model: Callable[..., PixelModel], channels: int
) -> None:
    """The forward pass and the likelihood are two ways to the same numbers, in every order."""
    for order in ("raster", "rotated", "transposed"):
        model = make_model(3, 4, channels, 256, order=order, output="logistic_mixture", components=3)
        pixels = torch.randint(256, (2, channels, 3, 4), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
        parameters = model(pixels)
        assert parameters.shape == (2, channels, 9, 3, 4)
        each = model.distribution.log_probabilities(parameters.transpose(1, 2))  # (B, levels, C, H, W)
        found = each.gather(1, pixels.long()[:, None]).squeeze(1)
        torch.testing.assert_close(found, model.log_likelihood(pixels), rtol=0, atol=1e-8)
