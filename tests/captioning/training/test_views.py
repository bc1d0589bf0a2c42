"""Views: what a crop shows, that it can be drawn again, and that it differs between images and epochs."""

import numpy as np
import pytest
from PIL import Image, ImageOps

from captioning.training.views import PLAIN, View, training_views


@pytest.fixture(scope="module")
def ramp() -> Image.Image:
    """An image whose red is the column and whose green is the row."""
    columns, rows = np.meshgrid(np.arange(120), np.arange(90))
    return Image.fromarray(np.stack([columns, rows, np.zeros_like(rows)], axis=-1).astype(np.uint8))


def box(cropped: Image.Image) -> tuple[int, int, int, int, bool]:
    """Return left, top, right and bottom of the part of the ramp that is shown, and whether it is mirrored."""
    pixels = np.asarray(cropped).astype(int)
    columns, rows = pixels[0, :, 0], pixels[:, 0, 1]
    is_mirrored = columns[0] > columns[-1]
    columns = columns[::-1] if is_mirrored else columns
    assert (np.diff(columns) == 1).all(), "not one piece of the image"
    assert (np.diff(rows) == 1).all(), "not one piece of the image"
    return columns[0], rows[0], columns[-1] + 1, rows[-1] + 1, bool(is_mirrored)


def test_crops_are_pieces_of_the_stated_size_everywhere_and_half_are_mirrored(ramp: Image.Image) -> None:
    boxes = np.array([box(View(crop=1).of(ramp, index)) for index in range(400)])
    widths, heights = boxes[:, 2] - boxes[:, 0], boxes[:, 3] - boxes[:, 1]
    shares = widths * heights / (120 * 90)
    assert shares.min() > 0.55  # .6, but for crops cut at the border of the image
    assert 0.7 < shares.mean() < 0.85
    ratios = (widths / 120) / (heights / 90)
    assert 0.7 < ratios.min() < 0.85
    assert 1.2 < ratios.max() < 1.4
    assert (boxes[:, :2].min(axis=0) == 0).all()
    assert (boxes[:, 2:4].max(axis=0) == (120, 90)).all()
    assert 0.4 < boxes[:, 4].mean() < 0.6


def test_a_crop_depends_on_its_number_the_image_and_the_epoch_alone(ramp: Image.Image) -> None:
    views = [(View(crop=1), 0, 0), (View(crop=2), 0, 0), (View(crop=1), 1, 0), (View(crop=1), 0, 1)]
    assert len({box(view.of(ramp, index, epoch)) for view, index, epoch in views}) == 4
    assert all(box(view.of(ramp, *place)) == box(view.of(ramp, *place)) for view, *place in views)


def test_an_image_of_one_pixel_can_be_cropped() -> None:
    assert View(crop=1).of(Image.new("RGB", (1, 1)), 0).size == (1, 1)


def test_the_other_views_show_the_whole_image(ramp: Image.Image) -> None:
    np.testing.assert_array_equal(PLAIN.of(ramp, 3), ramp)
    np.testing.assert_array_equal(View(mirrored=True).of(ramp, 3), ImageOps.mirror(ramp))
    assert training_views(mirror=True, crops=2) == [PLAIN, View(mirrored=True), View(crop=1), View(crop=2)]
    assert training_views(mirror=False, crops=0) == [PLAIN]
