"""Listing of image files: those of a folder by their suffixes, with a note on what looks like an image but is skipped.

Hidden files and folders are skipped without a note.
"""

import functools
import os
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from data_prep import heif, png_text
from vision_rnn.console import note
from vision_rnn.errors import UserError

# Pillow also registers documents, videos and scientific containers (.pdf, .mpg, .h5), which are not photos.
PHOTO_SUFFIXES = heif.SUFFIXES | {
    *(".avif", ".bmp", ".dib", ".gif", ".j2k", ".jfif", ".jp2", ".jpe", ".jpeg", ".jpg"),
    *(".pbm", ".pgm", ".png", ".pnm", ".ppm", ".tga", ".tif", ".tiff", ".webp"),
}
# Images that are not read, or not from a folder: raw photos, vector graphics, files of editors, icons.
_OTHER_IMAGE_SUFFIXES = frozenset(
    {
        *(".3fr", ".arw", ".cr2", ".cr3", ".crw", ".dcr", ".dng", ".erf", ".fff", ".gpr", ".iiq", ".kdc", ".mef"),
        *(".mrw", ".nef", ".nrw", ".orf", ".pef", ".raf", ".raw", ".rw2", ".rwl", ".sr2", ".srf", ".srw", ".x3f"),
        *(".apng", ".avifs", ".bpg", ".cur", ".dds", ".eps", ".exr", ".hdr", ".icns", ".ico", ".j2c", ".jpc", ".jpf"),
        *(".jpx", ".jxl", ".jxr", ".mpo", ".pcx", ".psb", ".psd", ".qoi", ".svg", ".svgz", ".wdp", ".xcf"),
    }
)
# What usually lies beside photos. The content of files with other suffixes is looked at, so this list saves time only.
_NON_IMAGE_SUFFIXES = frozenset(
    {
        *(".aae", ".caption", ".csv", ".dop", ".gpx", ".html", ".ipynb", ".json", ".jsonl", ".log", ".md", ".ndjson"),
        *(".pdf", ".pp3", ".py", ".sh", ".srt", ".tags", ".toml", ".tsv", ".txt", ".vtt", ".xml", ".xmp", ".yaml"),
        *(".yml", ".7z", ".arrow", ".bin", ".gz", ".npy", ".npz", ".parquet", ".pkl", ".pt", ".rar", ".safetensors"),
        *(".tar", ".tgz", ".zip", ".db", ".ini", ".lnk", ".sqlite", ".url", ".lrv", ".thm", ".3gp", ".aac", ".avi"),
        *(".flac", ".m4a", ".m4v", ".mkv", ".mov", ".mp3", ".mp4", ".mpeg", ".mpg", ".mts", ".ogg", ".wav", ".webm"),
    }
)
# Names in a note, of each kind.
_NAMED = 3

_INSTALL = f"to read HEIC: {heif.INSTALL}"
_CONVERT = "convert to JPEG or PNG"
_RENAME = "add the suffix of the format, such as .jpg"
_BROKEN_LINK = "broken link; restore its target or remove it"
_NOT_REGULAR = "not a regular file; replace or remove it"


@dataclass(frozen=True)
class Listing:
    """The image files of a folder, and what was skipped there; all paths are sorted and include the folder.

    Attributes:
        folder: The folder.
        images: The image files, if `list_images` made the listing.
        skipped: Files that look like images but are not read, by what to do about them.
        linked: Linked folders, which are not followed.
        unreadable: Folders that cannot be listed.
    """

    folder: Path
    images: list[Path] = field(default_factory=list)
    skipped: dict[str, list[Path]] = field(default_factory=lambda: defaultdict(list))
    linked: list[Path] = field(default_factory=list)
    unreadable: list[Path] = field(default_factory=list)


