import contextlib
import io
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from data_prep.images import PHOTO_SUFFIXES, ImageError, find_images, load_image
from vision_rnn.errors import UserError


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


def oversized_png() -> bytes:
    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

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


def test_missing_file_and_folder_are_image_errors(tmp_path):
    with pytest.raises(ImageError, match="no such file"):
        load_image(tmp_path / "absent.jpg")
    with pytest.raises(ImageError, match="cannot be read"):
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


def test_photo_suffixes_are_all_known_to_pillow():
    assert Image.registered_extensions().keys() >= PHOTO_SUFFIXES


def test_find_images_lists_photos_in_order(make_image, tmp_path):
    expected = [make_image(tmp_path / name) for name in ("a.JPG", "b.png", "sub/c.webp")]
    for other in ("notes.txt", ".hidden.png", "film.mpg", ".thumbs/a.png", "sub/.thumbs/deep/c.png"):
        (tmp_path / other).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / other).touch()
    (tmp_path / "folder.png").mkdir()
    assert find_images(tmp_path) == expected[:2]
    assert find_images(tmp_path, recursive=True) == expected


def test_find_images_searches_a_hidden_folder_that_is_named(make_image, tmp_path):
    image = make_image(tmp_path / ".photos" / "sub" / "a.png")
    assert find_images(tmp_path / ".photos", recursive=True) == [image]


def test_find_images_tells_how_to_fix_an_empty_list(make_image, tmp_path):
    with pytest.raises(UserError, match="contains no image; name a folder"):
        find_images(tmp_path, recursive=True)
    make_image(tmp_path / "sub" / "a.png")
    with pytest.raises(UserError, match="--recursive"):
        find_images(tmp_path)
    with pytest.raises(UserError, match="no such folder"):
        find_images(Path(tmp_path / "absent"))
