"""The decoder against its equations written out step by step, and independence where it must hold."""

import itertools
from typing import Any

import pytest
import torch
from torch import Tensor

from captioning.captioner_config import DecoderConfig
from captioning.network.attention import attention_entropy, reinforce_loss
from captioning.network.decoder import Decoder, SequenceDropout
from vision_rnn.errors import UserError

IMAGES, CAPTIONS, WORDS, LOCATIONS, CHANNELS, VOCABULARY = 2, 3, 4, 6, 5, 11
VARIANTS = [
    ("none", "none"),
    *itertools.product(("additive", "dot"), ("none", "scalar", "vector")),
]
# The alternatives to the LSTM, and its extensions.
RUNGS: dict[str, dict[str, Any]] = {
    "window": {"cell": "window", "attention": "none", "window": 2},
    "rnn": {"cell": "rnn", "attention": "none"},
    "attending rnn": {"cell": "rnn"},
    "mean lstm": {"attention": "mean"},
    "deep rnn": {"cell": "rnn", "num_layers": 3, "residual": True},
    "deep lstm": {"num_layers": 2},
    "deep residual lstm": {"num_layers": 3, "residual": True},
    "hard": {"hard": True},
    "hard additive": {"hard": True, "attention": "additive"},
}


def make_decoder(
    attention: str = "dot", context_gate: str = "vector", channels: int = CHANNELS, **options: Any
) -> Decoder:
    """A decoder in double precision whose sizes all differ, so that none can be used for another."""
    torch.manual_seed(0)
    sizes = {"hidden_size": 7, "embedding_size": 8, "attention_size": 3, "dropout": 0.5}
    config = DecoderConfig(attention=attention, context_gate=context_gate, **(sizes | options))  # type: ignore[arg-type]
    decoder = Decoder(config, channels, VOCABULARY).double().eval()
    with torch.no_grad():
        for parameter in decoder.parameters():
            parameter += 0.1 * torch.randn_like(parameter)  # no bias keeps its initial zero
    return decoder


@pytest.fixture
def grid() -> Tensor:
    return torch.randn(IMAGES, LOCATIONS, CHANNELS, generator=torch.Generator().manual_seed(1), dtype=torch.float64)


@pytest.fixture
def words() -> Tensor:
    return torch.randint(VOCABULARY, (IMAGES, CAPTIONS, WORDS), generator=torch.Generator().manual_seed(2))


def caption_by_equations(weights: dict[str, Tensor], grid: Tensor, words: list[int]) -> tuple[Tensor, Tensor]:
    """Logits (T, V) and attention (T, L) of one caption of one image, from the equations of the paper."""
    projected = grid @ weights["grid.0.weight"].T + weights["grid.0.bias"]
    centred = projected - projected.mean(1, keepdim=True)
    normalised = centred / (centred.square().mean(1, keepdim=True) + 1e-5).sqrt()
    locations = (normalised * weights["grid.1.weight"] + weights["grid.1.bias"]).clamp(min=0)
    mean = locations.sum(0) / len(locations)
    hidden = torch.tanh(weights["initial_hidden.weight"] @ mean + weights["initial_hidden.bias"])
    cell = torch.tanh(weights["initial_cell.weight"] @ mean + weights["initial_cell.bias"])
    logits, attention = [], []
    for word in words:
        embedded = weights["embedding.weight"][word]
        if "attention.key.weight" in weights:
            query = weights["attention.query.weight"] @ hidden
            keys = [weights["attention.key.weight"] @ a + weights["attention.key.bias"] for a in locations]
            if "attention.score.weight" in weights:
                scores = [weights["attention.score.weight"][0] @ torch.tanh(key + query) for key in keys]
            else:
                scores = [key @ query / len(query) ** 0.5 for key in keys]
            exponents = torch.stack(scores).exp()
            alpha = exponents / exponents.sum()
            context = torch.stack([weight * a for weight, a in zip(alpha, locations, strict=True)]).sum(0)
            if "context_gate.weight" in weights:
                gate = weights["context_gate.weight"] @ hidden + weights["context_gate.bias"]
                context = context / (1 + torch.exp(-gate))
        else:
            alpha, context = torch.full((len(locations),), 1 / len(locations), dtype=grid.dtype), grid.new_zeros(0)
        stacked = torch.cat([embedded, context])
        gates = weights["cell.input_to_gates.weight"] @ stacked + weights["cell.input_to_gates.bias"]
        gates = gates + weights["cell.state_to_gates.weight"] @ hidden
        size = len(hidden)
        keep_input, forget, output = (1 / (1 + torch.exp(-gates[n * size : (n + 1) * size])) for n in range(3))
        cell = forget * cell + keep_input * torch.tanh(gates[3 * size :])
        hidden = output * torch.tanh(cell)
        deep = weights["word_to_output.weight"] @ embedded
        deep = deep + weights["hidden_to_output.weight"] @ hidden + weights["hidden_to_output.bias"]
        if len(context):
            deep = deep + weights["context_to_output.weight"] @ context
        logits.append(weights["embedding.weight"] @ deep + weights["output_bias"])
        attention.append(alpha)
    return torch.stack(logits), torch.stack(attention)


