"""What the models share and is neither data nor metric: errors, files, the frame of commands, model and run folders."""

import os

from vision_rnn.version import tool_version

# Waiting threads sleep instead of spinning: beside another busy process, spinning makes torch many times slower. OpenMP
# reads this when torch is imported, which every package of ours does after this one.
os.environ.setdefault("OMP_WAIT_POLICY", "passive")
# Torch asks for large pages. Otherwise the system clears every 4 KB of a new tensor in a fault of its own, a fifth of
# the time of a training step with large tensors.
os.environ.setdefault("THP_MEM_ALLOC_ENABLE", "1")
# Nothing leaves this machine unasked: from version 1.29 on, onnxruntime would report its use over the network, and keep
# an identifier of the machine. It reads this when it is imported.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")

__all__ = ["__version__"]
__version__ = tool_version()
