"""The choice of the weights of a mixture: those under which the images of a split are the most likely.

Of all weights that are not negative and sum to 1, the best are found exactly: -ln p of an image is a convex function of
them, since the logits are linear in the weights and the logarithm of the sum of exponentials is convex. The networks
run once over the images, and what they give is kept in memory.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from data_prep.prepared_pixels import PreparedPixels
from pixelrnn.model import Mixture, PixelModel, PixelNetwork, turn
from pixelrnn.pixel_config import MixtureConfig
from pixelrnn.training.batches import check_fit, pixels_and_labels
from vision_rnn.console import Progress, note
from vision_rnn.errors import UserError

# What the networks give is kept for so many values, a gigabyte, and weights are rounded to so many digits.
_VALUES, _DIGITS = 2**28, 4
_BATCH = 100
# What the mixture says of the data.
_DESCRIBED = ("source", "format", "binarization", "splits", "content_hash")


@dataclass(frozen=True)
class Measured:
    """The outputs of several networks for the images of a split.

    Attributes:
        pixels: (N, C, H, W) uint8, in the order of the networks.
        outputs: Of each network, (N, outputs, H, W) float32.
    """

    pixels: Tensor
    outputs: list[Tensor]


def mix(models: Mapping[str, PixelModel], data: PreparedPixels, split: str) -> Mixture:
    """Make a mixture of models, with the weights of least -ln p on a split.

    Models with a weight of 0 are left out, and named in a note. `history` of the mixture has the data, the nats per
    image of each model and of the mixture, and the number of images that they are of.

    Args:
        models: The models, by name.
        data: Prepared data set.
        split: Name of the split, not one that results are reported on.

    Raises:
        UserError: Models cannot be mixed or the data do not fit; the split does not exist; or no mixture is better than
            one of the models.
    """
    networks = _check_mixable(models)
    names, first = list(networks), next(iter(networks.values()))
    check_fit(data, first.shape)
    measured = _measure(list(networks.values()), data, split)
    alone = [mean_nats(first, measured, weights) for weights in torch.eye(len(names))]
    weights = [round(float(weight), _DIGITS) for weight in best_weights(first, measured)]
    kept = [index for index, weight in enumerate(weights) if weight > 0]
    if len(kept) == 1:
        best = names[kept[0]]
        raise UserError(f"{data.folder}, split {split}: no mixture of these models is better than {best} alone; use it")
    if left_out := [name for name, weight in zip(names, weights, strict=True) if weight == 0]:
        note(f"models with the weight 0, which are left out: {', '.join(left_out)}")
    # The weights sum to 1 after rounding too.
    largest = max(kept, key=lambda index: weights[index])
    weights[largest] = round(1 - sum(weights[index] for index in kept if index != largest), _DIGITS)
    record = {
        "data": {name: data.manifest[name] for name in _DESCRIBED},
        "split": split,
        "images": len(measured.pixels),
        "members": [{"name": names[index], "weight": weights[index], "nats": alone[index]} for index in kept],
        "nats": mean_nats(first, measured, torch.tensor(weights)),
    }
    chosen = [networks[names[index]] for index in kept]
    config = MixtureConfig(
        members=tuple(network.config for network in chosen), weights=tuple(weights[index] for index in kept)
    )
    mixture = Mixture(config, first.shape, [record], [network.history for network in chosen])
    for member, network in zip(mixture.networks, chosen, strict=True):
        member.load_state_dict(network.state_dict())
    return mixture.to(first.device).eval()


def short_names(models: Sequence[str]) -> list[str]:
    """Return names of models without the folders that they are in: that of the run for RUN/model.

    Models with the same short name are called by all of their names. The same model twice is one name.
    """
    short = [(Path(model).parent if Path(model).name == "model" else Path(model)).name or model for model in models]
    return [model if short.count(name) > 1 else name for name, model in zip(short, models, strict=True)]


def best_weights(model: PixelModel, measured: Measured) -> Tensor:
    """Return the weights, (M,) float64 with sum 1, of least -ln p of the images.

    Args:
        model: A network with the distribution of the pixels' levels.
        measured: Outputs of M networks.
    """
    # Their softmax, which reaches a weight of 0 in the limit only: the tolerance is far below what is rounded.
    logarithms = torch.zeros(len(measured.outputs), dtype=torch.float64, requires_grad=True)
    optimizer = torch.optim.LBFGS(
        [logarithms], max_iter=200, tolerance_grad=1e-7, tolerance_change=1e-12, line_search_fn="strong_wolfe"
    )

    def closure() -> float:
        weights = logarithms.softmax(0).detach().requires_grad_()
        nats = mean_nats(model, measured, weights, backward=True)
        assert weights.grad is not None
        logarithms.grad = torch.autograd.grad(logarithms.softmax(0), logarithms, weights.grad)[0]
        return nats

    optimizer.step(closure)
    return logarithms.detach().softmax(0)


def mean_nats(model: PixelModel, measured: Measured, weights: Tensor, backward: bool = False) -> float:
    """Return the mean of -ln p of the images under a mixture with these weights, (M,).

    Args:
        model: A network with the distribution of the pixels' levels.
        measured: Outputs of M networks.
        weights: (M,).
        backward: Whether to add the gradient to that of the weights.
    """
    total, images = 0.0, len(measured.pixels)
    for start in range(0, images, _BATCH):
        part = slice(start, start + _BATCH)
        pixels = measured.pixels[part]
        mixed = torch.stack([each[part] for each in measured.outputs], -1) @ weights.to(measured.outputs[0].dtype)
        # A softmax needs no neighbours.
        nats = -model.distribution.log_likelihood(mixed, pixels, pixels).flatten(1).sum(1).double().sum() / images
        if backward:
            nats.backward()
        total += nats.item()
    return total


def _check_mixable(models: Mapping[str, PixelModel]) -> dict[str, PixelNetwork]:
    networks = {}
    for name, model in models.items():
        if not isinstance(model, PixelNetwork):
            raise UserError(f"{name}: a mixture already; name its members instead")
        if model.config.output != "softmax":
            raise UserError(f"{name}: has the output {model.config.output}; only models with a softmax can be mixed")
        networks[name] = model
    if len(networks) < 2:
        raise UserError(f"{next(iter(networks))}: one model alone; name two or more different ones")
    (first_name, first), *others = networks.items()
    for name, other in others:
        if other.shape != first.shape:
            raise UserError(
                f"{name}: is for {other.shape.describe()}, but {first_name} for {first.shape.describe()}; name models "
                "for the same images"
            )
        orders = other.config.order, first.config.order
        if orders[0] != orders[1]:
            raise UserError(
                f"{name}: predicts in {orders[0]} order, but {first_name} in {orders[1]} order; name models in the "
                "same order"
            )
        if (other.config.context_layers > 0) != (first.config.context_layers > 0):
            with_context, without = (name, first_name) if other.config.context_layers else (first_name, name)
            raise UserError(f"{with_context}: has a context, but {without} has none; name models with, or all without")
    return networks


@torch.no_grad()
def _measure(networks: list[PixelNetwork], data: PreparedPixels, split: str) -> Measured:
    """Run the networks over the images of a split, or the first ones of them if memory is too small for all."""
    first = networks[0]
    images = pixels_and_labels(data, split, first.shape)
    values = len(networks) * first.distribution.outputs * first.shape.height * first.shape.width
    number = min(len(images), max(1, _VALUES // values))
    if number < len(images):
        note(f"the weights are chosen on the first {number} of {len(images)} images of {split}, which memory allows")
    pixels, labels = images[:number]
    pixels = turn(pixels, first.config.order)
    outputs = []
    with Progress(number * len(networks), f"measuring {split}", "image") as progress:
        for network in networks:
            parts = []
            for start in range(0, number, _BATCH):
                part = slice(start, start + _BATCH)
                given = pixels[part].to(network.device), labels[part].to(network.device)
                parts.append(network.outputs(*given, None).float().cpu())
                progress.update(len(parts[-1]))
            outputs.append(torch.cat(parts))
    return Measured(pixels, outputs)
