"""Tables in the format that the project prints, and names in Markdown."""

import re
from collections.abc import Sequence


def markdown_table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return a table in Markdown."""
    lines = (columns, ["---"] * len(columns), *rows)
    return "".join(f"| {' | '.join(cells)} |\n" for cells in lines)


def markdown_name(name: str) -> str:
    """Return a name from elsewhere for a line of Markdown: as it is if that is plain text, otherwise as code."""
    if re.fullmatch(r"[\w .,:;+/()-]*", name) and "__" not in name:
        return name
    return f"`{' '.join(name.replace('`', chr(39)).split())}`"
