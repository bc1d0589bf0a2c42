"""Captions as numbers: what is read is what was given, in little memory."""

import tracemalloc

import pytest
import torch

from captioning.training.encoded_captions import EncodedCaptions
from data_prep.vocabulary import BOS, EOS, UNK, Vocabulary

VOCABULARY = Vocabulary(["a", "dog", "runs"])
A, DOG, RUNS = VOCABULARY.encode(["a", "dog", "runs"])


def as_lists(captions: EncodedCaptions) -> list[list[list[int]]]:
    return [[caption.tolist() for caption in of_image] for of_image in captions]


def test_each_image_has_its_captions() -> None:
    given = [[["a", "dog"], ["runs"]], [], [["a", "zebra", "runs"]]]
    captions = EncodedCaptions(iter(given), VOCABULARY)
    assert as_lists(captions) == [[[BOS, A, DOG, EOS], [BOS, RUNS, EOS]], [], [[BOS, A, UNK, RUNS, EOS]]]
    assert (len(captions), captions.count, captions.longest, captions.cut) == (3, 3, 5, 0)
    assert captions[0][0].dtype == torch.long
    with pytest.raises(IndexError):
        captions[3]


def test_cut_captions_are_counted() -> None:
    captions = EncodedCaptions([[["a", "dog", "runs"], ["a", "dog"]]], VOCABULARY, max_words=2)
    assert as_lists(captions) == [[[BOS, A, DOG], [BOS, A, DOG, EOS]]]
    assert (captions.cut, captions.longest) == (1, 4)


def test_a_caption_takes_a_few_bytes_a_word() -> None:
    caption = ["a", "dog", "runs"] * 4
    tracemalloc.start()
    captions = EncodedCaptions(([caption] * 5 for _ in range(4000)), VOCABULARY)
    held, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert captions.count == 20_000
    assert held < 8 * 20_000 * (len(caption) + 2)
