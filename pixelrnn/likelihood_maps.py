"""Where in an image a model is surprised, and where it is uncertain: maps of -log2 p and of the entropy by pixel."""

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

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
        logits = model(part, of_part).double()
        if model.shape.levels == 2:
            # The two levels' log-probabilities, from the logit of level 1.
            logits = torch.cat([torch.zeros_like(logits), logits], dim=2)
        log_probabilities = F.log_softmax(logits, dim=2) / torch.log(torch.tensor(2.0, dtype=torch.float64))
        chosen = log_probabilities.gather(2, part.long().unsqueeze(2)).squeeze(2)
        surprise.append(-chosen.sum(1).cpu())
        entropy.append(-(log_probabilities.exp2() * log_probabilities).sum(2).sum(1).cpu())
    return LikelihoodMaps(torch.cat(surprise), torch.cat(entropy))
