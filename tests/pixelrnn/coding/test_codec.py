"""Coded images are decoded exactly, at the size given by the likelihood, unless the model is not causal."""

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

from pixelrnn.coding.codec import Undecodable, batch_slices, decode, double, encode, encode_as_measured
from pixelrnn.level_distribution import LevelDistribution
from pixelrnn.model import PixelModel
from pixelrnn.pixel_config import Order

MakeModel = Callable[..., PixelModel]


def draw_pixels(model: PixelModel, number: int, seed: int = 0) -> torch.Tensor:
    shape = model.shape
    generator = torch.Generator().manual_seed(seed)
    size = (number, shape.channels, shape.height, shape.width)
    return torch.randint(shape.levels, size, generator=generator, dtype=torch.uint8)


def bits(model: PixelModel, pixels: torch.Tensor, labels: torch.Tensor | None = None) -> float:
    """Code length: every level has a frequency of at least 1 / TOTAL, so none takes more than 24 bits."""
    return (-model.log_likelihood(pixels, labels) / math.log(2)).clamp(max=24).sum().item()


@pytest.mark.parametrize(("channels", "levels"), [(1, 2), (3, 2), (1, 4), (3, 256)])
def test_images_come_back_at_the_size_of_their_likelihood(
    make_model: MakeModel, variant: dict[str, Any], channels: int, levels: int
) -> None:
    model = make_model(5, 4, channels, levels, **variant)
    pixels = draw_pixels(model, 6)
    expected = bits(model, pixels)
    for words in (encode(model, pixels), encode_as_measured(model, pixels)):
        assert torch.equal(decode(model, words, len(pixels)), pixels)
        # At most two words for the end of the stream and for rounding.
        assert expected - 1 < 32 * len(words) < expected + 64


def test_every_order_comes_back(make_model: MakeModel, order: Order) -> None:
    model = make_model(4, 6, 3, 4, order=order)
    pixels = draw_pixels(model, 3)
    assert torch.equal(decode(model, encode(model, pixels), 3), pixels)
    assert torch.equal(decode(model, encode_as_measured(model, pixels), 3), pixels)


def test_the_code_depends_on_the_classes(make_model: MakeModel) -> None:
    model = make_model(4, 4, num_classes=3)
    pixels, labels = draw_pixels(model, 5), torch.tensor([0, 1, 2, 1, 0])
    words = encode(model, pixels, labels)
    assert torch.equal(decode(model, words, 5, labels), pixels)
    assert 32 * len(words) < bits(model, pixels, labels) + 64


def test_the_code_of_a_leaking_model_cannot_be_decoded(make_model: MakeModel) -> None:
    honest = make_model(6, 6)
    leaking = make_model(6, 6)
    # The mask of the first kernel now lets a pixel see itself.
    leaking.first.mask[:, leaking.first.mask.shape[1] // 2] = 1
    pixels = draw_pixels(honest, 20)
    assert torch.equal(decode(honest, encode_as_measured(honest, pixels), 20), pixels)
    words = encode_as_measured(leaking, pixels)
    try:
        decoded = decode(leaking, words, 20)
    except Undecodable:
        return
    assert not torch.equal(decoded, pixels)


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("batch_size", [1, 7, 64])
def test_neither_threads_nor_the_size_of_a_batch_change_a_frequency(
    make_model: MakeModel, threads: int, batch_size: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    import pixelrnn.coding.codec as codec

    model = make_model(8, 8, **{"num_layers": 3, "hidden_channels": 16, "skip": True})
    pixels = draw_pixels(model, 64)
    seen: list[np.ndarray] = []
    real = codec.frequencies

    def record(distribution: LevelDistribution, parameters: torch.Tensor) -> np.ndarray:
        seen.append(real(distribution, parameters))
        return seen[-1]

    monkeypatch.setattr(codec, "frequencies", record)

    def run(size: int) -> np.ndarray:
        seen.clear()
        parts = []
        for part in batch_slices(len(pixels), size):
            start = len(seen)
            encode(model, pixels[part])
            parts.append(np.stack(seen[start:]))
        return np.concatenate(parts, axis=1)

    before = torch.get_num_threads()
    expected = run(64)
    try:
        torch.set_num_threads(threads)
        assert np.array_equal(run(batch_size), expected)
    finally:
        torch.set_num_threads(before)


def test_a_model_in_single_precision_is_refused_and_its_double_is_not(make_model: MakeModel) -> None:
    model = make_model(3, 3, dtype=torch.float32)
    pixels = draw_pixels(model, 2)
    with pytest.raises(ValueError, match="float64"):
        encode(model, pixels)
    exact = double(model)
    assert torch.equal(decode(exact, encode(exact, pixels), 2), pixels)
    assert model.first.weight.dtype == torch.float32


def test_a_stream_with_unused_data_is_refused(make_model: MakeModel) -> None:
    model = make_model(3, 3)
    words = encode(model, draw_pixels(model, 2))
    with pytest.raises(Undecodable):
        decode(model, np.concatenate([words, np.arange(1, 9, dtype=np.uint32)]), 2)