@pytest.mark.parametrize(("attention", "context_gate"), VARIANTS)
def test_teacher_forcing_equals_the_equations(attention: str, context_gate: str, grid: Tensor, words: Tensor) -> None:
    decoder = make_decoder(attention, context_gate)
    outputs, weights, *_ = decoder(decoder.remember(grid), words)
    for image, caption in itertools.product(range(IMAGES), range(CAPTIONS)):
        expected = caption_by_equations(decoder.state_dict(), grid[image], words[image, caption].tolist())
        torch.testing.assert_close(decoder.logits(outputs[image, caption]), expected[0], rtol=0, atol=1e-6)
        torch.testing.assert_close(weights[image, caption], expected[1], rtol=0, atol=1e-6)


@pytest.mark.parametrize(("attention", "context_gate"), VARIANTS)
def test_step_by_step_equals_all_at_once(attention: str, context_gate: str, grid: Tensor, words: Tensor) -> None:
    decoder = make_decoder(attention, context_gate)
    memory = decoder.remember(grid)
    outputs, weights, *_ = decoder(memory, words)
    state = decoder.initial_state(memory, CAPTIONS)
    for time in range(WORDS):
        logits, state, weight = decoder.step(words[..., time], state, memory)
        torch.testing.assert_close(logits, decoder.logits(outputs[:, :, time]))
        torch.testing.assert_close(weight, weights[:, :, time])


@pytest.mark.parametrize(("attention", "context_gate"), VARIANTS)
def test_every_parameter_gets_a_gradient(attention: str, context_gate: str, grid: Tensor, words: Tensor) -> None:
    decoder = make_decoder(attention, context_gate)
    outputs, *_ = decoder(decoder.remember(grid), words)
    decoder.logits(outputs).logsumexp(-1).sum().backward()
    for name, parameter in decoder.named_parameters():
        assert parameter.grad is not None, name
        assert bool((parameter.grad != 0).any()), name


@pytest.mark.parametrize("attention", ["none", "additive", "dot"])
def test_a_word_sees_neither_later_words_nor_other_captions(attention: str, grid: Tensor, words: Tensor) -> None:
    decoder = make_decoder(attention)
    embedded: list[Tensor] = []

    def record(module: object, inputs: object, output: Tensor) -> Tensor:
        embedded.append(output.detach().requires_grad_())
        return embedded[-1]

    decoder.embedding.register_forward_hook(record)
    outputs, weights, *_ = decoder(decoder.remember(grid), words)
    for time in range(WORDS):
        observed = outputs[0, 1, time].sum() + weights[0, 1, time].square().sum()
        (gradient,) = torch.autograd.grad(observed, embedded[0], retain_graph=True)  # (B, K, T, E)
        influences = (gradient != 0).any(-1)
        expected = torch.zeros_like(influences)
        expected[0, 1, : time + 1] = True
        assert torch.equal(influences, expected)


@pytest.mark.parametrize("attention", ["none", "additive", "dot"])
def test_an_image_is_seen_by_all_its_own_captions_alone(attention: str, grid: Tensor, words: Tensor) -> None:
    decoder = make_decoder(attention)
    grid.requires_grad_()
    outputs, *_ = decoder(decoder.remember(grid), words)
    for image, caption in itertools.product(range(IMAGES), range(CAPTIONS)):
        (gradient,) = torch.autograd.grad(outputs[image, caption].sum(), grid, retain_graph=True)
        assert bool((gradient[image] != 0).any(-1).all())
        assert bool((gradient[1 - image] == 0).all())


