"""Timings of the design choices that make the captioner fast: pytest tests/benchmarks --benchmark-only.

Each group compares the chosen implementation with the plain one in one run; a check first ensures equal results.
"""

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from pytest_benchmark.fixture import BenchmarkFixture
from torch import Tensor

from captioning import load_captioner
from captioning.captioner_config import DecoderConfig, EncoderConfig, Engine
from captioning.loading import PRETRAINED
from captioning.network.decoder import Decoder, Memory
from captioning.network.encoder import GridEncoder
from captioning.network.torch_decoding import TorchDecoding
from captioning.onnx.engine import Graphs, OnnxCaptioner
from captioning.onnx.names import ENCODER_OUTPUTS
from captioning.outputs import Document
from captioning.photos import Photos, caption_photos
from captioning.search import beam_search
from data_prep.image_files import find_images
from data_prep.images import load_image
from vision_rnn.trainer import keep_freed_memory

IMAGES, CAPTIONS, WORDS = 16, 5, 12
LOCATIONS, CHANNELS, VOCABULARY = 64, 1280, 2500


@pytest.fixture(scope="module")
def decoder() -> Decoder:
    """Decoder of the size of the bundled one."""
    torch.manual_seed(0)
    return Decoder(DecoderConfig(), CHANNELS, VOCABULARY).eval().requires_grad_(False)


@pytest.fixture(scope="module")
def grid() -> Tensor:
    return torch.randn(IMAGES, LOCATIONS, CHANNELS, generator=torch.Generator().manual_seed(0))


@pytest.fixture(scope="module")
def words() -> Tensor:
    return torch.randint(4, VOCABULARY, (IMAGES, CAPTIONS, WORDS), generator=torch.Generator().manual_seed(1))


def compare(
    benchmark: BenchmarkFixture, variants: dict[str, Callable[[], Tensor]], variant: str, tolerance: float = 1e-4
) -> None:
    """Check that the variants agree, and time one of them."""
    first, second = (call() for call in variants.values())
    torch.testing.assert_close(first, second, rtol=tolerance, atol=tolerance)
    benchmark.pedantic(variants[variant], rounds=5, warmup_rounds=1)


@pytest.mark.benchmark(group="keys of the grid for a caption of 12 words")
@pytest.mark.parametrize("variant", ["projected once", "projected for every word"])
def test_keys(benchmark: BenchmarkFixture, decoder: Decoder, grid: Tensor, variant: str) -> None:
    memory, attention = decoder.remember(grid), decoder.attention
    assert attention is not None
    hidden = torch.randn(IMAGES, CAPTIONS, decoder.initial_hidden.out_features)

    def once() -> Tensor:
        keys = attention.key(memory.values)
        return torch.stack([attention(hidden, keys, memory.values)[0] for _ in range(WORDS)])

    def at_every_word() -> Tensor:
        return torch.stack([attention(hidden, attention.key(memory.values), memory.values)[0] for _ in range(WORDS)])

    compare(benchmark, {"projected once": once, "projected for every word": at_every_word}, variant)


@pytest.mark.benchmark(group="five captions of an image")
@pytest.mark.parametrize("variant", ["shared memory", "repeated image"])
def test_sharing(benchmark: BenchmarkFixture, decoder: Decoder, grid: Tensor, words: Tensor, variant: str) -> None:
    def shared() -> Tensor:
        return decoder(decoder.remember(grid), words)[0].flatten(0, 1)

    def repeated() -> Tensor:
        memory = decoder.remember(grid.repeat_interleave(CAPTIONS, 0))
        return decoder(memory, words.flatten(0, 1).unsqueeze(1))[0].squeeze(1)

    compare(benchmark, {"shared memory": shared, "repeated image": repeated}, variant)


@pytest.mark.benchmark(group="logits of known words, forward and backward")
@pytest.mark.parametrize("variant", ["once per caption", "once per word"])
def test_logits(benchmark: BenchmarkFixture, decoder: Decoder, words: Tensor, variant: str) -> None:
    outputs = torch.randn(*words.shape, decoder.embedding.embedding_dim, requires_grad=True)

    def gradient(logits: Tensor) -> Tensor:
        return torch.autograd.grad(logits.logsumexp(-1).sum(), outputs)[0]

    def once() -> Tensor:
        return gradient(decoder.logits(outputs))

    def every_word() -> Tensor:
        return gradient(torch.stack([decoder.logits(output) for output in outputs.unbind(2)], dim=2))

    compare(benchmark, {"once per caption": once, "once per word": every_word}, variant)


