"""Fixtures of several packages' tests.

Small images, a synthetic captioned data set, the real data if available, and a headless browser if installed.
"""

import base64
import itertools
import json
import os
import shutil
import socket
import subprocess
import sys
import types
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from hypothesis import settings
from PIL import Image, ImageDraw, ImageFile

# No test may use the network. The libraries read these variables when they are imported.
os.environ["HF_DATASETS_OFFLINE"] = "1"
os.environ["HF_HUB_OFFLINE"] = "1"
# As vision_rnn does, which a test may import after torch: threads that spin while they wait slow each other 50 times.
os.environ.setdefault("OMP_WAIT_POLICY", "passive")
if "PYTEST_XDIST_WORKER" in os.environ:
    # There are as many processes as cores, so more threads would only make them wait. Torch reads this when imported.
    os.environ.setdefault("OMP_NUM_THREADS", "1")

# 10,000 generated cases per test, and all cases of tests marked `pairwise`: pytest --hypothesis-profile=thorough
settings.register_profile("thorough", max_examples=10_000, deadline=None)
# No test is timed: other work on the machine may slow any of them.
settings.register_profile("default", deadline=None)
settings.load_profile("default")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Keep only enough cases of each `pairwise` test to cover every pair of values of two parameters."""
    if settings.get_current_profile_name() == "thorough":
        return
    cases: dict[str, list[pytest.Function]] = {}
    for item in items:
        if item.get_closest_marker("pairwise") and isinstance(item, pytest.Function):
            cases.setdefault(item.nodeid.partition("[")[0], []).append(item)
    dropped = {item for of_test in cases.values() for item in _not_needed_for_pairs(of_test)}
    items[:] = [item for item in items if item not in dropped]
    config.hook.pytest_deselected(items=sorted(dropped, key=lambda item: item.nodeid))


def _not_needed_for_pairs(cases: list[pytest.Function]) -> list[pytest.Function]:
    """Return the cases to drop. Cases to keep are chosen greedily, the first of equally good ones."""
    values = {case: sorted((name, repr(value)) for name, value in case.callspec.params.items()) for case in cases}
    pairs = {case: set(itertools.combinations(values[case], 2)) for case in cases}
    missing = set().union(*pairs.values())
    dropped = list(cases)
    while missing:
        best = max(dropped, key=lambda case: len(pairs[case] & missing))
        missing -= pairs[best]
        dropped.remove(best)
    return dropped


COLOURS = {"red": (220, 30, 30), "green": (30, 170, 60), "blue": (40, 60, 220), "yellow": (240, 220, 40)}
SHAPES = ("square", "circle")


@pytest.fixture(scope="session")
def real_data() -> Path:
    """The folder of the real data sets."""
    data = os.environ.get("VISION_RNN_DATA")
    if not data:
        pytest.skip("VISION_RNN_DATA is not set to the folder of the real data sets")
    return Path(data)


@pytest.fixture(scope="session")
def flickr8k(real_data: Path) -> Path:
    """The folder of the real Flickr8k, in its official layout."""
    return real_data / "flickr8k"


@pytest.fixture(scope="session")
def mnist(real_data: Path) -> Path:
    """The folder of MNIST's four IDX files, gzipped."""
    return real_data / "mnist"


@pytest.fixture(scope="session")
def binarized_mnist(real_data: Path) -> Path:
    """The fixed binarization of MNIST, a .npz file of packed bits."""
    return real_data / "binarized_mnist" / "binarized_mnist.npz"


@pytest.fixture(scope="session")
def cifar10(real_data: Path) -> Path:
    """The folder of CIFAR-10 in Parquet: all 50,000 training images and the first 1,000 test images."""
    return real_data / "cifar10"


@pytest.fixture
def make_image() -> Callable[..., Path]:
    """A function that writes a small image of one colour, in the format given by the suffix, and returns the path."""

    def write(path: Path, colour: object = (200, 100, 50), size: tuple[int, int] = (8, 6), mode: str = "RGB") -> Path:
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new(mode, size, colour).save(path)  # type: ignore[arg-type]
        return path

    return write


