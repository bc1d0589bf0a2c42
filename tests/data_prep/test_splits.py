"""The names of splits, and the creation of those that a source lacks."""

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from data_prep.splits import complete_splits, count_repeated, parse_split
from vision_rnn.errors import UserError

GIVEN = st.lists(st.sampled_from([None, "train", "validation", "test"]), max_size=60)


def test_names_of_splits():
    assert [parse_split(name, "x") for name in ("Train", " val ", "testing", "", " ", None)] == [
        *("train", "validation", "test"),
        *(None, None, None),
    ]
    with pytest.raises(UserError, match=r"^x: unknown split 'tset'; use one of: train, "):
        parse_split("tset", "x")


@given(GIVEN, st.integers(0, 9))
def test_splits_of_the_source_are_changed_only_to_cut_validation_from_train(given_splits, seed):
    made, split_by = complete_splits(given_splits, [str(index) for index in range(len(given_splits))], seed)
    if not any(given_splits):
        assert split_by == "seed"
        assert None not in made
    elif "validation" in given_splits:
        assert (made, split_by) == (given_splits, "source")
    else:
        changes = [(old, new) for old, new in zip(given_splits, made, strict=True) if old != new]
        assert set(changes) <= {("train", "validation")}
        num_train = given_splits.count("train")
        assert len(changes) == (max(1, num_train // 10) if num_train > 1 else 0)


@given(st.permutations([f"image {index}" for index in range(40)]), st.integers(0, 9))
def test_the_places_of_images_go_with_their_names(names, seed):
    made, _ = complete_splits([None] * 40, names, seed)
    assert Counter(made) == {"train": 32, "validation": 4, "test": 4}
    in_order = sorted(names)
    assert dict(zip(names, made, strict=True)) == dict(
        zip(in_order, complete_splits([None] * 40, in_order, seed)[0], strict=True)
    )


def test_repetitions_within_a_split_do_not_count():
    assert count_repeated([["a", "a", "b"], ["c", "b"], ["b", "d", "d"]]) == 1
    assert count_repeated([["a", "c"], ["c", "a"], []]) == 2