@pytest.mark.parametrize("attention", ["none", "additive", "dot"])
def test_captions_that_share_an_image_equal_the_image_repeated(attention: str, grid: Tensor, words: Tensor) -> None:
    decoder = make_decoder(attention)
    shared = decoder(decoder.remember(grid), words)[:3]
    repeated = decoder(decoder.remember(grid.repeat_interleave(CAPTIONS, 0)), words.flatten(0, 1).unsqueeze(1))[:3]
    for ours, theirs in zip(shared, repeated, strict=True):
        torch.testing.assert_close(ours, theirs.unflatten(0, (IMAGES, CAPTIONS)).squeeze(2))


def test_dropout_acts_in_training_and_not_in_evaluation(grid: Tensor, words: Tensor) -> None:
    decoder, same_without = make_decoder(dropout=0.5), make_decoder(dropout=0.0).train()
    evaluated, *_ = decoder(decoder.remember(grid), words)
    torch.testing.assert_close(evaluated, same_without(same_without.remember(grid), words)[0], rtol=0, atol=0)
    decoder.train()
    first, second = (decoder(decoder.remember(grid), words)[0] for _ in range(2))
    assert not torch.equal(first, second)


def test_sequence_dropout_keeps_one_mask_along_the_words() -> None:
    torch.manual_seed(0)
    inputs = 1 + torch.rand(40, 3, 7, 50)
    dropped = SequenceDropout(0.3).train()(inputs)
    kept = dropped != 0
    assert torch.equal(kept, kept[:, :, :1].expand_as(kept))
    torch.testing.assert_close(dropped[kept], inputs[kept] / 0.7)
    assert kept[:, :, 0].float().mean().item() == pytest.approx(0.7, abs=0.03)
    masks = kept[:, :, 0].flatten(0, 1)
    assert len(masks.unique(dim=0)) == len(masks), "two captions share a mask"


@pytest.mark.parametrize("rung", RUNGS)
def test_every_rung_decodes_step_by_step_what_it_reads_at_once(rung: str, grid: Tensor, words: Tensor) -> None:
    decoder = make_decoder(**RUNGS[rung])
    memory = decoder.remember(grid)
    reading = decoder(memory, words)
    state = decoder.initial_state(memory, CAPTIONS)
    for time in range(WORDS):
        logits, state, weights = decoder.step(words[..., time], state, memory)
        torch.testing.assert_close(logits, decoder.logits(reading.outputs[:, :, time]))
        torch.testing.assert_close(weights, reading.weights[:, :, time])
        torch.testing.assert_close(state.hidden, reading.hiddens[time])


@pytest.mark.parametrize("rung", RUNGS)
def test_every_parameter_of_a_rung_gets_a_gradient(rung: str, grid: Tensor, words: Tensor) -> None:
    decoder = make_decoder(**RUNGS[rung])
    reading = decoder(decoder.remember(grid), words)
    mask = torch.ones(words.shape, dtype=torch.bool)
    loss = decoder.logits(reading.outputs).logsumexp(-1).sum()
    if rung.startswith("hard"):
        loss = loss + reinforce_loss(reading.weights, reading.shares, reading.outputs.sum(-1), mask)
    loss.backward()
    for name, parameter in decoder.named_parameters():
        assert parameter.grad is not None, name
        assert bool((parameter.grad != 0).any()), name


@pytest.mark.parametrize("rung", RUNGS)
def test_how_far_back_a_rung_sees(rung: str, grid: Tensor, words: Tensor) -> None:
    decoder = make_decoder(**RUNGS[rung])
    embedded: list[Tensor] = []

    def record(module: object, inputs: object, output: Tensor) -> Tensor:
        embedded.append(output.detach().requires_grad_())
        return embedded[-1]

    decoder.embedding.register_forward_hook(record)
    outputs = decoder(decoder.remember(grid), words).outputs
    (gradient,) = torch.autograd.grad(outputs[0, 1, -1].sum(), embedded[0])
    seen = (gradient != 0).any(-1)
    span = 2 if rung == "window" else WORDS
    assert seen[0, 1].tolist() == [False] * (WORDS - span) + [True] * span
    assert seen.sum() == span


