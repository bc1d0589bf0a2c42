"""Completion of images: from files to known pixels, to drawn ones, and to what the model says of the true ones.

A model draws pixels in its order, each given those before it. Known pixels that come after a drawn one are therefore
not conditioned on there: what is drawn follows p(pixel | those before it), not p(masked pixels | all known pixels).
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import get_args

import numpy as np
import torch
from torch import Tensor

from data_prep.images import ImageError, load_image
from data_prep.pixel_shape import THRESHOLD, resized, with_channels
from pixelrnn.mask import read_mask
from pixelrnn.model import PixelModel, order_index
from pixelrnn.pixel_config import ImageShape, Order
from pixelrnn.sampling import draw
from vision_rnn.console import note, problem
from vision_rnn.errors import UserError


@dataclass(frozen=True)
class Conditioning:
    """How many known pixels the drawn ones were conditioned on; the three counts make up all known pixels.

    Attributes:
        by_all: Known pixels that come before every drawn one.
        by_some: Those with drawn ones before and after them: only the latter are conditioned on them.
        by_none: Those that come after every drawn one.
    """

    by_all: int
    by_some: int
    by_none: int


def load_levels(path: str | Path, shape: ImageShape, resize: bool = False) -> np.ndarray:
    """Read an image file of the size, and with the channels, of a model's images.

    Args:
        path: The file.
        shape: The model's images.
        resize: Cut out the largest region of the model's aspect ratio around the centre, and scale it, averaging.

    Returns:
        (H, W, C) uint8, 0..255; colours become grey where the model's images are grey.

    Raises:
        ImageError: The file cannot be read.
        UserError: The image is of another size, and `resize` is not set.
    """
    image = np.asarray(load_image(path))
    if not resize and image.shape[:2] != (shape.height, shape.width):
        found, needed = f"{image.shape[0]}x{image.shape[1]}", f"{shape.height}x{shape.width}"
        raise UserError(f"{path}: {found} pixels, but the model's images have {needed}; add --resize to scale it")
    return resized(with_channels(image, shape.channels), shape.height, shape.width)


def is_binary(levels: np.ndarray) -> bool:
    """Tell whether an image has no other levels than 0 and 255, so that a binary model takes it as it is."""
    return bool(np.isin(levels, (0, 255)).all())


def quantized(levels: np.ndarray, shape: ImageShape) -> Tensor:
    """Make levels 0..255 (H, W, C) pixels (C, H, W) uint8; for a binary model 1 from `THRESHOLD` on."""
    pixels = levels >= THRESHOLD if shape.levels == 2 else levels
    return torch.tensor(pixels, dtype=torch.uint8).permute(2, 0, 1)


def read_images(paths: Iterable[Path], shape: ImageShape, resize: bool = False) -> dict[Path, Tensor]:
    """Read those images that can be read, as pixels (C, H, W) uint8 of a model's images; name the others.

    Raises:
        UserError: As `load_levels` does.
    """
    images = {}
    for path in paths:
        try:
            levels = load_levels(path, shape, resize)
        except ImageError as error:
            problem(str(error))
            continue
        if shape.levels == 2 and not is_binary(levels):
            note(f"{path}: has grey levels, and the model is of black and white images; 128 and above become white")
        images[path] = quantized(levels, shape)
    return images


def complete(
    model: PixelModel,
    pixels: Tensor,
    mask: Tensor | str,
    num_samples: int = 8,
    seed: int = 0,
    label: int | None = None,
    progress: Callable[[], object] | None = None,
) -> Tensor:
    """Draw completions of images, all at once.

    Randomness is dealt out in the order of the images: what is drawn of one depends on none after it.

    Args:
        model: The model.
        pixels: (N, C, H, W) uint8; what lies under the mask is ignored.
        mask: (H, W) bool, True where pixels are to be drawn; or as `pixelrnn.mask.read_mask` takes it.
        num_samples: Completions of each image.
        seed: Of the randomness.
        label: Class of the images, for a conditional model.
        progress: Called after each row.

    Returns:
        (N, num_samples, C, H, W) uint8; known pixels are unchanged.
    """
    mask = read_mask(mask, model.shape.height, model.shape.width) if isinstance(mask, str) else mask
    pixels = pixels.repeat_interleave(num_samples, dim=0)
    noise = torch.rand(pixels.shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    drawn = draw(
        model,
        pixels.to(model.device),
        mask.to(model.device),
        noise.to(model.device),
        model.labels(len(pixels), label),
        progress,
    )
    return drawn.unflatten(0, (-1, num_samples)).cpu()


def sample(
    model: PixelModel,
    num_samples: int,
    seed: int = 0,
    label: int | None = None,
    progress: Callable[[], object] | None = None,
) -> Tensor:
    """Draw whole images, (num_samples, C, H, W) uint8: completions of an image of which nothing is known."""
    shape = model.shape
    unknown = torch.zeros(1, shape.channels, shape.height, shape.width, dtype=torch.uint8)
    everywhere = torch.ones(shape.height, shape.width, dtype=torch.bool)
    return complete(model, unknown, everywhere, num_samples, seed, label, progress)[0]


@torch.inference_mode()
def masked_nats(model: PixelModel, pixels: Tensor, mask: Tensor, label: int | None = None) -> Tensor:
    """Sum -ln p(pixel | those before it in the model's order) over the true masked pixels.

    With no known pixel after a drawn one this is -ln p(true masked pixels | known pixels).

    Args:
        model: The model.
        pixels: (N, C, H, W) uint8, the true pixels, under the mask too.
        mask: (H, W) bool.
        label: Class of the images, for a conditional model.

    Returns:
        (N,) float64, in nats.
    """
    log_likelihood = model.log_likelihood(pixels.to(model.device), model.labels(len(pixels), label))
    return -log_likelihood.cpu().double()[..., mask].sum(dim=(1, 2))


def conditioning(order: Order, mask: Tensor) -> Conditioning:
    """Count the known pixels by whether the ones drawn under a mask (H, W) come after them in the order."""
    place = order_index(order, *mask.shape)
    drawn, known = place[mask], place[~mask]
    by_all, by_none = int((known < drawn.min()).sum()), int((known > drawn.max()).sum())
    return Conditioning(by_all, len(known) - by_all - by_none, by_none)


def conditioning_note(order: Order, mask: Tensor) -> str | None:
    """Say which known pixels were not conditioned on, and which order would do better; None if all were."""
    counts = conditioning(order, mask)
    if not counts.by_some + counts.by_none:
        return None
    best = max(get_args(Order), key=lambda other: _share_conditioned_on(other, mask))
    share, best_share = (_share_conditioned_on(each, mask) for each in (order, best))
    mend = f"; a model trained with `order: {best}` heeds {best_share:.0%}" if best_share > share else ""
    return (
        f"the model draws in the order '{order}', each pixel given those before it: of {sum(vars(counts).values())} "
        f"known pixels {counts.by_all} are heeded by all drawn ones, {counts.by_some} by those after them alone, and "
        f"{counts.by_none} by none, {share:.0%} of all pairs{mend}"
    )


def _share_conditioned_on(order: Order, mask: Tensor) -> float:
    """Return the share of the pairs of a known and a drawn pixel in which the known one comes first."""
    place = order_index(order, *mask.shape)
    known, drawn = place[~mask].sort().values, place[mask]
    return int(torch.searchsorted(known, drawn).sum()) / (len(known) * len(drawn))
