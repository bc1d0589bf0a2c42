"""The norms against the Jacobian of a plain recurrence, against central differences, and known results."""

import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.autograd.functional import jacobian

from captioning.captioner_config import DecoderConfig
from captioning.network.decoder import Decoder, Memory, State
from captioning.network.gradient_flow import geometric_mean, gradient_flow, spectral_radii, spectral_radius
from data_prep.vocabulary import BOS, PAD
from vision_rnn.errors import UserError

VOCABULARY = 9
HIDDEN_SIZE = 4
WORDS = torch.tensor([BOS, 5, 7, 4, 8, 6])


def make_decoder(cell: str, channels: int = 0, **options) -> Decoder:
    """A decoder in float64 with weights large enough for every path to matter."""
    torch.manual_seed(0)
    sizes = {"hidden_size": HIDDEN_SIZE, "embedding_size": 3, "attention_size": 3, "dropout": 0.5}
    config = DecoderConfig(**({"cell": cell, "attention": "none"} | sizes | options))
    decoder = Decoder(config, channels, VOCABULARY).double().eval()
    for parameter in decoder.parameters():
        nn.init.normal_(parameter, std=0.6)
    return decoder


def look_at(decoder: Decoder, channels: int = 0, images: int = 1) -> Memory:
    """The decoder's memory of images of five locations."""
    return decoder.remember(torch.randn(images, 5, channels, generator=torch.Generator().manual_seed(1)).double())


def plain_loss(decoder: Decoder, words: Tensor) -> Callable[..., Tensor]:
    """Return -ln p of the last word as a function of h, and of c in an LSTM, from the equations written out by hand.

    The decoder has one layer and no image.
    """
    weights = {name: parameter.detach() for name, parameter in decoder.named_parameters()}

    def loss(hidden: Tensor, cell: Tensor | None = None) -> Tensor:
        for word in words[:-1]:
            embedded = weights["embedding.weight"][word]
            sums = weights["cell.input_to_gates.weight"] @ embedded + weights["cell.input_to_gates.bias"]
            sums = sums + weights["cell.state_to_gates.weight"] @ hidden
            if cell is None:
                hidden = torch.tanh(sums)
            else:
                entering, forget, leaving, candidate = sums.view(4, -1)
                cell = forget.sigmoid() * cell + entering.sigmoid() * candidate.tanh()
                hidden = leaving.sigmoid() * cell.tanh()
        deep = weights["word_to_output.weight"] @ embedded
        deep = deep + weights["hidden_to_output.weight"] @ hidden + weights["hidden_to_output.bias"]
        logits = weights["embedding.weight"] @ deep + weights["output_bias"]
        return logits.logsumexp(0) - logits[words[-1]]

    return loss


def step_through(decoder: Decoder, memory: Memory, words: Tensor) -> list[State]:
    """The states of one caption before and after each word except the last, starting with the initial state."""
    states = [decoder.initial_state(memory, 1)]
    for word in words[:-1]:
        states.append(decoder.step(word.view(1, 1), states[-1], memory)[1])
    return states


@pytest.mark.parametrize("cell", ["rnn", "lstm"])
def test_equals_the_jacobian_of_the_equations_written_out(cell: str):
    decoder = make_decoder(cell)
    memory = look_at(decoder)
    flow = gradient_flow(decoder, memory, WORDS.view(1, 1, -1))
    assert (flow.cell is None) == (cell == "rnn")
    states = [
        tuple(part[0, 0, 0].detach() for part in state if part.numel())
        for state in step_through(decoder, memory, WORDS)
    ]
    for k in range(1, len(WORDS)):
        start = len(WORDS) - 1 - k
        gradients = jacobian(plain_loss(decoder, WORDS[start:]), states[start])
        assert flow.hidden[0, 0, k - 1].item() == pytest.approx(gradients[0].norm().item(), rel=1e-9)
        if flow.cell is not None:
            assert flow.cell[0, 0, k - 1].item() == pytest.approx(gradients[1].norm().item(), rel=1e-9)


