"""The page that completes painted regions: as a user sees it in a browser, and what it does with bad input."""

import base64
import io
import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from pixelrnn.completion import masked_nats, sample
from pixelrnn.mask import read_mask
from pixelrnn.model import PixelModel, load_pixel_model
from pixelrnn.serve import completions_of, mask_of_text, read_upload
from vision_rnn.errors import UserError
from vision_rnn.saved_model import save_model

HEIGHT, WIDTH = 6, 8


@pytest.fixture(scope="module")
def model_folder(tmp_path_factory: pytest.TempPathFactory, make_model: Callable[..., PixelModel]) -> Path:
    folder = tmp_path_factory.mktemp("model") / "binary"
    save_model(make_model(HEIGHT, WIDTH, dtype=torch.float32), folder, "# A model for tests\n")
    return folder


@pytest.fixture(scope="module")
def page(serve_page: Callable[..., Any], model_folder: Path) -> Any:
    return serve_page("pixelrnn", "--model", model_folder)


def open_page(browser: Any, page: Any, **size: Any) -> None:
    browser.open(page.address, **size)
    browser.wait("document.querySelector('.paint canvas') !== null")


def pixels_of(browser: Any, selector: str) -> list[np.ndarray]:
    sources = browser.evaluate(f"[...document.querySelectorAll({json.dumps(selector)})].map(image => image.src)")
    return [np.asarray(Image.open(io.BytesIO(base64.b64decode(source.partition(",")[2])))) for source in sources]


def mask_of(browser: Any) -> np.ndarray:
    return np.array(list(browser.evaluate("paintedMask()"))).reshape(HEIGHT, WIDTH) == "1"


def complete(browser: Any) -> None:
    browser.driver.find_element("css selector", "#complete").click()
    browser.wait("document.querySelector('#completions .completions, #completions .problem') !== null")


def test_a_region_painted_by_keyboard_is_completed(browser: Any, page: Any, model_folder: Path) -> None:
    from selenium.webdriver.common.keys import Keys

    open_page(browser, page)
    model = load_pixel_model(model_folder)
    original = sample(model, 1, 0)[0]
    (shown,) = pixels_of(browser, ".paint img")
    assert np.array_equal(shown, 255 * original[0].numpy())
    expected = read_mask("lower-half", HEIGHT, WIDTH).numpy()
    assert np.array_equal(mask_of(browser), expected)
    reached = []
    for _ in range(12):
        browser.press(Keys.TAB)
        element = "document.activeElement.closest('.paint canvas, #draw, #upload, #complete, [role=listbox]')"
        reached.append(browser.evaluate(f"{element} && ({element}.id || {element}.tagName)"))
    assert {"CANVAS", "draw", "complete"} <= set(reached)
    browser.evaluate("document.querySelector('.paint canvas').focus()")
    browser.press(" ", Keys.ARROW_UP, " ", *[Keys.ARROW_LEFT] * 20, Keys.ENTER)
    expected[3, 4], expected[2, 4], expected[2, 0] = False, True, True
    assert np.array_equal(mask_of(browser), expected)
    complete(browser)
    completions = pixels_of(browser, ".completions img")
    assert browser.texts(".completions figcaption") == [
        *(f"completion {number}" for number in range(1, 9)),
        "mean",
        "uncertainty",
    ]
    for drawn in completions[:8]:
        assert np.array_equal(drawn[~expected], shown[~expected])
    assert len({drawn.tobytes() for drawn in completions[:8]}) > 1
    assert np.array_equal(completions[8], np.rint(np.mean(completions[:8], axis=0)).astype(np.uint8))
    nats = float(masked_nats(model, original[None], torch.tensor(expected)))
    bits = nats / math.log(2) / expected.sum()
    assert f"-ln p = {nats:.2f} nats, {bits:.4f} bits/dim" in browser.texts("#completions p")[0]


