"""The caption decoder: a recurrent network that looks at the image again before every word.

Xu et al., "Show, Attend and Tell: Neural Image Caption Generation with Visual Attention" (2015, arXiv 1502.03044),
section 3.1.2. Deviations, each with its reason:

* The grid is first projected from the encoder's channels to `hidden_size` (linear, layer norm, ReLU): attention over
  1280 channels costs more than the LSTM itself, and the small projection can be regularised by dropout.
* `attention="dot"` is an alternative to the paper's additive scores. `attention="none"` gives the image only through
  the initial state, as in Vinyals et al. (arXiv 1411.4555). `attention="mean"` gives the mean location at every word;
  as a control, it separates the gain of looking again from the gain of choosing where to look.
* The output layer L_o of equation 7 shares its weights with the word embedding E (Press and Wolf, arXiv 1608.05859).
  This saves over a million parameters, which matters on a set of 30 thousand captions. The last word then enters
  through a projection L_y, as L_y E y_{t-1} instead of E y_{t-1}; without it, every word would favour its repetition.
* With `detected_words` the initial state also reads which words the captions of the image probably hold, as found by a
  linear layer on the mean of the grid (Wu et al., arXiv 1506.01144, section 3). That layer is trained with the encoder
  before the decoder is (`objective: words`), and never with the decoder.

The LSTM can be replaced by its predecessors: a vanilla RNN, or a fixed window of words. A window has no state to attend
with and gets the mean location at every word instead. Layers can be stacked; each layer reads the states of the one
below, with residual connections around all except the first (Wu et al., arXiv 1609.08144, section 3.1). The top layer
attends, and its output is the output of the network. Without an image the decoder is a language model.

Shapes: B images, K captions (or beams) per image, T words, L grid locations, C encoder channels, N layers, H hidden
size, M memory size (of the network: H for an LSTM), E embedding size, V vocabulary size, W detected words.
"""

from collections.abc import Iterable
from typing import NamedTuple, cast

import torch
from torch import Tensor, nn

from captioning.captioner_config import DecoderConfig
from captioning.network.attention import AdditiveAttention, Attention, DotAttention
from captioning.network.recurrent import Cell, LSTMCell, RNNCell, WindowCell
from captioning.rows import Rows
from data_prep.vocabulary import PAD
from vision_rnn.errors import UserError


class Memory(NamedTuple):
    """The features of an image that the decoder reads at every word, computed once."""

    values: Tensor  # (B, L, H)
    keys: Tensor  # (B, L, A)
    words: Tensor  # (B, W), the probability of each detected word in a caption


class State(NamedTuple):
    """The state of the decoder between two words."""

    hidden: Tensor  # (B, K, N, H)
    cell_state: Tensor  # (B, K, N, M): the cell of an LSTM, the partial sums of a window, empty for an RNN


class Reading(NamedTuple):
    """The outputs of the decoder for known words, and its attention before each word."""

    outputs: Tensor  # (B, K, T, E), the deep outputs
    weights: Tensor  # (B, K, T, L), the attention weights
    shares: Tensor  # (B, K, T, L), each location's share in the context: the weights, except for a hard look
    hiddens: Tensor  # (T, B, K, N, H), the states


class SequenceDropout(nn.Dropout):
    """Dropout with the same mask for all words of a caption, or for all locations of a grid.

    Gal and Ghahramani (arXiv 1512.05287), section 4.1. The mask is constant along the last dimension but one. A model
    cannot read at the next word what was dropped at this word, and far fewer random numbers are drawn.
    """

    def forward(self, input: Tensor) -> Tensor:
        """Drop units of (..., words, units)."""
        return input * super().forward(torch.ones_like(input[..., :1, :])) if self.training else input


