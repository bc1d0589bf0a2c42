"""Timings of the design choices that make the pixel models fast: pytest tests/benchmarks --benchmark-only.

Each group compares the chosen implementation with the plain one in one run; a check first ensures equal results.
"""

import itertools
from collections.abc import Callable
from typing import Any

import pytest
import torch
from pytest_benchmark.fixture import BenchmarkFixture
from torch import Tensor
from torch.nn import functional as F

from pixelrnn.layers.reference import plain_scan
from pixelrnn.model import PixelModel, PixelNetwork
from pixelrnn.pixel_config import ImageShape, ModelConfig, Output
from pixelrnn.sampling import draw, draw_naively
from pixelrnn.scan.lstm_scan import Geometry, lstm_scan
from pixelrnn.scan.torch_scan import TorchScan
from vision_rnn.precision import products_in

SIZE, HIDDEN = 28, 16
DIAGONALS = tuple((max(0, d - SIZE + 1), min(SIZE, d + 1)) for d in range(2 * SIZE - 1))
GEOMETRIES = {
    "Row LSTM": Geometry((-1, 0), (-1, 0, 1), ((0, SIZE),) * SIZE),
    "Diagonal BiLSTM": Geometry((0,), (-1, 0), DIAGONALS),
}


def make_model(config: ModelConfig, size: int = SIZE) -> PixelModel:
    torch.manual_seed(0)
    return PixelNetwork(config, ImageShape(height=size, width=size)).eval().requires_grad_(False)


