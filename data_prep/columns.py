"""Lookup of a table column by its usual names."""

from collections.abc import Iterable, Sequence

from vision_rnn.errors import UserError

IMAGE_COLUMNS = ("image", "image_name", "filename", "file_name", "file", "path", "image_path", "name")


def find_column(columns: Iterable[str], accepted: Sequence[str], where: str) -> str:
    """Return the column whose name comes first in `accepted`, ignoring case.

    Raises:
        UserError: No column has an accepted name.
    """
    by_name = {column.strip().lower(): column for column in columns}
    for name in accepted:
        if name in by_name:
            return by_name[name]
    found = ", ".join(by_name) or "none"
    raise UserError(f"{where}: no column for the {accepted[0]} (columns: {found}); name one '{accepted[0]}'")
