"""The command as users see it: printed results, pictures, exit status, and one line for every error."""

import functools
import json
import math
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
from PIL import Image

import pixelrnn.studies.causality
from data_prep.images import load_image
from data_prep.prepared_pixels import PreparedPixels
from pixelrnn.cli import COMMANDS, main
from pixelrnn.completion import masked_nats
from pixelrnn.mask import NAMES, read_mask
from pixelrnn.model import PixelModel
from pixelrnn.pictures import GAP, TITLE_PIXELS, cell_scale
from pixelrnn.pixel_config import ModelConfig, TrainingConfig
from pixelrnn.studies.causality import Certificate
from vision_rnn.saved_model import load_model, save_model
from vision_rnn.trainer_config import TrainerConfig

ROOT = Path(__file__).parents[2]
CAPTIONER = ROOT / "captioning" / "pretrained" / "flickr8k"
HEIGHT, WIDTH = 6, 8


class Result(NamedTuple):
    status: int
    output: list[str]
    errors: list[str]


Run = Callable[..., Result]


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    """Function that runs the command in an empty folder.

    An exception that escapes from the command, which users would see as a traceback, fails the test.
    """
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")

    def call(*arguments: object) -> Result:
        status = main([str(argument) for argument in arguments])
        output, errors = capsys.readouterr()
        return Result(status, output.splitlines(), errors.splitlines())

    return call


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory, make_model: Callable[..., PixelModel]) -> dict[str, Path]:
    """Model folders for binary, RGB and labelled images, in all three orders."""
    models = {
        "binary": make_model(HEIGHT, WIDTH, dtype=torch.float32),
        "wide": make_model(HEIGHT, WIDTH, dtype=torch.float32, hidden_channels=11, num_layers=1),
        "rotated": make_model(HEIGHT, WIDTH, dtype=torch.float32, order="rotated"),
        "rgb": make_model(HEIGHT, WIDTH, 3, 256, dtype=torch.float32, architecture="pixel_cnn", order="transposed"),
        "mixture": make_model(
            HEIGHT, WIDTH, 3, 256, num_classes=2, dtype=torch.float32, output="logistic_mixture", components=4
        ),
        "conditional": make_model(HEIGHT, WIDTH, num_classes=3, dtype=torch.float32, architecture="diagonal_bilstm"),
        "context": make_model(HEIGHT, WIDTH, dtype=torch.float32, context_layers=2),
    }
    root = tmp_path_factory.mktemp("models")
    for name, model in models.items():
        save_model(model, root / name, "# A model for tests\n")
    return {name: root / name for name in models}


@pytest.fixture
def images(tmp_path: Path) -> Path:
    """Folder with three black and white images."""
    folder = tmp_path / "images"
    folder.mkdir()
    for index in range(3):
        pixels = np.random.default_rng(index).random((HEIGHT, WIDTH)) < 0.4
        Image.fromarray(pixels).save(folder / f"{index}.png")
    return folder


@pytest.fixture
def complete(run: Run, folders: dict[str, Path], images: Path) -> Run:
    """Function that runs `pixelrnn complete` on the images with the binary model."""
    return functools.partial(run, "complete", "--model", folders["binary"], images)


@pytest.fixture(scope="module")
def prepared(make_data: Callable[..., PreparedPixels]) -> Path:
    pixels = np.random.default_rng(0).integers(2, size=(16, HEIGHT, WIDTH), dtype=np.uint8)
    return make_data(train=pixels[:10], valid=pixels[10:12], test=pixels[12:]).folder


def cell(picture: Path, row: int, column: int, titled: bool = True) -> np.ndarray:
    """Return one image (H, W, 3) of a table of completions, or of a grid of samples (which has no titles)."""
    sheet = np.asarray(load_image(picture))[TITLE_PIXELS if titled else 0 :]
    scale = cell_scale(HEIGHT, WIDTH)
    top, left = GAP + row * (HEIGHT * scale + GAP), GAP + column * (WIDTH * scale + GAP)
    return sheet[top : top + HEIGHT * scale : scale, left : left + WIDTH * scale : scale]


# mix


def test_a_mixture_is_a_model_for_all_commands(
    run: Run, folders: dict[str, Path], prepared: Path, images: Path
) -> None:
    arguments = ("mix", folders["binary"], folders["wide"], "--data", prepared)
    status, output, errors = run(*arguments, "-o", "mixed")
    assert (status, len(output)) == (0, 4)
    assert "the mixture is in mixed; nats are of 2 images of validation" in errors[-1]
    assert [line.split()[0] for line in output] == ["model", "binary", "wide", "mixture"]
    weights = [float(line.split()[1]) for line in output[1:3]]
    assert sum(weights) == pytest.approx(1)
    each, mixed = [float(line.split()[2]) for line in output[1:3]], float(output[3].split()[1])
    assert mixed < min(each)
    status, output, _ = run("evaluate", "--model", "mixed", "--data", prepared, "--split", "validation", "--proof")
    assert status == 0
    assert any(line.split()[:4] == ["nats", "per", "image", f"{mixed:.3f}"] for line in output)
    assert any(line.startswith("decoded exactly") and line.endswith("2 of 2") for line in output)
    status, _, errors = run(*arguments, "-o", "mixed/README.md")
    assert (status, len(errors)) == (2, 1)
    status, _, errors = run(*arguments, "-o", folders["wide"])
    assert (status, len(errors)) == (2, 1)
    assert "would replace a model that is read" in errors[0]
    status, _, errors = run("mix", folders["binary"], folders["rotated"], "--data", prepared, "-o", "other")
    assert (status, len(errors)) == (2, 1)
    assert "rotated: predicts in rotated order, but binary in raster order" in errors[0]
    assert not Path("other").exists()
    status, _, errors = run("train", "--data", prepared, "--output", "run", "--init_from", "mixed")
    assert (status, len(errors)) == (2, 1)
    assert "a mixture, which is not trained as a whole" in errors[0]
    assert run("verify", "--model", "mixed").status == 0
    assert run("complete", "--model", "mixed", "--mask", "lower-half", "--samples", 2, images).status == 0
    assert run("compress", "--model", "mixed", images, "-o", "coded").status == 0
    assert run("decompress", "--model", "mixed", "coded", "-o", "decoded").status == 0


