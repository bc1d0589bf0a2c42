"""Where in an image a model is surprised, and where it is uncertain: maps of -log2 p and of the entropy by pixel."""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from pixelrnn.model import PixelModel, images_at_once


@dataclass(frozen=True, eq=False)
class LikelihoodMaps:
    """Two numbers for every pixel of every image, summed over the channels.

    Attributes:
        surprise: (N, H, W) float64, -log2 p(pixel | pixels before it), in bits.
        entropy: (N, H, W) float64, entropy of the prediction, in bits: the surprise that the model expects.
    """

    surprise: Tensor
    entropy: Tensor


@torch.inference_mode()
def likelihood_maps(model: PixelModel, pixels: Tensor, labels: Tensor | None = None) -> LikelihoodMaps:
    """Compute the maps of images.

    Args:
        model: Pixel model.
        pixels: (N, C, H, W) uint8, values 0..levels-1.
        labels: (N,) int64, classes for a class-conditional model.
    """
    batch = images_at_once(model.shape)
    surprise, entropy = [], []
    for start in range(0, len(pixels), batch):
        part = pixels[start : start + batch].to(model.device)
        of_part = None if labels is None else labels[start : start + batch].to(model.device)
        of_channels = model(part, of_part).double().unbind(1)
        # (b, levels, H, W) of each channel, in bits.
        bits = [-model.distribution.log_probabilities(parameters) / math.log(2) for parameters in of_channels]
        chosen = [each.gather(1, part[:, c : c + 1].long()).squeeze(1) for c, each in enumerate(bits)]
        surprise.append(torch.stack(chosen).sum(0).cpu())
        entropy.append(torch.stack([((-each).exp2() * each).sum(1) for each in bits]).sum(0).cpu())
    return LikelihoodMaps(torch.cat(surprise), torch.cat(entropy))