def blank_and_noise(batch: int, size: int = SIZE) -> tuple[Tensor, Tensor]:
    noise = torch.rand(batch, 1, size, size, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    return torch.zeros(noise.shape, dtype=torch.uint8), noise


def convolution_scan(
    x: Tensor,
    input_to_state: Tensor,
    state_to_state: Tensor,
    bias: Tensor,
    initial_hidden: Tensor,
    initial_cell: Tensor,
    geometry: Geometry,
) -> Tensor:
    """The Row LSTM as usually implemented: equation 3 with torch convolutions, batch first, and autograd."""
    states, distance = [], geometry.state_taps[-1]
    kernel = state_to_state.unflatten(1, (3, -1)).transpose(1, 2)
    hidden, cell = (state.expand(x.shape[3], -1, -1) for state in (initial_hidden, initial_cell))
    past = F.pad(x.permute(3, 1, 0, 2), (distance, 0))
    of_pair = input_to_state.unflatten(1, (2, -1)).transpose(1, 2).unsqueeze(2)
    of_input = F.conv2d(past, of_pair, bias, dilation=(1, distance))
    for line in of_input.unbind(2):
        beside = F.conv1d(hidden, kernel, padding=distance, dilation=distance)
        output, forget, write, candidate = (line + beside).chunk(4, dim=1)
        cell = forget.sigmoid() * cell + write.sigmoid() * candidate.tanh()
        hidden = output.sigmoid() * cell.tanh()
        states.append(hidden)
    return torch.stack(states).permute(0, 2, 3, 1)


def scan_in_bf16(*arguments: Any) -> Tensor:
    with products_in("bf16-mixed"):
        return lstm_scan(*arguments)


SCANS = {
    "compiled": lstm_scan,
    "compiled, factors in bf16": scan_in_bf16,
    "torch, gradient by hand": TorchScan.apply,
    "autograd": plain_scan,
    "convolutions, autograd": convolution_scan,
}


@pytest.mark.parametrize(
    ("kind", "variant"),
    [*itertools.product(["Row LSTM"], SCANS), *itertools.product(["Diagonal BiLSTM"], list(SCANS)[:4])],
)
def test_scan(benchmark: BenchmarkFixture, kind: str, variant: str) -> None:
    benchmark.group = f"one stream of a layer of a {kind}, 64 images, forward and backward"
    geometry, batch = GEOMETRIES[kind], 64
    lines = len(geometry.ranges)
    visited = torch.zeros(lines, 1, SIZE, 1)
    for line, (first, last) in zip(visited, geometry.ranges, strict=True):
        line[:, first:last] = 1
    generator = torch.Generator().manual_seed(0)
    shapes = [
        (lines, 2 * HIDDEN, SIZE, batch),
        (4 * HIDDEN, len(geometry.input_taps) * 2 * HIDDEN),
        (4 * HIDDEN, len(geometry.state_taps) * HIDDEN),
        (4 * HIDDEN,),
        (HIDDEN, SIZE),
        (HIDDEN, SIZE),
    ]
    arguments = [(0.2 * torch.randn(shape, generator=generator)).requires_grad_() for shape in shapes]
    # Zero at positions that a line does not have, where the scans differ.
    weights = torch.randn(lines, HIDDEN, SIZE, batch, generator=generator) * visited

    def gradients(scan: Callable[..., Tensor]) -> tuple[Tensor, ...]:
        return torch.autograd.grad(scan(*arguments, geometry), arguments, weights)

    found, expected = gradients(SCANS[variant]), gradients(plain_scan)
    error = 5e-2 if variant.endswith("bf16") else 1e-3
    for gradient, other in zip(found, expected, strict=True):
        torch.testing.assert_close(gradient, other, rtol=error, atol=0.1 * error * other.abs().max().item())
    del found, expected

    def run() -> None:
        gradients(SCANS[variant])  # Not returned: the benchmark would keep the result until after the next round.

    benchmark.pedantic(run, rounds=25, warmup_rounds=3)


@pytest.mark.benchmark(group="16 samples of a Row LSTM, 7 layers of 16")
@pytest.mark.parametrize("variant", ["cached", "naive"])
def test_sampling(benchmark: BenchmarkFixture, variant: str) -> None:
    config = ModelConfig(architecture="row_lstm", num_layers=7, hidden_channels=HIDDEN)
    samplers = {"cached": draw, "naive": draw_naively}

    def arguments(size: int) -> tuple[PixelModel, Tensor, Tensor, Tensor]:
        pixels, noise = blank_and_noise(16, size)
        return make_model(config, size), pixels, torch.ones(size, size, dtype=torch.bool), noise

    # The naive sampler is slow at full size, so a smaller size checks that both draw the same pixels.
    cached, naive = (sampler(*arguments(8)) for sampler in samplers.values())
    assert torch.equal(cached, naive)
    rounds = 1 if variant == "naive" else 5
    benchmark.pedantic(samplers[variant], args=arguments(SIZE), rounds=rounds)


@pytest.mark.benchmark(group="64 lower halves completed by a dilated Row LSTM, 4 layers of 32")
def test_completion(benchmark: BenchmarkFixture) -> None:
    """There is no comparison, because the naive sampler would take minutes."""
    config = ModelConfig(
        architecture="row_lstm",
        num_layers=4,
        hidden_channels=32,
        dilations=(1, 2, 4, 8),
        skip=True,
        extra_column=True,
    )
    model, (pixels, noise) = make_model(config), blank_and_noise(64)
    mask = (torch.arange(SIZE) >= SIZE // 2)[:, None].expand(SIZE, SIZE)
    benchmark.pedantic(draw, args=(model, pixels, mask, noise), rounds=5, warmup_rounds=1)


COLOUR = ImageShape(height=32, width=32, channels=3, levels=256)


def colour_model(output: Output) -> PixelModel:
    """The model of configs/pixelrnn/cifar10.yaml, or the same with PixelRNN's softmax."""
    torch.manual_seed(0)
    config = ModelConfig(
        architecture="row_lstm",
        num_layers=4,
        hidden_channels=64,
        output_channels=128,
        output=output,
        dilations=(1, 2, 4, 8),
        skip=True,
        extra_column=True,
    )
    return PixelNetwork(config, COLOUR)


@pytest.mark.benchmark(group="training step on 16 colour images of 32x32, Row LSTM, 4 layers of 64")
@pytest.mark.parametrize(
    "variant", ["compiled", "compiled, factors in bf16", "compiled, softmax", "convolutions, autograd"]
)
def test_colour_training_step(benchmark: BenchmarkFixture, variant: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The plain form has the same loss and gradients, up to rounding."""
    model = colour_model("softmax" if variant.endswith("softmax") else "logistic_mixture")
    generator = torch.Generator().manual_seed(0)
    pixels = torch.randint(256, (16, 3, 32, 32), generator=generator, dtype=torch.uint8)

    def gradients() -> tuple[Tensor, ...]:
        loss = -model.log_likelihood(pixels).flatten(1).sum(1).mean()
        return torch.autograd.grad(loss, list(model.parameters()))

    if variant == "convolutions, autograd":
        expected = gradients()
        monkeypatch.setattr("pixelrnn.layers.row_lstm.lstm_scan", convolution_scan)
        for found, other in zip(gradients(), expected, strict=True):
            torch.testing.assert_close(found, other, rtol=1e-2, atol=1e-3 * other.abs().max().item())
        del expected

    def run() -> None:
        with products_in("bf16-mixed" if variant.endswith("bf16") else "32-true"):
            gradients()

    benchmark.pedantic(run, rounds=5, warmup_rounds=1)


@pytest.mark.benchmark(group="64 lower halves of 32x32 colour images, Row LSTM, 4 layers of 64")
def test_colour_completion(benchmark: BenchmarkFixture) -> None:
    model = colour_model("logistic_mixture").eval().requires_grad_(False)
    generator = torch.Generator().manual_seed(0)
    pixels = torch.randint(256, (64, 3, 32, 32), generator=generator, dtype=torch.uint8)
    noise = torch.rand(pixels.shape, generator=generator, dtype=torch.float64)
    mask = (torch.arange(32) >= 16)[:, None].expand(32, 32)
    benchmark.pedantic(draw, args=(model, pixels, mask, noise), rounds=2, warmup_rounds=1)
