"""Search for the images of a caption file: beside it, or in one of the usual folders."""

from pathlib import Path

from vision_rnn.errors import UserError

IMAGE_FOLDERS = (
    *("images", "Images", "imgs"),
    *("Flicker8k_Dataset", "Flickr8k_Dataset", "flickr30k_images", "flickr30k-images"),
    *("train2014", "val2014", "train2017", "val2017"),
)


class ImageFinder:
    """Finds image files by the names that a source gives them.

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

    def find(self, *names: str) -> tuple[str, Path]:
        """Return the first of `names` that exists: its name relative to its image root, and its path.

        If none exists, the path is the one where the first was expected.
        """
        for name in names:
            for root in self._roots:
                if (root / name).is_file():
                    return self._relative(name, root), root / name
        return self._relative(names[0], self._roots[0]), self._roots[0] / names[0]

    @staticmethod
    def _relative(name: str, root: Path) -> str:
        path = Path(name)
        return (path.relative_to(root) if path.is_absolute() and path.is_relative_to(root) else path).as_posix()
