"""The pixel model: Pixel Recurrent Neural Networks (van den Oord, Kalchbrenner, Kavukcuoglu 2016, arXiv 1601.06759).

Table 1: a 7x7 convolution with mask A, a stack of residual layers (Row LSTM, Diagonal BiLSTM, PixelCNN or, from a later
paper, Gated PixelCNN), two layers of ReLU and 1x1 convolution with mask B, and for every pixel and channel a softmax
over its levels, or a sigmoid for binary images. The product of these probabilities in raster order is the probability
of the image (equation 1).

Deviations, all off by default: dilated taps (see `row_lstm`); an extra column to the right of the feature map, whose
features see the last pixel of their row, which mask A hides from all others; class conditioning by a learned vector
that is added to the features of the first layer; a mixture of logistics in place of the softmax (see
`level_distribution`), with features that are not divided into groups by channel; a context of known pixels on every
side (see `layers.context`), with which the product is over the pixels of a region, given all others.

A `PixelModel` is such a network, or a mixture of several.
"""

from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import asdict
from functools import reduce
from pathlib import Path
from typing import Any, Generic, TypeVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from pixelrnn.layers.context import Context
from pixelrnn.layers.diagonal_bilstm import DiagonalBiLSTM
from pixelrnn.layers.gated_pixel_cnn import HorizontalLayer, VerticalStack
from pixelrnn.layers.masked_convolution import MaskedConv2d, MaskedPointwise, summed
from pixelrnn.layers.pixel_cnn import BottleneckConvolution
from pixelrnn.layers.row_lstm import RowLSTM
from pixelrnn.level_distribution import level_distribution, neighbour_means
from pixelrnn.pixel_config import BUNDLED, AnyConfig, ImageShape, MixtureConfig, ModelConfig, Order
from vision_rnn.devices import Device, resolve_device
from vision_rnn.errors import UserError
from vision_rnn.saved_model import SavedModel, load_model

# Limits a forward pass, which holds the logits of all pixels: three megabytes per RGB image of 32x32 and 256 levels.
_LOGITS = 2**24


