"""Lossless coding of files: a decoded image has exactly the content of its file, or the file is refused."""

import struct
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from data_prep.images import load_image
from pixelrnn.cli import main
from pixelrnn.coding.exactness import loss
from pixelrnn.model import PixelModel
from pixelrnn.pixel_config import ImageShape
from vision_rnn.saved_model import save_model

HEIGHT, WIDTH = 5, 7
MODELS = {"binary": (1, 2), "grey": (1, 256), "rgb": (3, 256)}
# Writes an image file and returns its full content: (frames, H, W, channels), in the numbers that it stores.
Writer = Callable[[Path, np.random.Generator], np.ndarray]


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory, make_model: Callable[..., PixelModel]) -> dict[str, Path]:
    root = tmp_path_factory.mktemp("models")
    for name, (channels, levels) in MODELS.items():
        model = make_model(HEIGHT, WIDTH, channels, levels, dtype=torch.float32, architecture="pixel_cnn")
        save_model(model, root / name, "# A model for tests\n")
    return {name: root / name for name in MODELS}


def levels(random: np.random.Generator, channels: int, top: int = 256) -> np.ndarray:
    """Return noise, often without colours and often black and white."""
    size = (HEIGHT, WIDTH, channels)
    values = random.integers(top, size=size) if random.random() < 0.6 else random.integers(2, size=size) * (top - 1)
    if channels >= 3 and random.random() < 0.5:
        values[..., :3] = values[..., :1]
    return values


def saved(mode: str, suffix: str, **options: object) -> Writer:
    def write(path: Path, random: np.random.Generator) -> np.ndarray:
        values = levels(random, len(mode)).astype(np.uint8)
        image = Image.fromarray(values.squeeze())
        assert image.mode == mode
        image.save(path.with_suffix(suffix), **options)  # type: ignore[arg-type]
        return values[None]

    return write


def black_and_white(path: Path, random: np.random.Generator) -> np.ndarray:
    values = random.integers(2, size=(HEIGHT, WIDTH)).astype(bool)
    Image.fromarray(values).save(path.with_suffix(".png"))
    return values[None, ..., None] * 255


def palette(path: Path, random: np.random.Generator) -> np.ndarray:
    colours, indices = random.integers(256, size=(16, 3)), random.integers(16, size=(HEIGHT, WIDTH))
    image = Image.new("P", (WIDTH, HEIGHT))
    image.putdata(indices.ravel().tolist())
    image.putpalette(colours.astype(np.uint8).ravel().tolist())
    if random.random() < 0.5:
        image.save(path.with_suffix(".png"))
        return colours[indices][None]
    transparent = int(indices[0, 0])
    image.save(path.with_suffix(".png"), transparency=transparent)
    return np.concatenate([colours[indices], 255 * (indices != transparent)[..., None]], axis=2)[None]


def sixteen_bits(channels: int) -> Writer:
    """Return a writer of PNG files with 16 bits per channel, which Pillow can read but not write."""

    def write(path: Path, random: np.random.Generator) -> np.ndarray:
        values = levels(random, channels, 65536)
        header = struct.pack(">IIBBBBB", WIDTH, HEIGHT, 16, {1: 0, 2: 4, 3: 2, 4: 6}[channels], 0, 0, 0)
        rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in values)

        def chunk(kind: bytes, data: bytes) -> bytes:
            return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

        chunks = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
        path.with_suffix(".png").write_bytes(b"\x89PNG\r\n\x1a\n" + chunks)
        return values[None]

    return write


def portable_map(path: Path, random: np.random.Generator) -> np.ndarray:
    values = levels(random, 3, 65536)
    path.with_suffix(".ppm").write_bytes(f"P6 {WIDTH} {HEIGHT} 65535\n".encode() + values.astype(">u2").tobytes())
    return values[None]


def floats(path: Path, random: np.random.Generator) -> np.ndarray:
    values = random.random((HEIGHT, WIDTH)).astype(np.float32)
    Image.fromarray(values).save(path.with_suffix(".tif"))
    return values[None, ..., None]


