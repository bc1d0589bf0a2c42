"""The settings of a pixel model: architecture, image shape and training.

They live apart from the classes that they configure, so that a command can show its options without importing torch.
"""

from dataclasses import dataclass
from typing import Literal

from vision_rnn.errors import UserError
from vision_rnn.option_types import LARGEST_SIZE, LARGEST_TRAINING_SEED, check_range
from vision_rnn.precision import Precision, full_name

# Default model of all commands but those of the next line.
BUNDLED = "bundled:row-lstm"
# Default models of `write`, and of `complete` and `serve`.
WRITER, COMPLETER = "bundled:digits", "bundled:any-region"

Architecture = Literal["row_lstm", "diagonal_bilstm", "gated_pixel_cnn", "pixel_cnn"]
Order = Literal["raster", "rotated", "transposed"]
Output = Literal["softmax", "logistic_mixture"]


@dataclass(frozen=True, kw_only=True)
class ModelConfig:
    """The architecture of a pixel model. The defaults are the paper's for MNIST.

    Attributes:
        architecture: Type of the layers: `row_lstm`, `diagonal_bilstm`, `gated_pixel_cnn`, or `pixel_cnn`, which is a
            plain stack of masked convolutions with a blind spot.
        order: Order in which pixels are predicted: `raster` (rows from top to bottom, each from left to right),
            `rotated` (the reverse of `raster`) or `transposed` (columns from left to right, each from top to bottom).
        num_layers: Number of layers; at least 0.
        hidden_channels: Number of hidden channels h of a layer; the residual stream has 2h channels.
        output_channels: Number of channels of the two 1x1 convolutions before the output.
        output: Distribution of a pixel's levels: `softmax` gives each level a probability of its own (a sigmoid for two
            levels); `logistic_mixture` is a discretised mixture of logistics (PixelCNN++), which needs far fewer
            outputs for 256 levels and has all channels of a pixel at once.
        components: Number of logistics of the mixture; `logistic_mixture` only.
        residual: Residual connections, which add the input of each layer to its output (default: true).
        skip: Skip connections, which add the output of each layer, after a 1x1 convolution of its own, to the input of
            the output layers (default: false).
        dilations: Distances between the taps of the layers in columns, for a Gated PixelCNN also in rows, repeated if
            there are more layers; Row LSTM and Gated PixelCNN only.
        extra_column: Extra column to the right of the feature map, so that mask A hides no past pixel (default: false).
        conditional: Class-conditional model, with a learned vector for each class of the training data (default:
            false).
        context_layers: Number of layers of the context, through which the model sees the known pixels on every side of
            a region of any form (default: 0, no context: the model sees only the pixels before each). Their dilations
            are those of the model, from the last to the first. A training that starts from a model without a context
            can add one.
    """

    architecture: Architecture = "row_lstm"
    order: Order = "raster"
    num_layers: int = 7
    hidden_channels: int = 16
    output_channels: int = 32
    output: Output = "softmax"
    components: int = 10
    residual: bool = True
    skip: bool = False
    dilations: tuple[int, ...] = (1,)
    extra_column: bool = False
    conditional: bool = False
    context_layers: int = 0

    def __post_init__(self) -> None:
        """Check the ranges of all numbers.

        Raises:
            UserError: A number is out of range; the message names the setting.
        """
        check_range("model.num_layers", self.num_layers, 0, 1000)
        for name in ("hidden_channels", "output_channels"):
            check_range(f"model.{name}", getattr(self, name), 1, 100_000)
        check_range("model.components", self.components, 1, 1000)
        check_range("model.context_layers", self.context_layers, 0, 1000)
        if self.context_layers and not self.num_layers:
            raise UserError("model.context_layers: a context needs layers to add to; give model.num_layers >= 1")
        if not self.dilations or not 1 <= min(self.dilations) <= max(self.dilations) <= LARGEST_SIZE:
            raise UserError(f"model.dilations: {list(self.dilations)} is out of range; give one or more integers >= 1")


