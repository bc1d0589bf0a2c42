"""Intervals with the stated coverage, paired comparisons, and errors for input that cannot be resampled."""

import numpy as np
import pytest

from evaluation.bleu import bleu_counts, bleu_scores, corpus_bleu
from evaluation.bootstrap import bootstrap, paired_bootstrap


def mean(sums: np.ndarray, number: int) -> np.ndarray:
    return sums[..., 0] / number


def ratio(sums: np.ndarray, number: int) -> np.ndarray:
    return sums[..., 0] / sums[..., 1]


def draw(images: int, generator: np.random.Generator) -> np.ndarray:
    """Skewed counts of successes and trials, similar to correct and total n-grams."""
    trials = 1 + generator.poisson(10, images)
    return np.stack([generator.binomial(trials, generator.beta(2, 6, images)), trials], axis=1)


@pytest.mark.parametrize(("score", "truth"), [(mean, 11 * 0.25), (ratio, 0.25)])
def test_intervals_hold_the_truth_in_95_of_100_trials(score, truth: float) -> None:
    generator = np.random.default_rng(0)
    intervals = [bootstrap(draw(150, generator), score, resamples=600, seed=trial) for trial in range(1000)]
    share = np.mean([interval.low <= truth <= interval.high for interval in intervals])
    assert 0.93 <= share <= 0.97


def test_a_pair_is_told_apart_where_each_alone_is_not() -> None:
    generator = np.random.default_rng(1)
    difficulty = generator.normal(size=(200, 1))
    first, second = difficulty + 0.05, difficulty + generator.normal(scale=0.1, size=(200, 1))
    alone = [bootstrap(each, mean) for each in (first, second)]
    assert alone[0].low < alone[1].high
    compared = paired_bootstrap(first, second, mean)
    assert compared.difference.low > 0
    assert compared.p_value < 0.01
    assert compared.difference.score == pytest.approx(float((first - second).mean()))


def test_without_a_difference_p_values_are_even() -> None:
    generator = np.random.default_rng(2)
    p_values = []
    for trial in range(400):
        first, second = generator.normal(size=(2, 100, 1))
        p_values.append(paired_bootstrap(first, second, mean, resamples=300, seed=trial).p_value)
    assert np.mean(np.array(p_values) < 0.05) == pytest.approx(0.05, abs=0.03)
    assert np.mean(np.array(p_values) < 0.5) == pytest.approx(0.5, abs=0.08)


def test_a_system_does_not_differ_from_itself() -> None:
    statistics = draw(50, np.random.default_rng(0)).astype(float)
    compared = paired_bootstrap(statistics, statistics, ratio)
    assert (compared.difference.low, compared.difference.score, compared.difference.high) == (0, 0, 0)
    assert compared.p_value == 1


def test_the_resampled_score_is_that_of_the_resampled_corpus() -> None:
    generator = np.random.default_rng(3)
    words = np.array(["a", "dog", "cat", "runs", "on"])
    candidates, *references = (
        [list(generator.choice(words, size)) for size in generator.integers(4, 9, 12)] for _ in range(3)
    )
    pairs = list(zip(candidates, zip(*references, strict=True), strict=True))
    counts = np.array([bleu_counts(*pair) for pair in pairs])
    # The images that `bootstrap` draws with this seed.
    drawn = np.random.default_rng(7).integers(12, size=12)
    again = [pairs[image] for image in drawn]
    expected = corpus_bleu([candidate for candidate, _ in again], [given for _, given in again]).scores[3]
    interval = bootstrap(counts, lambda sums, _: bleu_scores(sums)[..., 3], resamples=1, seed=7)
    assert interval.low == interval.high == pytest.approx(expected)


def test_a_seed_repeats_and_another_differs() -> None:
    statistics = draw(50, np.random.default_rng(0))
    assert bootstrap(statistics, ratio, seed=1) == bootstrap(statistics, ratio, seed=1)
    assert bootstrap(statistics, ratio, seed=1) != bootstrap(statistics, ratio, seed=2)


def test_what_cannot_be_resampled_is_refused() -> None:
    with pytest.raises(ValueError, match="0 images"):
        bootstrap(np.empty((0, 2)), ratio)
    with pytest.raises(ValueError, match="0 resamples"):
        bootstrap(np.ones((3, 2)), ratio, resamples=0)
    with pytest.raises(ValueError, match="shape"):
        paired_bootstrap(np.ones((3, 2)), np.ones((4, 2)), ratio)