def walk_images(listing: Listing, recursive: bool = False) -> Iterator[Path]:
    """Yield the image files of a folder, sorted, while it is listed; a subfolder is listed when its turn has come.

    What looks like an image but is skipped is added to the listing. Links to files are followed, links to folders are
    not. HEIC files are skipped if they cannot be read.

    Args:
        listing: Of the folder; still empty.
        recursive: Include the images of subfolders.

    Raises:
        UserError: There is no such folder, or, at the end, it contained no image.
    """
    return _walk_images(listing, recursive, "add --recursive")


def list_images(folder: str | Path, recursive: bool = False) -> Listing:
    """List the image files of a folder that `walk_images` yields, and what it skips.

    Raises:
        UserError: There is no such folder, or it contains no image.
    """
    return _list_images(Path(folder), recursive, "add --recursive")


def find_images(folder: str | Path, recursive: bool = False) -> list[Path]:
    """Return the image files that `list_images` lists, and print a note on what it skips.

    Raises:
        UserError: There is no such folder, or it contains no image.
    """
    listing = list_images(folder, recursive)
    note_skipped([listing])
    return listing.images


def images_of(sources: Iterable[str | Path]) -> list[Path]:
    """Return the image files given by paths and folders, in order and without duplicates.

    A note is printed on what is skipped in the folders.

    Raises:
        UserError: A folder contains no image.
    """
    paths: dict[Path, None] = {}
    listings = []
    for source in map(Path, sources):
        if source.is_dir():
            listings.append(_list_images(source, False, "name these"))
            paths |= dict.fromkeys(listings[-1].images)
        else:
            paths[source] = None
    note_skipped(listings)
    return list(paths)


def note_skipped(listings: Sequence[Listing]) -> None:
    """Print one note on what was skipped in some folders; none if nothing was."""
    described = [listing for listing in listings if _description([listing])]
    if described:
        where = str(described[0].folder) if len(described) == 1 else f"{len(described)} folders"
        note(f"{where}: {_description(described)}")


def _list_images(folder: Path, recursive: bool, in_subfolders: str) -> Listing:
    listing = Listing(folder)
    listing.images.extend(_walk_images(listing, recursive, in_subfolders))
    return listing


def _walk_images(listing: Listing, recursive: bool, in_subfolders: str) -> Iterator[Path]:
    is_empty = True
    for image in _scan(listing, recursive):
        is_empty = False
        yield image
    if not is_empty:
        return
    if description := _description([listing]):
        fix = description
    elif not recursive and any(True for _ in _scan(Listing(listing.folder), recursive=True)):
        fix = f"its subfolders do, so {in_subfolders}"
    else:
        fix = "name a folder of JPEG or PNG files"
    raise UserError(f"{listing.folder}: contains no image; {fix}")


def _scan(listing: Listing, recursive: bool) -> Iterator[Path]:
    folder = listing.folder
    if not folder.is_dir():
        raise UserError(f"{folder}: no such folder; check the path")
    try:
        levels = [_visible(folder)]
    except OSError as error:
        raise UserError(f"{folder}: cannot be listed ({error.strerror}); check its permissions") from None
    reads_heif = functools.cache(heif.register_heif)
    while levels:
        if not levels[-1]:
            levels.pop()
            continue
        entry = levels[-1].pop()
        suffix = os.path.splitext(entry.name)[1].lower()
        is_folder, is_file = _kind(entry)
        if is_folder:
            if recursive and entry.is_symlink():
                listing.linked.append(Path(entry.path))
            elif recursive:
                try:
                    levels.append(_visible(Path(entry.path)))
                except OSError:
                    listing.unreadable.append(Path(entry.path))
        elif is_file and suffix in PHOTO_SUFFIXES:
            if suffix in heif.SUFFIXES and not reads_heif():
                listing.skipped[_INSTALL].append(Path(entry.path))
            else:
                yield Path(entry.path)
        elif fix := _fix_of_file(entry, suffix) if is_file else _fix_of_other(entry, suffix):
            listing.skipped[fix].append(Path(entry.path))


