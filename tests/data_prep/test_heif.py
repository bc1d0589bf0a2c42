import struct

import pytest

from data_prep.heif import HEAD, is_avif, is_heif


def file_type(*brands: str, kind: bytes = b"ftyp") -> bytes:
    """Return the start of a file: its first box, with a major brand, a version and compatible brands, and another."""
    content = kind + brands[0].encode() + bytes(4) + "".join(brands[1:]).encode()
    return struct.pack(">I", 4 + len(content)) + content + struct.pack(">I", 40) + b"metaavif"


# Phones' photos: iPhone, Samsung, Canon's HIF, a burst; then what libavif and others write.
@pytest.mark.parametrize(
    ("brands", "expected"),
    [
        (("heic", "mif1", "heic"), "HEIF"),
        (("mif1", "heic", "miaf"), "HEIF"),
        (("heix", "mif1", "heix"), "HEIF"),
        (("hevc", "msf1", "hevc", "heic", "mif1"), "HEIF"),
        (("avif", "avif", "mif1", "miaf", "MA1B"), "AVIF"),
        (("mif1", "mif1", "avif", "miaf"), "AVIF"),
        (("avis", "msf1", "avis"), "AVIF"),
        (("qt  ", "qt  "), None),
        (("isom", "iso2", "avc1", "mp41"), None),
        (("crx ", "crx ", "isom"), None),
    ],
)
def test_brands_tell_heif_from_avif_and_from_videos(brands, expected):
    head = file_type(*brands)[:HEAD]
    assert (is_heif(head), is_avif(head)) == (expected == "HEIF", expected == "AVIF")


def test_other_files_and_short_ones_have_no_brands():
    for head in (b"", b"\0\0\0\x18ftyp", file_type("heic", kind=b"free"), b"hello heic mif1 avif"):
        assert not is_heif(head)
        assert not is_avif(head)
