"""The settings chosen by the amount of data."""

import pytest

from captioning.own.settings import choose_training


@pytest.mark.parametrize(
    ("captions", "min_count", "epochs"),
    [(1, 2, 12), (400, 2, 12), (1_200, 2, 4), (1_600, 2, 3), (4_000, 2, 3), (10_000, 3, 3), (30_000, 5, 3)],
)
def test_about_4800_captions_are_read_in_3_to_12_epochs(captions: int, min_count: int, epochs: int):
    count, training = choose_training(captions, from_scratch=False)
    assert (count, training.epochs, training.patience) == (min_count, epochs, epochs)


def test_without_a_model_to_start_from_training_is_longer_and_faster():
    for captions in (400, 8_000, 30_000):
        (count, tuned), (same, trained) = (choose_training(captions, from_scratch) for from_scratch in (False, True))
        assert count == same
        assert trained.epochs > tuned.epochs
        assert trained.learning_rate > tuned.learning_rate
    assert [choose_training(captions, True)[1].epochs for captions in (100, 9_000, 30_000, 600_000)] == [40, 20, 6, 6]
