"""Greedy search, beam search and sampling against the decoder's probabilities and an exhaustive search."""

import itertools
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from captioning import search as searches
from captioning.captioner_config import DecoderConfig
from captioning.network.decoder import Decoder, Memory
from captioning.network.torch_decoding import TorchDecoding
from captioning.search import Decoded
from data_prep.vocabulary import BOS, EOS, PAD, SPECIAL_TOKENS, UNK

WORDS = [4, 5, 6]
VOCABULARY = len(SPECIAL_TOKENS) + len(WORDS)
MAX_WORDS = 3
# All sequences of words with an end token, or cut at MAX_WORDS.
ALL_CAPTIONS = [
    *((*words, EOS) for length in range(MAX_WORDS) for words in itertools.product(WORDS, repeat=length)),
    *itertools.product(WORDS, repeat=MAX_WORDS),
]


def make_decoder(seed: int = 0, images: int = 1) -> tuple[Decoder, Memory]:
    """A tiny decoder with strong preferences, and images for it."""
    torch.manual_seed(seed)
    config = DecoderConfig(hidden_size=6, embedding_size=6, attention_size=4)
    decoder = Decoder(config, grid_channels=5, vocabulary_size=VOCABULARY).eval().requires_grad_(False)
    for parameter in decoder.parameters():
        nn.init.normal_(parameter, std=0.8)
    return decoder, decoder.remember(torch.randn(images, 4, 5))


def greedy(decoder: Decoder, memory: Memory, **options: Any) -> Decoded:
    return searches.greedy(TorchDecoding(decoder, memory), **options)


def beam_search(decoder: Decoder, memory: Memory, **options: Any) -> Decoded:
    return searches.beam_search(TorchDecoding(decoder, memory), **options)


def sample(decoder: Decoder, memory: Memory, **options: Any) -> Decoded:
    return searches.sample(TorchDecoding(decoder, memory), generator=np.random.default_rng(0), **options)


def strip(words: np.ndarray) -> tuple[int, ...]:
    """The words of a decoded caption without padding."""
    return tuple(word for word in words.tolist() if word != PAD)


def scored(decoded: Decoded, image: int = 0) -> list[tuple[tuple[int, ...], float]]:
    """The captions of an image with their scores, without empty beams."""
    pairs = zip(decoded.words[image], decoded.log_probabilities[image].tolist(), strict=True)
    return [(strip(words), score) for words, score in pairs if score > -np.inf]


def teacher_forced(decoder: Decoder, memory: Memory, image: int, words: tuple[int, ...]) -> tuple[float, Tensor]:
    """Log-probability of a caption and the attention (T, L) of its words, from `Decoder.forward`."""
    one = Memory(*(tensor[image : image + 1] for tensor in memory))
    outputs, weights, *_ = decoder(one, torch.tensor([[[BOS, *words[:-1]]]]))
    log_probabilities = decoder.logits(outputs).log_softmax(-1)[0, 0]
    return log_probabilities[range(len(words)), words].sum().item(), weights[0, 0]


