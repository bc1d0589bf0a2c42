"""The packages as a Python program uses them: names, laziness, types, threads."""

import importlib
import runpy
import subprocess
import sys
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import captioning
from captioning import Captioner, load_captioner
from data_prep.images import ImageError
from pixelrnn import complete, load_pixel_model, sample
from vision_rnn.version import tool_version

ROOT = Path(__file__).parents[1]
PACKAGES = ("captioning", "pixelrnn", "data_prep", "evaluation", "vision_rnn")
# Names that both models have, as the design says.
SHARED_NAMES = {
    "__init__",
    "__main__",
    "cli",
    "model_card",
    "batches",
    "task",
    "run",
    "ladder",
    "model",
    "report",
    "serve",
    "estimate",
    "settings",
    "steps",
}


@pytest.mark.parametrize("package", PACKAGES)
def test_a_package_exports_its_names_and_its_version(package: str):
    module = importlib.import_module(package)
    assert module.__version__ == tool_version()
    for name in module.__all__:
        assert getattr(module, name) is not None
    assert (ROOT / package / "py.typed").is_file()
    with pytest.raises(AttributeError, match="has no attribute 'nothing'"):
        module.nothing  # noqa: B018


def test_importing_a_package_imports_nothing_heavy():
    code = f"import sys, {', '.join(PACKAGES)}; print({{'torch', 'datasets', 'nltk', 'PIL'}} & sys.modules.keys())"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "set()\n"


def test_a_file_name_is_used_once():
    names = Counter(path.stem for package in PACKAGES for path in (ROOT / package).rglob("*.py"))
    assert {name for name, count in names.items() if count > 1} <= SHARED_NAMES


@pytest.mark.parametrize("program", ["captioning", "pixelrnn", "data_prep"])
def test_a_package_runs_as_a_module(program: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]):
    monkeypatch.setattr(sys, "argv", [program, "--version"])
    with pytest.raises(SystemExit) as end:
        runpy.run_module(program, run_name="__main__")
    assert end.value.code == 0
    assert capsys.readouterr().out == f"{program.replace('_', '-')} {tool_version()}\n"


# Captions


@pytest.fixture(scope="module")
def captioner() -> Captioner:
    return load_captioner("bundled:flickr8k")


@pytest.fixture(scope="module")
def photo() -> Image.Image:
    return Image.open(ROOT / "examples" / "photos" / "dog-in-the-woods.jpg").convert("RGB")


def texts(captions: list[captioning.Caption]) -> list[str]:
    return [caption.text for caption in captions]


def test_one_image_gives_its_captions_and_several_a_list_of_these(
    captioner: Captioner, photo: Image.Image, tmp_path: Path
):
    photo.save(tmp_path / "photo.png")
    expected = captioner.caption(photo)
    assert len(expected) == captioner.search.beam_size
    array = np.asarray(photo)
    for image in (tmp_path / "photo.png", str(tmp_path / "photo.png"), (tmp_path / "photo.png").read_bytes(), array):
        assert texts(captioner.caption(image)) == texts(expected)
        assert [texts(captions) for captions in captioner.caption([image, image])] == [texts(expected)] * 2
    for several in (np.stack([array, array]), (image for image in (photo, array))):
        assert [texts(captions) for captions in captioner.caption(several)] == [texts(expected)] * 2
    assert texts(captioner.caption(array / np.float32(255))) == texts(expected)
    assert captioner.caption([]) == []


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGBA", "CMYK", "YCbCr", "I;16", "F"])
def test_images_of_any_mode_are_captioned(captioner: Captioner, photo: Image.Image, mode: str):
    grey = photo.convert("L")
    image = Image.fromarray(np.asarray(grey, np.uint16) * 257) if mode == "I;16" else photo.convert(mode)
    assert image.mode == mode
    assert captioner.caption(image)[0].words


@pytest.mark.parametrize("shape", [(20, 30), (20, 30, 1), (20, 30, 3), (20, 30, 4)])
def test_arrays_of_any_depth_are_captioned(captioner: Captioner, shape: tuple[int, ...]):
    assert captioner.caption(np.full(shape, 200, np.uint8))[0].words


@pytest.mark.parametrize(
    ("array", "reason"),
    [
        (np.zeros((4, 4, 2), np.uint8), r"shape \(4, 4, 2\)"),
        (np.zeros(9, np.uint8), r"shape \(9,\)"),
        (np.zeros((0, 4), np.uint8), r"shape \(0, 4\)"),
        (np.full((4, 4), 256), "256"),
        (np.full((4, 4), 1.5), "1.5"),
        (np.full((4, 4), np.nan), "nan"),
    ],
)
def test_an_array_that_is_no_image_is_refused(captioner: Captioner, array: np.ndarray, reason: str):
    with pytest.raises(ImageError, match=rf"array of .*{reason}.*: not an image; give "):
        captioner.caption(array)


def test_a_prefix_is_text(captioner: Captioner, photo: Image.Image):
    assert all(text.startswith("a dog's") for text in texts(captioner.caption(photo, prefix="A dog's")))


# Pixels


def test_samples_and_completions(tmp_path: Path):
    model = load_pixel_model("bundled:row-lstm")
    digits = sample(model, 2, seed=3)
    halves = complete(model, digits, "lower-half", 2)
    assert (digits.shape, halves.shape) == ((2, 1, 28, 28), (2, 2, 1, 28, 28))
    assert torch.equal(halves[..., :14, :], digits[:, None, :, :14].expand(-1, 2, -1, -1, -1))


def test_two_threads_give_what_one_gives(captioner: Captioner, photo: Image.Image):
    """One model used by two threads at once, as in a server; and both models beside each other."""
    model = load_pixel_model("bundled:row-lstm")
    turned = photo.transpose(Image.Transpose.FLIP_LEFT_RIGHT)

    def work(number: int) -> tuple[list[str], torch.Tensor]:
        return texts(captioner.caption(turned if number % 2 else photo)), sample(model, 2, seed=number)

    alone = [work(number) for number in range(4)]
    with ThreadPoolExecutor(2) as pool:
        together = list(pool.map(work, range(4)))
    for (captions, digits), (captions_alone, digits_alone) in zip(together, alone, strict=True):
        assert captions == captions_alone
        assert torch.equal(digits, digits_alone)
