"""The settings of a captioner: encoder, decoder, search and training.

They are separate from the classes that they configure, so that a command can show its options without importing torch.
"""

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from vision_rnn.errors import UserError
from vision_rnn.option_types import LARGEST_SIZE, LARGEST_TRAINING_SEED, check_range
from vision_rnn.precision import Precision, full_name

FeatureBits = Literal[16, 8]
Engine = Literal["auto", "onnx", "torch"]
# The default model of all commands, and the folder that contains the models installed with the package.
BUNDLED = "bundled:flickr8k"
PRETRAINED = Path(__file__).parent / "pretrained"


@dataclass(frozen=True, kw_only=True)
class EncoderConfig:
    """The encoder and its preprocessing.

    Attributes:
        backbone: Encoder network: `efficientnet_lite0|1|2`, `timm:NAME` or `torchvision:NAME`; or several with one
            grid size, joined by `+`, whose channels are concatenated; `none` makes a language model.
        image_size: Side length in pixels of the square to which images are resized; nothing is cropped, and the aspect
            ratio is not kept.
        mean: Mean of each colour channel (red, green, blue in 0..1) for normalisation, the same three for all networks
            or three for each (default: the networks' own).
        std: Standard deviation of each colour channel for normalisation (default: the networks' own).
    """

    backbone: str = "efficientnet_lite2"
    image_size: int = 256
    mean: tuple[float, ...] | None = None
    std: tuple[float, ...] | None = None

    def __post_init__(self) -> None:
        """Check the settings; an error names the invalid one."""
        check_range("encoder.image_size", self.image_size, 1, 2048)
        names = self.networks
        if repeated := {name for name in names if names.count(name) > 1}:
            raise UserError(f"encoder.backbone: {min(repeated)} is named twice; name each network once")
        if len(names) > 1 and "none" in names:
            raise UserError("encoder.backbone: none stands alone; omit it, or the other networks")
        for name, values in (("mean", self.mean), ("std", self.std)):
            if values is None:
                continue
            if (
                len(values) not in (3, 3 * len(names))
                or not all(map(math.isfinite, values))
                or (name == "std" and min(values) <= 0)
            ):
                allowed = "numbers greater than 0" if name == "std" else "numbers"
                each = ", or three for each network" if len(names) > 1 else ""
                raise UserError(f"encoder.{name}: {list(values)} is out of range; give three {allowed}{each}")

    @property
    def networks(self) -> list[str]:
        """Names of the networks."""
        return self.backbone.split("+")


@dataclass(frozen=True, kw_only=True)
class DecoderConfig:
    """The architecture of the decoder.

    Attributes:
        cell: Recurrent cell: a fixed window of words, a vanilla RNN or an LSTM.
        window: Number of words in the window.
        num_layers: Number of recurrent layers; each reads the states of the one below.
        residual: Residual connections around all layers except the first.
        hidden_size: Size of the hidden state of a layer and of the projected features.
        embedding_size: Size of the word embeddings.
        attention: Attention scores, `dot` or `additive`. With `mean` the decoder reads the mean of all locations at
            every word, which a window always does; with `none` it reads the image only through the initial state.
        hard: Hard attention: one location per word, drawn by its weight, instead of the weighted mean of all.
        attention_size: Size of the queries and keys of attention.
        context_gate: Gate on the context (Show, Attend and Tell, section 4.2.1): one value (`scalar`), one value per
            channel (`vector`), or `none`.
        detected_words: Number of words, the most frequent of the vocabulary, whose probabilities in the image's
            captions the initial state reads; trained with `training.objective` words. 0 reads none.
        dropout: Dropout probability of the projected features, the embeddings and the output, at least 0 and less
            than 1.
    """

    cell: Literal["window", "rnn", "lstm"] = "lstm"
    window: int = 4
    num_layers: int = 1
    residual: bool = False
    hidden_size: int = 512
    embedding_size: int = 512
    attention: Literal["none", "mean", "additive", "dot"] = "dot"
    hard: bool = False
    attention_size: int = 512
    context_gate: Literal["none", "scalar", "vector"] = "vector"
    detected_words: int = 0
    dropout: float = 0.5

    def __post_init__(self) -> None:
        """Check the settings; an error names the invalid one."""
        for name in ("window", "num_layers"):
            check_range(f"decoder.{name}", getattr(self, name), 1, 1000)
        for name in ("hidden_size", "embedding_size", "attention_size"):
            check_range(f"decoder.{name}", getattr(self, name), 1, 100_000)
        check_range("decoder.detected_words", self.detected_words, 0, 100_000)
        if not 0 <= self.dropout < 1:
            raise UserError(f"decoder.dropout: {self.dropout} is out of range; give at least 0 and less than 1")
        if self.cell == "window" and self.detected_words:
            raise UserError("decoder.detected_words: a window has no initial state to read them; give 0")
        if self.cell == "window" and (self.attends or self.num_layers > 1):
            raise UserError("decoder.cell: a window has no state; give attention none and one layer, or another cell")
        if self.residual and self.num_layers == 1:
            raise UserError("decoder.residual: needs at least two layers; give more num_layers, or set it to false")
        if self.hard and not self.attends:
            raise UserError(
                f"decoder.hard: needs decoder.attention additive or dot, not {self.attention}; change it, or set "
                "decoder.hard to false"
            )

    @property
    def attends(self) -> bool:
        """Whether the decoder scores the locations at every word."""
        return self.attention in ("additive", "dot")


