"""Handwriting: lines of characters, each drawn by a class-conditional model given its class, in several hands."""

from collections.abc import Callable, Sequence

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from pixelrnn.model import PixelModel
from pixelrnn.pictures import cell_scale
from pixelrnn.pixel_config import ImageShape
from pixelrnn.sampling import draw
from vision_rnn.errors import UserError

_DIGITS = "0123456789"


def classes_of(text: str, shape: ImageShape) -> list[int]:
    """Return the class of each character: the digit k has class k, as in MNIST.

    Raises:
        UserError: The model is not class-conditional, has no class for a character, or the text is empty.
    """
    if not shape.num_classes:
        raise UserError("--model: this model is not class-conditional; choose one that is, such as bundled:digits")
    known = _DIGITS[: shape.num_classes]
    if not text:
        raise UserError(f"TEXT: is empty; give one or more of the characters {known}")
    for character in text:
        if character not in known:
            raise UserError(f"{character!r}: the model has no class for this character; use only {known}")
    return [known.index(character) for character in text]


def write(
    model: PixelModel,
    classes: Sequence[int],
    num_hands: int,
    seed: int = 0,
    progress: Callable[[], object] | None = None,
) -> Tensor:
    """Draw a line of characters in several hands, all in one batch.

    A hand is a random seed: the first hand has `seed`, and each further hand a seed that is one higher. The first
    characters of a hand do not depend on those after them.

    Args:
        model: Class-conditional model.
        classes: Classes of the characters.
        num_hands: Number of hands, with one line each.
        seed: Random seed of the first hand.
        progress: Callback after each row of pixels (for the order `transposed`: each column).

    Returns:
        (num_hands, len(classes), C, H, W) uint8, values 0..levels-1.
    """
    shape = model.shape
    size = (len(classes), shape.channels, shape.height, shape.width)
    noise = torch.cat(
        [
            torch.rand(size, generator=torch.Generator().manual_seed(seed + hand), dtype=torch.float64)
            for hand in range(num_hands)
        ]
    )
    drawn = draw(
        model,
        torch.zeros(noise.shape, dtype=torch.uint8, device=model.device),
        torch.ones(size[2:], dtype=torch.bool, device=model.device),
        noise.to(model.device),
        torch.tensor(classes, device=model.device).repeat(num_hands),
        progress,
    )
    return drawn.unflatten(0, (num_hands, -1)).cpu()


def page(drawn: Tensor, levels: int) -> Image.Image:
    """Arrange lines of characters as on paper: inverted to dark on white, and without gaps, as the images have margins.

    Args:
        drawn: (hands, characters, C, H, W) uint8, values 0..levels-1, the result of `write`.
        levels: Number of levels, 2 or 256.

    Returns:
        Grey or RGB picture with a square per pixel.
    """
    hands, length, channels, height, width = drawn.shape
    paper = 255 - drawn.numpy() * np.uint8(255 // (levels - 1))
    lines = paper.transpose(0, 3, 1, 4, 2).reshape(hands * height, length * width, channels)
    scale = cell_scale(height, width)
    enlarged = lines.repeat(scale, axis=0).repeat(scale, axis=1)
    return Image.fromarray(enlarged[..., 0] if channels == 1 else enlarged)
