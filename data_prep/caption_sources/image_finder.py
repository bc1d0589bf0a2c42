"""Search for the images of a caption file: beside it, or in one of the usual folders."""

from pathlib import Path, PurePosixPath, PureWindowsPath

from data_prep.splits import SPLIT_NAMES
from vision_rnn.console import note
from vision_rnn.errors import UserError

IMAGE_FOLDERS = (
    *("images", "Images", "imgs"),
    *("Flicker8k_Dataset", "Flickr8k_Dataset", "flickr30k_images", "flickr30k-images"),
    *("train2014", "val2014", "train2017", "val2017"),
)


class ImageFinder:
    """Finds image files by the names that a source gives them.

    A name with backslashes, or an absolute path of another machine, is also searched with slashes and by the end of
    the path, the longest first; `note_approximate` counts the images found that way.

    Args:
        image_root: Folder named by the user; if given, only this folder and its usual subfolders are searched.
        beside: Folders to search otherwise, together with their usual subfolders.

    Raises:
        UserError: `image_root` is not a folder.
    """

    def __init__(self, image_root: Path | None, *beside: Path) -> None:
        if image_root is not None and not image_root.is_dir():
            raise UserError(f"{image_root}: no such folder; --image-root must name the folder of the images")
        bases = beside if image_root is None else (image_root,)
        places = [place for base in bases for place in (base, *(base / folder for folder in IMAGE_FOLDERS))]
        self._roots = [bases[0], *(place for place in places if place != bases[0] and place.is_dir())]
        self._by_end: dict[str, str] = {}

    def find(self, *names: str) -> tuple[str, Path]:
        """Return the first of `names` that exists: its name relative to its image root, and its path.

        If none exists, the path is the one where the first was expected.
        """
        for name in names:
            for candidate in (name, *_ends(name)):
                for root in self._roots:
                    if (root / candidate).is_file():
                        if not _same(candidate, name):
                            self._by_end[name] = candidate
                        return self._relative(candidate, root), root / candidate
        return self._relative(names[0], self._roots[0]), self._roots[0] / names[0]

    def note_approximate(self, where: Path) -> None:
        """Say how many images were found by the end of their path alone."""
        if self._by_end:
            name, found = next(iter(self._by_end.items()))
            note(f"{where}: {len(self._by_end)} images were found by the end of their path, such as {name} at {found}")

    @staticmethod
    def _relative(name: str, root: Path) -> str:
        path = Path(name)
        return (path.relative_to(root) if path.is_absolute() and path.is_relative_to(root) else path).as_posix()


def split_of_folder(name: str) -> tuple[str | None, str]:
    """Return the split that the top folder of a relative path names (below `data`, if that is the top), and the rest.

    If it names none, return None and the whole path.
    """
    folder, slash, rest = name.removeprefix("data/").partition("/")
    split = SPLIT_NAMES.get(folder.lower()) if slash else None
    return (split, rest) if split else (None, name)


def _ends(name: str) -> list[str]:
    """Return the name with slashes, then the ends of an absolute path, the longest first."""
    parts = PureWindowsPath(name).parts if "\\" in name else PurePosixPath(name).parts
    is_absolute = PureWindowsPath(name).anchor or PurePosixPath(name).anchor
    ends = ["/".join(parts[start:]) for start in range(1, len(parts))] if is_absolute else []
    return [*(["/".join(parts)] if "\\" in name and not is_absolute else []), *ends]


def _same(candidate: str, name: str) -> bool:
    return candidate == name.replace("\\", "/")
