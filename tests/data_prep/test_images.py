import contextlib
import io
import os
import socket
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, PngImagePlugin

from data_prep import images
from data_prep.images import LARGEST_FILE, ImageError, load_image, read_encoded, to_image


def encode(image: Image.Image, format: str, **options) -> bytes:
    stream = io.BytesIO()
    image.save(stream, format, **options)
    return stream.getvalue()


def gradient() -> Image.Image:
    return Image.fromarray(np.arange(12 * 10 * 3, dtype=np.uint8).reshape(12, 10, 3))


def pixels(encoded: bytes) -> np.ndarray:
    image = load_image(encoded)
    assert image.mode == "RGB"
    return np.asarray(image)


# Transformation of each stored image to upright, from the EXIF 2.32 standard, tag 0x0112.
UPRIGHT = {
    1: lambda stored: stored,
    2: np.fliplr,
    3: lambda stored: np.rot90(stored, 2),
    4: np.flipud,
    5: lambda stored: stored.transpose(1, 0, 2),
    6: lambda stored: np.rot90(stored, -1),
    7: lambda stored: np.rot90(stored, 2).transpose(1, 0, 2),
    8: np.rot90,
}


@pytest.mark.parametrize("orientation", UPRIGHT)
def test_exif_orientation_is_applied(orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    upright = pixels(encode(gradient(), "PNG", exif=exif))
    np.testing.assert_array_equal(upright, UPRIGHT[orientation](np.asarray(gradient())))


def test_broken_exif_leaves_the_pixels_usable():
    encoded = encode(gradient(), "PNG", exif=b"Exif\0\0II*\0\xff\xff\xff\xffgarbage")
    np.testing.assert_array_equal(pixels(encoded), np.asarray(gradient()))


@pytest.mark.parametrize(("mode", "colour"), [("RGBA", (255, 0, 0, 128)), ("LA", (100, 128))])
def test_transparency_is_laid_on_white(mode, colour):
    composed = pixels(encode(Image.new(mode, (2, 2), colour), "PNG"))[0, 0]
    expected = [round(128 / 255 * channel + 127) for channel in (colour[:-1] if mode == "RGBA" else [100] * 3)]
    np.testing.assert_allclose(composed, expected, atol=1)


def test_transparent_palette_colour_becomes_white():
    image = Image.new("P", (2, 1))
    image.putpalette([255, 0, 0, 0, 0, 255])
    image.putpixel((1, 0), 1)
    assert pixels(encode(image, "PNG", transparency=0)).tolist() == [[[255, 255, 255], [0, 0, 255]]]


def test_sixteen_bit_grey_is_scaled_not_clipped():
    values = np.array([[0, 256, 40_000, 65_535]], dtype=np.uint16)
    grey = pixels(encode(Image.fromarray(values), "PNG"))
    np.testing.assert_array_equal(grey, np.repeat(values[..., None] // 256, 3, axis=2))


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        (np.array([[0, 100, 255]], np.int32), [0, 100, 255]),
        (np.array([[0, 100, 255]], np.uint16), [0, 0, 0]),
        (np.array([[0, 256, 65_535]], np.int32), [0, 1, 255]),
        (np.array([[-5, 2**30, 2**31 - 1]], np.int32), [0, 128, 255]),
        (np.array([[0, 0.5, 1]], np.float32), [0, 128, 255]),
        (np.array([[0, 100, 255]], np.float32), [0, 100, 255]),
        (np.array([[np.nan, 500, 1000]], np.float32), [0, 128, 255]),
    ],
)
def test_wide_grey_levels_are_scaled_to_eight_bits(values, expected):
    assert pixels(encode(Image.fromarray(values), "TIFF"))[0, :, 1].tolist() == expected


def test_cmyk_becomes_rgb():
    encoded = encode(Image.new("CMYK", (8, 8), (0, 255, 255, 0)), "JPEG", quality=100)
    np.testing.assert_allclose(pixels(encoded)[4, 4], [255, 0, 0], atol=3)


def test_one_bit_image_is_black_and_white():
    image = Image.fromarray(np.array([[True, False]]))
    assert image.mode == "1"
    assert pixels(encode(image, "PNG"))[..., 0].tolist() == [[255, 0]]


def test_first_frame_of_an_animation_is_taken():
    frames = [Image.new("RGB", (4, 4), colour) for colour in ("red", "blue")]
    encoded = encode(frames[0], "GIF", save_all=True, append_images=frames[1:])
    assert pixels(encoded)[0, 0].tolist() == [255, 0, 0]


def test_one_pixel_is_an_image(make_image, tmp_path):
    assert load_image(make_image(tmp_path / "dot.png", size=(1, 1))).size == (1, 1)


def test_bytes_path_and_string_give_the_same_image(make_image, tmp_path):
    path = make_image(tmp_path / "photo.jpg")
    assert load_image(path).tobytes() == load_image(str(path)).tobytes() == load_image(path.read_bytes()).tobytes()


def chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def oversized_png() -> bytes:
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", 10_000, 10_000, 8, 0, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", zlib.compress(b"\0" * 100)) + chunk(b"IEND", b"")


