"""Hand-written text: the characters of a line, each drawn by a model that was told its class, in several hands."""

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
    """Return the class of each character: the digit k is the class k, as in MNIST.

    Raises:
        UserError: The model was told no classes, has none for a character, or there is nothing to write.
    """
    if not shape.num_classes:
        raise UserError("--model: this model was told no classes; name one that was trained with model.conditional")
    known = _DIGITS[: shape.num_classes]
    if not text:
        raise UserError(f"TEXT: is empty; give some of the characters {known}")
    for character in text:
        if character not in known:
            raise UserError(f"{character!r}: the model has no class for this character; it has {known}")
    return [known.index(character) for character in text]


def write(
    model: PixelModel,
    classes: Sequence[int],
    num_hands: int,
    seed: int = 0,
    progress: Callable[[], object] | None = None,
) -> Tensor:
    """Draw a line of characters in several hands, all at once.

    A hand is a seed: the first hand's is `seed`, each further one's is one higher. What a hand draws first depends on
    nothing that it draws later.

    Args:
        model: A conditional model.
        classes: Of the characters.
        num_hands: How many lines.
        seed: Of the first hand.
        progress: Called after each row of pixels (of a transposed order: column).

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
    """Lay lines out as on paper: dark on white, hence inverted, and without gaps, as the images have margins.

    Args:
        drawn: (hands, characters, C, H, W) uint8, values 0..levels-1, as `write` returns them.
        levels: 2 or 256.

    Returns:
        A grey or RGB picture, every pixel a square.
    """
    hands, length, channels, height, width = drawn.shape
    paper = 255 - drawn.numpy() * np.uint8(255 // (levels - 1))
    lines = paper.transpose(0, 3, 1, 4, 2).reshape(hands * height, length * width, channels)
    scale = cell_scale(height, width)
    enlarged = lines.repeat(scale, axis=0).repeat(scale, axis=1)
    return Image.fromarray(enlarged[..., 0] if channels == 1 else enlarged)
