"""The image encoder: convolutional networks without their classifiers, which compute a grid of features.

One network, or several side by side: each computes a grid of the same size, and every location gets the channels of all
of them. Networks that were trained with other photos or another architecture see other things. Without a network
(`none`) there is no image input, and the captioner is a language model.
"""

from collections.abc import Sequence
from typing import Any, cast

import torch
from PIL import Image
from torch import Tensor, nn

from captioning.captioner_config import EncoderConfig
from captioning.network.backbones import build_backbone
from captioning.preprocessing import squashed
from vision_rnn.errors import UserError


class GridEncoder(nn.Module):
    """Converts images to grids of feature vectors, including the preprocessing.

    The networks' batch normalisation keeps its pretrained statistics even while the weights are fine-tuned: batches
    of captioned photos are too small to estimate them again.

    Args:
        config: The networks and the preprocessing.
        pretrained: Load the published weights of the networks; False if those of a model folder are loaded later.

    Raises:
        UserError: A network is unknown, its output is not a grid, its grid has another size than the first network's,
            or its weights are not available.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, config: EncoderConfig, pretrained: bool = False):
        super().__init__()
        names = config.networks
        built = [build_backbone(name, pretrained) for name in names]
        networks = [network for network, _ in built]
        # A single network is not in a list, so that its weights have the names that they had in earlier versions.
        self.backbone = nn.ModuleList(networks) if len(networks) > 1 else networks[0]
        # JSON gives lists.
        mean = tuple(config.mean or _shared([mean for _, (mean, _) in built]))
        std = tuple(config.std or _shared([std for _, (_, std) in built]))
        self.config = EncoderConfig(backbone=config.backbone, image_size=config.image_size, mean=mean, std=std)
        for name, values in (("mean", mean), ("std", std)):
            per_network = torch.tensor(values).view(-1, 3, 1, 1).expand(len(networks), -1, -1, -1)
            self.register_buffer(name, per_network, persistent=False)
        self.eval()
        grids = [_probe(name, network, config.image_size) for name, network in zip(names, networks, strict=True)]
        for name, grid in zip(names, grids, strict=True):
            if grid.shape[2:] != grids[0].shape[2:]:
                side, first = grid.shape[2], grids[0].shape[2]
                raise UserError(
                    f"backbone {config.backbone}: {name} gives {side}x{side} locations and {names[0]} {first}x{first}; "
                    "put networks of one grid size side by side"
                )
        self.channels, self.grid_size = sum(grid.shape[1] for grid in grids), grids[0].shape[2]
        self.to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]  # half the time on a CPU

    @property
    def blind(self) -> bool:
        """Whether there is no image input, and the captioner is a language model."""
        return self.config.backbone == "none"

    @property
    def _networks(self) -> list[nn.Module]:
        return list(self.backbone) if isinstance(self.backbone, nn.ModuleList) else [self.backbone]

    def train(self, mode: bool = True) -> "GridEncoder":
        """Stay in evaluation mode (see the class)."""
        return super().train(False)

    def fine_tune(self) -> None:
        """Let the upper layers of the networks be trained: those whose output has at most twice the grid's side.

        Most weights are there, and the layers below cost most of the time and learn least. The kernels of depthwise
        convolutions stay as they are: they are few, and on a CPU the gradient of a 5x5 kernel takes ten times as long
        as its convolution.
        """
        self.requires_grad_(False)
        for network in self._networks:
            for module in _upper_layers(network, self.config.image_size, 2 * self.grid_size):
                if not (isinstance(module, nn.Conv2d) and module.groups == module.in_channels > 1):
                    for parameter in module.parameters(recurse=False):
                        parameter.requires_grad_(True)
                elif module.stride != (1, 1):
                    # Autocast would use bf16, whose gradient is not optimised here: ten times the time.
                    cast("Any", module).__class__ = type(type(module).__name__, (_InFloat32, type(module)), {})

    def preprocess(self, image: Image.Image) -> Tensor:
        """Return an RGB image as (3, S, S) uint8; `forward` normalises the colours, a whole batch at once."""
        return torch.from_numpy(squashed(image, self.config.image_size))

    def forward(self, pixels: Tensor) -> Tensor:
        """Return the grid of features, (B, L, C) with L = grid_size ** 2, row by row, for (B, 3, S, S) uint8 pixels."""
        return self.join([self.compute(index, pixels) for index in range(len(self._networks))])

    def compute(self, index: int, pixels: Tensor) -> Tensor:
        """Return the grid of one network, (B, C, h, w)."""
        images = (pixels.to(self.mean.dtype) / 255 - self.mean[index]) / self.std[index]
        return self._networks[index](images.contiguous(memory_format=torch.channels_last))

    def join(self, grids: Sequence[Tensor]) -> Tensor:
        """Return the grids of all networks as one, (B, L, C)."""
        return (torch.cat([*grids], dim=1) if len(grids) > 1 else grids[0]).flatten(2).transpose(1, 2)


def _shared(colours: Sequence[tuple[float, ...]]) -> tuple[float, ...]:
    """Return the three numbers that all networks share, or the three of each, one after the other."""
    return colours[0] if len(set(colours)) == 1 else tuple(value for of_network in colours for value in of_network)


@torch.inference_mode()
def _probe(name: str, network: nn.Module, image_size: int) -> Tensor:
    """Return a network's grid of a black image, (1, C, h, w).

    Raises:
        UserError: The network cannot take images of this size, or its output is not a grid.
    """
    device = next((parameter.device for parameter in network.parameters()), torch.device("cpu"))
    try:
        grid = network(torch.zeros(1, 3, image_size, image_size, device=device))
    # Networks for a fixed image size raise either of these errors.
    except (AssertionError, RuntimeError) as error:
        raise UserError(
            f"backbone {name}: cannot take images of {image_size} pixels ({error}); "
            "set encoder.image_size to the size that it was trained with"
        ) from error
    if grid.ndim != 4 or grid.shape[2] != grid.shape[3] or (grid.shape[2] < 2 and name != "none"):
        raise UserError(
            f"backbone {name}: gives features of shape {tuple(grid.shape[1:])}, which are not a grid; "
            "choose another, or a larger encoder.image_size"
        )
    return grid


class _InFloat32:
    """A layer that autocast leaves in single precision; the first base class of one."""

    def forward(self, images: Tensor) -> Tensor:
        with torch.autocast(images.device.type, enabled=False):
            return super().forward(images.float())  # pyright: ignore[reportAttributeAccessIssue]


def _upper_layers(network: nn.Module, image_size: int, side: int) -> list[nn.Module]:
    """Return the layers with weights after the last one whose output is larger than `side`, in order of use."""
    layers: list[tuple[nn.Module, int]] = []

    def record(module: nn.Module, arguments: object, output: object) -> None:
        # The side is twice among the sizes, whether the channels come first or last.
        sizes = list(output.shape[1:]) if isinstance(output, Tensor) and output.ndim == 4 else []
        layers.append((module, max((size for size in sizes if sizes.count(size) > 1), default=0)))

    having_weights = [module for module in network.modules() if [*module.parameters(recurse=False)]]
    hooks = [module.register_forward_hook(record) for module in having_weights]
    _probe("none", network, image_size)
    for hook in hooks:
        hook.remove()
    large = [number for number, (_, found) in enumerate(layers) if found > side]
    return [module for module, _ in layers[large[-1] + 1 if large else 0 :]]