@pytest.mark.benchmark(group="beam search of 16 images")
@pytest.mark.parametrize("variant", ["one batch", "one at a time"])
def test_beam_search(benchmark: BenchmarkFixture, decoder: Decoder, grid: Tensor, variant: str) -> None:
    memory = decoder.remember(grid)

    def together() -> Tensor:
        return torch.from_numpy(beam_search(TorchDecoding(decoder, memory), max_words=WORDS).log_probabilities)

    def one_at_a_time() -> Tensor:
        each = zip(memory.values.split(1), memory.keys.split(1), strict=True)
        found = [beam_search(TorchDecoding(decoder, Memory(values, keys)), max_words=WORDS) for values, keys in each]
        return torch.cat([torch.from_numpy(decoded.log_probabilities) for decoded in found])

    compare(benchmark, {"one batch": together, "one at a time": one_at_a_time}, variant, tolerance=1e-3)


@pytest.mark.benchmark(group="one photo, encoded and captioned by beam search of 5")
@pytest.mark.parametrize("engine", ["onnx", "torch"])
def test_engines(benchmark: BenchmarkFixture, engine: Engine) -> None:
    photo = Image.open(Path(__file__).parents[2] / "examples" / "photos" / "dog-in-the-woods.jpg").convert("RGB")
    captioner = load_captioner(engine=engine)
    assert captioner.caption(photo)[0].words == load_captioner(engine="torch").caption(photo)[0].words
    benchmark.pedantic(lambda: captioner.caption(photo), rounds=20, warmup_rounds=2)


@pytest.fixture(scope="module")
def folder(flickr8k: Path) -> list[Path]:
    """500 photos, about 500 by 375 pixels."""
    return find_images(flickr8k / "Flicker8k_Dataset")[:500]


@pytest.mark.data
@pytest.mark.benchmark(group="a folder of 500 photos")
@pytest.mark.parametrize(
    "variant",
    [
        "read, encoded and captioned",
        "encoded alone, 16 at a time by all threads",
        "encoded alone, one at a time by all threads",
        "encoded alone, one per thread",
        "read alone, by one thread",
    ],
)
def test_folder(benchmark: BenchmarkFixture, folder: list[Path], variant: str) -> None:
    """The time of the command after its start, beside that of its parts; the encoder gets prepared pixels."""
    captioner = load_captioner(engine="onnx")
    assert isinstance(captioner, OnnxCaptioner)
    model, networks = PRETRAINED / "flickr8k", len(captioner.encoder_config.networks)
    by_all, by_one = Graphs.read(model, networks), Graphs.read(model, networks, threads=1)

    def read() -> np.ndarray:
        return np.stack([captioner.preprocess(load_image(path)) for path in folder])

    def encode(number: int) -> None:
        for start in range(0, len(pixels), number):
            by_all.encode(pixels[start : start + number], ENCODER_OUTPUTS)

    def encode_by_threads() -> None:
        with ThreadPoolExecutor(os.cpu_count()) as pool:
            list(pool.map(lambda one: by_one.encode(one[np.newaxis], ENCODER_OUTPUTS), pixels))

    def caption() -> None:
        photos, output = Photos(list(map(str, folder)), recursive=False), Document()
        photos.select(output, skip_existing=False)
        assert not photos.is_empty()
        assert caption_photos(captioner, photos, output) == 0

    calls: dict[str, Callable[[], object]] = {
        "read, encoded and captioned": caption,
        "encoded alone, 16 at a time by all threads": lambda: encode(16),
        "encoded alone, one at a time by all threads": lambda: encode(1),
        "encoded alone, one per thread": encode_by_threads,
        "read alone, by one thread": read,
    }
    pixels = read() if variant.startswith("encoded") else np.empty(0)
    captioner.caption(folder[0])
    benchmark.pedantic(calls[variant], rounds=3)
    benchmark.extra_info["photos_per_second"] = len(folder) / benchmark.stats.stats.median


@pytest.mark.benchmark(group="training step of an encoder on 32 photos")
@pytest.mark.parametrize("memory", ["returned to the kernel", "kept"])
def test_freed_memory(benchmark: BenchmarkFixture, memory: str) -> None:
    # Nothing undoes it, so the variants have to run in this order.
    if memory == "kept":
        keep_freed_memory()
    encoder = GridEncoder(EncoderConfig()).train()
    encoder.fine_tune()
    size = encoder.config.image_size
    pixels = torch.randint(256, (32, 3, size, size), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))

    def step() -> None:
        with torch.autocast("cpu", torch.bfloat16):
            encoder(pixels).float().sum().backward()

    benchmark.pedantic(step, rounds=10, warmup_rounds=1)
