"""The caption decoder: an LSTM that looks at the image again before every word.

Xu et al., "Show, Attend and Tell: Neural Image Caption Generation with Visual Attention" (2015, arXiv 1502.03044),
section 3.1.2. Deviations, each with its reason:

* The grid is first projected from the encoder's channels to `hidden_size` (linear, layer norm, ReLU): attention over
  1280 channels costs more than the LSTM itself, and the small projection can be regularised by dropout.
* `attention="dot"` is offered beside the paper's additive scores; `attention="none"` gives the image only through the
  initial state, as Vinyals et al. (arXiv 1411.4555) do.
* The output layer L_o of equation 7 shares its weights with the word embedding E (Press and Wolf, arXiv 1608.05859):
  over a million parameters fewer, which matters on a set of 30 thousand captions. The last word then enters through a
  projection L_y, L_y E y_{t-1} in place of E y_{t-1}: without one, every word would vote for its own repetition.

Shapes: B images, K captions of each image (or beams), T words, L grid locations, C encoder channels, H hidden size,
E embedding size, V vocabulary size.
"""

from dataclasses import dataclass
from typing import Literal, NamedTuple

import torch
from torch import Tensor, nn

from captioning.attention import AdditiveAttention, Attention, DotAttention
from captioning.recurrent import LSTMCell
from data_prep.errors import UserError


@dataclass(frozen=True, kw_only=True)
class DecoderConfig:
    """The decoder's architecture.

    Attributes:
        hidden_size: Size of the LSTM's state and of the projected grid.
        embedding_size: Size of a word's embedding.
        attention: How locations are scored; `none` leaves the image to the initial state.
        attention_size: Size of the space in which queries meet keys.
        context_gate: The gate beta_t on the context (section 4.2.1): one number, one number a channel, or none.
        dropout: Share of units dropped from the projected grid, the embeddings and the output.
    """

    hidden_size: int = 512
    embedding_size: int = 512
    attention: Literal["none", "additive", "dot"] = "dot"
    attention_size: int = 512
    context_gate: Literal["none", "scalar", "vector"] = "vector"
    dropout: float = 0.5

    def __post_init__(self) -> None:
        """Refuse numbers of which no decoder can be made, by their name."""
        for name in ("hidden_size", "embedding_size", "attention_size"):
            if getattr(self, name) < 1:
                raise UserError(f"decoder.{name}: {getattr(self, name)} is too small; give at least 1")
        if not 0 <= self.dropout < 1:
            raise UserError(f"decoder.dropout: {self.dropout} is not a share; give at least 0 and less than 1")


class Memory(NamedTuple):
    """What the decoder keeps of an image: computed once, read at every word."""

    values: Tensor  # (B, L, H)
    keys: Tensor  # (B, L, A)


class State(NamedTuple):
    """What the decoder carries from word to word."""

    hidden: Tensor  # (B, K, H)
    cell: Tensor  # (B, K, H)


class SequenceDropout(nn.Dropout):
    """Dropout with one mask for all the words of a caption, or all the locations of a grid.

    Gal and Ghahramani (arXiv 1512.05287), section 4.1. The units are dropped along the last dimension but one alike,
    so a model cannot read off the next word what it missed at this one, and far fewer random numbers are drawn.
    """

    def forward(self, input: Tensor) -> Tensor:
        """Drop units of (..., words, units)."""
        return input * super().forward(torch.ones_like(input[..., :1, :])) if self.training else input