class Toy:
    """Decoding whose probabilities and attention are random for every image and history, with many ends or few.

    It refuses what the protocol does not allow, and counts the captions that it decodes.
    """

    LOCATIONS = 3

    def __init__(self, seed: int, images: int, vocabulary: int = 9) -> None:
        self.num_images, self.seed, self.vocabulary = images, seed, vocabulary
        self.decoded = 0
        self.histories: list[tuple[int, ...]] = []

    def start(self) -> None:
        self.histories = [(image,) for image in range(self.num_images)]

    def next_word(self, history: tuple[int, ...]) -> tuple[np.ndarray, np.ndarray]:
        """The distribution after an image and its words so far, and the attention."""
        generator = np.random.default_rng([self.seed, *history])
        logits = 2 * generator.normal(size=self.vocabulary)
        logits[EOS] += np.random.default_rng([self.seed, history[0]]).uniform(-8, 4)  # the image's inclination to end
        log_probabilities = logits - np.log(np.exp(logits).sum())
        return log_probabilities.astype(np.float32), generator.random(self.LOCATIONS).astype(np.float32)

    def step(self, parents: np.ndarray, words: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        self.histories = [
            (*self.histories[parent], word) for parent, word in zip(parents.tolist(), words.tolist(), strict=True)
        ]
        images = [image for image, *_ in self.histories]
        assert images == sorted(images)
        assert not any({EOS, PAD} & set(words) for _, *words in self.histories), "a finished caption is decoded"
        self.decoded += len(images)
        rows = [self.next_word(history) for history in self.histories]
        return np.stack([row[0] for row in rows]), np.stack([row[1] for row in rows])


def plain_beam_search(
    toy: Toy, image: int, beam_size: int, length_exponent: float, max_words: int, prefix: list[int]
) -> list[tuple[list[int], float, list[np.ndarray]]]:
    """Beam search of one image over lists, every continuation of every caption ranked: words, score and attention."""
    beams: list[tuple[list[int], float, list[np.ndarray]]] = [([], 0.0, [])]
    for step in range(max_words):
        candidates = [beam for beam in beams if EOS in beam[0]]
        for words, score, looks in beams:
            if EOS not in words:
                scores, look = toy.next_word((image, BOS, *words))
                allowed = prefix[step : step + 1] or [EOS, *range(UNK + 1, toy.vocabulary)]
                candidates += [([*words, word], score + float(scores[word]), [*looks, look]) for word in allowed]
        candidates.sort(key=lambda beam: -beam[1] / len(beam[0]) ** length_exponent)
        beams = candidates[:beam_size]
    return beams


SEARCHES: dict[str, Callable[[Decoder, Memory], Decoded]] = {
    "greedy": lambda decoder, memory: greedy(decoder, memory, max_words=5),
    "beam": lambda decoder, memory: beam_search(decoder, memory, beam_size=4, max_words=5),
    "sample": lambda decoder, memory: sample(decoder, memory, samples=6, temperature=0.7, max_words=5),
}
every_search = pytest.mark.parametrize("search", SEARCHES.values(), ids=SEARCHES.keys())


@settings(deadline=None, max_examples=40)
@given(seed=st.integers(0, 10_000), exponent=st.floats(0, 1))
def test_a_beam_of_one_is_greedy(seed: int, exponent: float) -> None:
    decoder, memory = make_decoder(seed, images=3)
    ours, expected = beam_search(decoder, memory, beam_size=1, length_exponent=exponent), greedy(decoder, memory)
    np.testing.assert_array_equal(ours.words, expected.words)
    np.testing.assert_allclose(ours.log_probabilities, expected.log_probabilities, rtol=1e-5)
    np.testing.assert_array_equal(ours.attention, expected.attention)


def test_greedy_takes_the_likeliest_word_at_every_step() -> None:
    decoder, memory = make_decoder(seed=5)
    words: list[int] = []
    while len(words) < 8 and EOS not in words:
        outputs, *_ = decoder(memory, torch.tensor([[[BOS, *words]]]))
        logits = decoder.logits(outputs)[0, 0, -1]
        words.append(max([EOS, *WORDS], key=lambda word: float(logits[word])))
    assert strip(greedy(decoder, memory, max_words=8).words[0, 0]) == tuple(words)


@pytest.mark.parametrize("prefix", [(), (5,), (6, 4)])
@pytest.mark.parametrize("exponent", [0.0, 0.7, 1.0])
@pytest.mark.parametrize("seed", range(4))
def test_a_beam_that_holds_everything_finds_every_caption_in_order(
    seed: int, exponent: float, prefix: tuple[int, ...]
) -> None:
    decoder, memory = make_decoder(seed)
    captions = [caption for caption in ALL_CAPTIONS if caption[: len(prefix)] == prefix]
    scores = {caption: teacher_forced(decoder, memory, 0, caption)[0] for caption in captions}
    expected = sorted(captions, key=lambda caption: -scores[caption] / len(caption) ** exponent)
    found = beam_search(
        decoder,
        memory,
        beam_size=len(ALL_CAPTIONS) + 3,
        length_exponent=exponent,
        max_words=MAX_WORDS,
        prefix=list(prefix),
    )
    assert found.words.shape[1] == len(ALL_CAPTIONS) + 3
    # More beams than captions: the remaining beams are empty and come last.
    assert (found.log_probabilities[0, len(expected) :] == -np.inf).all()
    assert [words for words, _ in scored(found)] == expected
    assert [score for _, score in scored(found)] == pytest.approx([scores[caption] for caption in expected], abs=1e-4)


@pytest.mark.parametrize("seed", range(5))
def test_a_narrow_beam_gives_distinct_captions_best_first(seed: int) -> None:
    decoder, memory = make_decoder(seed, images=3)
    decoded = beam_search(decoder, memory, beam_size=4, length_exponent=0.7, max_words=6)
    for image in range(3):
        captions = scored(decoded, image)
        assert len({words for words, _ in captions}) == len(captions) == 4
        ranks = [score / len(words) ** 0.7 for words, score in captions]
        assert ranks == sorted(ranks, reverse=True)


@settings(deadline=None, max_examples=150)
@given(
    seed=st.integers(0, 10**6),
    images=st.integers(1, 6),
    beam_size=st.integers(1, 12),
    exponent=st.floats(0, 1.5),
    max_words=st.integers(2, 10),
    prefix=st.lists(st.integers(UNK + 1, 8), max_size=1),
)
def test_a_batch_gives_the_whole_list_of_a_plain_search_of_each_image(
    seed: int, images: int, beam_size: int, exponent: float, max_words: int, prefix: list[int]
) -> None:
    toy = Toy(seed, images)
    decoded = searches.beam_search(toy, beam_size, exponent, max_words, prefix)
    for image in range(images):
        expected = plain_beam_search(toy, image, beam_size, exponent, max_words, prefix)
        assert scored(decoded, image) == [(tuple(words), score) for words, score, _ in expected]
        for index, (words, _, looks) in enumerate(expected):
            np.testing.assert_array_equal(decoded.attention[image, index, : len(words)], looks)
            assert not decoded.attention[image, index, len(words) :].any()


def test_only_captions_that_go_on_are_decoded() -> None:
    toy = Toy(seed=0, images=40)
    decoded = searches.beam_search(toy, beam_size=5, length_exponent=0.7, max_words=20)
    lengths = (decoded.words != PAD).sum(-1)
    assert lengths[:, 0].min() < 3
    assert lengths[:, 0].max() == 20
    # Each image starts with one caption; a search that decodes everything takes 40 * 5 * 20.
    assert toy.decoded < 0.7 * 40 * 5 * 20
    toy = Toy(seed=0, images=40)
    drawn = searches.sample(toy, samples=3, max_words=20, generator=np.random.default_rng(0))
    assert toy.decoded == (drawn.words != PAD).sum()


@every_search
def test_scores_and_attention_are_the_teacher_forced_ones(search: Callable[..., Decoded]) -> None:
    decoder, memory = make_decoder(seed=1, images=3)
    decoded = search(decoder, memory)
    for image in range(3):
        for index, (words, score) in enumerate(scored(decoded, image)):
            expected_score, expected_attention = teacher_forced(decoder, memory, image, words)
            assert score == pytest.approx(expected_score, abs=1e-4)
            np.testing.assert_allclose(decoded.attention[image, index, : len(words)], expected_attention, rtol=1e-4)


@every_search
def test_only_words_come_before_the_end_and_only_padding_after_it(search: Callable[..., Decoded]) -> None:
    for seed in range(5):
        decoder, memory = make_decoder(seed, images=3)
        decoder.output_bias[[PAD, BOS, UNK]] = 50.0  # tokens that must not be emitted are by far the most likely
        decoder.output_bias[EOS] += 1.0
        for words in np.concatenate(search(decoder, memory).words).tolist():
            end = words.index(EOS) if EOS in words else len(words)
            assert set(words[:end]) <= set(WORDS)
            assert set(words[end + 1 :]) <= {PAD}


@pytest.mark.parametrize("name", ["greedy", "beam"])
def test_a_batch_gives_what_each_image_gives_alone(name: str) -> None:
    decoder, memory = make_decoder(seed=2, images=5)
    together = SEARCHES[name](decoder, memory)
    for image in range(5):
        alone = SEARCHES[name](decoder, Memory(*(tensor[image : image + 1] for tensor in memory)))
        ours, expected = scored(together, image), scored(alone)
        assert [words for words, _ in ours] == [words for words, _ in expected]
        assert [score for _, score in ours] == pytest.approx([score for _, score in expected], abs=1e-5)
        length = alone.attention.shape[2]
        np.testing.assert_allclose(together.attention[image, :, :length], alone.attention[0], rtol=1e-4, atol=1e-6)


def test_every_search_starts_with_the_prefix() -> None:
    decoder, memory = make_decoder(images=2)
    decoder.output_bias[6] = -20.0  # never chosen freely
    prefix = [6, 6]
    for decoded in (
        greedy(decoder, memory, prefix=prefix),
        beam_search(decoder, memory, beam_size=3, prefix=prefix),
        sample(decoder, memory, samples=3, temperature=0.5, prefix=prefix),
    ):
        assert (decoded.words[..., :2] == 6).all()
        assert 6 not in decoded.words[..., 2:]
        assert (decoded.log_probabilities < -30).all()  # the prefix's probability counts


def test_max_words_cuts_a_caption_that_does_not_end() -> None:
    decoder, memory = make_decoder(images=2)
    decoder.output_bias[EOS] = -100.0
    for decoded in (
        greedy(decoder, memory, max_words=4),
        beam_search(decoder, memory, beam_size=3, max_words=4),
        sample(decoder, memory, samples=3, max_words=4),
    ):
        assert decoded.words.shape[-1] == decoded.attention.shape[2] == 4
        assert (decoded.words > UNK).all()


@pytest.mark.parametrize("temperature", [1.0, 0.5, 2.0])
def test_sampling_frequencies_are_the_models_probabilities(temperature: float) -> None:
    decoder, memory = make_decoder(seed=3, images=2)
    draws = 4000
    decoded = sample(decoder, memory, samples=draws, temperature=temperature, max_words=1)
    choices = [EOS, *WORDS]
    outputs, *_ = decoder(memory, torch.full((2, 1, 1), BOS))
    expected = draws * (decoder.logits(outputs)[:, 0, 0, choices] / temperature).softmax(-1).numpy()  # (B, choices)
    observed = np.stack([(decoded.words[..., 0] == choice).sum(1) for choice in choices], axis=1)
    chi_squared = ((observed - expected) ** 2 / expected).sum(1)
    assert (chi_squared < 16.27).all(), chi_squared  # exceeded once in a thousand, with 3 degrees of freedom


def test_sampling_at_almost_no_temperature_is_greedy() -> None:
    for seed in range(5):
        decoder, memory = make_decoder(seed, images=3)
        sampled, expected = sample(decoder, memory, samples=2, temperature=1e-4), greedy(decoder, memory)
        np.testing.assert_array_equal(sampled.words, np.broadcast_to(expected.words, sampled.words.shape))


def test_a_seed_determines_the_samples() -> None:
    decoder, memory = make_decoder(images=2)
    first, again, other = (
        searches.sample(TorchDecoding(decoder, memory), samples=20, generator=np.random.default_rng(seed))
        for seed in (7, 7, 8)
    )
    assert np.array_equal(first.words, again.words)
    assert not np.array_equal(first.words, other.words)
