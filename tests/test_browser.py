"""The headless browser of the tests: a page that is wrong must not pass."""

import http.server
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest


def write(folder: Path, body: str) -> Path:
    path = folder / "page.html"
    path.write_text(
        f'<!doctype html><meta charset=utf-8><link rel=icon href="data:,"><title>Page</title>{body}', encoding="utf-8"
    )
    return path


@pytest.mark.parametrize(
    "body",
    [
        "<script>nothing.at.all()</script>",
        "<script>console.error('wrong')</script>",
        "<img src=missing.png>",
        "<img src=https://example.com/picture.png>",
    ],
)
def test_errors_of_a_page_are_found(browser: Any, tmp_path: Path, body: str) -> None:
    browser.open(write(tmp_path, body))
    errors = browser.console_errors()
    # The log is written by another process, which may be late.
    until = time.monotonic() + 30
    while not errors and time.monotonic() < until:
        time.sleep(0.05)
        errors = browser.console_errors()
    assert len(errors) == 1


def test_a_page_has_the_size_and_the_colours_asked_for(browser: Any, tmp_path: Path) -> None:
    dark = "matchMedia('(prefers-color-scheme: dark)').matches"
    path = write(tmp_path, "<div style='height: 3000px; background: #008000'></div>")
    for width, is_dark in ((400, True), (1000, False)):
        browser.open(path, width=width, dark=is_dark)
        assert browser.evaluate("[innerWidth, " + dark + "]") == [width, is_dark]
        picture = browser.screenshot(tmp_path / "page.png")
        assert picture.width == width
        assert picture.height > 3000
        assert picture.getpixel((width // 2, 2500)) == (0, 128, 0)


def test_keys_reach_the_page(browser: Any, tmp_path: Path) -> None:
    from selenium.webdriver.common.keys import Keys

    browser.open(write(tmp_path, "<button>first</button><input id=name>"))
    browser.press(Keys.TAB, Keys.TAB, "a", "b")
    assert browser.evaluate("document.getElementById('name').value") == "ab"


@pytest.fixture
def address(tmp_path: Path) -> Iterator[str]:
    def handler(*arguments: Any) -> http.server.SimpleHTTPRequestHandler:
        return http.server.SimpleHTTPRequestHandler(*arguments, directory=str(tmp_path))

    # Chromium keeps spare connections open, which a server of one thread would wait for.
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        server.block_on_close = False
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}/page.html"
        server.shutdown()
        thread.join()


def test_a_page_of_this_machine_is_served(browser: Any, tmp_path: Path, address: str) -> None:
    write(tmp_path, "hello")
    browser.open(address)
    assert browser.evaluate("document.body.innerText") == "hello"