class Decoder(nn.Module):
    """The attention LSTM with deep output."""

    def __init__(self, config: DecoderConfig, grid_channels: int, vocabulary_size: int):
        super().__init__()
        hidden_size, embedding_size = config.hidden_size, config.embedding_size
        self.embedding = nn.Embedding(vocabulary_size, embedding_size)
        nn.init.normal_(self.embedding.weight, std=embedding_size**-0.5)
        self.grid = nn.Sequential(nn.Linear(grid_channels, hidden_size), nn.LayerNorm(hidden_size), nn.ReLU())
        self.initial_hidden = nn.Linear(hidden_size, hidden_size)
        self.initial_cell = nn.Linear(hidden_size, hidden_size)
        attentions: dict[str, type[Attention]] = {"additive": AdditiveAttention, "dot": DotAttention}
        self.attention = (
            attentions[config.attention](hidden_size, hidden_size, config.attention_size)
            if config.attention != "none"
            else None
        )
        context_size = hidden_size if self.attention else 0
        gate_sizes = {"none": 0, "scalar": 1, "vector": context_size}
        gate_size = gate_sizes[config.context_gate] if self.attention else 0
        self.context_gate = nn.Linear(hidden_size, gate_size) if gate_size else None
        self.cell = LSTMCell(embedding_size + context_size, hidden_size)
        self.word_to_output = nn.Linear(embedding_size, embedding_size, bias=False)
        self.hidden_to_output = nn.Linear(hidden_size, embedding_size)
        self.context_to_output = nn.Linear(context_size, embedding_size, bias=False) if context_size else None
        self.output_bias = nn.Parameter(torch.zeros(vocabulary_size))
        self.dropout = SequenceDropout(config.dropout)

    def remember(self, grid: Tensor) -> Memory:
        """Project the encoder's grid, (B, L, C), once for all the words of all its captions."""
        values = self.dropout(self.grid(grid))
        return Memory(values, self.attention.key(values) if self.attention else values)

    def initial_state(self, memory: Memory, captions: int) -> State:
        """Return h_0 and c_0, made from the mean location (section 3.1.2), for `captions` captions of each image."""
        mean = memory.values.mean(dim=1, keepdim=True)
        return State(
            self.initial_hidden(mean).tanh().expand(-1, captions, -1),
            self.initial_cell(mean).tanh().expand(-1, captions, -1),
        )

    def forward(self, memory: Memory, words: Tensor) -> tuple[Tensor, Tensor]:
        """Return the deep outputs, (B, K, T, E), and the attention weights, (B, K, T, L), of all words at once.

        `logits` turns deep outputs into those of the words that follow: by far the widest product, so the caller picks
        out the words that count, leaves the padding, and makes it once for all.

        Args:
            memory: From `remember`.
            words: Known words y_0 .. y_{T-1} of every caption, starting with the begin token, (B, K, T).
        """
        embedded, projected = self._embed(words)
        state = self.initial_state(memory, words.shape[1])
        hiddens, contexts, weights = [], [], []
        for projected_word in projected.unbind(dim=2):
            state, context, weight = self._advance(projected_word, state, memory)
            hiddens.append(state.hidden)
            contexts.append(context)
            weights.append(weight)
        outputs = self._output(embedded, torch.stack(hiddens, dim=2), torch.stack(contexts, dim=2))
        return outputs, torch.stack(weights, dim=2)

    def logits(self, outputs: Tensor) -> Tensor:
        """Return the logits of the next words, (..., V), of deep outputs, (..., E): L_o of equation 7."""
        return nn.functional.linear(outputs, self.embedding.weight, self.output_bias)

    def step(self, word: Tensor, state: State, memory: Memory) -> tuple[Tensor, State, Tensor]:
        """Return the next word's logits (B, K, V), the next state, and the attention weights (B, K, L).

        Args:
            word: The last word of every caption, (B, K).
            state: The state before it.
            memory: From `remember`.
        """
        embedded, projected = self._embed(word)
        state, context, weights = self._advance(projected, state, memory)
        return self.logits(self._output(embedded, state.hidden, context)), state, weights

    def _embed(self, words: Tensor) -> tuple[Tensor, Tensor]:
        """Return the words' embeddings (..., E) and their share of the gates' input (..., 4H)."""
        embedded = self.dropout(self.embedding(words))
        weight = self.cell.input_to_gates.weight[:, : embedded.shape[-1]]
        return embedded, nn.functional.linear(embedded, weight, self.cell.input_to_gates.bias)

    def _advance(self, projected_word: Tensor, state: State, memory: Memory) -> tuple[State, Tensor, Tensor]:
        """Attend, then take one LSTM step; return the state, the gated context (B, K, H) and the weights (B, K, L)."""
        if self.attention is None:
            nothing = state.hidden.new_zeros(*state.hidden.shape[:2], 0)
            uniform = state.hidden.new_full((*state.hidden.shape[:2], memory.values.shape[1]), 1.0)
            return State(*self.cell(projected_word, *state)), nothing, uniform / memory.values.shape[1]
        context, weights = self.attention(state.hidden, memory.keys, memory.values)
        if self.context_gate is not None:
            context = self.context_gate(state.hidden).sigmoid() * context  # section 4.2.1
        context_weight = self.cell.input_to_gates.weight[:, -context.shape[-1] :]
        gate_input = projected_word + nn.functional.linear(context, context_weight)
        return State(*self.cell(gate_input, *state)), context, weights

    def _output(self, embedded: Tensor, hidden: Tensor, context: Tensor) -> Tensor:
        """Equation 7 inside L_o: L_y E y_{t-1} + L_h h_t + L_z z_t, (..., E)."""
        deep = self.word_to_output(embedded) + self.hidden_to_output(self.dropout(hidden))
        if self.context_to_output is not None:
            deep = deep + self.context_to_output(context)
        return self.dropout(deep)
