"""Attention pictures: one panel per word, bright where the model looked."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from captioning.attention_picture import attention_picture
from captioning.caption_generator import Caption
from data_prep.images import load_image

GREY = (120, 120, 120)


def panels(picture: Image.Image) -> list[np.ndarray]:
    """Split a one-row picture at its white columns; return the brightness of each panel, without title and margin."""
    pixels = np.asarray(picture.convert("L"))
    # Titles are narrower than panels; the lower half has none.
    inked = (pixels[pixels.shape[0] // 2 :] < 250).any(axis=0)
    edges = np.flatnonzero(np.diff(np.concatenate([[False], inked, [False]]).astype(int)))
    spans = [span for span in edges.reshape(-1, 2) if span[1] - span[0] > 50]
    rows = (pixels < 250).mean(axis=1) > 0.8
    return [pixels[rows, start:end] for start, end in spans]


def draw(
    path: Path, attention: np.ndarray, size: tuple[int, int] = (60, 60), words: list[str] | None = None
) -> Image.Image:
    words = words or ["a", "red", "dog", "runs"][: len(attention)]
    attention_picture(Image.new("RGB", size, GREY), Caption(words, -1.0, attention), path)
    return load_image(path)


def test_each_word_is_bright_where_the_model_looked(tmp_path: Path) -> None:
    corners = np.zeros((4, 4, 4))
    places = [(0, 0), (0, 3), (3, 0), (3, 3)]
    for word, (row, column) in enumerate(places):
        corners[word, row, column] = 1.0
    photo, *words = panels(draw(tmp_path / "out.png", corners))
    assert np.ptp(photo[5:-5, 5:-5]) <= 2
    assert len(words) == 4
    for panel, (row, column) in zip(words, places, strict=True):
        height, width = panel.shape
        quarters = {
            (down, right): panel[
                (height // 2 if down else 5) : (-5 if down else height // 2),
                (width // 2 if right else 5) : (-5 if right else width // 2),
            ].mean()
            for down in (0, 1)
            for right in (0, 1)
        }
        assert max(quarters, key=lambda quarter: quarters[quarter]) == (row // 3, column // 3)


def test_looking_everywhere_alike_is_one_colour(tmp_path: Path) -> None:
    _, alike, pointed = panels(draw(tmp_path / "out.png", np.stack([np.full((3, 3), 1 / 9), np.eye(3) / 3])))
    assert np.ptp(alike[5:-5, 5:-5]) <= 2
    assert np.ptp(pointed[5:-5, 5:-5]) > 50


@pytest.mark.parametrize(
    ("size", "words"),
    [
        ((1, 1), ["dog"]),
        ((300, 1), ["costs", "$5", "or", "$6"]),
        ((1, 300), []),
        ((3000, 2000), ["dog"] * 12),
    ],
)
def test_odd_photos_and_captions_are_drawn(tmp_path: Path, size: tuple[int, int], words: list[str]) -> None:
    picture = draw(tmp_path / "out.png", np.full((len(words), 7, 7), 1 / 49), size, words)
    assert picture.width <= 5 * 400
