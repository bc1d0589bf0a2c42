"""Loading of images of any kind as upright 8-bit RGB."""

import ctypes
import io
import stat
import warnings
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import Protocol, TypeVar

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError, _imaging

from data_prep import heif
from data_prep.png_text import with_less_text
from vision_rnn.errors import UserError

# An image of as many pixels as Pillow allows takes a third of this without compression.
LARGEST_FILE = 2**31
# Of an image that is converted by way of more than its own size.
_STRIP_PIXELS = 2**22


class ImageFile(Protocol):
    """A `Path`, or any other object that returns the encoded bytes of one image file."""

    def read_bytes(self) -> bytes:
        """Read the whole file."""
        ...


Result = TypeVar("Result")
ImageSource = str | Path | bytes | Image.Image | np.ndarray


class ImageError(UserError):
    """An image that cannot be read; the message names the file, the reason and the fix in one line."""


def read_encoded(file: ImageFile) -> bytes:
    """Read the encoded bytes of an image file.

    Raises:
        ImageError: The file is missing, cannot be read, is larger than `LARGEST_FILE`, or is not a regular file. Others
            are not opened: a pipe may block and a device may never end.
    """
    try:
        if isinstance(file, Path):
            _check_image_file(file)
        return file.read_bytes()
    except FileNotFoundError:
        raise ImageError(f"{file}: no such file; check the path") from None
    except OSError as error:
        raise ImageError(f"{file}: cannot be read ({error.strerror}); name a readable image file") from None
    except ValueError as error:
        raise ImageError(f"{file}: not a path ({error}); fix the name") from None


def load_image(source: str | Path | bytes, name: str | None = None) -> Image.Image:
    """Decode an image completely and return it upright, in RGB with 8 bits per channel.

    EXIF orientation is applied, transparency is composited on white, 16-bit and float grey levels are scaled to 0..255,
    and the first frame of an animation is used.

    Args:
        source: Path, or encoded bytes of an image file.
        name: Name of the image in messages (default: its path).

    Raises:
        ImageError: As for `read_encoded` and `read_image`.
    """
    encoded = source if isinstance(source, bytes) else read_encoded(Path(source))
    name = name or ("image" if isinstance(source, bytes) else str(source))
    return read_image(encoded, name, _decode)


def read_image(encoded: bytes, name: str, read: Callable[[Image.Image], Result]) -> Result:
    """Open an image, and return what `read` returns for it.

    PNG files with more text than Pillow's limits, or with broken text, are opened without it.

    Args:
        encoded: Encoded bytes of an image file.
        name: Name of the image in messages.
        read: Function of the open image, whose pixels are not decoded yet.

    Raises:
        ImageError: The file is empty, broken, truncated, not an image, larger than Pillow's limit against
            decompression bombs, or HEIC while pillow-heif is not installed.
    """
    if not encoded:
        raise ImageError(f"{name}: the file is empty (0 bytes); copy it again")
    needs_heif = heif.is_heif(encoded[: heif.HEAD]) and not heif.register_heif()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            return _read(encoded, with_less_text(encoded), read)
    except UnidentifiedImageError:
        if needs_heif:
            raise ImageError(f"{name}: HEIC, which needs pillow-heif; {heif.INSTALL}") from None
        raise ImageError(f"{name}: not an image of a known format; convert it to JPEG or PNG") from None
    except (Image.DecompressionBombWarning, Image.DecompressionBombError):
        raise ImageError(
            f"{name}: more than {Image.MAX_IMAGE_PIXELS:,} pixels, the limit against decompression bombs; scale it down"
        ) from None
    # On broken files Pillow's decoders raise almost anything: OSError, SyntaxError, struct.error, zlib.error, KeyError.
    except Exception as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        raise ImageError(f"{name}: the image is broken or truncated ({reason}); copy it again") from error


def to_image(source: ImageSource) -> Image.Image:
    """Return an image given in any form, upright, in RGB with 8 bits per channel.

    Args:
        source: Path; encoded bytes of an image file; Pillow image of any mode; or array of shape (H, W), (H, W, 1),
            (H, W, 3) or (H, W, 4), with integers 0..255 or floats 0..1.

    Raises:
        ImageError: As for `load_image`, or the array is not an image.
    """
    if isinstance(source, np.ndarray):
        return _to_rgb(_image_of_array(source))
    if isinstance(source, Image.Image):
        return _to_rgb(_upright(source))
    return load_image(source)


def _check_image_file(path: Path) -> None:
    status = path.stat()
    if stat.S_ISDIR(status.st_mode):
        raise ImageError(f"{path}: is a folder; name an image file")
    if not stat.S_ISREG(status.st_mode):
        raise ImageError(f"{path}: not a regular file; name an image file")
    if status.st_size > LARGEST_FILE:
        raise ImageError(f"{path}: larger than {LARGEST_FILE:,} bytes, the limit for image files; scale it down")


