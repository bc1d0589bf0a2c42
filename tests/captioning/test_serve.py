"""The page that captions photos: as a user sees it in a browser, and what it does with bad uploads."""

import shutil
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from captioning.captioner import Captioner
from captioning.cli import main
from captioning.serve import caption_uploads
from data_prep.images import load_image
from vision_rnn import demo


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    folder = tmp_path_factory.mktemp("photos")
    paths = [folder / "red.jpg", folder / "<img src=x onerror=alert(1)>.png"]
    for index, path in enumerate(paths):
        Image.effect_mandelbrot((90, 60), (-2 + index, -1.5, 1, 1.5), 40).convert("RGB").save(path)
    return paths


@pytest.fixture(scope="module")
def page(serve_page: Callable[..., Any], model_folder: Path) -> Any:
    return serve_page("captioning", "--model", model_folder)


def upload(browser: Any, page: Any, paths: list[Path], **size: Any) -> None:
    browser.open(page.address, **size)
    browser.wait("document.querySelector('#photos input[type=file]') !== null")
    browser.driver.find_element("css selector", "#photos input[type=file]").send_keys("\n".join(map(str, paths)))


def test_photos_are_captioned_and_not_kept(
    browser: Any, page: Any, photos: list[Path], tiny_captioner: Captioner, tmp_path: Path
) -> None:
    from selenium.webdriver import ActionChains
    from selenium.webdriver.common.keys import Keys

    notes = tmp_path / "notes.txt"
    notes.write_text("not a photo")
    upload(browser, page, [photos[0], notes])
    browser.wait("document.querySelectorAll('.attended').length === 1")
    assert browser.texts(".problem") == ["notes.txt: not an image of a known format; convert it to JPEG or PNG"]
    captions = tiny_captioner.caption(load_image(photos[0]))
    shown = [" ".join(text.split()) for text in browser.texts(".attended-captions [role=group]")]
    assert shown[: len(captions)][0] == " ".join(captions[0].words)
    assert len(shown) == 5  # More than the model's beam of two.
    assert page.stored() == []
    word = browser.driver.find_elements("css selector", ".attended button")[1]
    ActionChains(browser.driver).move_to_element(word).perform()
    assert browser.texts("button.shown") == [captions[0].words[1]]
    browser.evaluate("document.querySelector('.attended button').focus()")
    browser.press(Keys.ARROW_RIGHT, Keys.ARROW_RIGHT)
    assert browser.texts("button.shown") == [captions[0].words[2]]
    assert "of the weight in row" in browser.texts(".attended-where")[0]


def test_the_keyboard_reaches_the_photos(browser: Any, page: Any) -> None:
    from selenium.webdriver.common.keys import Keys

    browser.open(page.address)
    browser.wait("document.querySelector('#photos input[type=file]') !== null")
    reached = []
    for _ in range(4):
        browser.press(Keys.TAB)
        reached.append(browser.evaluate("document.activeElement.closest('#photos button') !== null"))
    assert any(reached)


@pytest.mark.parametrize("dark", [False, True])
def test_captions_are_readable_on_a_small_screen(
    browser: Any, page: Any, photos: list[Path], tmp_path: Path, dark: bool
) -> None:
    upload(browser, page, photos, width=400, dark=dark)
    browser.wait("document.querySelectorAll('.attended').length === 2")
    assert browser.evaluate("document.documentElement.scrollWidth") == 400
    assert browser.screenshot(tmp_path / "page.png").width == 400
    brightness = browser.evaluate("getComputedStyle(document.querySelector('.attended button')).color")
    assert (max(map(int, brightness[4:-1].split(", "))) > 128) == dark
    assert browser.evaluate("document.querySelectorAll('[onerror]').length") == 0


def test_too_many_photos_at_once_are_refused_in_one_line(
    browser: Any, page: Any, photos: list[Path], tmp_path: Path
) -> None:
    copies = [Path(shutil.copy(photos[0], tmp_path / f"{number}.jpg")) for number in range(demo.MAX_FILES + 1)]
    upload(browser, page, copies)
    browser.wait("document.querySelectorAll('.problem').length > 0")
    assert browser.texts(".problem") == ["21 files: at most 20 are taken at once; drop fewer"]
    assert page.stored() == []


def test_an_oversized_photo_is_refused_in_one_line(browser: Any, page: Any, tmp_path: Path) -> None:
    large = tmp_path / "large.jpg"
    large.write_bytes(b"x" * (demo.MAX_BYTES + 2**20))
    upload(browser, page, [large])
    browser.wait("document.body.innerText.includes('maximum allowed size')")
    assert "large.jpg" in browser.evaluate("document.body.innerText")
    browser.console_errors()  # The server's answer to the upload is one.
    assert page.stored() == []


def test_a_stopped_page_leaves_nothing(serve_page: Callable[..., Any], model_folder: Path) -> None:
    page = serve_page("captioning", "--model", model_folder)
    assert any(page.temporary.iterdir())
    page.process.terminate()
    assert page.process.wait(30) == 0
    assert list(page.temporary.glob("vision-rnn-*")) == []


def test_only_this_machine_reaches_the_page(page: Any) -> None:
    port = int(page.address.rpartition(":")[2])
    with socket.create_connection(("127.0.0.1", port)):
        pass
    # Another address of this machine.
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.2", port))


def test_an_address_that_is_taken_is_one_line(page: Any, model_folder: Path) -> None:
    command = [sys.executable, "-m", "captioning", "serve", "--model", model_folder, "--port"]
    command.append(page.address.rpartition(":")[2])
    root = Path(__file__).parents[2]
    done = subprocess.run(list(map(str, command)), capture_output=True, text=True, check=False, cwd=root)
    assert (done.returncode, done.stdout, len(done.stderr.splitlines())) == (2, "", 1)
    assert "choose another --host or --port" in done.stderr


# Without a browser


def test_uploads_become_captions(tiny_captioner: Captioner, photos: list[Path], tmp_path: Path) -> None:
    copies = [shutil.copy(path, tmp_path / path.name) for path in photos]
    broken = tmp_path / "broken.jpg"
    broken.write_bytes(photos[0].read_bytes()[:200])
    empty = tmp_path / "empty.jpg"
    empty.touch()
    html = caption_uploads(tiny_captioner, [*copies, str(broken), str(empty)])
    assert html.count("<article") == 2
    assert "&lt;img src=x onerror=alert(1)&gt;.png" in html
    assert html.count('class="problem"') == 2
    assert "broken.jpg: the image is broken or truncated" in html
    assert "empty.jpg: the file is empty" in html
    assert list(tmp_path.iterdir()) == []
    assert caption_uploads(tiny_captioner, None) == ""


def test_a_missing_gradio_is_one_line(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(demo.importlib.util, "find_spec", lambda name: None)
    assert main(["serve"]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "pip install 'vision-rnn[demo]'" in line