def animation(suffix: str) -> Writer:
    def write(path: Path, random: np.random.Generator) -> np.ndarray:
        frames = [random.integers(256, size=(HEIGHT, WIDTH, 3)).astype(np.uint8) for _ in range(2)]
        first, second = (Image.fromarray(frame) for frame in frames)
        first.save(path.with_suffix(suffix), save_all=True, append_images=[second], lossless=True)
        return np.stack(frames)

    return write


def rotated(path: Path, random: np.random.Generator) -> np.ndarray:
    values = levels(random, 3).astype(np.uint8)
    exif = Image.Exif()
    exif[0x0112] = 3
    Image.fromarray(values).save(path.with_suffix(".png"), exif=exif)
    return values[None]


def separations(path: Path, random: np.random.Generator) -> np.ndarray:
    values = levels(random, 4).astype(np.uint8)
    Image.frombytes("CMYK", (WIDTH, HEIGHT), values.tobytes()).save(path.with_suffix(".tif"))
    return values[None]


EXACT: list[Writer] = [
    *(saved(mode, suffix) for mode in ("L", "RGB") for suffix in (".png", ".bmp", ".tif", ".ppm")),
    saved("RGB", ".webp", lossless=True),
    black_and_white,
]
WRITERS: list[Writer] = [
    *EXACT,
    palette,
    floats,
    rotated,
    portable_map,
    separations,
    *(sixteen_bits(channels) for channels in (1, 2, 3, 4)),
    saved("RGBA", ".png"),
    saved("RGBA", ".webp", lossless=True, exact=True),
    animation(".png"),
    animation(".webp"),
]


def is_all_of(decoded: np.ndarray, truth: np.ndarray) -> bool:
    """Return whether decoded pixels (H, W, 3) are the full content of a file: one grey or RGB frame, equal numbers."""
    frames, *_, channels = truth.shape
    return frames == 1 and channels in (1, 3) and np.array_equal(decoded, np.broadcast_to(truth[0], decoded.shape))


