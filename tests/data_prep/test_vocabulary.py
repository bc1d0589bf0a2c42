from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from data_prep.vocabulary import BOS, EOS, PAD, SPECIAL_TOKENS, UNK, Vocabulary

tokens = st.one_of(st.text("abc", min_size=1, max_size=3), st.sampled_from(SPECIAL_TOKENS))
token_lists = st.lists(st.lists(tokens, max_size=12), max_size=12)


def test_words_come_by_falling_count_then_alphabetically():
    vocabulary = Vocabulary.build([["b", "a", "dog"], ["dog", "b", "a"], ["dog", "rare"]], min_count=2)
    assert vocabulary.words == ["dog", "a", "b"]
    assert vocabulary.encode(["dog", "a", "b", "rare"]) == [4, 5, 6, UNK]
    assert len(vocabulary) == 7


@given(token_lists, st.integers(1, 4))
def test_encode_then_decode_gives_the_tokens_with_rare_ones_unknown(lists, min_count):
    vocabulary = Vocabulary.build(lists, min_count)
    counts = Counter(token for tokens in lists for token in tokens)
    for sentence in lists:
        known = [token if counts[token] >= min_count and token not in SPECIAL_TOKENS else "<unk>" for token in sentence]
        assert vocabulary.decode(vocabulary.encode(sentence)) == known


@given(token_lists)
def test_words_rebuild_an_equal_vocabulary(lists):
    vocabulary = Vocabulary.build(lists, 1)
    again = Vocabulary(vocabulary.words)
    assert again.words == vocabulary.words
    assert [again.encode(sentence) for sentence in lists] == [vocabulary.encode(sentence) for sentence in lists]


def test_decode_stops_at_the_end_and_skips_padding():
    vocabulary = Vocabulary(["a", "dog"])
    assert vocabulary.decode([BOS, 4, PAD, 5, UNK, EOS, 4]) == ["a", "dog", "<unk>"]


@pytest.mark.parametrize("index", [-1, 6])
def test_decode_refuses_an_id_outside_the_vocabulary(index):
    with pytest.raises(IndexError):
        Vocabulary(["a", "dog"]).decode([4, index])


@pytest.mark.parametrize("words", [["a", "a"], ["a", "<eos>"]])
def test_ambiguous_words_are_refused(words):
    with pytest.raises(ValueError, match="differ"):
        Vocabulary(words)


def test_a_caption_that_spells_out_a_special_token_cannot_end_the_sentence():
    vocabulary = Vocabulary.build([["<eos>", "a"]], 1)
    assert vocabulary.encode(["<eos>", "a"]) == [UNK, 4]


def test_the_vocabulary_contains_its_words_and_no_special_token():
    vocabulary = Vocabulary(["a", "dog"])
    assert [word in vocabulary for word in ("a", "dog", "cat", *SPECIAL_TOKENS)] == [True, True] + [False] * 5


def test_coverage_is_the_share_of_running_tokens():
    vocabulary = Vocabulary(["a", "dog"])
    assert vocabulary.coverage([["a", "dog", "runs"], ["a"]]) == 0.75
    assert vocabulary.coverage([[]]) == 1.0