@pytest.mark.parametrize(
    "options",
    [
        {"cell": "rnn", "num_layers": 3},
        {"cell": "lstm", "num_layers": 2, "residual": True},
        {"cell": "lstm", "channels": 3, "attention": "dot"},
        {"cell": "rnn", "channels": 3, "attention": "additive", "num_layers": 2, "context_gate": "scalar"},
        {"cell": "lstm", "channels": 3, "attention": "dot", "hard": True},
    ],
    ids=str,
)
def test_equals_central_differences_along_all_paths(options: dict):
    """Layers and attention are paths too: the rest of the caption is read again from slightly changed states."""
    channels = options.get("channels", 0)
    decoder = make_decoder(**options)
    memory = look_at(decoder, channels)
    flow = gradient_flow(decoder, memory, WORDS.view(1, 1, -1))
    states = step_through(decoder, memory, WORDS)

    def loss(start: int, hidden: Tensor, cell: Tensor) -> float:
        state, logits = State(hidden, cell), torch.empty(0)
        for word in WORDS[start:-1]:
            logits, state, _ = decoder.step(word.view(1, 1), state, memory)
        return -logits[0, 0].log_softmax(-1)[WORDS[-1]].item()

    def numeric(start: int, part: int) -> float:
        slopes = []
        for unit in range(states[start][part].numel()):
            moved = []
            for distance in (1e-6, -1e-6):
                parts = [tensor.detach().clone() for tensor in states[start]]
                parts[part].view(-1)[unit] += distance
                moved.append(loss(start, *parts))
            slopes.append((moved[0] - moved[1]) / 2e-6)
        return math.hypot(*slopes)

    for k in range(1, len(WORDS)):
        start = len(WORDS) - 1 - k
        assert flow.hidden[0, 0, k - 1].item() == pytest.approx(numeric(start, 0), rel=1e-5)
        if flow.cell is not None:
            assert flow.cell[0, 0, k - 1].item() == pytest.approx(numeric(start, 1), rel=1e-5)


def test_a_batch_of_uneven_captions_gives_what_each_gives_alone():
    decoder = make_decoder("lstm", channels=3, attention="dot")
    captions = [[WORDS, WORDS[:3]], [WORDS[[0, 4, 4, 1]], WORDS[:0]]]
    padded = torch.full((2, 2, len(WORDS) + 2), PAD)
    for image, several in enumerate(captions):
        for number, caption in enumerate(several):
            padded[image, number, : len(caption)] = caption
    memory = look_at(decoder, 3, images=2)
    for parameter in decoder.parameters():
        parameter.requires_grad_(False)  # frozen, as a finished model may be
    flow = gradient_flow(decoder, memory, padded)
    assert flow.cell is not None
    assert flow.hidden.shape == flow.cell.shape == (2, 2, len(WORDS) + 1)
    for image, several in enumerate(captions):
        for number, caption in enumerate(several):
            steps = max(len(caption) - 1, 0)
            for norms in flow:
                assert norms[image, number, steps:].isnan().all()
            if steps:
                alone = gradient_flow(
                    decoder, Memory(*(part[image : image + 1] for part in memory)), caption.view(1, 1, -1)
                )
                torch.testing.assert_close(flow.hidden[image, number, :steps], alone.hidden[0, 0])
                torch.testing.assert_close(flow.cell[image, number, :steps], alone.cell[0, 0])


def test_without_tanh_to_bend_a_scaled_rotation_makes_powers_of_its_radius():
    """Without inputs and with tiny states, h_t = U h_{t-1}: each step back multiplies the norm by the radius."""
    decoder = make_decoder("rnn")
    with torch.no_grad():
        nn.init.orthogonal_(decoder.cell.state_to_gates.weight)
        decoder.cell.state_to_gates.weight.mul_(1.5)
        for layer in (decoder.cell.input_to_gates, decoder.initial_hidden):
            layer.weight.zero_()
            layer.bias.fill_(1e-9)
    norms = gradient_flow(decoder, look_at(decoder), WORDS.view(1, 1, -1)).hidden[0, 0]
    torch.testing.assert_close(norms / norms[0], 1.5 ** torch.arange(len(norms)).double())


def test_the_geometric_mean_leaves_out_what_a_caption_lacks():
    norms = torch.tensor([[[1.0, 8.0, torch.nan], [4.0, torch.nan, torch.nan], [2.0, 2.0, 0.0]]])
    assert geometric_mean(norms).tolist() == pytest.approx([2.0, 4.0, 0.0])


def test_the_spectral_radius_is_no_singular_value():
    angle, shear = 0.3, torch.tensor([[0.5, 100.0], [0.0, -0.7]])
    assert spectral_radius(shear) == pytest.approx(0.7)
    turn = torch.tensor([[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]])
    assert spectral_radius(2 * turn) == pytest.approx(2)


def test_every_layer_and_gate_has_its_radius():
    decoder = make_decoder("lstm", num_layers=2)
    with torch.no_grad():
        for factor, matrix in enumerate(decoder.upper_cells[0].state_to_gates.weight.chunk(4), start=1):
            matrix.copy_(factor * torch.eye(HIDDEN_SIZE))
    radii = spectral_radii(decoder)
    names = [f"layer {number}, {gate}" for number in (1, 2) for gate in ("input", "forget", "output", "candidate")]
    assert list(radii) == names
    assert [*radii.values()][4:] == pytest.approx([1, 2, 3, 4])
    assert list(spectral_radii(make_decoder("rnn"))) == ["layer 1, state"]


def test_a_window_is_refused():
    decoder = make_decoder("window")
    for measure in (spectral_radii, lambda it: gradient_flow(it, look_at(it), WORDS.view(1, 1, -1))):
        with pytest.raises(UserError, match="no recurrent path"):
            measure(decoder)
