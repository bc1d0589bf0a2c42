"""Completion of images: reading files, drawing masked pixels, and the likelihood of the true masked pixels.

A model draws pixels in its order, each given the pixels before it. Without a context (`ModelConfig.context_layers`), a
drawn pixel is therefore not conditioned on known pixels that come after it: completions follow p(pixel | pixels before
it), not p(masked pixels | all known pixels). With a context, they follow the latter.
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
from pixelrnn.model import PixelModel, images_at_once, order_index
from pixelrnn.pixel_config import AnyConfig, ImageShape, Order
from pixelrnn.sampling import draw
from vision_rnn.console import note, problem
from vision_rnn.errors import UserError

# Number of images that are drawn or measured at once.
BATCH_SIZE = 256
# A difference of few nats may be chance, if few pixels are known.
_CERTAIN_NATS = 10.0


@dataclass(frozen=True)
class Conditioning:
    """The known pixels, counted by which drawn pixels are conditioned on them.

    Attributes:
        by_all: Number of known pixels before all drawn pixels.
        by_some: Number of known pixels between drawn pixels; only the drawn pixels after them are conditioned on them.
        by_none: Number of known pixels after all drawn pixels.
    """

    by_all: int
    by_some: int
    by_none: int


def load_levels(path: str | Path, shape: ImageShape, resize: bool = False) -> np.ndarray:
    """Read an image file with the size and channels of a model's images.

    Args:
        path: Path of the image file.
        shape: Shape of the model's images.
        resize: Whether to crop images of another size around the centre to the model's aspect ratio, and to scale them
            by averaging.

    Returns:
        (H, W, C) uint8, 0..255; colours are converted to grey for a model of grey images, and a grey level is repeated
        for a model of RGB images.

    Raises:
        ImageError: The file cannot be read.
        UserError: The image has another size, and `resize` is not set.
    """
    return _levels_of(np.asarray(load_image(path)), path, shape, resize)


def _levels_of(image: np.ndarray, path: str | Path, shape: ImageShape, resize: bool) -> np.ndarray:
    if not resize and image.shape[:2] != (shape.height, shape.width):
        found, needed = f"{image.shape[0]}x{image.shape[1]}", f"{shape.height}x{shape.width}"
        raise UserError(f"{path}: {found} pixels, but the model's images have {needed}; add --resize to scale it")
    return resized(with_channels(image, shape.channels), shape.height, shape.width)


def is_binary(levels: np.ndarray) -> bool:
    """Return whether an image has only the levels 0 and 255, so that a binary model represents it exactly."""
    return bool(np.isin(levels, (0, 255)).all())


def quantized(levels: np.ndarray, shape: ImageShape) -> Tensor:
    """Convert levels 0..255 (H, W, C) to pixels (C, H, W) uint8; for 2 levels, `THRESHOLD` and above become 1."""
    pixels = levels >= THRESHOLD if shape.levels == 2 else levels
    return torch.tensor(pixels, dtype=torch.uint8).permute(2, 0, 1)


def read_images(
    paths: Iterable[Path], shape: ImageShape, resize: bool = False, name_channels: bool = True
) -> dict[Path, Tensor]:
    """Read images as pixels (C, H, W) uint8 with the shape of a model's images.

    Files that cannot be read are reported and skipped.

    Args:
        paths: Paths of image files.
        shape: Shape of the model's images.
        resize: See `load_levels`.
        name_channels: Whether to report images in colour for a model of grey images, and the reverse.

    Raises:
        UserError: See `load_levels`.
    """
    images, grey, other = {}, [], []
    for path in paths:
        try:
            image = np.asarray(load_image(path))
        except ImageError as error:
            problem(str(error))
            continue
        levels = _levels_of(image, path, shape, resize)
        if name_channels and (image != image[..., :1]).any() == (shape.channels == 1):
            other.append(path)
        if shape.levels == 2 and not is_binary(levels):
            grey.append(path)
        images[path] = quantized(levels, shape)
    if other and shape.channels == 1:
        note(f"images in colour: {len(other)}, such as {other[0]}; the model is for grey images, so they become grey")
    elif other:
        note(
            f"images without colour: {len(other)}, such as {other[0]}; the model is for RGB images, so their grey "
            "levels become red, green and blue alike"
        )
    if grey:
        note(
            f"images with grey levels: {len(grey)}, such as {grey[0]}; the model is for black and white images, "
            f"so levels of {THRESHOLD} and above become white"
        )
    return images


def complete(
    model: PixelModel,
    pixels: Tensor,
    mask: Tensor | str | Path,
    num_samples: int = 8,
    seed: int = 0,
    label: int | None = None,
    progress: Callable[[], object] | None = None,
) -> Tensor:
    """Draw completions of images, in batches of `BATCH_SIZE` completions.

    Random numbers are assigned in the order of the images: the completions of an image do not depend on later images.

    Args:
        model: Pixel model.
        pixels: (N, C, H, W) uint8; levels under the mask are ignored.
        mask: (H, W) bool, True where pixels are drawn; or a name or path, see `pixelrnn.mask.read_mask`.
        num_samples: Number of completions per image.
        seed: Random seed.
        label: Class of the images, for a class-conditional model.
        progress: Callback after each row of each batch (for the order `transposed`: each column).

    Returns:
        (N, num_samples, C, H, W) uint8; known pixels are unchanged.
    """
    mask = read_mask(mask, model.shape.height, model.shape.width) if isinstance(mask, str | Path) else mask
    generator, drawn = torch.Generator().manual_seed(seed), []
    for copies in torch.arange(len(pixels) * num_samples).split(BATCH_SIZE):
        known = pixels[copies // num_samples]
        noise = torch.rand(known.shape, generator=generator, dtype=torch.float64)
        drawn.append(
            draw(
                model,
                known.to(model.device),
                mask.to(model.device),
                noise.to(model.device),
                model.labels(len(known), label),
                progress,
            ).cpu()
        )
    return torch.cat(drawn).unflatten(0, (-1, num_samples))


def sample(
    model: PixelModel,
    num_samples: int,
    seed: int = 0,
    label: int | None = None,
    progress: Callable[[], object] | None = None,
) -> Tensor:
    """Draw whole images, (num_samples, C, H, W) uint8: completions of an image without known pixels."""
    shape = model.shape
    unknown = torch.zeros(1, shape.channels, shape.height, shape.width, dtype=torch.uint8)
    everywhere = torch.ones(shape.height, shape.width, dtype=torch.bool)
    return complete(model, unknown, everywhere, num_samples, seed, label, progress)[0]


@torch.inference_mode()
def nats_by_pixel(model: PixelModel, pixels: Tensor, label: int | None = None, mask: Tensor | None = None) -> Tensor:
    """Return -ln p(pixel | pixels before it in the model's order) of images; see `PixelModel.log_likelihood`.

    Args:
        model: Pixel model.
        pixels: (N, C, H, W) uint8.
        label: Class of the images, for a class-conditional model.
        mask: (H, W) bool, True for the pixels of the region (default: all); the others are known.

    Returns:
        (N, H, W) float64, in nats, summed over the channels; 0 for known pixels.
    """
    nats, mask = [], None if mask is None else mask.to(model.device)
    for part in pixels.split(min(BATCH_SIZE, images_at_once(model.shape))):
        log_likelihood = model.log_likelihood(part.to(model.device), model.labels(len(part), label), mask)
        nats.append(-log_likelihood.cpu().double().sum(dim=1))
    return torch.cat(nats)


def masked_nats(model: PixelModel, pixels: Tensor, mask: Tensor, label: int | None = None) -> Tensor:
    """Sum -ln p(pixel | what the model is conditioned on) over the true masked pixels.

    With a context, or if no known pixel comes after a masked one in the model's order, this is
    -ln p(true masked pixels | known pixels).

    Args:
        model: Pixel model.
        pixels: (N, C, H, W) uint8, true pixels, including those under the mask.
        mask: (H, W) bool, True for the pixels to sum over.
        label: Class of the images, for a class-conditional model.

    Returns:
        (N,) float64, in nats.
    """
    return nats_by_pixel(model, pixels, label, mask).flatten(1).sum(dim=1)


def inverted(pixels: Tensor, levels: int) -> Tensor:
    """Exchange dark and light: levels v, uint8 of any shape, become `levels` - 1 - v."""
    return levels - 1 - pixels


def is_likelier_inverted(nats: Tensor, nats_of_inverted: Tensor, mask: Tensor) -> Tensor:
    """Return which images are far more likely with dark and light exchanged, by their known pixels alone.

    Such as dark digits on white paper, for a model of white digits on black.

    Args:
        nats: (N, H, W), from `nats_by_pixel`.
        nats_of_inverted: The same of the inverted images.
        mask: (H, W) bool, False where pixels are known.

    Returns:
        (N,) bool: whether -ln p is more than twice as high as that of the inverted image, and by ten nats at least.
    """
    known, known_inverted = (each[:, ~mask].sum(dim=1) for each in (nats, nats_of_inverted))
    return known > 2 * known_inverted + _CERTAIN_NATS


def conditioning(config: AnyConfig, mask: Tensor) -> Conditioning:
    """Count the known pixels by which of the pixels under a mask (H, W) a model conditions on them."""
    if config.context_layers:
        return Conditioning(int((~mask).sum()), 0, 0)
    place = order_index(config.order, *mask.shape)
    drawn, known = place[mask], place[~mask]
    by_all, by_none = int((known < drawn.min()).sum()), int((known > drawn.max()).sum())
    return Conditioning(by_all, len(known) - by_all - by_none, by_none)


def conditioning_note(config: AnyConfig, mask: Tensor) -> str | None:
    """Describe which known pixels are not conditioned on, and what would be better; None if all are."""
    counts, order = conditioning(config, mask), config.order
    if not counts.by_some + counts.by_none:
        return None
    best = max(get_args(Order), key=lambda other: _share_conditioned_on(other, mask))
    share, best_share = (_share_conditioned_on(each, mask) for each in (order, best))
    better = f"order: {best}" if best_share == 1 else "context_layers"
    return (
        f"the model draws in {order} order, each pixel given the pixels before it: of {sum(vars(counts).values())} "
        f"known pixels, {counts.by_all} influence all drawn pixels, {counts.by_some} only the drawn pixels after them, "
        f"and {counts.by_none} none ({share:.0%} of all pairs of a known and a drawn pixel); a model trained with "
        f"`{better}` reaches 100%"
    )


def _share_conditioned_on(order: Order, mask: Tensor) -> float:
    """Return the share of all pairs of a known and a drawn pixel in which the known pixel comes first."""
    place = order_index(order, *mask.shape)
    known, drawn = place[~mask].sort().values, place[mask]
    return int(torch.searchsorted(known, drawn).sum()) / (len(known) * len(drawn))