def _visible(folder: Path) -> list[os.DirEntry[str]]:
    """Return the entries of a folder, the last name first, to be popped."""
    with os.scandir(folder) as entries:
        visible = [entry for entry in entries if not entry.name.startswith(".")]
    visible.sort(key=lambda entry: entry.name, reverse=True)
    return visible


def _kind(entry: os.DirEntry[str]) -> tuple[bool, bool]:
    """Return whether an entry, or the target of a link, is a folder, and whether it is a regular file."""
    try:
        return entry.is_dir(), entry.is_file()
    except OSError:  # A link to itself.
        return False, False


def _fix_of_file(entry: os.DirEntry[str], suffix: str) -> str | None:
    """Return what to do about a file that is no photo by its suffix; None if it does not look like an image."""
    if suffix in _OTHER_IMAGE_SUFFIXES:
        return _CONVERT
    return None if suffix in _NON_IMAGE_SUFFIXES else _fix_of_content(entry.path)


def _fix_of_other(entry: os.DirEntry[str], suffix: str) -> str | None:
    """Return what to do about a broken link, pipe, socket or device; None if it is not named like an image."""
    if suffix not in PHOTO_SUFFIXES and suffix not in _OTHER_IMAGE_SUFFIXES:
        return None
    return _NOT_REGULAR if os.path.exists(entry.path) else _BROKEN_LINK


def _fix_of_content(path: str) -> str | None:
    try:
        with open(path, "rb") as file:
            head = file.read(heif.HEAD)
    except OSError:
        return None
    if head.startswith((b"\xff\x0a", b"\0\0\0\x0cJXL \r\n\x87\n")):
        return _CONVERT
    is_read = (
        head.startswith((b"\xff\xd8\xff", png_text.SIGNATURE, b"GIF87a", b"GIF89a"))
        or head.startswith((b"II*\0", b"MM\0*", b"II+\0", b"MM\0+"))
        or (head.startswith(b"RIFF") and head[8:12] == b"WEBP")
        # Two letters alone may be the start of a text; the reserved bytes of BMP are zero.
        or (head.startswith(b"BM") and head[6:10] == bytes(4))
        or heif.is_heif(head)
        or heif.is_avif(head)
    )
    return _RENAME if is_read else None


def _description(listings: Sequence[Listing]) -> str:
    """Return what was skipped in folders; empty if nothing was. Names in a single folder are relative to it."""
    base = listings[0].folder if len(listings) == 1 else None
    skipped: dict[str, list[Path]] = defaultdict(list)
    for listing in listings:
        for fix, paths in listing.skipped.items():
            skipped[fix] += paths
    linked = [path for listing in listings for path in listing.linked]
    unreadable = [path for listing in listings for path in listing.unreadable]
    parts = []
    in_order = sorted(skipped.items(), key=lambda item: item[1])
    if number := sum(map(len, skipped.values())):
        named = "; ".join(f"{_names(paths, base)} ({fix})" for fix, paths in in_order)
        what = "1 file looks like an image but was" if number == 1 else f"{number} files look like images but were"
        parts.append(f"{what} skipped: {named}")
    if linked:
        what = "1 linked folder was" if len(linked) == 1 else f"{len(linked)} linked folders were"
        parts.append(f"{what} not followed: {_names(linked, base)} (name them too, or replace the links)")
    if unreadable:
        what = "1 folder" if len(unreadable) == 1 else f"{len(unreadable)} folders"
        parts.append(f"{what} cannot be listed: {_names(unreadable, base)} (check the permissions)")
    return "; ".join(parts)


def _names(paths: Sequence[Path], base: Path | None) -> str:
    names = ", ".join(str(path.relative_to(base) if base else path) for path in paths[:_NAMED])
    return names if len(paths) <= _NAMED else f"{names} and {len(paths) - _NAMED} more"