class HeifImage(ImageFile.ImageFile):
    """The made-up content of `heic`: a row of two pixels, not compressed."""

    format = "HEIF"

    def _open(self) -> None:
        self._mode, self._size = "RGB", (2, 1)
        self.tile = [ImageFile._Tile("raw", (0, 0, 2, 1), 24, "RGB")]


@pytest.fixture
def heic() -> bytes:
    """A file that starts as HEIC does, and is read by `pillow_heif`: a red and a blue pixel."""
    return b"\0\0\0\x18ftypheic\0\0\0\0mif1heic" + bytes([255, 0, 0, 0, 0, 255])


@pytest.fixture
def pillow_heif(monkeypatch: pytest.MonkeyPatch) -> types.SimpleNamespace:
    """A stand-in for the extra pillow-heif, which counts how often it is asked to register itself."""
    Image.init()
    monkeypatch.setattr(Image, "ID", [*Image.ID])
    monkeypatch.setattr(Image, "OPEN", {**Image.OPEN})
    stand_in = types.SimpleNamespace(registrations=0)

    def register() -> None:
        stand_in.registrations += 1
        Image.register_open(HeifImage.format, HeifImage, lambda head: head[4:12] == b"ftypheic")

    stand_in.register_heif_opener = register
    monkeypatch.setitem(sys.modules, "pillow_heif", stand_in)  # type: ignore[arg-type]
    return stand_in