@dataclass(frozen=True, kw_only=True)
class SearchConfig:
    """Search settings.

    Attributes:
        beam_size: Beam size, 1 to 1000; 1 is greedy search.
        length_exponent: Exponent x of the length, 0 to 10: captions are ranked by log-probability / words ** x.
        max_words: Maximum number of words of a caption, 1 to 1000.
    """

    beam_size: int = 5
    length_exponent: float = 0.7
    max_words: int = 30

    def __post_init__(self) -> None:
        """Check the settings; an error names the invalid one."""
        # Time and memory grow with the sizes. A greater exponent overflows in single precision.
        for name, least, most in (("beam_size", 1, 1000), ("length_exponent", 0, 10), ("max_words", 1, 1000)):
            check_range(f"search.{name}", getattr(self, name), least, most)


@dataclass(frozen=True, kw_only=True)
class TrainingConfig:
    """Training settings of a captioner.

    Attributes:
        objective: Training objective: `cross_entropy`; `self_critical` to continue from a trained model; or `words`,
            to teach the encoder which words the captions hold before a decoder is trained on it.
        epochs: Maximum number of passes over the images (and their mirror images).
        patience: Number of epochs without a better validation score after which training stops.
        monitor: Validation score that selects the best epoch; use perplexity for a language model, and `word-AP`, the
            mean average precision of the detected words, for the objective `words`.
        batch_size: Images per batch; each image brings all its captions.
        learning_rate: Peak learning rate of the decoder.
        encoder_learning_rate: Peak learning rate of the encoder's upper layers (see `GridEncoder.fine_tune`); 0 freezes
            it, and its features are computed once.
        warmup_steps: Steps over which the learning rates rise, at most a tenth of all; then they fall to 0 as a cosine.
        weight_decay: Weight decay of AdamW, applied to weight matrices only.
        label_smoothing: Share of the target probability that is spread over all words, at least 0 and less than 1.
        doubly_stochastic: Weight of the penalty that makes attention cover the whole image (Show, Attend and Tell,
            lambda of equation 14).
        look_warmup: Share of the training steps, 0 to 1, after which hard attention starts to draw looks; before that
            it uses their expectation, as soft attention does. With random looks from the start, the decoder learns to
            ignore them.
        look_reward: Weight of the gradient of hard looks (lambda_r of equation 12).
        look_entropy: Weight of the entropy of the weights of hard attention, in nats, which keeps it exploring
            (lambda_e of equation 12).
        gradient_clip: Maximum norm of the gradient.
        average_decay: Decay of the exponential moving average of the weights, less than 1; the average is validated
            and saved. 0 disables averaging.
        mirror: Train on the mirror image of every image too.
        feature_bits: Bits of a value of a frozen encoder's features on disk, 16 or 8: half the space.
        crops: Number of random crops of every image, each mirrored at random, to train on too; a frozen encoder sees
            the same ones in every epoch.
        max_words: Number of words after which training captions are cut; a cut caption has no end token.
        samples: Number of captions sampled per image for `self_critical`, at least 2.
        temperature: Sampling temperature for `self_critical`. Label smoothing gives a tenth of the probability to words
            that do not fit: at temperature 1, most sampled captions contain one.
        precision: Numerical precision: `bf16-mixed` (autocast) or `32-true`, for short `bf16` or `32`; `auto` uses bf16
            if the hardware supports it.
        seed: Random seed for the initial weights, the order of the images, dropout and sampling.
        log_gradients: Interval in steps at which the norm of the gradient of the last word's loss with respect to the
            states 1, 5 and 10 words before is logged (see `network.gradient_flow`); 0 disables it.
    """

    objective: Literal["cross_entropy", "self_critical", "words"] = "cross_entropy"
    epochs: int = 20
    patience: int = 5
    monitor: Literal["CIDEr-D", "BLEU-4", "perplexity", "word-AP"] = "CIDEr-D"
    batch_size: int = 64
    learning_rate: float = 1e-3
    encoder_learning_rate: float = 0.0
    warmup_steps: int = 200
    weight_decay: float = 0.01
    label_smoothing: float = 0.1
    doubly_stochastic: float = 0.0
    look_warmup: float = 0.3
    look_reward: float = 1.0
    look_entropy: float = 0.002
    gradient_clip: float = 1.0
    average_decay: float = 0.0
    mirror: bool = True
    feature_bits: FeatureBits = 16
    crops: int = 0
    max_words: int = 20
    samples: int = 5
    temperature: float = 0.6
    precision: Precision = "auto"
    seed: int = 0
    log_gradients: int = 0

    def __post_init__(self) -> None:
        """Check the settings; an error names the invalid one."""
        object.__setattr__(self, "precision", full_name(self.precision))
        # The self-critical baseline of a sample is the mean of the other samples, so there must be another.
        least = {"epochs": 1, "patience": 1, "batch_size": 1, "samples": 2, "max_words": 1, "temperature": 0.001}
        most = {"samples": 1000, "crops": 1000, "temperature": 1000, "look_warmup": 1, "seed": LARGEST_TRAINING_SEED}
        for name, value in vars(self).items():
            if isinstance(value, int | float):
                check_range(f"training.{name}", value, least.get(name, 0), most.get(name, LARGEST_SIZE))
        if (self.objective == "words") != (self.monitor == "word-AP"):
            fitting = "word-AP" if self.objective == "words" else "CIDEr-D, BLEU-4 or perplexity"
            raise UserError(f"training.monitor: the objective {self.objective} is validated by {fitting}; give that")
        for name in ("average_decay", "label_smoothing"):
            if getattr(self, name) >= 1:
                raise UserError(f"training.{name}: {getattr(self, name)} is too large; give less than 1")