def test_of_a_thousand_files_each_comes_back_exactly_or_is_refused(
    folders: dict[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    random, truths = np.random.default_rng(0), {}
    (tmp_path / "files").mkdir()
    for number in range(1000):
        write = WRITERS[number % len(WRITERS)]
        truths[f"{number:04}"] = write(tmp_path / "files" / f"{number:04}", random)
    exact = {stem for stem in truths if WRITERS[int(stem) % len(WRITERS)] in EXACT}
    grey = {stem for stem in exact if (truths[stem] == truths[stem][..., :1]).all()}
    needed = {"rgb": exact, "grey": grey, "binary": {stem for stem in grey if np.isin(truths[stem], (0, 255)).all()}}
    for name, folder in folders.items():
        coded, out = str(tmp_path / f"{name}.vrnn"), tmp_path / name
        assert main(["compress", str(tmp_path / "files"), "--model", str(folder), "-o", coded, "--quiet"]) == 1
        refused = capsys.readouterr().err.splitlines()
        assert main(["decompress", coded, "--model", str(folder), "-o", str(out)]) == 0
        capsys.readouterr()
        back = {path.stem: np.asarray(load_image(path)) for path in out.iterdir()}
        assert len(refused) + len(back) == 1000
        assert all(" would not be lossless (" in line for line in refused)
        for stem, decoded in back.items():
            assert is_all_of(decoded, truths[stem]), (name, stem)
        # No file is refused unnecessarily.
        assert needed[name] <= back.keys()
        assert len(needed[name]) > 100


def test_converting_is_allowed_and_said(folders: dict[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    photos = [tmp_path / f"{name}.png" for name in ("photo", "second")]
    for seed, path in enumerate(photos):
        saved("RGBA", ".png")(path.with_suffix(""), np.random.default_rng(seed))
    arguments = [
        "compress",
        *map(str, photos),
        "--model",
        str(folders["rgb"]),
        "-o",
        str(tmp_path / "x.vrnn"),
    ]
    assert main(arguments) == 1
    assert not (tmp_path / "x.vrnn").exists()
    capsys.readouterr()
    assert main([*arguments, "--convert"]) == 0
    assert capsys.readouterr().err == f"pixelrnn: images converted: 2, such as {photos[0]} (it has transparency)\n"


def test_decompressing_overwrites_nothing_unasked(
    folders: dict[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    for name in ("a", "b"):
        black_and_white(tmp_path / name, np.random.default_rng(2))
    coded, model = str(tmp_path / "x.vrnn"), ["--model", str(folders["binary"])]
    assert main(["compress", str(tmp_path), *model, "-o", coded]) == 0
    (tmp_path / "a.png").write_bytes(b"something else")
    (tmp_path / "b.png").unlink()
    capsys.readouterr()
    assert main(["decompress", coded, *model, "-o", str(tmp_path)]) == 2
    assert "a.png: exists (images that exist: 1); add --overwrite to replace them" in capsys.readouterr().err
    assert (tmp_path / "a.png").read_bytes() == b"something else"
    assert not (tmp_path / "b.png").exists()
    assert main(["decompress", coded, *model, "-o", str(tmp_path), "--overwrite"]) == 0
    assert load_image(tmp_path / "a.png").size == (WIDTH, HEIGHT)


def test_text_in_the_file_does_not_hide_that_it_is_stored_rotated(tmp_path: Path):
    exif = Image.Exif()
    exif[0x0112] = 8
    path = tmp_path / "photo.png"
    Image.new("L", (WIDTH, HEIGHT)).save(path, exif=exif)
    encoded = path.read_bytes()
    text = b"zTXtComment\0\0" + zlib.compress(bytes(2_000_000))
    chunk = struct.pack(">I", len(text) - 4) + text + struct.pack(">I", zlib.crc32(text))
    for place in (33, encoded.index(b"IEND") - 4):
        path.write_bytes(encoded[:place] + chunk + encoded[place:])
        assert load_image(path).size == (HEIGHT, WIDTH)
        assert loss(path, ImageShape(height=HEIGHT, width=WIDTH, channels=1, levels=256)) == "it is stored rotated"


def test_an_image_is_decoded_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    Image.new("L", (WIDTH, HEIGHT), 255).save(tmp_path / "photo.png")
    decoder, decoded = Image._getdecoder, []

    def count(mode: str, name: str, *arguments: Any) -> Any:
        decoded.append(name)
        return decoder(mode, name, *arguments)

    monkeypatch.setattr(Image, "_getdecoder", count)
    assert loss(tmp_path / "photo.png", ImageShape(height=HEIGHT, width=WIDTH, channels=1, levels=2)) is None
    assert decoded == ["zip"]


@pytest.mark.usefixtures("pillow_heif")
def test_heic_may_have_more_bits(tmp_path: Path, heic: bytes):
    (tmp_path / "photo.heic").write_bytes(heic)
    reason = loss(tmp_path / "photo.heic", ImageShape(height=1, width=2, channels=3, levels=256))
    assert reason == "its format, HEIF, may have more than 8 bits per channel"


def test_broken_metadata_lose_nothing(tmp_path: Path):
    exif = b"Exif\0\0II*\0\xff\xff\xff\xffgarbage"
    Image.new("L", (WIDTH, HEIGHT)).save(tmp_path / "photo.png", exif=exif)
    assert loss(tmp_path / "photo.png", ImageShape(height=HEIGHT, width=WIDTH, channels=1, levels=256)) is None


# A damaged header may declare millions of pixels, which take longer than hypothesis allows for an example.
@settings(deadline=None)
@given(
    st.sampled_from(["JPEG", "PNG", "GIF", "WEBP", "TIFF", "BMP"]),
    st.lists(st.tuples(st.floats(0, 0.999), st.integers(0, 255)), min_size=1, max_size=8),
)
def test_a_damaged_file_that_can_be_read_has_an_answer(
    tmp_path_factory: pytest.TempPathFactory, format: str, damage: list[tuple[float, int]]
):
    path = tmp_path_factory.mktemp("damaged") / "photo"
    Image.fromarray(np.arange(HEIGHT * WIDTH * 3, dtype=np.uint8).reshape(HEIGHT, WIDTH, 3)).save(path, format)
    encoded = bytearray(path.read_bytes())
    for place, value in damage:
        encoded[int(place * len(encoded))] = value
    path.write_bytes(encoded)
    reason = loss(path, ImageShape(height=HEIGHT, width=WIDTH, channels=3, levels=256))
    assert reason is None or isinstance(reason, str)
