"""Tiny pixel models for tests: untrained, but with random values in every parameter."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

from data_prep.pixels import prepare_pixels
from data_prep.prepared_pixels import PreparedPixels
from pixelrnn.layers.masked_convolution import MaskedConv2d
from pixelrnn.model import PixelModel, PixelNetwork
from pixelrnn.pixel_config import ImageShape, ModelConfig, Order

# No width is a multiple of three, so the groups of the channels have different sizes.
SMALL: dict[str, Any] = {"num_layers": 2, "hidden_channels": 7, "output_channels": 8}

VARIANTS: dict[str, dict[str, Any]] = {
    "row_lstm": {"architecture": "row_lstm"},
    "row_lstm-dilated-extra-skip": {
        "architecture": "row_lstm",
        "dilations": (2, 1, 4),
        "extra_column": True,
        "skip": True,
    },
    "row_lstm-mixture": {
        "architecture": "row_lstm",
        "output": "logistic_mixture",
        "components": 3,
        "dilations": (1, 2),
        "extra_column": True,
        "skip": True,
    },
    "row_lstm-context": {
        "architecture": "row_lstm",
        "dilations": (1, 2),
        "extra_column": True,
        "skip": True,
        "context_layers": 2,
    },
    "diagonal_bilstm": {"architecture": "diagonal_bilstm"},
    "diagonal_bilstm-extra": {"architecture": "diagonal_bilstm", "extra_column": True},
    "diagonal_bilstm-mixture": {"architecture": "diagonal_bilstm", "output": "logistic_mixture", "components": 2},
    "gated_pixel_cnn": {"architecture": "gated_pixel_cnn"},
    "gated_pixel_cnn-dilated-extra-skip-context": {
        "architecture": "gated_pixel_cnn",
        "dilations": (2, 1),
        "extra_column": True,
        "skip": True,
        "context_layers": 1,
    },
    "pixel_cnn": {"architecture": "pixel_cnn"},
    "pixel_cnn-context": {"architecture": "pixel_cnn", "context_layers": 1},
    "pixel_cnn-extra-skip-no-residual": {
        "architecture": "pixel_cnn",
        "extra_column": True,
        "skip": True,
        "residual": False,
    },
}


def build_model(
    height: int,
    width: int,
    channels: int = 1,
    levels: int = 2,
    num_classes: int = 0,
    dtype: torch.dtype = torch.float64,
    **config: Any,
) -> PixelModel:
    shape = ImageShape(height=height, width=width, channels=channels, levels=levels, num_classes=num_classes)
    generator = torch.Generator().manual_seed(0)
    model = PixelNetwork(ModelConfig(**{**SMALL, "conditional": num_classes > 0, **config}), shape)
    for parameter in model.parameters():
        # Many parameters start at zero, where wrong or missing uses would not show, and the others are so small that
        # drawn pixels would hardly depend on known ones.
        parameter.data = 1.4 * torch.randn(parameter.shape, generator=generator) * parameter.shape[-1] ** -0.5
    return model.to(dtype).eval()


@pytest.fixture(scope="session")
def make_model() -> Callable[..., PixelModel]:
    """Function of the height, width, channels and levels of the images, and of settings of `ModelConfig`."""
    return build_model


@pytest.fixture(scope="session")
def make_dark_model() -> Callable[[], PixelModel]:
    """Function that makes a model of 8x8 images whose pixels are all independent, and white with the odds 1 : e^3."""

    def make() -> PixelModel:
        model = build_model(8, 8, dtype=torch.float32, num_layers=0)
        for parameter in model.parameters():
            parameter.data.zero_()
        *_, last = (module for module in model.output if isinstance(module, MaskedConv2d))
        assert last.bias is not None
        last.bias.data.fill_(-3.0)
        return model

    return make


@pytest.fixture(scope="session")
def make_parity_model() -> Callable[[int], PixelModel]:
    """Function of the number of classes: a model of 8x8 images that draws odd classes white and even classes black."""

    def make(num_classes: int) -> PixelModel:
        model = build_model(8, 8, num_classes=num_classes, dtype=torch.float32, num_layers=0)
        for parameter in model.parameters():
            parameter.data.zero_()
        assert model.classes is not None
        # The first feature is 1 for odd classes and 0 for even ones, and passes unchanged to the last convolution.
        model.classes.weight.data[1::2, 0] = 1
        *inner, last = (module for module in model.output if isinstance(module, MaskedConv2d))
        for convolution in inner:
            convolution.weight.data[0, 0] = 1
        last.weight.data[0, 0], last.bias.data[0] = 120, -60
        return model

    return make


@pytest.fixture(params=VARIANTS.values(), ids=VARIANTS.keys())
def variant(request: pytest.FixtureRequest) -> dict[str, Any]:
    """Settings of each kind of model in turn."""
    return request.param


@pytest.fixture(params=["raster", "rotated", "transposed"])
def order(request: pytest.FixtureRequest) -> Order:
    """Each order of the pixels in turn."""
    return request.param


@pytest.fixture(scope="session")
def make_data(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., PreparedPixels]:
    """Function that prepares a data set from arrays, named as in a .npz file, and opens it."""

    def make(**arrays: np.ndarray) -> PreparedPixels:
        folder = tmp_path_factory.mktemp("data")
        np.savez(folder / "source.npz", **arrays)  # type: ignore[arg-type]
        prepare_pixels(folder / "source.npz", folder / "prepared")
        return PreparedPixels.open(folder / "prepared")

    return make
