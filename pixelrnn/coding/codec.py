"""Lossless coding of images with the probabilities of a pixel model and the range coder of constriction.

The coder spends -log2 p bits on an event of probability p, so the size of a file proves a likelihood: a model that sees
the pixels that it predicts promises a small file, but that file cannot be decoded. The decoder knows only the pixels
that it has decoded, and computes the probabilities of each pixel from them, incrementally (`sampling.visit`).

All images of a batch go into one stream, pixel by pixel and, for each pixel, image by image, so that the unused bits at
the end of a stream are wasted only once per batch.
"""

import copy
from collections.abc import Callable
from typing import Any

import constriction
import numpy as np
import torch
from torch import Tensor

from pixelrnn.coding.frequencies import TOTAL, frequencies
from pixelrnn.model import PixelModel, images_at_once, turn
from pixelrnn.pixel_config import ImageShape
from pixelrnn.sampling import visit

# A stream wastes up to two words of 32 bits: with this many images, a fifteenth of a bit per image.
BATCH_SIZE = 1000

# A compiled module without type information for pyright.
_STREAM: Any = constriction.stream  # pyright: ignore[reportAttributeAccessIssue]
_LEVELS = _STREAM.model.Categorical(perfect=False)


class Undecodable(ValueError):
    """A stream that does not code images of this model."""


def double(model: PixelModel) -> PixelModel:
    """Return a copy of a model in double precision, which coding needs."""
    return copy.deepcopy(model).double().eval()


def encode(
    model: PixelModel, pixels: Tensor, labels: Tensor | None = None, progress: Callable[[], object] | None = None
) -> np.ndarray:
    """Code images pixel by pixel, with probabilities computed as in the decoder: from the pixels before it alone.

    Args:
        model: Result of `double`.
        pixels: (B, C, H, W) uint8, values 0..levels-1.
        labels: (B,), classes for a class-conditional model.
        progress: Callback after each row (for the order `transposed`: each column).

    Returns:
        (words,) uint32.
    """
    coder, true = _STREAM.queue.RangeEncoder(), turn(pixels, model.config.order)

    def choose(parameters: Tensor, channel: int, row: int, column: int) -> Tensor:
        level = true[:, channel, row, column]
        _encode(coder, level, _probabilities(model, parameters))
        return level

    visit(model, pixels, _everywhere(model.shape, pixels.device), choose, labels, progress)
    return coder.get_compressed()


@torch.inference_mode()
def encode_as_measured(model: PixelModel, pixels: Tensor, labels: Tensor | None = None) -> np.ndarray:
    """Code images with the probabilities that a likelihood is measured with: those of a forward pass on whole images.

    Arguments and result are those of `encode`. If the model is not causal, the stream cannot be decoded.
    """
    coder, order = _STREAM.queue.RangeEncoder(), model.config.order
    parts = batch_slices(len(pixels), images_at_once(model.shape))
    each = [model(pixels[part], None if labels is None else labels[part]) for part in parts]
    true, parameters = turn(pixels, order), turn(torch.cat(each), order)
    for row in range(true.shape[2]):
        for column in range(true.shape[3]):
            for channel in range(true.shape[1]):
                probabilities = _probabilities(model, parameters[:, channel, :, row, column])
                _encode(coder, true[:, channel, row, column], probabilities)
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
        model: Result of `double` for the model that coded the images.
        words: (words,) uint32, result of `encode`.
        number: Number of images, B.
        labels: (B,), classes for a class-conditional model.
        progress: Callback after each row (for the order `transposed`: each column).

    Returns:
        (B, C, H, W) uint8.

    Raises:
        Undecodable: The stream codes no images. Not every wrong stream is detected; use a checksum of the pixels.
    """
    shape = model.shape
    blank = torch.zeros(number, shape.channels, shape.height, shape.width, dtype=torch.uint8, device=model.device)
    try:
        coder = _STREAM.queue.RangeDecoder(words)

        def choose(parameters: Tensor, channel: int, row: int, column: int) -> Tensor:
            levels = coder.decode(_LEVELS, _probabilities(model, parameters))
            return torch.from_numpy(levels.astype(np.uint8)).to(parameters.device)

        decoded = visit(model, blank, _everywhere(shape, model.device), choose, labels, progress)
    except AssertionError as error:  # How constriction reports an invalid stream.
        raise Undecodable(str(error)) from error
    if not coder.maybe_exhausted():
        raise Undecodable("unused data at the end of the stream")
    return decoded


def batch_slices(number: int, size: int) -> list[slice]:
    """Split `number` images into batches of `size`; the last batch may be smaller."""
    return [slice(start, min(start + size, number)) for start in range(0, number, size)]


def _probabilities(model: PixelModel, parameters: Tensor) -> np.ndarray:
    return frequencies(model.distribution, parameters) / TOTAL


def _encode(coder: Any, levels: Tensor, probabilities: np.ndarray) -> None:
    coder.encode(levels.cpu().numpy().astype(np.int32), _LEVELS, probabilities)


def _everywhere(shape: ImageShape, device: torch.device) -> Tensor:
    return torch.ones(shape.height, shape.width, dtype=torch.bool, device=device)