class Decoder(nn.Module):
    """The attention LSTM with deep output, or a network that replaces it.

    Args:
        config: Architecture of the decoder.
        grid_channels: Number C of encoder channels; 0 for a language model, which takes no image.
        vocabulary_size: Size V of the vocabulary.

    Raises:
        UserError: `config` has attention or detected words, but `grid_channels` is 0.
    """

    def __init__(self, config: DecoderConfig, grid_channels: int, vocabulary_size: int):
        super().__init__()
        if config.attention != "none" and not grid_channels:
            raise UserError("decoder.attention: a language model has no image to attend to; give none")
        if config.detected_words and not grid_channels:
            raise UserError("decoder.detected_words: a language model has no image to find words in; give 0")
        hidden_size, embedding_size = config.hidden_size, config.embedding_size
        self.embedding = nn.Embedding(vocabulary_size, embedding_size)
        nn.init.normal_(self.embedding.weight, std=embedding_size**-0.5)
        self.grid = (
            nn.Sequential(nn.Linear(grid_channels, hidden_size), nn.LayerNorm(hidden_size), nn.ReLU())
            if grid_channels
            else None
        )
        words = config.detected_words
        self.word_detector = nn.Linear(grid_channels, words) if words else None
        self.words_to_start = nn.Sequential(nn.LayerNorm(words), nn.Linear(words, hidden_size)) if words else None
        # An empty window, at the first word, is represented by zeros.
        states = {"window": 0, "rnn": 1, "lstm": 2}[config.cell]
        sizes = config.num_layers * hidden_size
        self.initial_hidden = nn.Linear(hidden_size, sizes) if states > 0 else None
        self.initial_cell = nn.Linear(hidden_size, sizes) if states > 1 else None
        attentions: dict[str, type[Attention]] = {"additive": AdditiveAttention, "dot": DotAttention}
        self.attention = (
            attentions[config.attention](hidden_size, hidden_size, config.attention_size, config.hard)
            if config.attends
            else None
        )
        self.reads_mean = (config.cell == "window" or config.attention == "mean") and grid_channels > 0
        context_size = hidden_size if self.attention or self.reads_mean else 0
        gate_sizes = {"none": 0, "scalar": 1, "vector": context_size}
        gate_size = gate_sizes[config.context_gate] if self.attention else 0
        self.context_gate = nn.Linear(hidden_size, gate_size) if gate_size else None
        self.cell = _cell(config, embedding_size + context_size)
        self.upper_cells = nn.ModuleList(_cell(config, hidden_size) for _ in range(config.num_layers - 1))
        self.residual = config.residual
        self.word_to_output = nn.Linear(embedding_size, embedding_size, bias=False)
        self.hidden_to_output = nn.Linear(hidden_size, embedding_size)
        self.context_to_output = nn.Linear(context_size, embedding_size, bias=False) if context_size else None
        self.output_bias = nn.Parameter(torch.zeros(vocabulary_size))
        self.dropout = SequenceDropout(config.dropout)

    @property
    def top_cell(self) -> Cell:
        """The recurrent cell of the top layer."""
        return cast("Cell", [self.cell, *self.upper_cells][-1])

    def remember(self, grid: Tensor) -> Memory:
        """Project the encoder's grid, (B, L, C), once for all words of all its captions.

        A language model ignores the grid and starts every sentence from the same learned state.
        """
        if self.grid is None:
            nothing = self.output_bias.new_zeros(*grid.shape[:2], self.hidden_to_output.in_features)
            return Memory(nothing, nothing, nothing[:, 0, :0])
        with torch.no_grad():
            words = self.word_logits(grid).sigmoid() if self.word_detector else grid[:, 0, :0]
        values = self.dropout(self.grid(grid))
        return Memory(values, self.attention.key(values) if self.attention else values, words)

    def word_logits(self, grid: Tensor) -> Tensor:
        """Return the logit of each detected word's probability in a caption of the image, (B, W), for (B, L, C)."""
        assert self.word_detector is not None
        return self.word_detector(grid.mean(dim=1))

    def initial_state(self, memory: Memory, captions: int) -> State:
        """Return h_0 and c_0 for `captions` captions per image: of the mean location (section 3.1.2) and the words."""
        mean = memory.values.mean(dim=1, keepdim=True)
        if self.words_to_start is not None:
            mean = mean + self.words_to_start(self.dropout(memory.words.unsqueeze(1)))
        layers, hidden_size = 1 + len(self.upper_cells), mean.shape[-1]

        def initial(layer: nn.Linear | None, size: int) -> Tensor:
            zeros = mean.new_zeros(mean.shape[0], 1, layers, size)
            state = layer(mean).tanh().unflatten(-1, (layers, size)) if layer else zeros
            return state.expand(-1, captions, -1, -1)

        return State(initial(self.initial_hidden, hidden_size), initial(self.initial_cell, self.cell.cell_state_size))

    def forward(self, memory: Memory, words: Tensor) -> Reading:
        """Read known words; everything that does not depend on the last state is computed for all words at once.

        `logits` maps the deep outputs to the logits of the next words. This is by far the largest product, so callers
        select the outputs that they need, without padding, and call it once.

        Args:
            memory: Result of `remember`.
            words: Known words y_0 .. y_{T-1} of every caption, starting with the begin token, (B, K, T).
        """
        projected, word_outputs = self._embed(words)
        state = self.initial_state(memory, words.shape[1])
        tops, contexts, weights, shares, hiddens = [], [], [], [], []
        for projected_word in projected.unbind(dim=2):
            context, weight, share = self._look(state.hidden, memory)
            context = self._gated(context, state.hidden)
            top, state = self._advance(projected_word + self._recalled(context, state.hidden), state)
            for kept, tensor in zip(
                (tops, contexts, weights, shares, hiddens), (top, context, weight, share, state.hidden), strict=True
            ):
                kept.append(tensor)
        tops, contexts, weights, shares = (torch.stack(kept, dim=2) for kept in (tops, contexts, weights, shares))
        return Reading(self._output(word_outputs, tops, contexts), weights, shares, torch.stack(hiddens))

    def logits(self, outputs: Tensor) -> Tensor:
        """Return the logits of the next words, (..., V), for deep outputs, (..., E): L_o of equation 7."""
        return nn.functional.linear(outputs, self.embedding.weight, self.output_bias)

    def log_likelihoods(self, memory: Memory, words: Tensor) -> Tensor:
        """Return ln p of every word except the first, given the words before it, (B, K, T), in nats; 0 for padding.

        This is teacher forcing without label smoothing. Dropout is active in training mode.

        Args:
            memory: Result of `remember`.
            words: Captions from the begin token to the end token, then padding, (B, K, T + 1).
        """
        targets = words[..., 1:]
        mask = targets != PAD
        logits = self.logits(self(memory, words[..., :-1]).outputs[mask]).float()
        found = torch.zeros(targets.shape, device=words.device)
        found[mask] = logits.log_softmax(-1).gather(-1, targets[mask].unsqueeze(-1)).squeeze(-1)
        return found

    def bounded_log_likelihoods(self, memory: Memory, words: Tensor, positions: int = 4096) -> Tensor:
        """Return the result of `log_likelihoods` in bounded memory, with captions of similar lengths together.

        With padding to the longest caption of a batch, one caption of thousands of words would make all others as
        expensive.

        Args:
            memory: Result of `remember`.
            words: As for `log_likelihoods`.
            positions: Maximum number of words at once, including padding; a longer caption is computed alone.
        """
        captions = words.flatten(0, 1)
        images = torch.arange(len(words), device=words.device).repeat_interleave(words.shape[1])
        lengths = (captions[:, 1:] != PAD).sum(1).tolist()
        found = torch.zeros(captions[:, 1:].shape, device=words.device)
        order = sorted((index for index, length in enumerate(lengths) if length), key=lengths.__getitem__)
        while order:
            count = 1
            while count < len(order) and (count + 1) * lengths[order[count]] <= positions:
                count += 1
            longest = lengths[order[count - 1]]
            chosen, order = torch.tensor(order[:count], device=words.device), order[count:]
            part = Memory(*(tensor[images[chosen]] for tensor in memory))
            found[chosen, :longest] = self.log_likelihoods(part, captions[chosen, None, : longest + 1]).squeeze(1)
        return found.view(*words.shape[:2], -1)

    def step(self, word: Tensor, state: State, memory: Memory) -> tuple[Tensor, State, Tensor]:
        """Return the next word's logits (B, K, V), the next state, and the attention weights (B, K, L).

        Args:
            word: The last word of every caption, (B, K).
            state: The state before that word.
            memory: Result of `remember`.
        """
        projected, word_output = self._embed(word)
        context, weights, _ = self._look(state.hidden, memory)
        context = self._gated(context, state.hidden)
        top, state = self._advance(projected + self._recalled(context, state.hidden), state)
        return self.logits(self._output(word_output, top, context)), state, weights

    def step_rows(self, rows: Rows, state: State, memory: Memory) -> tuple[Tensor, State, Tensor]:
        """Return what `step` does for R captions in rows: (R, V), the next state (R, N, .), and (R, L).

        Args:
            rows: The captions, in tensors.
            state: Their S distinct states, (S, N, .).
            memory: Result of `remember`.
        """
        projected, word_outputs = (part[rows.word_of] for part in self._embed(rows.words))
        context, weights, _ = (part.flatten(0, 1)[rows.places] for part in self._look(state.hidden[rows.slots], memory))
        context = self._gated(context, state.hidden)
        recalled = self._recalled(context, state.hidden)[rows.state_of]
        top, state = self._advance(projected + recalled, State(*(part[rows.state_of] for part in state)))
        outputs = self._output(word_outputs, top, context[rows.state_of])
        return self.logits(outputs), state, weights[rows.state_of]

    def _embed(self, words: Tensor) -> tuple[Tensor, Tensor]:
        """Return the words' part of the first layer's input product, and of the deep output (..., E)."""
        embedded = self.dropout(self.embedding(words))
        # The columns by a constant: by a tensor's shape, onnxruntime would copy them at every step.
        weight = self.cell.input_to_gates.weight[:, : self.embedding.embedding_dim]
        projected = nn.functional.linear(embedded, weight, self.cell.input_to_gates.bias)
        return projected, self.word_to_output(embedded)

    def _look(self, hidden: Tensor, memory: Memory) -> tuple[Tensor, Tensor, Tensor]:
        """Return the context (B, K, H), or an empty tensor; the weights and the shares, both (B, K, L)."""
        if self.attention is None:
            captions = hidden.shape[1]
            weights = memory.values.new_full(memory.values.shape[:2], 1 / memory.values.shape[1])
            weights = weights[:, None].expand(-1, captions, -1)
            context = memory.values.mean(dim=1, keepdim=True) if self.reads_mean else memory.values[:, :1, :0]
            return context.expand(-1, captions, -1), weights, weights
        return self.attention(hidden[:, :, -1], memory.keys, memory.values)

    def _gated(self, context: Tensor, hidden: Tensor) -> Tensor:
        """Return the context weighted by its gate (section 4.2.1), if there is one."""
        return context if self.context_gate is None else self.context_gate(hidden[..., -1, :]).sigmoid() * context

    def _recalled(self, context: Tensor, hidden: Tensor) -> Tensor:
        """Return what the context and the last state add to the first layer's sums, whatever the last word is."""
        recalled = self.cell.projected_state(hidden[..., 0, :])
        if self.context_to_output is None:
            return recalled
        weight = self.cell.input_to_gates.weight[:, self.embedding.embedding_dim :]
        return recalled + nn.functional.linear(context, weight)

    def _advance(self, sums: Tensor, state: State) -> tuple[Tensor, State]:
        """Take one step of all layers; return the output of the top layer (..., H) and the new state.

        Args:
            sums: The products of the first layer's inputs and of its last state with their weights.
            state: The last state.
        """
        output, carried = self.cell.update(sums, state.cell_state[..., 0, :])
        hiddens, cell_states = [output], [carried]
        for layer, cell in enumerate(cast("Iterable[Cell]", self.upper_cells), start=1):
            hidden, carried = cell(
                cell.input_to_gates(output), state.hidden[..., layer, :], state.cell_state[..., layer, :]
            )
            output = output + hidden if self.residual else hidden
            hiddens.append(hidden)
            cell_states.append(carried)
        return output, State(torch.stack(hiddens, dim=-2), torch.stack(cell_states, dim=-2))

    def _output(self, word_output: Tensor, hidden: Tensor, context: Tensor) -> Tensor:
        """Return the argument of L_o in equation 7: L_y E y_{t-1} + L_h h_t + L_z z_t, (..., E)."""
        deep = word_output + self.hidden_to_output(self.dropout(hidden))
        if self.context_to_output is not None:
            deep = deep + self.context_to_output(context)
        return self.dropout(deep)


def _cell(config: DecoderConfig, input_size: int) -> Cell:
    """Create one layer."""
    if config.cell == "window":
        return WindowCell(input_size, config.hidden_size, config.window)
    return {"rnn": RNNCell, "lstm": LSTMCell}[config.cell](input_size, config.hidden_size)