def test_a_region_is_painted_with_the_mouse(browser: Any, page: Any, tmp_path: Path) -> None:
    from selenium.webdriver import ActionChains

    open_page(browser, page)
    canvas = browser.driver.find_element("css selector", ".paint canvas")
    step = canvas.size["width"] / WIDTH
    before = mask_of(browser)
    first = np.asarray(browser.screenshot(tmp_path / "first.png"))
    # Along the first row from its first pixel to its last, in one jump.
    start = (-canvas.size["width"] // 2 + 4, -canvas.size["height"] // 2 + 4)
    moves = ActionChains(browser.driver).move_to_element_with_offset(canvas, *start).click_and_hold()
    moves.move_by_offset(int(step * (WIDTH - 1)), 0).release().move_by_offset(0, int(2 * step)).perform()
    after = mask_of(browser)
    assert after[0].all()
    assert np.array_equal(after[2:], before[2:])
    assert (np.asarray(browser.screenshot(tmp_path / "second.png")) != first).any()
    # A stroke that starts on a painted pixel erases.
    ActionChains(browser.driver).move_to_element_with_offset(canvas, *start).click().perform()
    assert not mask_of(browser)[0, 0]


def test_nothing_painted_is_one_line(browser: Any, page: Any) -> None:
    open_page(browser, page)
    browser.evaluate("document.querySelector('.paint canvas').mask.fill(0)")
    complete(browser)
    assert browser.texts(".problem") == ["nothing is painted; paint the region that the model is to draw"]


def test_own_pictures_and_new_images_can_be_completed(browser: Any, page: Any, tmp_path: Path) -> None:
    open_page(browser, page)
    picture = tmp_path / "grey.png"
    grey = np.zeros((2 * HEIGHT, 2 * WIDTH), np.uint8)
    grey[:, WIDTH:] = 200
    Image.fromarray(grey).save(picture)
    browser.driver.find_element("css selector", "#upload input[type=file]").send_keys(str(picture))
    browser.wait("document.querySelectorAll('#completions .problem').length === 1")
    assert browser.texts("#completions .problem") == [
        "The picture was cropped and scaled from 16x12 to 8x6 pixels; levels of 128 and above became white, the others "
        "black."
    ]
    (shown,) = pixels_of(browser, ".paint img")
    assert shown.tolist() == [[0] * 4 + [255] * 4] * 6
    assert page.stored() == []
    browser.driver.find_element("css selector", "#draw").click()
    browser.wait("document.querySelectorAll('#completions .problem').length === 0")
    assert pixels_of(browser, ".paint img")[0].tolist() != shown.tolist()


def test_a_file_that_is_no_picture_is_one_line(browser: Any, page: Any, tmp_path: Path) -> None:
    open_page(browser, page)
    text = tmp_path / "notes.txt"
    text.write_text("not a picture")
    browser.driver.find_element("css selector", "#upload input[type=file]").send_keys(str(text))
    browser.wait("document.querySelectorAll('#completions .problem').length === 1")
    assert browser.texts(".problem") == ["notes.txt: not an image of a known format; convert it to JPEG or PNG"]


@pytest.mark.parametrize("dark", [False, True])
def test_it_is_readable_on_a_small_screen(browser: Any, page: Any, tmp_path: Path, dark: bool) -> None:
    open_page(browser, page, width=400, dark=dark)
    complete(browser)
    assert browser.evaluate("document.documentElement.scrollWidth") == 400
    assert browser.screenshot(tmp_path / "page.png").width == 400


# Without a browser


def test_a_mask_is_read_row_by_row() -> None:
    assert mask_of_text("010001", 2, 3).tolist() == [[False, True, False], [False, False, True]]
    assert mask_of_text("1" * 6, 2, 3).all()


@pytest.mark.parametrize(
    ("text", "reason"), [("", "reload"), ("01" * 4, "reload"), ("01000x", "reload"), ("0" * 6, "nothing is painted")]
)
def test_another_mask_is_refused(text: str, reason: str) -> None:
    with pytest.raises(UserError, match=reason):
        mask_of_text(text, 2, 3)


def test_colour_images_of_a_class_are_completed(make_model: Callable[..., PixelModel]) -> None:
    model = make_model(4, 5, 3, 256, num_classes=2, architecture="pixel_cnn")
    pixels = torch.randint(256, (3, 4, 5), dtype=torch.uint8)
    everything = completions_of(model, pixels, "1" * 20, seed=0, label=1)
    nats = float(masked_nats(model, pixels[None], torch.ones(4, 5, dtype=torch.bool), 1))
    assert f"{nats:.2f} nats, {nats / math.log(2) / 60:.4f} bits/dim" in everything
    assert "Note" not in everything  # There is no known pixel.
    assert everything != completions_of(model, pixels, "1" * 20, seed=1, label=1)


def test_a_colour_picture_for_a_grey_model_is_converted_aloud(
    make_model: Callable[..., PixelModel], tmp_path: Path
) -> None:
    path = tmp_path / "red.png"
    Image.new("RGB", (5, 4), "red").save(path)
    pixels, notes = read_upload(make_model(4, 5, 1, 256), str(path))
    assert pixels.shape == (1, 4, 5)
    assert notes == ["converted to grey"]
    assert not path.exists()
    Image.new("RGB", (5, 4), "red").save(path)
    assert read_upload(make_model(4, 5, 3, 256, architecture="pixel_cnn"), str(path))[1] == []
