"""Text in PNG files, which Pillow limits: the pixels of a file with more text are as good as any other's."""

from collections.abc import Collection, Iterator

SIGNATURE = b"\x89PNG\r\n\x1a\n"

# Text (compressed, plain, international) and the colour profile, whose size is limited in the same way.
_LIMITED = frozenset({b"tEXt", b"zTXt", b"iTXt", b"iCCP"})
# Keywords of text that may contain the orientation: XMP, and EXIF as ImageMagick writes it.
_ORIENTATION = frozenset({b"XML:com.adobe.xmp", b"Raw profile type exif", b"Raw profile type xmp"})


def with_less_text(encoded: bytes) -> Iterator[bytes]:
    """Yield a PNG file without its texts and colour profile: first with the texts that may orient it, then without any.

    Nothing is yielded for files of other formats and for files without such text. Nothing is decompressed.
    """
    if not encoded.startswith(SIGNATURE):
        return
    length = len(encoded)
    for kept in (_ORIENTATION, frozenset()):
        encoded = _without_text(encoded, kept)
        if len(encoded) < length:
            yield encoded
        length = len(encoded)


def _without_text(encoded: bytes, kept: Collection[bytes]) -> bytes:
    view, start = memoryview(encoded), len(SIGNATURE)
    pieces: list[bytes | memoryview] = [SIGNATURE]
    while start < len(view):
        # A chunk consists of the length of its data, its type, the data, and a checksum of four bytes.
        end = start + 12 + int.from_bytes(view[start : start + 4], "big")
        kind, keyword = bytes(view[start + 4 : start + 8]), bytes(view[start + 8 : start + 88]).partition(b"\0")[0]
        if kind not in _LIMITED or keyword in kept:
            pieces.append(view[start:end])
        start = end
    return b"".join(pieces)
