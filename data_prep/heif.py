"""HEIC and other HEIF images, the format of many phones. Pillow reads them with pillow-heif, an optional extra."""

SUFFIXES = frozenset({".heic", ".heif", ".hif"})
INSTALL = "pip install 'vision-rnn[heif]'"

# Number of bytes at the start of a file with the brands of HEIF and AVIF files; writers list fewer than ten.
HEAD = 64

# Brands of the ftyp box (ISO/IEC 23008-12, annex B). AVIF files, which Pillow reads itself, share the last two.
_CODED_AS_HEVC = (b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"hevm", b"hevs")
_CODED_AS_AV1 = (b"avif", b"avis")
_CONTAINER = (b"mif1", b"msf1")


def is_heif(head: bytes) -> bool:
    """Whether a file is HEIF and not AVIF, by its first `HEAD` bytes."""
    brands = _brands(head)
    return not brands.isdisjoint(_CODED_AS_HEVC + _CONTAINER) and not is_avif(head)


def is_avif(head: bytes) -> bool:
    """Whether a file is AVIF, by its first `HEAD` bytes."""
    return not _brands(head).isdisjoint(_CODED_AS_AV1)


def register_heif() -> bool:
    """Let Pillow read HEIF images, and return whether it can: whether pillow-heif is installed."""
    try:
        import pillow_heif  # pyright: ignore[reportMissingImports]  # An optional extra.
    except ImportError:
        return False
    pillow_heif.register_heif_opener()
    return True


def _brands(head: bytes) -> set[bytes]:
    """Return the major brand of a file and the compatible brands; none if the file does not start with an ftyp box."""
    if head[4:8] != b"ftyp":
        return set()
    end = min(int.from_bytes(head[:4], "big"), len(head))
    # After the major brand comes its version.
    return {head[start : start + 4] for start in (8, *range(16, end, 4))}