@pytest.mark.parametrize(
    ("encoded", "reason"),
    [
        (b"", "empty"),
        (b"hello, I am a letter", "known format"),
        (encode(gradient(), "JPEG")[:-200], "broken or truncated"),
        (encode(gradient(), "PNG")[:60], "broken or truncated"),
        (oversized_png(), "bombs"),
    ],
    ids=["zero bytes", "text", "truncated JPEG", "truncated PNG", "decompression bomb"],
)
def test_unusable_files_are_refused_in_one_line_with_name_and_reason(encoded, reason, tmp_path):
    path = tmp_path / "photo.jpg"
    path.write_bytes(encoded)
    with pytest.raises(ImageError, match=reason) as caught:
        load_image(path)
    assert str(caught.value).startswith(f"{path}: ")
    assert "\n" not in str(caught.value)


def test_what_libtiff_says_of_a_broken_image_is_not_printed(capfd):
    picture = io.BytesIO()
    gradient().save(picture, "TIFF", compression="tiff_lzw")
    # Codes that the table of LZW does not have yet.
    encoded = picture.getvalue()[:100] + b"\xff" * 100 + picture.getvalue()[200:]
    with pytest.raises(ImageError, match="broken or truncated"):
        load_image(encoded)
    assert capfd.readouterr().err == ""


def test_missing_file_and_folder_are_image_errors(tmp_path):
    with pytest.raises(ImageError, match="no such file"):
        load_image(tmp_path / "absent.jpg")
    with pytest.raises(ImageError, match="is a folder; name an image file"):
        load_image(tmp_path)


def test_messages_use_the_given_name():
    with pytest.raises(ImageError, match=r"^row 7: "):
        load_image(b"", name="row 7")


# A damaged header may declare millions of pixels, which take longer than hypothesis allows for an example.
@settings(deadline=None)
@given(
    st.sampled_from(["JPEG", "PNG", "GIF", "WEBP", "TIFF", "BMP"]),
    st.lists(st.tuples(st.floats(0, 0.999), st.integers(0, 255)), min_size=1, max_size=8),
)
def test_a_damaged_file_gives_an_image_or_an_image_error(format, damage):
    encoded = bytearray(encode(gradient(), format))
    for place, value in damage:
        encoded[int(place * len(encoded))] = value
    with contextlib.suppress(ImageError):
        assert load_image(bytes(encoded)).mode == "RGB"


# Text in PNG files

MANY = 2 * PngImagePlugin.MAX_TEXT_CHUNK
LONG_TEXTS = {
    "zTXt": chunk(b"zTXt", b"Comment\0\0" + zlib.compress(bytes(MANY))),
    "iTXt": chunk(b"iTXt", b"prompt\0\1\0en\0\0" + zlib.compress(b"word " * MANY)),
    "colour profile": chunk(b"iCCP", b"profile\0\0" + zlib.compress(bytes(MANY))),
    "many texts": chunk(b"tEXt", b"Comment\0" + b"x" * MANY) * 33,
    "wrong checksum": chunk(b"tEXt", b"Comment\0sound")[:-4] + b"oops",
    "XMP": chunk(b"iTXt", b"XML:com.adobe.xmp\0\1\0\0\0" + zlib.compress(b" " * MANY)),
}


def png_with(before: bytes = b"", after: bytes = b"", **options) -> bytes:
    """Return a PNG file with chunks before and after its pixels."""
    encoded = encode(gradient(), "PNG", **options)
    pixels_start, end = encoded.index(b"IDAT") - 4, encoded.index(b"IEND") - 4
    return encoded[:pixels_start] + before + encoded[pixels_start:end] + after + encoded[end:]


# Pillow reads no colour profile after the pixels, and no checksum.
@pytest.mark.parametrize(
    ("text", "place"),
    [*((text, "before") for text in LONG_TEXTS), *((text, "after") for text in ("zTXt", "iTXt", "many texts", "XMP"))],
)
def test_text_in_a_png_file_does_not_matter(text, place):
    encoded = png_with(**{place: LONG_TEXTS[text]})
    with pytest.raises((ValueError, OSError)), Image.open(io.BytesIO(encoded)) as image:
        image.load()
    np.testing.assert_array_equal(pixels(encoded), np.asarray(gradient()))


@pytest.mark.parametrize("place", ["before", "after"])
def test_the_orientation_of_a_png_file_with_long_text_is_kept(place):
    exif = Image.Exif()
    exif[0x0112] = 6
    turned = np.rot90(np.asarray(gradient()), -1)
    with_exif = png_with(**{place: LONG_TEXTS["zTXt"]}, exif=exif)
    np.testing.assert_array_equal(pixels(with_exif), turned)
    oriented = chunk(b"iTXt", b'XML:com.adobe.xmp\0\0\0\0\0<x tiff:Orientation="6"/>')
    np.testing.assert_array_equal(pixels(png_with(**{place: oriented + LONG_TEXTS["iTXt"]})), turned)