def _read(encoded: bytes, less_text: Iterator[bytes], read: Callable[[Image.Image], Result]) -> Result:
    try:
        with Image.open(io.BytesIO(encoded)) as image:
            if image.format == "TIFF":
                _silence_libtiff()
            return read(image)
    except (Image.DecompressionBombWarning, Image.DecompressionBombError):
        raise
    except Exception:
        shorter = next(less_text, None)
        if shorter is None:
            raise
    return _read(shorter, less_text, read)


@cache
def _silence_libtiff() -> None:
    """Keep libtiff from writing to standard error what is wrong with an image; Pillow raises an error as well.

    Pillow silences its warnings alone. Where libtiff is a part of Pillow's own library, it cannot be reached.
    """
    set_handler = getattr(ctypes.CDLL(_imaging.__file__), "TIFFSetErrorHandler", None)
    if set_handler is not None:
        set_handler(None)


def _decode(image: Image.Image) -> Image.Image:
    image.load()
    return _to_rgb(_upright(image))


def _upright(image: Image.Image) -> Image.Image:
    try:
        return ImageOps.exif_transpose(image)
    except Exception:
        # Only the metadata is broken, and the pixels are usable. Its errors are as varied as those of the decoders.
        return image


def _image_of_array(array: np.ndarray) -> Image.Image:
    plane = array[..., 0] if array.ndim == 3 and array.shape[2] == 1 else array
    if plane.ndim not in (2, 3) or (plane.ndim == 3 and plane.shape[2] not in (3, 4)) or not plane.size:
        raise ImageError(f"array of shape {array.shape}: not an image; give (H, W), (H, W, 3) or (H, W, 4)")
    scale, limit = (255, 1) if plane.dtype.kind == "f" else (1, 255)
    # Written this way so that NaN, which compares false, is rejected too.
    if plane.dtype.kind not in "fiub" or not (plane.min() >= 0 and plane.max() <= limit):
        raise ImageError(
            f"array of {array.dtype}, {array.min()} to {array.max()}: not an image; give integers 0..255 or floats 0..1"
        )
    return Image.fromarray(np.rint(plane * scale).astype(np.uint8))


def _to_rgb(image: Image.Image) -> Image.Image:
    if image.mode.startswith("I"):
        return _in_strips(image, _integer_grey(image))
    if image.mode == "F":
        return _in_strips(image, _float_grey(image))
    if image.has_transparency_data:
        return _in_strips(image, _on_white)
    return image.convert("RGB")


def _in_strips(image: Image.Image, convert: Callable[[Image.Image], Image.Image]) -> Image.Image:
    """Convert an image to RGB strip by strip: what the conversion keeps beside the image takes little memory."""
    converted = Image.new("RGB", image.size)
    for top, strip in _strips(image):
        converted.paste(convert(strip), (0, top))
    return converted


def _strips(image: Image.Image) -> Iterator[tuple[int, Image.Image]]:
    """Yield the first row of each strip, and the strip."""
    rows = max(_STRIP_PIXELS // image.width, 1)
    for top in range(0, image.height, rows):
        yield top, image.crop((0, top, image.width, min(top + rows, image.height)))


def _on_white(image: Image.Image) -> Image.Image:
    image = image.convert("RGBA")
    return Image.alpha_composite(Image.new("RGBA", image.size, "white"), image).convert("RGB")


def _integer_grey(image: Image.Image) -> Callable[[Image.Image], Image.Image]:
    """Return a function that keeps the top 8 bits of grey levels.

    Wide integers have no fixed range: it is that of 8 bits if that covers all, else of 16, else of the brightest pixel.
    """

    def levels(strip: Image.Image) -> np.ndarray:
        return np.asarray(strip).astype(np.int64).clip(min=0)

    needed = max(int(levels(strip).max()) for _, strip in _strips(image)).bit_length()
    bits = max(needed if needed > 16 else 16 if needed > 8 else 8, 8 if image.mode == "I" else 16)
    return lambda strip: Image.fromarray((levels(strip) >> (bits - 8)).astype(np.uint8)).convert("RGB")


def _float_grey(image: Image.Image) -> Callable[[Image.Image], Image.Image]:
    """Return a function that scales float grey levels.

    They have no fixed range: white is 1 or 255 if that covers all, else the maximum.
    """

    def levels(strip: Image.Image) -> np.ndarray:
        return np.nan_to_num(np.asarray(strip), nan=0.0, posinf=0.0, neginf=0.0).clip(min=0)

    brightest = max(float(levels(strip).max()) for _, strip in _strips(image))
    white = next((level for level in (1.0, 255.0) if brightest <= level), brightest)
    return lambda strip: Image.fromarray(np.rint(levels(strip) * (255.0 / white)).astype(np.uint8)).convert("RGB")