@dataclass(frozen=True, kw_only=True)
class MixtureConfig:
    """The architecture of a mixture of models, which `pixelrnn mix` makes; see `pixelrnn.model.Mixture`.

    Attributes:
        members: Architectures of the models, which have the same order, all a softmax and all or none a context.
        weights: Weight of each model, which sum to 1.
        architecture: Tells a mixture from other architectures.
    """

    members: tuple[ModelConfig, ...]
    weights: tuple[float, ...]
    architecture: Literal["mixture"] = "mixture"

    def __post_init__(self) -> None:
        """Check that the members can be mixed by the weights.

        Raises:
            ValueError: They cannot.
        """
        if len(self.weights) != len(self.members) or min(self.weights) <= 0 or abs(sum(self.weights) - 1) > 1e-9:
            raise ValueError(f"weights {self.weights} of {len(self.members)} members; give positive ones with sum 1")
        kinds = {(each.order, each.output, each.context_layers > 0) for each in self.members}
        if len(kinds) > 1 or self.output != "softmax":
            raise ValueError("members differ in order, output or context, or are no softmax")

    @property
    def order(self) -> Order:
        """Order in which pixels are predicted."""
        return self.members[0].order

    @property
    def output(self) -> Output:
        """Distribution of a pixel's levels."""
        return self.members[0].output

    @property
    def context_layers(self) -> int:
        """Number of layers of the contexts of all models together; 0 if there is none."""
        return sum(member.context_layers for member in self.members)


AnyConfig = ModelConfig | MixtureConfig


@dataclass(frozen=True, kw_only=True)
class ImageShape:
    """The shape of the images of a model.

    Attributes:
        height: Height in pixels.
        width: Width in pixels.
        channels: Number of channels: 1 (grey) or 3 (red, green, blue).
        levels: Number of levels of a pixel, 2 or 256; its values are 0 to `levels` - 1.
        num_classes: Number of classes of a class-conditional model; 0 for an unconditional one.
    """

    height: int
    width: int
    channels: int = 1
    levels: int = 2
    num_classes: int = 0

    def __post_init__(self) -> None:
        """Check the ranges of all numbers.

        Raises:
            UserError: A number is out of range; the message names it.
        """
        for name in ("height", "width"):
            check_range(f"shape.{name}", getattr(self, name), 1, 10_000)
        check_range("shape.channels", self.channels, 1, 3)
        check_range("shape.levels", self.levels, 2, 256)
        check_range("shape.num_classes", self.num_classes, 0)

    def describe(self) -> str:
        """Return the shape in words, such as `grey images of 28x28 pixels and 2 levels`."""
        colour = "grey" if self.channels == 1 else "RGB"
        classes = f" in {self.num_classes} classes" if self.num_classes else ""
        return f"{colour} images of {self.height}x{self.width} pixels and {self.levels} levels{classes}"


@dataclass(frozen=True, kw_only=True)
class TrainingConfig:
    """The training of a pixel model.

    Attributes:
        epochs: Number of passes over the training images; at least 1.
        batch_size: Number of images per batch; at least 1.
        matrix_learning_rate: Peak learning rate of Muon, which updates the inner weight matrices.
        learning_rate: Peak learning rate of AdamW, which updates all other parameters.
        warmup_steps: Number of steps of linear warmup; at most a tenth of all steps are used.
        decay: Final share of the steps, 0 to 1, over which the learning rates decay linearly to 0.
        weight_decay: Weight decay of the inner weight matrices.
        gradient_clip: Maximum norm of the gradient, for a loss in nats per image; 0 disables clipping.
        average_decay: Decay of the exponential moving average of the weights, at least 0 and less than 1; the average
            is validated and saved. 0 disables averaging.
        mirror: Mirror each training image, left to right, with probability one half in each epoch (default: false).
        precision: `32-true`, or `bf16-mixed`, which rounds the factors of matrix products to bf16, above all those of
            the recurrence, where sums, states and everything else remain in 32 bits; for short `32` or `bf16`. `auto`
            uses bf16 if the hardware supports it. Validation is always in 32 bits.
        seed: Random seed for the initial weights and the order of the images.
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
    mirror: bool = False
    precision: Precision = "auto"
    seed: int = 0

    def __post_init__(self) -> None:
        """Check the ranges of all numbers.

        Raises:
            UserError: A number is out of range; the message names the setting.
        """
        object.__setattr__(self, "precision", full_name(self.precision))
        least = {"epochs": 1, "batch_size": 1}
        most = {"decay": 1, "seed": LARGEST_TRAINING_SEED}
        for name, value in vars(self).items():
            if isinstance(value, int | float):
                check_range(f"training.{name}", value, least.get(name, 0), most.get(name, LARGEST_SIZE))
        if self.average_decay >= 1:
            raise UserError(f"training.average_decay: {self.average_decay} is too large; give less than 1")
