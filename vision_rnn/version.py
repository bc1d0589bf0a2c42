"""Which version of this package runs."""

import importlib.metadata


def tool_version() -> str:
    """Version of the installed package; `unknown` for a source tree that is not installed."""
    try:
        return importlib.metadata.version("vision-rnn")
    except importlib.metadata.PackageNotFoundError:
        return "unknown"