def test_long_text_does_not_hide_broken_pixels_and_bombs():
    broken = png_with(LONG_TEXTS["zTXt"])[:-40]
    with pytest.raises(ImageError, match="broken or truncated"):
        load_image(broken)
    bomb = oversized_png()
    with pytest.raises(ImageError, match="bombs"):
        load_image(bomb[:33] + LONG_TEXTS["zTXt"] + bomb[33:])


# Files that are not regular, and very large ones


@pytest.fixture
def never_opened(monkeypatch):
    monkeypatch.setattr(Path, "read_bytes", lambda path: pytest.fail(f"{path} was opened"))


@pytest.mark.usefixtures("never_opened")
@pytest.mark.parametrize("kind", ["pipe", "socket", "device", "link"])
def test_what_is_no_regular_file_is_refused_unopened(kind, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    path = Path("photo.jpg")
    with socket.socket(socket.AF_UNIX) as server:
        if kind == "pipe":
            os.mkfifo(path)
        elif kind == "socket":
            server.bind(str(path))
        elif kind == "link":
            path.symlink_to(os.devnull)
        else:
            path = Path(os.devnull)
        for read in (load_image, read_encoded):
            with pytest.raises(ImageError) as caught:
                read(path)
            assert str(caught.value) == f"{path}: not a regular file; name an image file"


@pytest.mark.usefixtures("never_opened")
def test_a_file_larger_than_any_image_is_refused_unopened(tmp_path):
    path = tmp_path / "huge.tif"
    path.touch()
    os.truncate(path, LARGEST_FILE + 1)
    with pytest.raises(ImageError, match=r"huge\.tif: larger than 2,147,483,648 bytes, .*; scale it down"):
        load_image(path)


def test_a_link_to_a_file_is_read(make_image, tmp_path):
    (tmp_path / "link.png").symlink_to(make_image(tmp_path / "photo.png"))
    assert load_image(tmp_path / "link.png").size == (8, 6)


def test_a_name_that_no_file_can_have_is_an_image_error():
    with pytest.raises(ImageError, match=r"not a path .*; fix the name"):
        load_image("photo\0.jpg")


# HEIC


def test_heic_is_read_with_pillow_heif(heic, pillow_heif, tmp_path):
    (tmp_path / "IMG_1.HEIC").write_bytes(heic)
    for source in (tmp_path / "IMG_1.HEIC", heic):
        assert np.asarray(load_image(source)).tolist() == [[[255, 0, 0], [0, 0, 255]]]
    assert pillow_heif.registrations


def test_pillow_heif_is_not_loaded_for_other_images(pillow_heif):
    for format in ("JPEG", "PNG", "AVIF", "WEBP"):
        pixels(encode(gradient(), format))
    assert not pillow_heif.registrations


@pytest.mark.usefixtures("no_pillow_heif")
def test_without_pillow_heif_the_message_says_how_to_install_it(heic, tmp_path):
    # Phones and messengers rename photos, so the content counts.
    (tmp_path / "photo.jpg").write_bytes(heic)
    with pytest.raises(ImageError) as caught:
        load_image(tmp_path / "photo.jpg")
    path = tmp_path / "photo.jpg"
    assert str(caught.value) == f"{path}: HEIC, which needs pillow-heif; pip install 'vision-rnn[heif]'"
    assert load_image(encode(gradient(), "AVIF")).size == (10, 12)


@pytest.mark.usefixtures("pillow_heif")
def test_a_broken_heic_file_is_an_image_error(heic):
    with pytest.raises(ImageError, match="broken or truncated"):
        load_image(heic[:-2])


@pytest.mark.parametrize("mode", ["I;16", "I", "F", "RGBA", "LA", "P", "RGB"])
def test_large_images_are_converted_in_strips_with_the_same_result(mode: str, monkeypatch: pytest.MonkeyPatch):
    random = np.random.default_rng(0)
    if mode in ("I;16", "I", "F"):
        levels = random.integers(50_000, size=(13, 5))
        levels[11, 2] = 60_000 if mode == "I;16" else 200_000
        image = Image.fromarray(levels.astype({"I;16": np.uint16, "I": np.int32, "F": np.float32}[mode]))
    else:
        image = Image.fromarray(random.integers(256, size=(13, 5, 4), dtype=np.uint8)).convert(mode)
        if mode == "P":
            image.info["transparency"] = image.getpixel((0, 0))
    assert image.mode == mode
    whole = np.asarray(to_image(image))
    monkeypatch.setattr(images, "_STRIP_PIXELS", 12)
    np.testing.assert_array_equal(np.asarray(to_image(image)), whole)
