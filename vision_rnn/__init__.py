"""What the models share and is neither data nor metric: errors, files, the frame of commands, model and run folders."""

from vision_rnn.version import tool_version

__all__ = ["__version__"]
__version__ = tool_version()
