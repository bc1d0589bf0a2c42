"""The names of splits, and the creation of those that a source lacks."""

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from data_prep.splits import SPLITS, complete_splits, count_repeated, draw_at_most, parse_split
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


def test_the_last_training_images_are_used_for_validation():
    given_splits = ["train", "train", "test", "train", "train"]
    made, split_by = complete_splits(given_splits, list("abcde"), 0, last=2)
    assert made == ["train", "train", "test", "validation", "validation"]
    assert split_by == "source; validation is the last 2 images of train"


@pytest.mark.parametrize(
    ("given_splits", "reason"),
    [
        (["train", "train", "validation"], "the source has a validation split already; omit it"),
        (["train", "train", "test"], "2: the source has only 2 images in its split train; give fewer than that"),
        ([None, None, None], "2: the source has no split train; omit it"),
    ],
)
def test_last_images_that_cannot_be_used_are_one_line(given_splits: list[str | None], reason: str):
    with pytest.raises(UserError, match=f"^--last-for-validation.*{reason}$"):
        complete_splits(given_splits, list("abc"), 0, last=2)


@given(st.permutations([f"image {index}" for index in range(40)]), st.integers(0, 9))
def test_the_places_of_images_go_with_their_names(names, seed):
    made, _ = complete_splits([None] * 40, names, seed)
    assert Counter(made) == {"train": 32, "validation": 4, "test": 4}
    in_order = sorted(names)
    assert dict(zip(names, made, strict=True)) == dict(
        zip(in_order, complete_splits([None] * 40, in_order, seed)[0], strict=True)
    )


@given(GIVEN, st.none() | st.integers(1, 30), st.integers(0, 9))
def test_at_most_so_many_images_of_each_split_are_drawn(splits, most, seed):
    names = [str(index) for index in range(len(splits))]
    drawn, drawn_from = draw_at_most(splits, names, most, seed)
    assert all(new in (old, None) for old, new in zip(splits, drawn, strict=True))
    before = Counter(splits)
    assert drawn_from == {split: before[split] for split in SPLITS if most is not None and before[split] > most}
    for split in SPLITS:
        assert drawn.count(split) == (most if split in drawn_from else before[split])


@given(st.permutations([f"image {index}" for index in range(40)]), st.integers(0, 9))
def test_the_draw_goes_with_the_names_and_a_larger_one_contains_a_smaller_one(names, seed):
    def drawn(in_order: list[str], most: int) -> set[str]:
        places, _ = draw_at_most(["train"] * 40, in_order, most, seed)
        return {name for name, place in zip(in_order, places, strict=True) if place}

    assert drawn(names, 12) == drawn(sorted(names), 12)
    assert drawn(names, 5) < drawn(names, 12)


def test_seeds_draw_different_images():
    names = [str(index) for index in range(1000)]
    first, second = (draw_at_most(["train"] * 1000, names, 500, seed)[0] for seed in (0, 1))
    both = sum(a is not None and b is not None for a, b in zip(first, second, strict=True))
    assert 200 < both < 300  # 250 are expected, with a standard deviation of 8


def test_repetitions_within_a_split_do_not_count():
    assert count_repeated([["a", "a", "b"], ["c", "b"], ["b", "d", "d"]]) == 1
    assert count_repeated([["a", "c"], ["c", "a"], []]) == 2