# complete


def test_a_context_completes_given_all_known_pixels(run: Run, folders: dict[str, Path], images: Path) -> None:
    """The likelihood of an upper half depends on the lower half, and no note says otherwise."""
    arguments = ("complete", images / "0.png", "--mask", "upper-half", "--samples", 2)
    status, _, errors = run(*arguments, "--model", folders["context"])
    assert (status, len(errors)) == (0, 1)
    assert errors[0].endswith("given all its known pixels")
    other = np.asarray(load_image(images / "0.png")).copy()
    other[-1] = 255 - other[-1]
    Image.fromarray(other).save("other.png")
    found = {}
    for model in ("context", "binary"):
        for path in (images / "0.png", "other.png"):
            output = run("complete", path, *arguments[2:], "--model", folders[model], "--json").output
            document = json.loads("\n".join(output))
            found.setdefault(model, []).append(document["images"][0]["nats"])
        counts = document["known_pixels_conditioned_on"]
        half = HEIGHT * WIDTH // 2
        assert counts == {"by_all": half if model == "context" else 0, "by_some": 0, "by_none": half - counts["by_all"]}
    assert found["binary"][0] == found["binary"][1]
    assert found["context"][0] != found["context"][1]


def test_complete_draws_a_row_per_image_and_keeps_known_pixels(complete: Run, images: Path) -> None:
    status, output, errors = complete("--mask", "lower-half", "--samples", 3, "-o", "out.png")
    assert (status, len(output), len(errors)) == (0, 3, 1)
    assert "out.png" in errors[0]
    for row in range(3):
        original = np.asarray(load_image(images / f"{row}.png"))
        assert np.array_equal(cell(Path("out.png"), row, 0), original)
        for column in range(1, 6):
            assert np.array_equal(cell(Path("out.png"), row, column)[: HEIGHT // 2], original[: HEIGHT // 2])
    assert load_image("out.png").width == GAP + 6 * (WIDTH * cell_scale(HEIGHT, WIDTH) + GAP)


def test_complete_prints_the_likelihood_of_what_was_there(
    complete: Run, images: Path, folders: dict[str, Path]
) -> None:
    lines = [line.split("\t") for line in complete("--mask", "center").output]
    document = json.loads("\n".join(complete("--mask", "center", "--json").output))
    paths = sorted(images.iterdir())
    pixels = torch.stack([torch.tensor(np.asarray(Image.open(path)), dtype=torch.uint8)[None] for path in paths])
    mask = read_mask("center", HEIGHT, WIDTH)
    expected = masked_nats(load_model(PixelModel, folders["binary"]), pixels, mask)
    for path, nats, line, record in zip(paths, expected.tolist(), lines, document["images"], strict=True):
        bits = nats / math.log(2) / int(mask.sum())
        assert line == [str(path), f"{nats:.2f} nats", f"{bits:.4f} bits/dim"]
        assert record == {
            "image": str(path),
            "nats": pytest.approx(nats, rel=1e-5),
            "bits_per_dimension": pytest.approx(bits, rel=1e-5),
        }
    # The middle 3 x 4 of the 6 x 8 pixels are drawn: rows 2 to 4, columns 2 to 5.
    assert document["drawn_pixels"] == 12
    assert document["known_pixels_conditioned_on"] == {"by_all": 18, "by_some": 8, "by_none": 10}


def test_inverted_images_are_completed_as_the_others_and_inverted_back(complete: Run, images: Path) -> None:
    plain = complete("--mask", "lower-half", "-o", "plain.png")
    for path in images.iterdir():
        Image.fromarray(~np.asarray(Image.open(path))).save(path)
    result = complete("--mask", "lower-half", "-o", "inverted.png", "--invert")
    assert (result.status, result.output) == (0, plain.output)
    for row in range(3):
        assert np.array_equal(cell(Path("inverted.png"), row, 0), np.asarray(load_image(images / f"{row}.png")))
        for column in (0, *range(2, 10)):
            assert np.array_equal(cell(Path("inverted.png"), row, column), 255 - cell(Path("plain.png"), row, column))


@pytest.mark.parametrize("invert", [False, True])
def test_a_hint_counts_images_that_are_likelier_inverted(
    run: Run, make_dark_model: Callable[[], PixelModel], invert: bool
) -> None:
    save_model(make_dark_model(), "dark", "# A model for tests")
    for name, level in (("black", 0), ("white", 255), ("paper", 255)):
        Image.new("L", (8, 8), level).save(f"{name}.png")
    options = ["--mask", "lower-half", "--model", "dark", *["--invert"] * invert]
    hints = [
        line for line in run("complete", "black.png", "white.png", "paper.png", *options).errors if "likely" in line
    ]
    count, other = ("1 of 3, such as black.png", "without") if invert else ("2 of 3, such as white.png", "with")
    assert hints == [
        f"pixelrnn: images that the model finds far more likely with dark and light exchanged: {count}; "
        f"complete them {other} --invert"
    ]


def test_the_seed_alone_changes_the_picture(complete: Run) -> None:
    pictures = []
    for name, seed in (("a.png", 1), ("b.png", 1), ("c.png", 2)):
        assert complete("--mask", "right-half", "--seed", seed, "-o", name).status == 0
        pictures.append(Path(name).read_bytes())
    assert pictures[0] == pictures[1] != pictures[2]


@pytest.mark.parametrize(
    ("name", "mask", "better"),
    [
        ("binary", "lower-half", None),
        ("binary", "upper-half", "rotated"),
        ("binary", "right-half", "transposed"),
        ("rotated", "upper-half", None),
        ("rotated", "lower-half", "raster"),
    ],
)
def test_what_is_not_conditioned_on_is_said(
    run: Run, folders: dict[str, Path], images: Path, name: str, mask: str, better: str | None
) -> None:
    errors = run("complete", images, "--model", folders[name], "--mask", mask).errors
    notes = [line for line in errors if "of 24 known pixels" in line]
    assert len(notes) == (better is not None)
    assert all(f"`order: {better}` reaches 100%" in note for note in notes)


def test_a_picture_is_a_mask(complete: Run, images: Path) -> None:
    mask = np.zeros((HEIGHT, WIDTH), bool)
    mask[4:, 1] = True
    Image.fromarray(mask).save("mask.png")
    assert complete("--mask", "mask.png", "--samples", 1, "-o", "out.png").status == 0
    original = np.asarray(load_image(images / "2.png"))
    assert np.array_equal(cell(Path("out.png"), 2, 2)[~mask], original[~mask])
    assert complete("--mask", "mask.png", "-o", "mask.png").errors == [
        "pixelrnn: error: mask.png: would overwrite an image that is read; choose another --output"
    ]


def test_an_unreadable_image_is_skipped(complete: Run, images: Path) -> None:
    (images / "1.png").write_bytes(b"no image")
    status, output, errors = complete(images / "missing.png", "--mask", "lower-half", "-o", "out.png")
    assert status == 1
    assert [Path(line.split("\t")[0]).name for line in output] == ["0.png", "2.png"]
    assert [line for line in errors if f"{images / '1.png'}: not an image" in line]
    assert [line for line in errors if f"{images / 'missing.png'}: no such file" in line]
    for path in images.iterdir():
        path.write_bytes(b"")
    status, output, errors = complete("--mask", "lower-half", "-o", "other.png")
    assert (status, output, len(errors)) == (1, [], 3)
    assert not Path("other.png").exists()


@pytest.mark.parametrize("command", ["complete", "compress"])
def test_a_folder_of_all_kinds_of_files(run: Run, folders: dict[str, Path], images: Path, command: str) -> None:
    sound = images / "0.png"
    (images / "broken.png").write_bytes(sound.read_bytes()[:-30])
    (images / "text.gif").write_bytes(b"GIF8 is a format")
    (images / "vector.svgz").touch()
    shutil.copy(sound, images / "copy")
    (images / "latest.png").symlink_to(images / "absent.png")
    os.mkfifo(images / "pipe.png")
    options = ("--mask", "center") if command == "complete" else ()
    status, output, errors = run(command, images, *options, "--model", folders["binary"], "-o", "out.png")
    assert status == 1
    assert len(output) == 3 if command == "complete" else output[0].startswith("out.png: 3 images")
    assert errors[0] == (
        f"pixelrnn: {images}: 4 files look like images but were skipped: copy (add the suffix of the format, such as "
        ".jpg); latest.png (broken link; restore its target or remove it); pipe.png (not a regular file; replace or "
        "remove it); vector.svgz (convert to JPEG or PNG)"
    )
    assert [line for line in errors if f"{images / 'broken.png'}: the image is broken or truncated" in line]
    assert [line for line in errors if f"{images / 'text.gif'}: not an image" in line]
    status, output, errors = run(command, images / "pipe.png", *options, "--model", folders["binary"], "-o", "x.png")
    assert (status, output) == (1, [])
    assert errors == [f"pixelrnn: {images / 'pipe.png'}: not a regular file; name an image file"]


def test_the_fix_for_a_folder_of_folders_is_an_option_that_exists(complete: Run, images: Path, tmp_path: Path) -> None:
    (tmp_path / "outer").mkdir()
    images.rename(tmp_path / "outer" / "images")
    images.symlink_to(tmp_path / "outer")
    assert complete("--mask", "center", "-o", "out.png").errors == [
        f"pixelrnn: error: {images}: contains no image; its subfolders do, so name these"
    ]


def test_a_device_is_not_decompressed(run: Run) -> None:
    assert run("decompress", "/dev/zero", "-o", "back").errors == [
        "pixelrnn: error: /dev/zero: a device, socket or pipe; name a file"
    ]


def test_an_image_of_another_size_or_of_grey_levels(run: Run, folders: dict[str, Path]) -> None:
    Image.effect_noise((30, 40), 90).save("grey.png")
    arguments = ("complete", "grey.png", "--mask", "center", "--samples", 2, "-o", "out.png", "--model")
    status, output, errors = run(*arguments, folders["binary"])
    assert (status, output) == (2, [])
    assert errors == [
        "pixelrnn: error: grey.png: 40x30 pixels, but the model's images have 6x8; add --resize to scale it"
    ]
    status, output, errors = run(*arguments, folders["binary"], "--resize")
    assert (status, len(output)) == (0, 1)
    assert errors[0].startswith(
        "pixelrnn: images with grey levels: 1, such as grey.png; the model is for black and white"
    )
    assert set(cell(Path("out.png"), 0, 0).flat) == {0, 255}
    status, output, errors = run(*arguments, folders["rgb"], "--resize")
    assert (status, len(output)) == (0, 1)
    assert not any("images with grey levels" in line for line in errors)
    assert len(set(cell(Path("out.png"), 0, 0).flat)) > 2


def test_colour_and_grey_images_for_the_other_kind_of_model(run: Run, folders: dict[str, Path]) -> None:
    generator = np.random.default_rng(0)
    for name, size in {"grey": (HEIGHT, WIDTH), "colour": (HEIGHT, WIDTH, 3)}.items():
        Image.fromarray(generator.integers(256, size=size, dtype=np.uint8)).save(f"{name}.png")
    arguments = ("complete", "grey.png", "colour.png", "--mask", "left-half", "--samples", 2, "-o", "out.png")
    status, output, errors = run(*arguments, "--model", folders["mixture"], "--label", 1)
    assert (status, len(output)) == (0, 2)
    assert errors[0] == (
        "pixelrnn: images without colour: 1, such as grey.png; the model is for RGB images, so their grey levels "
        "become red, green and blue alike"
    )
    known = cell(Path("out.png"), 1, 2)[:, WIDTH // 2 :]
    assert np.array_equal(known, np.asarray(Image.open("colour.png"))[:, WIDTH // 2 :])
    status, output, errors = run(*arguments, "--model", folders["binary"])
    assert (status, len(output)) == (0, 2)
    assert errors[0] == (
        "pixelrnn: images in colour: 1, such as colour.png; the model is for grey images, so they become grey"
    )


def test_colour_images_are_compressed_and_come_back(run: Run, folders: dict[str, Path]) -> None:
    images = np.random.default_rng(0).integers(256, size=(3, HEIGHT, WIDTH, 3), dtype=np.uint8)
    Path("given").mkdir()
    for index, image in enumerate(images):
        Image.fromarray(image).save(f"given/{index}.png")
    model = ("--model", folders["mixture"])
    assert run("compress", "given", *model, "--label", 0, "-o", "coded").status == 0
    assert run("decompress", "coded", *model, "-o", "back").status == 0
    for index, image in enumerate(images):
        assert np.array_equal(np.asarray(Image.open(f"back/{index}.png")), image)


# sample


def test_sample_draws_as_many_as_asked_for(run: Run, folders: dict[str, Path]) -> None:
    assert run("sample", "--model", folders["binary"], "-n", 5, "-o", "out.png") == Result(0, ["out.png"], [])
    drawn = [cell(Path("out.png"), index // 3, index % 3, titled=False) for index in range(6)]
    assert all(set(image.flat) <= {0, 255} for image in drawn[:5])
    assert len({image.tobytes() for image in drawn[:5]}) == 5
    assert set(drawn[5].flat) == {112}


@pytest.mark.parametrize("name", ["binary", "rgb", "rotated"])
def test_samples_are_those_of_the_seed(run: Run, folders: dict[str, Path], name: str) -> None:
    pictures = []
    for seed in (1, 1, 2):
        assert run("sample", "--model", folders[name], "-n", 4, "--seed", seed, "-o", "out.png").status == 0
        pictures.append(Path("out.png").read_bytes())
    assert pictures[0] == pictures[1] != pictures[2]


def test_a_conditional_model_draws_the_requested_class(run: Run, folders: dict[str, Path], images: Path) -> None:
    pictures, likelihoods = set(), set()
    for label in range(3):
        how = ("--model", folders["conditional"], "--label", label, "-o", "out.png")
        assert run("sample", *how).status == 0
        pictures.add(Path("out.png").read_bytes())
        likelihoods.add(tuple(run("complete", images, "--mask", "lower-half", *how).output))
    assert len(pictures) == len(likelihoods) == 3


# write


def test_write_draws_a_row_of_digits_per_hand(
    run: Run, tmp_path: Path, make_parity_model: Callable[[int], PixelModel]
) -> None:
    """Odd digits are full and even ones blank; the text is not parsed as a number, so leading zeros are kept."""
    save_model(make_parity_model(10), tmp_path / "parity", "# A model for tests\n")
    how = ("--model", tmp_path / "parity", "--hands", 2, "-o", "out.png")
    assert run("write", "0019", *how) == Result(0, ["out.png"], [])
    side = 8 * cell_scale(8, 8)
    levels = np.asarray(Image.open("out.png"))
    assert levels.shape == (2 * side, 4 * side)
    for place, level in enumerate((255, 255, 0, 0)):
        assert (levels[:, place * side : (place + 1) * side] == level).all()


def test_hands_are_those_of_the_seed(run: Run, folders: dict[str, Path]) -> None:
    lines = []
    for seed, hands in ((1, 2), (2, 1)):
        assert run(
            "write", "2012", "--model", folders["conditional"], "--hands", hands, "--seed", seed, "-o", "out.png"
        ) == Result(0, ["out.png"], [])
        picture = np.asarray(Image.open("out.png"))
        lines += [line.tobytes() for line in np.split(picture, hands)]
    assert lines[0] != lines[1] == lines[2]


@pytest.mark.parametrize(
    ("name", "text", "reason"),
    [
        ("conditional", "1a", "'a': the model has no class for this character; use only 012"),
        ("conditional", "", "TEXT: is empty; give one or more of the characters 012"),
        ("binary", "1", "--model: this model is not class-conditional; choose one that is, such as bundled:digits"),
    ],
)
def test_what_cannot_be_written_is_one_line(
    run: Run, folders: dict[str, Path], name: str, text: str, reason: str
) -> None:
    assert run("write", text, "--model", folders[name]) == Result(2, [], [f"pixelrnn: error: {reason}"])
    assert not Path("written.png").exists()


# evaluate and verify


@pytest.mark.parametrize("name", ["binary", "rotated", "rgb", "conditional"])
def test_what_was_compressed_comes_back(run: Run, folders: dict[str, Path], images: Path, name: str) -> None:
    label = ["--label", 1] if name == "conditional" else []
    coded = run("compress", images, "--model", folders[name], *label, "-o", "coded")
    assert (coded.status, coded.errors) == (0, [])
    assert coded.output == [
        f"coded: 3 images, {(size := Path('coded').stat().st_size)} bytes, "
        f"{8 * size / (3 * HEIGHT * WIDTH * (3 if name == 'rgb' else 1)):.4f} bits/dim"
    ]
    assert run("decompress", "coded", "--model", folders[name], "-o", "back") == (0, ["back: 3 images"], [])
    for path in images.iterdir():
        assert np.array_equal(np.asarray(load_image(Path("back") / path.name)), np.asarray(load_image(path)))


def test_compress_and_decompress_name_what_is_wrong(run: Run, folders: dict[str, Path], images: Path) -> None:
    (images / "broken.png").write_bytes(b"no image")
    coded = run("compress", images, "--model", folders["binary"], "-o", "coded")
    assert coded.status == 1
    assert len(coded.errors) == 1
    assert "broken.png" in coded.errors[0]
    other = run("decompress", "coded", "--model", folders["rotated"], "-o", "back")
    assert (other.status, len(other.errors)) == (2, 1)
    assert "coded: coded by another model" in other.errors[0]
    assert run("compress", images, "--model", folders["binary"], "-o", images).status == 2
    assert run("compress", images, "--model", folders["binary"], "-o", images / "0.png").status == 2
    assert run("decompress", images / "0.png", "--model", folders["binary"], "-o", "back").errors == [
        f"pixelrnn: error: {images / '0.png'}: not a file of coded images; give a file that pixelrnn compress wrote"
    ]


def test_a_likelihood_is_proved_by_coding(run: Run, folders: dict[str, Path], prepared: Path) -> None:
    result = run("evaluate", "--model", folders["binary"], "--data", prepared, "--proof", "--json")
    document = json.loads("\n".join(result.output))
    assert result.status == 0
    assert (document["proof"]["images"], document["proof"]["decoded"]) == (4, 4)
    assert document["proof"]["coded_bits"] == pytest.approx(document["sum_nats"] / math.log(2), abs=65)
    shown = run("evaluate", "--model", folders["binary"], "--data", prepared, "--proof").output
    table = {line.split()[0]: line.split() for line in shown if line}
    assert table["decoded"] == ["decoded", "exactly", "4", "of", "4"]
    for name, sizes in document["proof"]["format_bytes"].items():
        assert table[name.split()[0]][-2:] == [f"{sizes[kind] / 4:.2f}" for kind in ("files", "sheets")]


def test_a_likelihood_of_a_leaking_model_fails_the_proof(
    run: Run, folders: dict[str, Path], prepared: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    leaking = load_model(PixelModel, folders["binary"])
    leaking.first.mask[:, leaking.first.mask.shape[1] // 2] = 1
    monkeypatch.setattr("pixelrnn.model.load_pixel_model", lambda model, device: leaking)
    result = run("evaluate", "--data", prepared, "--proof", "--json")
    assert result.status == 1
    assert json.loads("\n".join(result.output))["proof"]["decoded"] < 4


def test_evaluate_prints_what_it_writes(run: Run, folders: dict[str, Path], prepared: Path) -> None:
    arguments = ("evaluate", "--model", folders["binary"], "--data", prepared, "--batch-size", 3)
    status, output, _ = run(*arguments, "-o", "scores.json")
    assert status == 0
    document = json.loads(Path("scores.json").read_text())
    assert json.loads("\n".join(run(*arguments, "--json").output)) == document
    assert output[0] == document["protocol"]
    assert output[2].split() == ["images", "4"]
    nats, error = document["nats_per_image"], document["standard_error"]
    assert output[3].split() == ["nats", "per", "image", f"{nats:.3f}", "+-", f"{error:.3f}"]
    of_a_bit = math.log(2) * HEIGHT * WIDTH
    assert output[4].split() == ["bits/dim", f"{nats / of_a_bit:.5f}", "+-", f"{error / of_a_bit:.5f}"]


def test_evaluate_prints_the_regions_beside_those_of_another_model(
    run: Run, folders: dict[str, Path], prepared: Path
) -> None:
    arguments = ("evaluate", "--model", folders["context"], "--data", prepared)
    pixels = torch.tensor(PreparedPixels.open(prepared).split("test").pixels).permute(0, 3, 1, 2)
    document = json.loads("\n".join(run(*arguments, "--compare", folders["binary"], "--json").output))
    output = run(*arguments, "--compare", folders["binary"]).output
    assert list(document["regions"]) == list(NAMES)
    for name in NAMES:
        mask, cells = read_mask(name, HEIGHT, WIDTH), []
        for model, measured in (("context", document), ("binary", document["compared"])):
            nats = masked_nats(load_model(PixelModel, folders[model]), pixels, mask).numpy()
            region = measured["regions"][name]
            assert region["nats"] == pytest.approx(nats.mean(), rel=1e-5)
            assert region["standard_error"] == pytest.approx(nats.std(ddof=1) / 2, rel=1e-4)
            assert region["pixels"] == int(mask.sum())
            cells += [f"{region['nats']:.2f}", "+-", f"{region['standard_error']:.2f}"]
        percent = 100 * (document["regions"][name]["nats"] / document["compared"]["regions"][name]["nats"] - 1)
        (line,) = [line.split() for line in output if line.startswith(name)]
        assert line == [name, *cells, f"{percent:+.1f}", "%"]
    other = run(*arguments, "--compare", folders["rgb"])
    assert (other.status, len(other.errors)) == (2, 1)
    assert "but the model is for RGB images" in other.errors[0]
    # A context has its regions in any case, another model only for a comparison.
    assert json.loads("\n".join(run(*arguments, "--json").output))["regions"] == document["regions"]
    plain = run("evaluate", "--model", folders["binary"], "--data", prepared, "--json").output
    assert "regions" not in json.loads("\n".join(plain))


def test_one_image_has_no_error(run: Run, folders: dict[str, Path], make_data: Callable[..., PreparedPixels]) -> None:
    ones = np.ones((4, HEIGHT, WIDTH), np.uint8)
    ones[:, 0, 0] = 0
    data = make_data(train=ones[:2], valid=ones[2:3], test=ones[3:])
    output = run("evaluate", "--model", folders["binary"], "--data", data.folder).output
    assert output[2].split() == ["images", "1"]
    assert not any("+-" in line or "nan" in line for line in output[2:])


@pytest.mark.parametrize("name", ["binary", "rgb", "rotated", "conditional"])
def test_verify_certifies_a_sound_model(run: Run, folders: dict[str, Path], name: str) -> None:
    status, output, errors = run("verify", "--model", folders[name], "-o", "coverage.png")
    assert (status, errors) == (0, [])
    assert output[0] == "no leaks: no output depends on its own pixel or on later ones"
    document = json.loads("\n".join(run("verify", "--model", folders[name], "--json").output))
    assert document["leaks"] == []
    size = HEIGHT * WIDTH * (3 if name == "rgb" else 1)
    assert document["past_pairs"] == size * (size - 1) // 2
    assert 0.3 < document["coverage"] == document["seen_pairs"] / document["past_pairs"] <= 1
    assert f"{document['coverage']:.2%}" in output[1]
    assert load_image("coverage.png").width > 500


def test_verify_certifies_a_context_with_nothing_and_with_half_of_the_pixels_known(
    run: Run, folders: dict[str, Path]
) -> None:
    status, output, errors = run("verify", "--model", folders["context"])
    assert (status, errors) == (0, [])
    assert output[0] == "nothing known:"
    assert output[4] == "half of the pixels known, at random:"
    assert output[5] == "no leaks: no output depends on its own pixel or on later ones of its region"
    document = json.loads("\n".join(run("verify", "--model", folders["context"], "--json").output))
    plain = json.loads("\n".join(run("verify", "--model", folders["binary"], "--json").output))
    given = document.pop("half_known")
    assert document == plain
    assert given["leaks"] == []
    seen, all_pairs = given["seen_later_known_pairs"], given["later_known_pairs"]
    # About half of the 1128 pairs of a pixel and a later one.
    assert 0.9 * all_pairs < seen <= all_pairs
    assert 450 < all_pairs < 680
    assert output[7] == (
        f"context: the model sees {seen:,} of {all_pairs:,} pairs of an output and a known input after it"
    )


def test_verify_fails_a_model_that_leaks(run: Run, folders: dict[str, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    certify = pixelrnn.studies.causality.certify

    def leaking(*arguments: Any) -> Certificate:
        certificate = certify(*arguments)
        certificate.sees[1, 2, 0, 3, :, 0] = certificate.sees[4, 5, 0, 4, 5, 0] = True
        certificate.sees[1, 3, 0, 4, :4, 0] = True
        return certificate

    monkeypatch.setattr(pixelrnn.studies.causality, "certify", leaking)
    status, output, errors = run("verify", "--model", folders["binary"])
    assert (status, errors) == (1, [])
    assert output[0] == "leaks: 13"
    assert output[1] == "  output (1, 2, 0) depends on input (3, 0, 0)"
    assert output[11] == "  3 more; positions are (row, column, channel), counted from 0"
    status, output, _ = run("verify", "--model", folders["binary"], "--json")
    assert status == 1
    assert {"output": [4, 5, 0], "input": [4, 5, 0]} in json.loads("\n".join(output))["leaks"]


# train and export


def test_train_reads_its_options_from_file_and_command_line(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    received: dict[str, Any] = {}

    @functools.wraps(COMMANDS["train"])
    def train(source: str | None, **options: Any) -> Path:
        received.update(options, source=source)
        return Path("somewhere")

    monkeypatch.setitem(COMMANDS, "train", train)
    Path("config.yaml").write_text(
        "data: d\noutput: o\ntraining: {learning_rate: 1e-4, epochs: 9}\nmodel: {dilations: [1, 2], skip: true}\n"
    )
    result = run(
        "train", "--config", "config.yaml", "--training.epochs", "3", "--model.order=rotated", "--ckpt_path=last"
    )
    assert result == Result(0, ["somewhere"], [])
    assert received == {
        "source": None,
        "data": "d",
        "output": "o",
        "size": None,
        "model": ModelConfig(dilations=(1, 2), skip=True, order="rotated"),
        "training": TrainingConfig(learning_rate=1e-4, epochs=3),
        "init_from": None,
        "ckpt_path": "last",
        "from_scratch": False,
        "force": False,
        "device": "auto",
        "trainer": TrainerConfig(),
    }


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("training: {epocks: 3}", "'training' does not accept option 'epocks'"),
        ("optimiser: adam", "optimiser"),
        ("model: {order: diagonal}", "model.order"),
        ("model: {dilations: 3}", "model.dilations"),
        ("training: [", "config"),
    ],
)
def test_train_names_the_key_that_is_wrong(run: Run, text: str, named: str) -> None:
    Path("config.yaml").write_text(f"data: d\noutput: run\n{text}\n")
    status, output, errors = run("train", "--config", "config.yaml")
    assert (status, output, len(errors)) == (2, [], 1)
    assert named in errors[0]
    assert not Path("run").exists()


def test_from_training_to_a_model_that_completes(run: Run, prepared: Path, images: Path) -> None:
    small = ("--model.num_layers", 1, "--model.hidden_channels", 4, "--model.output_channels", 4)
    little = ("--training.epochs", 1, "--training.batch_size", 1)
    train = functools.partial(run, "train", "--data", prepared, "--output", "run", *little, *small)
    result = train()
    assert (result.status, result.output) == (0, [str(Path("run", "model"))])
    assert train().errors[-1].endswith("add --ckpt_path last to continue it, or choose another output")
    assert run("evaluate", "--model", "run/model", "--data", prepared, "-o", "scores.json").status == 0
    assert run("export", "run", "-o", "model", "--evaluation", "scores.json") == Result(0, ["model"], [])
    assert f"{json.loads(Path('scores.json').read_text())['nats_per_image']:.2f}" in Path("model/README.md").read_text()
    assert run("complete", images, "--model", "model", "--mask", "center").status == 0
    assert run("verify", "--model", "model").status == 0


# ladder


@pytest.fixture
def rungs(prepared: Path, tmp_path: Path) -> Path:
    """Folder with two configurations."""
    folder = tmp_path / "rungs"
    folder.mkdir()
    for depth in (1, 2):
        (folder / f"depth-{depth}.yaml").write_text(
            f"data: {prepared}\noutput: never\ntraining: {{epochs: 1, batch_size: 5}}\n"
            f"model: {{num_layers: {depth}, hidden_channels: 2, output_channels: 2}}\n"
        )
    return folder


def test_ladder_prints_the_table_that_it_writes(run: Run, rungs: Path) -> None:
    status, output, errors = run("ladder", rungs, "-o", "out", "--seeds", 4, 0, 4)
    assert status == 0
    assert output == Path("out/ladder.md").read_text().splitlines()
    assert [line.split(" | ")[:2] for line in output[2:4]] == [["| depth-1", "1"], ["| depth-2", "2"]]
    assert [line for line in errors if line.startswith("pixelrnn: run ")] == [
        f"pixelrnn: run {number} of 4: {Path('out', f'depth-{depth}-seed{seed}')}"
        for number, (seed, depth) in enumerate([(4, 1), (4, 2), (0, 1), (0, 2)], start=1)
    ]
    document = json.loads(Path("out/ladder.json").read_text())
    assert [(rung["name"], rung["seeds"]) for rung in document] == [("depth-1", [4, 0]), ("depth-2", [4, 0])]
    assert load_image("out/ladder.png").width > 500
    assert not Path("never").exists()
    again = run("ladder", rungs, "-o", "out", "--seeds", 4, 0)
    assert (again.output, len(again.errors)) == (output, 4)


def test_the_quick_ladder_has_configurations_data_and_a_folder_of_its_own(
    run: Run, rungs: Path, prepared: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert run("ladder", rungs, "--quick") == Result(
        2, [], [f"pixelrnn: error: {rungs}: --quick has configurations of its own; omit it, or the folder"]
    )
    shutil.copytree(rungs, "configs/ladder")
    shutil.copytree(rungs, "configs/ladder-quick")
    Path("configs/ladder-quick/depth-2.yaml").unlink()
    monkeypatch.setattr("pixelrnn.cli.CONFIGS", Path("configs"))
    output = run("ladder", "--quick").output
    assert output == Path("runs/pixel-ladder-quick/ladder.md").read_text().splitlines()
    images = PreparedPixels.open(prepared).manifest["splits"]["train"]["images"]
    assert output[0].startswith(f"Quick ladder: 1 of 2 rungs, {images} training images, epochs: 1. ")
    assert output[2].startswith("| rung |")
    Path("configs/ladder-quick/depth-1.yaml").write_text("data: missing\noutput: never\n")
    fix = "data-prep pixels SOURCE -o missing --max-images 4000"
    assert run("ladder", "--quick") == Result(2, [], [f"pixelrnn: error: missing: no such folder; make it with: {fix}"])


def test_an_interrupted_ladder_says_how_to_continue(run: Run, rungs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("pixelrnn.training.task.PixelTask.training_step", interrupt)
    status, output, errors = run("ladder", rungs, "-o", "out")
    assert (status, output) == (130, [])
    assert errors[-1] == "pixelrnn: interrupted; finished work is kept; the same command continues it"
    assert not Path("out/ladder.md").exists()


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("training: {epocks: 3}", "epocks"),
        ("model: {num_layers: -1}", "model.num_layers: -1 is out of range"),
        ("training: [", "config"),
        ("init_from: some/model", "a rung is trained from the beginning; omit init_from and ckpt_path"),
    ],
)
def test_ladder_names_the_file_and_the_key_that_is_wrong(run: Run, rungs: Path, text: str, reason: str) -> None:
    wrong = rungs / "depth-3.yaml"
    wrong.write_text(f"data: d\noutput: o\n{text}\n")
    status, output, errors = run("ladder", rungs, "-o", "out")
    assert (status, output, len(errors)) == (2, [], 1)
    assert errors[0].startswith(f"pixelrnn: error: {wrong}: ")
    assert reason in errors[0]
    assert not Path("out").exists()


# Wrong inputs


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        ([], "command"),
        (["paint"], "paint"),
        (["complete"], "images"),
        (["complete", "a.png"], "mask"),
        (["complete", "a.png", "--mask", "center", "--samples", "0"], "samples"),
        (["complete", "a.png", "--mask", "center", "--samples", "10001"], "samples"),
        (["complete", "a.png", "--mask", "center", "--sample", "3"], "--sample"),
        (["complete", "a.png", "--mask", "center", "-o", "out.jpg"], "out.jpg"),
        (["complete", "a.png", "--mask", "center", "-o", "a.png"], "would overwrite"),
        (["complete", "a.png", "--mask", "center", "--model", "no/such/model"], "no/such/model"),
        (["complete", ".", "--mask", "center"], "contains no image"),
        (["sample", "--seed", "-1"], "seed"),
        (["sample", "--seed", str(2**64)], "seed"),
        (["sample", "-n", "many"], "number"),
        (["sample", "-n", "10001"], "number"),
        (["sample", "-o", "out"], "end its name in .png"),
        (["sample", "--model", CAPTIONER], "a captioner, not a pixel model"),
        (["write", "--model", "no/such/model"], "text"),
        (["write", "1", "--model", "no/such/model"], "no/such/model"),
        (["write", "1", "--model", "m", "--hands", "0"], "hands"),
        (["write", "1", "--model", "m", "--hands", "10001"], "hands"),
        (["write", "1", "--model", "m", "-o", "out.jpg"], "end its name in .png"),
        (["evaluate", "--data", "d", "--batch-size", str(2**31)], "batch_size"),
        (["ladder", "no/such/folder"], "no/such/folder: has no configurations"),
        (["ladder", "--seeds"], "seeds"),
        (["ladder", "--seeds", "-1"], "seeds"),
        (["evaluate"], "data"),
        (["evaluate", "--data", "no/such/data"], "no/such/data"),
        (["evaluate", "--data", "no/such/data", "-o", "."], "is a folder"),
        (["verify", "-o", "coverage.gif"], "coverage.gif"),
        (["verify", "--model", CAPTIONER], "a captioner, not a pixel model"),
        (["export", "no/such/run", "-o", "out"], "no/such/run"),
        (["train"], "data"),
        (["train", "--config", "no/such.yaml"], "no/such.yaml"),
        (["train", "--data", "d", "--output", "o", "--training.epochs", "many"], "training.epochs"),
        (["train", "--data", "no/such/data", "--output", "no/such/run"], "no/such/data"),
        (["train", "--data", "d", "--output", "no/such/run", "--ckpt_path", "last"], "no/such/run"),
    ],
)
def test_wrong_usage_is_one_line_that_names_the_fault(run: Run, arguments: list[object], named: str) -> None:
    status, output, errors = run(*arguments)
    assert (status, output, len(errors)) == (2, [], 1)
    assert errors[0].startswith("pixelrnn: error: ")
    assert named in errors[0]


@pytest.mark.parametrize(
    ("levels", "reason"),
    [
        (np.full((HEIGHT, WIDTH), 255), "masks all pixels"),
        (np.zeros((HEIGHT, WIDTH)), "masks no pixel"),
        (np.eye(WIDTH, HEIGHT) * 255, "has 8x6 pixels, but the model's images have 6x8"),
        (np.eye(HEIGHT, WIDTH) * 100, "colours other than black and white"),
    ],
)
def test_a_mask_that_makes_no_sense_is_one_line(complete: Run, levels: np.ndarray, reason: str) -> None:
    Image.fromarray(levels.astype(np.uint8)).save("mask.png")
    status, output, errors = complete("--mask", "mask.png")
    assert (status, output, len(errors)) == (2, [], 1)
    assert errors[0].startswith("pixelrnn: error: mask.png: ")
    assert reason in errors[0]


@pytest.mark.parametrize(
    ("name", "options", "reason"),
    [
        ("binary", ["--label", 1], "--label 1: this model is not class-conditional; omit --label"),
        ("conditional", [], "--label: this model is class-conditional; choose a class from 0 to 2"),
        ("conditional", ["--label", 3], "--label 3: this model is class-conditional; choose a class from 0 to 2"),
        ("conditional", ["--label", -1], "--label -1: this model is class-conditional; choose a class from 0 to 2"),
    ],
)
@pytest.mark.parametrize("command", ["sample", "complete"])
def test_a_label_that_the_model_does_not_know_is_one_line(
    run: Run, folders: dict[str, Path], images: Path, command: str, name: str, options: list[object], reason: str
) -> None:
    what = [images, "--mask", "center"] if command == "complete" else []
    result = run(command, *what, "--model", folders[name], *options)
    assert result == Result(2, [], [f"pixelrnn: error: {reason}"])


def test_data_of_another_shape_or_split_is_one_line(run: Run, folders: dict[str, Path], prepared: Path) -> None:
    status, output, errors = run("evaluate", "--model", folders["rgb"], "--data", prepared)
    assert (status, output, len(errors)) == (2, [], 1)
    assert "grey images of 6x8 pixels" in errors[0]
    status, output, errors = run("evaluate", "--model", folders["binary"], "--data", prepared, "--split", "exam")
    assert (status, output, len(errors)) == (2, [], 1)
    assert "no split 'exam'" in errors[0]


def test_a_damaged_model_folder_is_one_line(run: Run, folders: dict[str, Path]) -> None:
    model = shutil.copytree(folders["binary"], "model")
    weights = Path(model, "model.safetensors")
    weights.write_bytes(weights.read_bytes()[:-1])
    status, output, errors = run("sample", "--model", model)
    assert (status, output, len(errors)) == (2, [], 1)
    assert "model.safetensors" in errors[0]


def test_an_interrupted_drawing_leaves_no_picture(
    run: Run, folders: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("pixelrnn.completion.draw", interrupt)
    result = run("sample", "--model", folders["binary"], "-o", "out.png")
    assert result == Result(130, [], ["pixelrnn: interrupted"])
    assert not Path("out.png").exists()


# The process


def test_help_and_wrong_usage_import_nothing_heavy() -> None:
    script = """
import sys
from pixelrnn.cli import COMMANDS, main
for line in ("--help", *(f"{name} --help" for name in COMMANDS), "--version", "sample --bogus"):
    try:
        main(line.split())
    except SystemExit as end:
        assert not end.code
heavy = {"torch", "lightning", "datasets", "matplotlib", "pandas"} & set(sys.modules)
sys.exit(", ".join(heavy) or None)
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False, cwd=ROOT)
    assert done.returncode == 0, done.stderr
    assert "usage: pixelrnn" in done.stdout
    assert done.stderr == "pixelrnn: error: unrecognized arguments: --bogus\n"