@pytest.mark.parametrize("residual", [False, True])
def test_stacked_layers_by_hand(residual: bool, grid: Tensor, words: Tensor) -> None:
    decoder = make_decoder("none", cell="rnn", num_layers=2, residual=residual)
    reading = decoder(decoder.remember(grid), words)
    weights = decoder.state_dict()
    mean = decoder.remember(grid).values.mean(1)[0]
    below, above = torch.tanh(weights["initial_hidden.weight"] @ mean + weights["initial_hidden.bias"]).chunk(2)
    for time, word in enumerate(words[0, 0].tolist()):
        embedded = weights["embedding.weight"][word]
        product = weights["cell.input_to_gates.weight"] @ embedded + weights["cell.input_to_gates.bias"]
        below = torch.tanh(product + weights["cell.state_to_gates.weight"] @ below)
        product = weights["upper_cells.0.input_to_gates.weight"] @ below + weights["upper_cells.0.input_to_gates.bias"]
        above = torch.tanh(product + weights["upper_cells.0.state_to_gates.weight"] @ above)
        top = below + above if residual else above
        torch.testing.assert_close(reading.hiddens[time][0, 0], torch.stack([below, above]))
        deep = weights["word_to_output.weight"] @ embedded
        deep = deep + weights["hidden_to_output.weight"] @ top + weights["hidden_to_output.bias"]
        torch.testing.assert_close(reading.outputs[0, 0, time], deep)


def test_a_window_reads_the_mean_location_at_every_word(grid: Tensor, words: Tensor) -> None:
    decoder = make_decoder("none", cell="window", window=2)
    grid.requires_grad_()
    outputs = decoder(decoder.remember(grid), words).outputs
    for time in range(WORDS):
        (gradient,) = torch.autograd.grad(outputs[0, 0, time].sum(), grid, retain_graph=True)
        assert bool((gradient[0] != 0).any(-1).all())


@pytest.mark.parametrize("cell", ["rnn", "lstm"])
def test_attention_mean_is_scored_attention_whose_scores_are_all_equal(cell: str, grid: Tensor, words: Tensor) -> None:
    scored = make_decoder("dot", "none", cell=cell)
    assert scored.attention is not None
    for parameter in scored.attention.parameters():
        torch.nn.init.zeros_(parameter)
    mean = make_decoder("mean", cell=cell)
    mean.load_state_dict({name: scored.state_dict()[name] for name in mean.state_dict()})
    expected, actual = (decoder(decoder.remember(grid), words) for decoder in (scored, mean))
    torch.testing.assert_close(actual.outputs, expected.outputs)
    torch.testing.assert_close(actual.weights, expected.weights)


@pytest.mark.parametrize("cell", ["window", "rnn", "lstm"])
def test_without_an_image_every_sentence_starts_alike(cell: str, words: Tensor) -> None:
    decoder = make_decoder("none", cell=cell, channels=0)
    memory = decoder.remember(torch.empty(IMAGES, 1, 0, dtype=torch.float64))
    outputs = decoder(memory, words[:1].expand(IMAGES, -1, -1)).outputs
    torch.testing.assert_close(outputs[0], outputs[1])
    decoder.logits(outputs).logsumexp(-1).sum().backward()
    for name, parameter in decoder.named_parameters():
        # Of the layers that compute the initial state from an image, only the bias is learned without one.
        if name not in ("initial_hidden.weight", "initial_cell.weight"):
            assert bool((parameter.grad != 0).any()), name


def test_a_hard_look_is_at_one_location_and_at_the_weightiest_outside_training(grid: Tensor, words: Tensor) -> None:
    decoder = make_decoder(hard=True, dropout=0.0)
    reading = decoder(decoder.remember(grid), words)
    assert torch.equal(reading.shares.argmax(-1), reading.weights.argmax(-1))
    assert torch.equal(
        reading.shares.sort(-1).values[..., -2:].flatten(0, 2).unique(dim=0), torch.tensor([[0.0, 1.0]]).double()
    )
    decoder.train()
    drawn = decoder(decoder.remember(grid), words)
    soft = (drawn.shares == drawn.weights).all(-1)
    hard = ((drawn.shares == 0) | (drawn.shares == 1)).all(-1)
    assert bool((soft ^ hard).all())
    assert bool(soft.any())
    assert bool(hard.any())


