"""The settings of a pixel model: its architecture, its images and its training.

Apart from the classes that they configure, so that a command can show its options without importing torch.
"""

import math
from dataclasses import dataclass
from typing import Literal

from vision_rnn.errors import UserError

# The model that is used unless another is named, and the one that writes digits.
BUNDLED, WRITER = "bundled:row-lstm", "bundled:digits"

Architecture = Literal["row_lstm", "diagonal_bilstm", "pixel_cnn"]
Order = Literal["raster", "rotated", "transposed"]


@dataclass(frozen=True, kw_only=True)
class ModelConfig:
    """The architecture. Defaults are the paper's for MNIST.

    Attributes:
        architecture: The kind of the layers.
        order: In which pixels are predicted: `raster`, rows from the top, each from the left; `rotated`, the reverse,
            from the lower right; `transposed`, columns from the left, each from the top.
        num_layers: How many.
        hidden_channels: h; the residual stream is twice as wide.
        output_channels: Width of the two 1x1 layers before the output.
        residual: Add each layer's input to its output.
        skip: Feed the sum of all layers' outputs, each by a 1x1 convolution of its own, to the output layers.
        dilations: Of the layers' taps in turn, from the first again after the last (Row LSTM).
        extra_column: Widen the map by one column, so that no pixel of the past is hidden.
        conditional: Learn a vector for each class of the training data.
    """

    architecture: Architecture = "row_lstm"
    order: Order = "raster"
    num_layers: int = 7
    hidden_channels: int = 16
    output_channels: int = 32
    residual: bool = True
    skip: bool = False
    dilations: tuple[int, ...] = (1,)
    extra_column: bool = False
    conditional: bool = False

    def __post_init__(self) -> None:
        """Refuse numbers that no model can have, by their name."""
        for name, least in (("num_layers", 0), ("hidden_channels", 1), ("output_channels", 1)):
            if getattr(self, name) < least:
                raise UserError(f"model.{name}: {getattr(self, name)} is too small; give at least {least}")
        if not self.dilations or min(self.dilations) < 1:
            raise UserError(f"model.dilations: {list(self.dilations)}; give one or more numbers from 1 up")


@dataclass(frozen=True, kw_only=True)
class ImageShape:
    """The images that a model was built for.

    Attributes:
        height: In pixels.
        width: In pixels.
        channels: 1 (grey) or 3 (red, green, blue).
        levels: Values that a pixel takes, 0 to `levels` - 1: 2 or 256.
        num_classes: Classes that a conditional model tells apart; 0 for others.
    """

    height: int
    width: int
    channels: int = 1
    levels: int = 2
    num_classes: int = 0


@dataclass(frozen=True, kw_only=True)
class TrainingConfig:
    """How a pixel model is trained.

    Attributes:
        epochs: Passes over the images.
        batch_size: Images a batch.
        matrix_learning_rate: Muon's, for the kernels within the model, at its peak.
        learning_rate: AdamW's, for all else, at its peak.
        warmup_steps: Steps over which the rates rise, at most a tenth of all.
        decay: Share of the steps, the last ones, over which the rates fall in a line to 0.
        weight_decay: Of the kernels within the model.
        gradient_clip: The gradient's norm is cut to this; the loss is in nats an image.
        average_decay: Weights are averaged exponentially with this decay, and the average is what is kept; 0 does not.
        seed: Of the initial weights and of the order of the images.
    """

    epochs: int = 10
    batch_size: int = 32
    matrix_learning_rate: float = 0.02
    learning_rate: float = 4e-3
    warmup_steps: int = 100
    decay: float = 0.7
    weight_decay: float = 0.0
    gradient_clip: float = 100.0
    average_decay: float = 0.999
    seed: int = 0

    def __post_init__(self) -> None:
        """Refuse numbers that no training can use, by their name."""
        least = {"epochs": 1, "batch_size": 1}
        for name, value in vars(self).items():
            # Written so that NaN, which compares false, is refused too.
            if not least.get(name, 0) <= value < math.inf:
                raise UserError(f"training.{name}: {value} is out of range; give at least {least.get(name, 0)}")
        if self.decay > 1 or self.average_decay >= 1:
            name, most = ("decay", "at most 1") if self.decay > 1 else ("average_decay", "less than 1")
            raise UserError(f"training.{name}: {getattr(self, name)} is too large; give {most}")