@pytest.fixture
def no_pillow_heif(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever is installed, pillow-heif cannot be imported."""
    monkeypatch.setitem(sys.modules, "pillow_heif", None)  # type: ignore[arg-type]


@pytest.fixture(scope="session")
def synthetic_captions(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with `captions.jsonl` and 24 images of 32x32 in `images`: a coloured shape on another colour.

    16 training, 4 validation and 4 test images, with two or three captions each. Tests must not write to this folder.
    """
    folder = tmp_path_factory.mktemp("synthetic")
    (folder / "images").mkdir()
    lines = []
    kinds = itertools.product(itertools.permutations(COLOURS, 2), SHAPES)
    for index, ((colour, background), shape) in enumerate(kinds):
        name = f"{shape}_{colour}_on_{background}.png"
        draw_shape(shape, colour, background).save(folder / "images" / name)
        captions = [
            f"A {colour} {shape} on a {background} background.",
            f"There is a {colour} {shape} in front of {background}.",
            f"A {background} picture with a {colour} {shape}",
        ]
        split = {4: "validation", 5: "test"}.get(index % 6, "train")
        lines.append({"image": name, "captions": captions[: 2 + index % 2], "split": split})
    text = "".join(json.dumps(line) + "\n" for line in lines)
    (folder / "captions.jsonl").write_text(text, encoding="utf-8")
    return folder


def draw_shape(shape: str, colour: str, background: str) -> Image.Image:
    image = Image.new("RGB", (32, 32), COLOURS[background])
    pen = ImageDraw.Draw(image)
    outline = pen.rectangle if shape == "square" else pen.ellipse
    outline((8, 8, 23, 23), fill=COLOURS[colour])
    return image


class Browser:
    """A headless Chromium with one page, which has no network but 127.0.0.1.

    Attributes:
        driver: Selenium's driver, to find elements, press keys and run scripts.
    """

    def __init__(self, driver: Any):
        self.driver = driver

    def open(self, page: str | Path, width: int = 1000, height: int = 800, dark: bool = False) -> None:
        """Open a file or an address in a viewport of this size in pixels, in light or dark colours."""
        size = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": False}
        self.driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
        # Otherwise some windows without a screen never have the focus, and their pages get no event of it.
        self.driver.execute_cdp_cmd("Emulation.setFocusEmulationEnabled", {"enabled": True})
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": [scheme]})
        self.driver.get(page.resolve().as_uri() if isinstance(page, Path) else page)

    def console_errors(self) -> list[str]:
        """Return the errors since the last call: exceptions of scripts, blocked or missing files, log entries."""
        return [entry["message"] for entry in self.driver.get_log("browser") if entry["level"] == "SEVERE"]

    def press(self, *keys: str) -> None:
        """Press keys one after the other, as a user does, wherever the focus is."""
        from selenium.webdriver import ActionChains

        for key in keys:
            ActionChains(self.driver).send_keys(key).perform()

    def screenshot(self, path: Path) -> Image.Image:
        """Write a PNG file of the whole page, however long, and return the picture."""
        taken = self.driver.execute_cdp_cmd("Page.captureScreenshot", {"captureBeyondViewport": True})
        path.write_bytes(base64.b64decode(taken["data"]))
        with Image.open(path) as picture:
            return picture.convert("RGB")

    def evaluate(self, expression: str) -> Any:
        """Return the value of a JavaScript expression in the page."""
        return self.driver.execute_script(f"return ({expression})")

    def texts(self, selector: str) -> list[str]:
        """Return the texts of the elements that a CSS selector finds."""
        return self.evaluate(f"[...document.querySelectorAll({json.dumps(selector)})].map(each => each.textContent)")

    def wait(self, condition: str) -> None:
        """Wait, at most a minute, until a JavaScript expression is true."""
        from selenium.webdriver.support.ui import WebDriverWait

        WebDriverWait(self.driver, 60).until(lambda _: self.evaluate(condition), condition)


@pytest.fixture(scope="session")
def chromium(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    """One browser for all tests of a process."""
    binary, driver_binary = shutil.which("chromium"), shutil.which("chromedriver")
    if not (binary and driver_binary):
        pytest.skip("Chromium is not installed; on Debian: apt-get install chromium chromium-driver")
    webdriver = pytest.importorskip("selenium.webdriver", reason="selenium is not installed")
    options = webdriver.ChromeOptions()
    options.binary_location = binary
    for argument in (
        "--headless=new",
        "--no-sandbox",  # Root has no sandbox.
        "--disable-dev-shm-usage",
        "--disable-gpu",
        "--hide-scrollbars",
        "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",
        f"--user-data-dir={tmp_path_factory.mktemp('chromium')}",
    ):
        options.add_argument(argument)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    driver = webdriver.Chrome(options=options, service=webdriver.ChromeService(driver_binary))
    yield Browser(driver)
    driver.quit()


@pytest.fixture
def browser(chromium: Browser) -> Iterator[Browser]:
    """The browser at an empty page; the test fails if there were console errors that it did not ask for."""
    chromium.driver.get("about:blank")
    chromium.console_errors()
    yield chromium
    assert chromium.console_errors() == []


class Served(NamedTuple):
    """A page that a process serves.

    Attributes:
        address: Its address.
        process: The process.
        temporary: Folder for the temporary files of the process, which has no other.
    """

    address: str
    process: subprocess.Popen[str]
    temporary: Path

    def stored(self) -> list[Path]:
        """Return the temporary files that have a content."""
        return [path for path in self.temporary.rglob("*") if path.is_file() and path.stat().st_size]


@pytest.fixture(scope="module")
def serve_page(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[..., Served]]:
    """A function that runs `PROGRAM serve ARGUMENTS` until the end of the tests of a file."""
    pytest.importorskip("gradio", reason="gradio is not installed")
    processes = []

    def serve(program: str, *arguments: object) -> Served:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        temporary = tmp_path_factory.mktemp("served")
        process = subprocess.Popen(
            [sys.executable, "-m", program, "serve", "--port", str(port), *map(str, arguments)],
            cwd=Path(__file__).parents[1],
            env=os.environ | {"TMPDIR": str(temporary)},
            stdout=subprocess.PIPE,
            text=True,
        )
        processes.append(process)
        assert process.stdout is not None
        line = process.stdout.readline()
        assert line.startswith(f"http://127.0.0.1:{port} ")
        return Served(line.split()[0], process, temporary)

    yield serve
    for process in processes:
        process.kill()
        process.communicate()
