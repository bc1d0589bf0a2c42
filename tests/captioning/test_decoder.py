"""The decoder against its equations written out step by step, and what must not influence what."""

import itertools
from typing import Any

import pytest
import torch
from torch import Tensor

from captioning.decoder import Decoder, DecoderConfig, SequenceDropout

IMAGES, CAPTIONS, WORDS, LOCATIONS, CHANNELS, VOCABULARY = 2, 3, 4, 6, 5, 11
VARIANTS = [
    ("none", "none"),
    *itertools.product(("additive", "dot"), ("none", "scalar", "vector")),
]


def make_decoder(attention: str = "dot", context_gate: str = "vector", **options: Any) -> Decoder:
    """A decoder whose sizes all differ, so that none can stand for another, in double precision."""
    torch.manual_seed(0)
    sizes = {"hidden_size": 7, "embedding_size": 8, "attention_size": 3, "dropout": 0.5}
    config = DecoderConfig(attention=attention, context_gate=context_gate, **(sizes | options))  # type: ignore[arg-type]
    decoder = Decoder(config, CHANNELS, VOCABULARY).double().eval()
    with torch.no_grad():
        for parameter in decoder.parameters():
            parameter += 0.1 * torch.randn_like(parameter)  # no bias stays at its initial zero
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
    outputs, weights = decoder(decoder.remember(grid), words)
    for image, caption in itertools.product(range(IMAGES), range(CAPTIONS)):
        expected = caption_by_equations(decoder.state_dict(), grid[image], words[image, caption].tolist())
        torch.testing.assert_close(decoder.logits(outputs[image, caption]), expected[0], rtol=0, atol=1e-6)
        torch.testing.assert_close(weights[image, caption], expected[1], rtol=0, atol=1e-6)


@pytest.mark.parametrize(("attention", "context_gate"), VARIANTS)
def test_step_by_step_equals_all_at_once(attention: str, context_gate: str, grid: Tensor, words: Tensor) -> None:
    decoder = make_decoder(attention, context_gate)
    memory = decoder.remember(grid)
    outputs, weights = decoder(memory, words)
    state = decoder.initial_state(memory, CAPTIONS)
    for time in range(WORDS):
        logits, state, weight = decoder.step(words[..., time], state, memory)
        torch.testing.assert_close(logits, decoder.logits(outputs[:, :, time]))
        torch.testing.assert_close(weight, weights[:, :, time])


@pytest.mark.parametrize(("attention", "context_gate"), VARIANTS)
def test_every_parameter_gets_a_gradient(attention: str, context_gate: str, grid: Tensor, words: Tensor) -> None:
    decoder = make_decoder(attention, context_gate)
    outputs, _ = decoder(decoder.remember(grid), words)
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
    outputs, weights = decoder(decoder.remember(grid), words)
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
    outputs, _ = decoder(decoder.remember(grid), words)
    for image, caption in itertools.product(range(IMAGES), range(CAPTIONS)):
        (gradient,) = torch.autograd.grad(outputs[image, caption].sum(), grid, retain_graph=True)
        assert bool((gradient[image] != 0).any(-1).all())
        assert bool((gradient[1 - image] == 0).all())


@pytest.mark.parametrize("attention", ["none", "additive", "dot"])
def test_captions_that_share_an_image_equal_the_image_repeated(attention: str, grid: Tensor, words: Tensor) -> None:
    decoder = make_decoder(attention)
    shared = decoder(decoder.remember(grid), words)
    repeated = decoder(decoder.remember(grid.repeat_interleave(CAPTIONS, 0)), words.flatten(0, 1).unsqueeze(1))
    for ours, theirs in zip(shared, repeated, strict=True):
        torch.testing.assert_close(ours, theirs.unflatten(0, (IMAGES, CAPTIONS)).squeeze(2))


def test_dropout_acts_in_training_and_not_in_evaluation(grid: Tensor, words: Tensor) -> None:
    decoder, same_without = make_decoder(dropout=0.5), make_decoder(dropout=0.0).train()
    evaluated, _ = decoder(decoder.remember(grid), words)
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