def images_at_once(shape: ImageShape) -> int:
    """Return how many images a forward pass may have, at least one, to fit into memory."""
    return max(1, _LOGITS // (shape.levels * shape.channels * shape.height * shape.width))


def turn(x: Tensor, order: Order) -> Tensor:
    """Flip or transpose maps (..., H, W) so that the order becomes raster order; a second call undoes the first."""
    if order == "rotated":
        return x.flip((-2, -1))
    return x.transpose(-2, -1) if order == "transposed" else x


def order_index(order: Order, height: int, width: int) -> Tensor:
    """Return the position of each pixel in the order, (H, W), counted from 0."""
    rows, columns = (width, height) if order == "transposed" else (height, width)
    return turn(torch.arange(height * width).view(rows, columns), order)


Config = TypeVar("Config", bound=AnyConfig)


class PixelModel(SavedModel, Generic[Config]):
    """An autoregressive model of images: p(image) is a product over the pixels.

    Args:
        config: Architecture.
        shape: Shape of the images.
        history: Data and settings of each training of the model, in chronological order.
    """

    kind = "pixel-model"
    program = "pixelrnn"
    bundled = Path(__file__).parent / "pretrained"

    def __init__(self, config: Config, shape: ImageShape, history: Sequence[dict[str, Any]] = ()):
        super().__init__()
        self.config, self.shape, self.history = config, shape, list(history)
        self.distribution = level_distribution(config, shape)

    @property
    @abstractmethod
    def networks(self) -> Sequence["PixelNetwork"]:
        """The networks whose outputs `combined` takes."""

    @abstractmethod
    def combined(self, outputs: Sequence[Tensor]) -> Tensor:
        """Return what `distribution` needs, from the outputs of each network, all of the same shape."""

    def forward(self, pixels: Tensor, labels: Tensor | None = None, mask: Tensor | None = None) -> Tensor:
        """Predict every pixel and channel from those before it and, with a context, from the known ones everywhere.

        Args:
            pixels: (B, C, H, W), levels 0 to `levels` - 1 in any dtype.
            labels: (B,), classes for a class-conditional model.
            mask: (H, W) or (B, 1, H, W) bool, True for the pixels of the region to predict (default: all); the others
                are known. Ignored without a context.

        Returns:
            (B, C, parameters, H, W), the parameters of `distribution`; for a softmax these are logits: (B, C, 1, H, W),
            of level 1, for 2 levels; (B, C, levels, H, W), one per level, otherwise. With a context, those of known
            pixels mean nothing, since the model sees these pixels.
        """
        return turn(self.distribution.given(*self._predict(pixels, labels, mask)), self.config.order)

    def _predict(self, pixels: Tensor, labels: Tensor | None, mask: Tensor | None) -> tuple[Tensor, Tensor, Tensor]:
        """Return what `distribution` needs, in the model's order: outputs (B, outputs, H, W), levels, neighbours."""
        pixels = turn(pixels, self.config.order)
        mask = None if mask is None else turn(mask, self.config.order)
        outputs = self.combined([network.outputs(pixels, labels, mask) for network in self.networks])
        return outputs, pixels, neighbour_means(pixels, self.shape.levels)

    def log_likelihood(self, pixels: Tensor, labels: Tensor | None = None, mask: Tensor | None = None) -> Tensor:
        """Return ln p(pixel | pixels before it) in nats or, with a context, ln p(pixel | those and all known pixels).

        With a context, the sum over a region is ln p(region | known pixels).

        Args:
            pixels: (B, C, H, W), levels 0 to `levels` - 1 in any dtype.
            labels: (B,), classes for a class-conditional model.
            mask: (H, W) or (B, 1, H, W) bool, True for the pixels of the region (default: all); the others are known.

        Returns:
            (B, C, H, W); 0 for known pixels.
        """
        found = turn(self.distribution.log_likelihood(*self._predict(pixels, labels, mask)), self.config.order)
        return found if mask is None else found.masked_fill(~mask, 0)

    @property
    def device(self) -> torch.device:
        """Device of the weights."""
        return next(self.parameters()).device

    def labels(self, number: int, label: int | None) -> Tensor | None:
        """Return labels (number,) that repeat one class; None without a class."""
        return None if label is None else torch.full((number,), label, device=self.device)

    @property
    def rows(self) -> int:
        """Number of rows of an image in the model's order: the number of its columns for the order `transposed`."""
        return self.shape.width if self.config.order == "transposed" else self.shape.height

    def check_label(self, label: int | None) -> None:
        """Check that a class fits the model: one of its classes, or None for an unconditional model.

        Raises:
            UserError: The class is missing, unknown, or given to an unconditional model.
        """
        classes = self.shape.num_classes
        if label is not None and not classes:
            raise UserError(f"--label {label}: this model is not class-conditional; omit --label")
        if classes and (label is None or not 0 <= label < classes):
            given = "--label" if label is None else f"--label {label}"
            raise UserError(f"{given}: this model is class-conditional; choose a class from 0 to {classes - 1}")

    def describe(self) -> dict[str, Any]:
        """Return everything except the weights, in JSON types, as `from_description` takes it."""
        return {"config": asdict(self.config), "shape": asdict(self.shape), "history": self.history}

    @classmethod
    def from_description(cls, description: dict[str, Any]) -> "PixelModel":
        """Build a model, a network or a mixture, from the result of `describe`, with untrained weights.

        Raises:
            TypeError: A key is missing or unknown.
        """
        kind = Mixture if description["config"].get("architecture") == "mixture" else PixelNetwork
        return kind.from_description(description)


class PixelNetwork(PixelModel[ModelConfig]):
    """A network with an output for every pixel, which sees the pixels before it.

    Args:
        config: Architecture.
        shape: Shape of the images.
        history: Data and settings of each training of the model, in chronological order.
    """

    def __init__(self, config: ModelConfig, shape: ImageShape, history: Sequence[dict[str, Any]] = ()):
        super().__init__(config, shape, history)
        features, groups = 2 * config.hidden_channels, self.distribution.groups
        self.first = MaskedConv2d(shape.channels, features, 7, "A", groups)
        self.classes = nn.Embedding(shape.num_classes, features) if shape.num_classes else None
        self.vertical = (
            self._vertical_stack() if config.architecture == "gated_pixel_cnn" and config.num_layers else None
        )
        self.layers = nn.ModuleList(self._layer(index) for index in range(config.num_layers))
        pointwise = self._pointwise
        self.up = nn.ModuleList(pointwise(features) for _ in self.layers)
        self.skips = nn.ModuleList(pointwise(features) for _ in self.layers) if config.skip else None
        self.context = self._context() if config.context_layers else None
        width = config.output_channels
        self.output = nn.Sequential(
            nn.ReLU(),
            MaskedConv2d(features, width, 1, "B", groups),
            nn.ReLU(),
            MaskedConv2d(width, width, 1, "B", groups),
            nn.ReLU(),
            MaskedConv2d(width, self.distribution.outputs, 1, "B", groups),
        )

    def _layer(self, index: int) -> nn.Module:
        config, groups = self.config, self.distribution.groups
        features, h = 2 * config.hidden_channels, config.hidden_channels
        dilation = config.dilations[index % len(config.dilations)]
        if config.architecture == "row_lstm":
            return RowLSTM(features, h, self._columns, groups, dilation)
        if config.architecture == "gated_pixel_cnn":
            return HorizontalLayer(features, groups, dilation)
        if config.architecture == "diagonal_bilstm":
            return DiagonalBiLSTM(features, h, self.rows, groups)
        return BottleneckConvolution(features, h, groups)

    def _vertical_stack(self) -> VerticalStack | None:
        config = self.config
        if config.architecture != "gated_pixel_cnn" or not config.num_layers:
            return None
        dilations = [config.dilations[index % len(config.dilations)] for index in range(config.num_layers)]
        return VerticalStack(self.shape.channels, 2 * config.hidden_channels, dilations)

    def _context(self) -> Context:
        config, h = self.config, self.config.hidden_channels
        # The widest first, so that a few layers reach across the image.
        backwards = config.dilations[::-1]
        dilations = tuple(backwards[index % len(backwards)] for index in range(config.context_layers))
        return Context(self.shape.channels, h, self._columns, dilations, config.num_layers, 2 * h)

    def _pointwise(self, outputs: int) -> nn.Module:
        h, groups = self.config.hidden_channels, self.distribution.groups
        if self.config.architecture == "gated_pixel_cnn":
            return MaskedConv2d(2 * h, outputs, 1, "B", groups)
        if self.config.architecture == "pixel_cnn":
            return MaskedConv2d(h, outputs, 1, "B", groups)
        return MaskedPointwise(h, outputs, groups)

    def outputs(self, pixels: Tensor, labels: Tensor | None, mask: Tensor | None) -> Tensor:
        """Return the outputs for every pixel, (B, outputs, H, W), in the model's order.

        Args:
            pixels: (B, C, H, W), levels in any dtype, in the model's order.
            labels: (B,), classes for a class-conditional model.
            mask: (H, W) or (B, 1, H, W) bool, True in the region, in the model's order (default: everywhere).
        """
        context = self.context_states(pixels, mask)
        x = self.scaled(pixels)
        columns = x.shape[-1]
        if self.config.extra_column:
            x = F.pad(x, (0, 1))
        above = None if self.vertical is None else self.vertical(x)
        x = self.first(x)
        if self.classes is not None:
            x = x + self.classes(labels)[:, :, None, None]
        batch_last = self.config.architecture in ("row_lstm", "diagonal_bilstm")
        if batch_last:
            x = x.permute(2, 1, 3, 0).contiguous()
        all_states = []
        for index, layer in enumerate(self.layers):
            if self.context is not None:
                seen = self.context.rise[index](context)
                x = x + (seen if batch_last else seen.permute(3, 1, 0, 2))
            states = layer(x) if above is None else layer(x, above[index])
            risen = self.up[index](states)
            x = x + risen if self.config.residual else risen
            if self.skips is not None:
                all_states.append(states)
        if all_states:
            x = x + self._skipped(all_states)
        if batch_last:
            if x.requires_grad:
                # Its gradient comes with the batch first, and would be copied into this order in every layer.
                x.register_hook(Tensor.contiguous)
            x = x.permute(3, 1, 0, 2)
        return self.output(x[..., :columns])

    def _skipped(self, all_states: list[Tensor]) -> Tensor:
        """Return what the skip connections add, from the states of all layers."""
        skips = list(self.skips or ())
        pointwise = [skip for skip in skips if isinstance(skip, MaskedPointwise)]
        if pointwise:
            return summed(pointwise, all_states)
        return reduce(torch.add, [skip(states) for skip, states in zip(skips, all_states, strict=True)])

    @property
    def networks(self) -> Sequence["PixelNetwork"]:
        """This network alone."""
        return (self,)

    def combined(self, outputs: Sequence[Tensor]) -> Tensor:
        """Return the outputs of this network."""
        return outputs[0]

    def context_states(self, pixels: Tensor, mask: Tensor | None) -> Tensor | None:
        """Return the states of the context, (H, channels, W + extra column, B), in the model's order; None without one.

        Args:
            pixels: (B, C, H, W), levels in any dtype, in the model's order; those of the region are ignored.
            mask: (H, W) or (B, 1, H, W) bool, True in the region, in the model's order (default: everywhere).
        """
        if self.context is None:
            return None
        shape = (len(pixels), 1, *pixels.shape[2:])
        mask = torch.ones((), dtype=torch.bool, device=pixels.device) if mask is None else mask
        margin = (0, int(self.config.extra_column))
        return self.context(F.pad(self.scaled(pixels), margin), F.pad(mask.expand(shape), margin, value=True))

    @property
    def _columns(self) -> int:
        """Number of columns of the feature map."""
        return self.shape.height + self.shape.width - self.rows + self.config.extra_column

    def inner_matrices(self) -> set[str]:
        """Return the names of the inner weight matrices: all kernels except the first, last and class vectors."""
        last = f"output.{len(self.output) - 1}.weight"
        inner = ("input_to_state", "state_to_state", "weight")
        outer = ("first.weight", "vertical.first.weight", "context.first.weight", "classes.weight", last)
        return {name for name, _ in self.named_parameters() if name.endswith(inner) and name not in outer}

    @classmethod
    def from_description(cls, description: dict[str, Any]) -> "PixelNetwork":
        """Build a network from the result of `describe`, with untrained weights.

        Raises:
            TypeError: A key is missing or unknown.
        """
        parts = {"config": _model_config(description["config"]), "shape": ImageShape(**description["shape"])}
        return cls(**(description | parts))

    def scaled(self, pixels: Tensor) -> Tensor:
        """Scale levels to 0..1, in the dtype of the parameters."""
        return pixels.to(self.first.weight.dtype) / (self.shape.levels - 1)


class Mixture(PixelModel[MixtureConfig]):
    """Several networks in the same order as one model: a product of experts, normalised pixel by pixel.

        p(x_i | pixels before it) is in proportion to the product over the networks m of p_m(x_i | pixels before it)^w_m

    The logits of the levels are the weighted means of those of the networks. Of logistics this would be no mixture of
    logistics again, so the networks must have a softmax.

    Args:
        config: Architectures and weights of the networks.
        shape: Shape of the images.
        history: The choice of the weights: what the networks are called, on what data, and what came of it.
        members: Data and settings of each training of each network.
    """

    def __init__(
        self,
        config: MixtureConfig,
        shape: ImageShape,
        history: Sequence[dict[str, Any]] = (),
        members: Sequence[Sequence[dict[str, Any]]] = (),
    ):
        super().__init__(config, shape, history)
        histories = members or [()] * len(config.members)
        self.members = nn.ModuleList(
            PixelNetwork(each, shape, of_member) for each, of_member in zip(config.members, histories, strict=True)
        )

    @property
    def networks(self) -> Sequence[PixelNetwork]:
        """The networks, in the order of the weights."""
        return [member for member in self.members if isinstance(member, PixelNetwork)]

    def combined(self, outputs: Sequence[Tensor]) -> Tensor:
        """Return the weighted mean of the outputs of the networks."""
        return reduce(torch.add, [weight * each for weight, each in zip(self.config.weights, outputs, strict=True)])

    def describe(self) -> dict[str, Any]:
        """Return everything except the weights of the networks, in JSON types: the arguments of the constructor."""
        return super().describe() | {"members": [network.history for network in self.networks]}

    @classmethod
    def from_description(cls, description: dict[str, Any]) -> "Mixture":
        """Build a mixture from the result of `describe`, with untrained weights.

        Raises:
            TypeError: A key is missing or unknown.
        """
        config = description["config"]
        members = tuple(_model_config(member) for member in config["members"])
        config = MixtureConfig(**(config | {"members": members, "weights": tuple(config["weights"])}))
        return cls(**(description | {"config": config, "shape": ImageShape(**description["shape"])}))


def _model_config(config: dict[str, Any]) -> ModelConfig:
    settings: dict[str, Any] = config | {"dilations": tuple(config["dilations"])}
    return ModelConfig(**settings)


def load_pixel_model(model: str | Path = BUNDLED, device: Device = "cpu") -> PixelModel:
    """Load a pixel model for inference.

    Args:
        model: Model folder, `bundled:NAME`, or `hub:OWNER/NAME` from the Hugging Face Hub.
        device: Device to compute on.

    Raises:
        UserError: See `vision_rnn.model_folder.load_model` and `vision_rnn.devices.resolve_device`.
    """
    return load_model(PixelModel, model).to(resolve_device(device))
