"""Lossless coding of images by a model's own probabilities, with constriction's range coder.

The coder spends -log2 p bits on what the model gave the probability p, so the size of a file proves a likelihood: a
model that looks at what it predicts promises a small file, which nobody can decode. A decoder has only what it has
decoded, and computes the probability of each pixel from it, incrementally (`sampling.visit`).

The images of a batch go into one stream, pixel by pixel and image by image: the ends of words that a stream wastes are
wasted once a batch.
"""

import copy
from collections.abc import Callable
from typing import Any

import constriction
import numpy as np
import torch
from torch import Tensor

from pixelrnn.coding.frequencies import TOTAL, frequencies
from pixelrnn.model import PixelModel, turn
from pixelrnn.pixel_config import ImageShape
from pixelrnn.sampling import visit

# A stream wastes up to two words of 32 bits: with this many images, a fifteenth of a bit of each.
BATCH_SIZE = 1000

# A compiled module, of whose parts pyright knows nothing.
_STREAM: Any = constriction.stream  # pyright: ignore[reportAttributeAccessIssue]
_LEVELS = _STREAM.model.Categorical(perfect=False)


class Undecodable(ValueError):
    """A stream that is not one of this model's images."""


def double(model: PixelModel) -> PixelModel:
    """Return a copy of a model that computes in double precision, as coding needs it."""
    return copy.deepcopy(model).double().eval()


def encode(
    model: PixelModel, pixels: Tensor, labels: Tensor | None = None, progress: Callable[[], object] | None = None
) -> np.ndarray:
    """Code images as a decoder will see them: each pixel's probability from those before it, one after the other.

    Args:
        model: From `double`.
        pixels: (B, C, H, W) uint8, values 0..levels-1.
        labels: (B,), for a conditional model.
        progress: Called after each row (of a transposed order: column).

    Returns:
        (words,) uint32.
    """
    coder, true = _STREAM.queue.RangeEncoder(), turn(pixels, model.config.order)

    def choose(logits: Tensor, channel: int, row: int, column: int) -> Tensor:
        level = true[:, channel, row, column]
        _encode(coder, level, logits)
        return level

    visit(model, pixels, _everywhere(model.shape, pixels.device), choose, labels, progress)
    return coder.get_compressed()


@torch.inference_mode()
def encode_as_measured(model: PixelModel, pixels: Tensor, labels: Tensor | None = None) -> np.ndarray:
    """Code images by the probabilities with which a likelihood is measured: of a forward pass that is given them whole.

    Arguments and result are those of `encode`. A model that looks ahead gives a stream here that cannot be decoded.
    """
    coder, order = _STREAM.queue.RangeEncoder(), model.config.order
    true, logits = turn(pixels, order), turn(model(pixels, labels), order)
    for row in range(true.shape[2]):
        for column in range(true.shape[3]):
            for channel in range(true.shape[1]):
                _encode(coder, true[:, channel, row, column], logits[:, channel, :, row, column])
    return coder.get_compressed()


def decode(
    model: PixelModel,
    words: np.ndarray,
    number: int,
    labels: Tensor | None = None,
    progress: Callable[[], object] | None = None,
) -> Tensor:
    """Decode the images of a batch.

    Args:
        model: From `double`, the one that coded them.
        words: (words,) uint32, from `encode`.
        number: Of images, B.
        labels: (B,), for a conditional model.
        progress: Called after each row (of a transposed order: column).

    Returns:
        (B, C, H, W) uint8.

    Raises:
        Undecodable: No images have this stream. Of others nonsense may come instead: keep a checksum.
    """
    shape = model.shape
    blank = torch.zeros(number, shape.channels, shape.height, shape.width, dtype=torch.uint8, device=model.device)
    try:
        coder = _STREAM.queue.RangeDecoder(words)

        def choose(logits: Tensor, channel: int, row: int, column: int) -> Tensor:
            levels = coder.decode(_LEVELS, frequencies(logits) / TOTAL)
            return torch.from_numpy(levels.astype(np.uint8)).to(logits.device)

        decoded = visit(model, blank, _everywhere(shape, model.device), choose, labels, progress)
    except AssertionError as error:  # So constriction says that a stream is not one.
        raise Undecodable(str(error)) from error
    if not coder.maybe_exhausted():
        raise Undecodable("something is left over")
    return decoded


def batch_slices(number: int, size: int) -> list[slice]:
    """Cut a number of images into batches of a size."""
    return [slice(start, min(start + size, number)) for start in range(0, number, size)]


def _encode(coder: Any, levels: Tensor, logits: Tensor) -> None:
    coder.encode(levels.cpu().numpy().astype(np.int32), _LEVELS, frequencies(logits) / TOTAL)


def _everywhere(shape: ImageShape, device: torch.device) -> Tensor:
    return torch.ones(shape.height, shape.width, dtype=torch.bool, device=device)
