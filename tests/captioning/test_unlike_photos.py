"""The released captioner's confidence in pictures unlike all that it was trained on.

The figures are printed: pytest -s tests/captioning/test_unlike_photos.py
"""

import gzip
import io
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow.parquet
import pytest
from PIL import Image, ImageDraw, ImageFont

from captioning import load_captioner
from captioning.caption_generator import CaptionGenerator
from data_prep.images import load_image

REPOSITORY = Path(__file__).parents[2]
COUNT = 100
SIZE = 256
TEST_PHOTOS = 1000


def cifar10(real_data: Path) -> list[Image.Image]:
    cells = pyarrow.parquet.read_table(real_data / "cifar10" / "test.parquet")["img"].to_pylist()[:COUNT]
    return [Image.open(io.BytesIO(cell["bytes"])).convert("RGB").resize((SIZE, SIZE)) for cell in cells]


def mnist(real_data: Path) -> list[Image.Image]:
    data = gzip.decompress((real_data / "mnist" / "t10k-images-idx3-ubyte.gz").read_bytes())
    digits = np.frombuffer(data, np.uint8, offset=16).reshape(-1, 28, 28)[:COUNT]
    return [Image.fromarray(digit).convert("RGB").resize((SIZE, SIZE)) for digit in digits]


def noise(real_data: Path) -> list[Image.Image]:
    """Independent pixels, and coarser noise that is enlarged."""
    generator, sides = np.random.default_rng(0), (8, 32, 128, SIZE)
    return [
        Image.fromarray(generator.integers(256, size=(side, side, 3), dtype=np.uint8)).resize((SIZE, SIZE))
        for side in np.resize(sides, COUNT).tolist()
    ]


def screenshots(real_data: Path) -> list[Image.Image]:
    """Windows with lines of this repository's files, dark on light or light on dark."""
    generator = np.random.default_rng(0)
    files = sorted((REPOSITORY / "captioning").rglob("*.py"))
    return [_window(path, generator) for path in np.resize(np.array(files, dtype=object), COUNT).tolist()]


def _window(path: Path, generator: np.random.Generator) -> Image.Image:
    colours = [(250, 250, 250), (30, 30, 60)]
    paper, ink = colours if generator.random() < 0.5 else colours[::-1]
    window = Image.new("RGB", (1200, 800), paper)
    draw, font = ImageDraw.Draw(window), ImageFont.load_default(int(generator.integers(14, 30)))
    draw.rectangle((0, 0, 1200, 40), fill=tuple(generator.integers(256, size=3).tolist()))
    draw.text((20, 8), path.name, fill=(128, 128, 128), font=ImageFont.load_default(18))
    lines = path.read_text(encoding="utf-8").splitlines()
    draw.multiline_text((20, 60), "\n".join(lines[int(generator.integers(len(lines))) :][:40]), fill=ink, font=font)
    return window


@pytest.fixture(scope="module")
def captioner() -> CaptionGenerator:
    return load_captioner()


def confidences(captioner: CaptionGenerator, images: list[Image.Image] | list[Path]) -> np.ndarray:
    return np.array([best.confidence for best, *_ in captioner.stream(images)])


@pytest.fixture(scope="module")
def threshold(captioner: CaptionGenerator, flickr8k: Path) -> float:
    """The confidence that 95 % of the test photos reach."""
    names = (flickr8k / "Flickr8k_text" / "Flickr_8k.testImages.txt").read_text().split()[:TEST_PHOTOS]
    found = confidences(captioner, [flickr8k / "Flicker8k_Dataset" / name for name in names])
    print(f"\n95 % of {len(found)} test photos have a confidence of at least {np.quantile(found, 0.05):.3f}")
    return float(np.quantile(found, 0.05))


@pytest.mark.slow
@pytest.mark.data
@pytest.mark.parametrize("pictures", [cifar10, mnist, noise, screenshots])
def test_most_are_less_certain_than_nearly_all_test_photos(
    pictures: Callable[[Path], list[Image.Image]], captioner: CaptionGenerator, threshold: float, real_data: Path
) -> None:
    under = confidences(captioner, pictures(real_data)) < threshold
    print(f"{pictures.__name__}: {under.mean():.0%} of {COUNT} fall under it")
    assert under.mean() >= 0.8


def test_there_is_nothing_to_see_in_one_colour(captioner: CaptionGenerator) -> None:
    grey, photo = Image.new("RGB", (300, 200), (128, 128, 128)), REPOSITORY / "examples/photos/dog-in-the-woods.jpg"
    assert confidences(captioner, [grey])[0] < 0.1 < confidences(captioner, [load_image(photo)])[0]
