"""The version of the installed package."""

import importlib.metadata


def tool_version() -> str:
    """Return the version of the installed package; `unknown` for a source tree that is not installed."""
    try:
        return importlib.metadata.version("vision-rnn")
    except importlib.metadata.PackageNotFoundError:
        return "unknown"
