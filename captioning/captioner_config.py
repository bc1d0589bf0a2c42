"""The settings of a captioner: its encoder, its decoder, its search and its training.

Apart from the classes that they configure, so that a command can show its options without importing torch.
"""

import math
from dataclasses import dataclass
from typing import Literal

from vision_rnn.errors import UserError

Precision = Literal["auto", "32-true", "bf16-mixed", "32", "bf16"]
# The model that is used unless another is named.
BUNDLED = "bundled:flickr8k"


@dataclass(frozen=True, kw_only=True)
class EncoderConfig:
    """Which encoder, and how an image is laid before it.

    Attributes:
        backbone: `efficientnet_lite0|1|2`, `timm:NAME`, `torchvision:NAME` or `none`.
        image_size: Images are squashed to this many pixels a side: nothing is cut off, as a caption is of the whole.
        mean: What is subtracted from each colour (red, green, blue in 0..1); None takes the backbone's own.
        std: What the difference is divided by; None takes the backbone's own.
    """

    backbone: str = "efficientnet_lite2"
    image_size: int = 256
    mean: tuple[float, ...] | None = None
    std: tuple[float, ...] | None = None


@dataclass(frozen=True, kw_only=True)
class DecoderConfig:
    """The decoder's architecture.

    Attributes:
        cell: What reads the words: a fixed window of them, a vanilla RNN, or an LSTM.
        window: How many words the window holds.
        num_layers: Recurrent layers, each on the states of the one below.
        residual: Add to the output of every layer but the first what it read.
        hidden_size: Size of a layer's state and of the projected grid.
        embedding_size: Size of a word's embedding.
        attention: How locations are scored; `none` leaves the image to the initial state, and `mean` gives the mean
            of all locations at every word, as a window gets it in any case.
        hard: Look at one location a word, drawn by its weight, in place of at the weighted mean of all.
        attention_size: Size of the space in which queries meet keys.
        context_gate: The gate beta_t on the context (section 4.2.1): one number, one number a channel, or none.
        dropout: Share of units dropped from the projected grid, the embeddings and the output.
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
    dropout: float = 0.5

    def __post_init__(self) -> None:
        """Refuse what no decoder can be made of, by its name."""
        for name in ("window", "num_layers", "hidden_size", "embedding_size", "attention_size"):
            if getattr(self, name) < 1:
                raise UserError(f"decoder.{name}: {getattr(self, name)} is too small; give at least 1")
        if not 0 <= self.dropout < 1:
            raise UserError(f"decoder.dropout: {self.dropout} is not a share; give at least 0 and less than 1")
        if self.cell == "window" and (self.attends or self.num_layers > 1):
            raise UserError("decoder.cell: a window has no state; give attention none and one layer, or another cell")
        if self.residual and self.num_layers == 1:
            raise UserError("decoder.residual: one layer has no other around which to lead; give more num_layers")
        if self.hard and not self.attends:
            raise UserError(f"decoder.hard: nothing is attended to; give another attention than {self.attention}")

    @property
    def attends(self) -> bool:
        """Whether locations are scored, word by word."""
        return self.attention in ("additive", "dot")


@dataclass(frozen=True, kw_only=True)
class SearchConfig:
    """How captions are sought.

    Attributes:
        beam_size: Captions kept at every step; 1 is greedy search.
        length_exponent: Captions are ranked by log-probability / words ** length_exponent.
        max_words: Captions are cut after this many words.
    """

    beam_size: int = 5
    length_exponent: float = 0.7
    max_words: int = 30

    def __post_init__(self) -> None:
        """Refuse numbers that no search can use, by their name."""
        for name, least in (("beam_size", 1), ("length_exponent", 0), ("max_words", 1)):
            if getattr(self, name) < least:
                raise UserError(f"search.{name}: {getattr(self, name)} is too small; give at least {least}")


@dataclass(frozen=True, kw_only=True)
class TrainingConfig:
    """How the captioner is trained.

    Attributes:
        objective: `cross_entropy` from scratch, then perhaps `self_critical` from a trained model.
        epochs: At most this many passes over the images (and their mirror images).
        patience: Stop after this many epochs without a better validation score.
        monitor: The validation score that decides which epoch is best; a language model's is its perplexity.
        batch_size: Images a batch; each brings all its captions.
        learning_rate: The decoder's, at its peak.
        encoder_learning_rate: The encoder's, at its peak; 0 freezes it, and its grids are computed once.
        warmup_steps: Steps over which the rates rise, at most a tenth of all; they fall to 0 as a cosine.
        weight_decay: AdamW's, on weight matrices alone.
        label_smoothing: Share of the target probability spread over all words.
        doubly_stochastic: Weight of the penalty that makes attention cover the whole image (lambda of equation 14).
        look_warmup: Share of the steps, the first ones, in which every look of hard attention is its expectation, as in
            soft attention: a decoder that sees random looks before it can read them learns to leave them unread.
        look_reward: Weight of the gradient of hard looks (lambda_r of equation 12).
        look_entropy: Weight of the entropy of hard attention's weights, in nats, which keeps it looking about
            (lambda_e of equation 12).
        gradient_clip: The gradient's norm is cut to this.
        average_decay: Weights are averaged exponentially with this decay, and the average is what is kept; 0 does not.
        mirror: Train on every image's mirror image too.
        max_words: Captions are cut after this many words for training; a cut caption teaches no end.
        samples: Captions sampled an image by `self_critical`.
        temperature: Of that sampling. Label smoothing leaves a tenth of the probability with words that do not fit: at
            1, most sampled captions hold one.
        precision: `bf16-mixed` (autocast) or `32-true`, for short `bf16` or `32`; `auto` takes bf16 where the hardware
            multiplies it.
        seed: Of the initial weights, the order of the images, dropout and sampling.
        log_gradients: Every this many steps, log how far back the captions reach: the norm of the gradient of their
            last word's loss with respect to the states 1, 5 and 10 words before (see `network.gradient_flow`); 0 does
            not.
    """

    objective: Literal["cross_entropy", "self_critical"] = "cross_entropy"
    epochs: int = 20
    patience: int = 5
    monitor: Literal["CIDEr-D", "BLEU-4", "perplexity"] = "CIDEr-D"
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
    max_words: int = 20
    samples: int = 5
    temperature: float = 0.6
    precision: Precision = "auto"
    seed: int = 0
    log_gradients: int = 0

    def __post_init__(self) -> None:
        """Refuse numbers that no training can use, by their name."""
        names: dict[str, Precision] = {"32": "32-true", "bf16": "bf16-mixed"}
        object.__setattr__(self, "precision", names.get(self.precision, self.precision))
        # A self-critical baseline is the mean of the other samples: there must be one.
        least = {"epochs": 1, "patience": 1, "batch_size": 1, "warmup_steps": 0, "samples": 2, "max_words": 1}
        for name, value in vars(self).items():
            # Written so that NaN, which compares false, is refused too.
            if isinstance(value, int | float) and not least.get(name, 0) <= value < math.inf:
                raise UserError(f"training.{name}: {value} is out of range; give at least {least.get(name, 0)}")
        if self.temperature == 0:
            raise UserError("training.temperature: 0.0 is too small; give more than 0")
        if self.look_warmup > 1:
            raise UserError(f"training.look_warmup: {self.look_warmup} is too large; give at most 1")
        for name in ("average_decay", "label_smoothing"):
            if getattr(self, name) >= 1:
                raise UserError(f"training.{name}: {getattr(self, name)} is too large; give less than 1")