def test_reinforce_is_right_on_average() -> None:
    """All looks of a two-word caption at an image of two locations, enumerated, against 4000 drawn captions."""
    decoder = make_decoder(hard=True, dropout=0.0).train()
    assert decoder.attention is not None
    # With sharper weights the other location is drawn too rarely to estimate the gradient.
    decoder.attention.expected_share, decoder.attention.sharpness = 0.0, 4.0
    memory_of = torch.randn(1, 2, CHANNELS, generator=torch.Generator().manual_seed(3), dtype=torch.float64) * 3
    words = torch.tensor([[[1, 4, 7]]])
    inputs, targets = words[..., :-1], words[..., 1:]
    named = dict(decoder.named_parameters())
    parameters = [named[f"{name}.weight"] for name in ("attention.query", "attention.key", "cell.state_to_gates")]

    def log_likelihood(captions: int) -> tuple[Any, Tensor]:
        reading = decoder(decoder.remember(memory_of), inputs.expand(-1, captions, -1))
        predicted = decoder.logits(reading.outputs).log_softmax(-1)
        return reading, predicted.gather(-1, targets.expand(-1, captions, -1)[..., None]).squeeze(-1)

    exact = torch.zeros((), dtype=torch.float64)
    for places in itertools.product(range(2), repeat=2):
        looks = iter(places)
        decoder.attention.look = lambda weights, looks=looks: torch.eye(2).double()[next(looks)].expand_as(weights)
        reading, words_given_looks = log_likelihood(1)
        probability = (reading.weights * reading.shares).sum(-1).prod()
        exact = exact + probability * words_given_looks.sum()
    del decoder.attention.look
    expected = torch.autograd.grad(exact, parameters)

    captions, draws = 500, []
    torch.manual_seed(0)
    for _ in range(8):
        reading, words_given_looks = log_likelihood(captions)
        # The reward of a look is the log-likelihood of the words from its own on; the baseline is arbitrary.
        rewards = words_given_looks.flip(-1).cumsum(-1).flip(-1) + torch.tensor([4.0, 2.0])
        mask = torch.ones(rewards.shape, dtype=torch.bool)
        looks = reinforce_loss(reading.weights, reading.shares, rewards, mask) * mask.sum() / captions
        draws.append(torch.autograd.grad(words_given_looks.sum() / captions - looks, parameters))
    for number, true in enumerate(expected):
        estimates = torch.stack([draw[number] for draw in draws])
        error = estimates.std(0) / len(draws) ** 0.5
        assert bool(((estimates.mean(0) - true).abs() < 5 * error + 1e-6).all())
        assert bool((true.abs() > 10 * error).any()), "too noisy to tell"


def test_entropy_of_the_attention_by_hand() -> None:
    weights = torch.tensor([[[[0.5, 0.5, 0.0], [0.2, 0.3, 0.5]]]])
    first_alone = torch.tensor([[[True, False]]])
    assert attention_entropy(weights, first_alone).item() == pytest.approx(0.6931472)


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"cell": "window"}, "decoder.cell"),
        ({"cell": "window", "attention": "none", "num_layers": 2}, "decoder.cell"),
        ({"residual": True}, "decoder.residual"),
        ({"attention": "none", "hard": True}, "decoder.hard"),
        ({"attention": "mean", "hard": True}, "decoder.hard"),
        ({"num_layers": 0}, "decoder.num_layers"),
        ({"window": 0}, "decoder.window"),
    ],
)
def test_what_does_not_fit_together_is_refused_by_name(options: dict[str, Any], named: str) -> None:
    with pytest.raises(UserError, match=named):
        DecoderConfig(**options)


def test_attention_without_an_encoder_is_refused() -> None:
    with pytest.raises(UserError, match="a language model has no image"):
        Decoder(DecoderConfig(), 0, VOCABULARY)
