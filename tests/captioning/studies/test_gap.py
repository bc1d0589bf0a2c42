"""The gap task: sentences, the limited reach of the window, learning, the table and the picture."""

from pathlib import Path

import pytest
import torch
from matplotlib.figure import Figure

from captioning.cli import main
from captioning.network.decoder import Decoder
from captioning.studies.gap import (
    LEARNERS,
    MEASURED,
    NEUTRAL,
    REACH,
    VOCABULARY,
    Curve,
    accuracy,
    gap_picture,
    gap_table,
    learn,
    measure,
    sentences,
)
from data_prep.images import load_image
from data_prep.vocabulary import BOS
from vision_rnn.files import read_json

WINDOW, ORDINARY, ORTHOGONAL, LSTM = LEARNERS


def draw(number: int, gap: int) -> torch.Tensor:
    return sentences(number, gap, torch.Generator().manual_seed(0))


@pytest.mark.parametrize("gap", [0, 3])
def test_the_verdict_is_the_parity_of_the_negations(gap: int) -> None:
    found = set()
    for caption in draw(200, gap):
        ids = caption[0].tolist()
        assert ids[0] == BOS
        first, *between, second, good, verdict = VOCABULARY.decode(ids[1:])
        assert len(between) == gap
        assert set(between) <= set(NEUTRAL)
        assert good == "good"
        assert verdict == ("liked" if (first == "not") == (second == "not") else "disliked")
        found.add((first, second))
    assert found == {("not", "not"), ("not", "really"), ("really", "not"), ("really", "really")}


def test_neither_mark_alone_tells_the_verdict() -> None:
    words = draw(20000, 1)[:, 0]
    for place in (1, 3):
        for mark in VOCABULARY.encode(["really", "not"]):
            liked = words[words[:, place] == mark][:, -1] == VOCABULARY.encode(["liked"])[0]
            assert liked.float().mean().item() == pytest.approx(0.5, abs=0.02)


def verdict_logits(decoder: Decoder, words: torch.Tensor) -> torch.Tensor:
    memory = decoder.remember(torch.empty(len(words), 1, 0))
    return decoder.logits(decoder(memory, words[..., :-1]).outputs)[:, 0, -1]


@pytest.mark.parametrize("gap", [REACH, REACH + 1])
def test_the_window_cannot_see_the_first_mark_beyond_its_reach(gap: int) -> None:
    decoder = learn(WINDOW, seed=0, steps=2)
    words = draw(4, gap)
    other = words.clone()
    really, negation = VOCABULARY.encode(["really", "not"])
    other[..., 1] = really + negation - other[..., 1]
    same = torch.equal(verdict_logits(decoder, words), verdict_logits(decoder, other))
    assert same == (gap > REACH)
    # The recurrent networks depend on it, even if only slightly.
    lstm = learn(LSTM, seed=0, steps=2).double()
    assert not torch.equal(verdict_logits(lstm, words), verdict_logits(lstm, other))


def test_the_accuracy_is_that_of_the_verdicts() -> None:
    """For a decoder that always predicts `liked`, the accuracy is the share of these sentences."""
    decoder = learn(WINDOW, seed=0, steps=2)
    decoder.output_bias.data[VOCABULARY.encode(["liked"])] = 100.0
    liked = VOCABULARY.encode(["liked"])[0]
    words = sentences(1000, 7, torch.Generator().manual_seed(2**32 - 1))
    assert accuracy(decoder, 7) == pytest.approx((words[..., -1] == liked).float().mean().item())


def test_the_starts_differ_in_the_recurrent_weights_alone() -> None:
    ordinary, orthogonal = (learn(learner, seed=0, steps=2).cell for learner in (ORDINARY, ORTHOGONAL))
    product = orthogonal.state_to_gates.weight @ orthogonal.state_to_gates.weight.T
    torch.testing.assert_close(product, torch.eye(64), atol=0.05, rtol=0)
    assert ordinary.state_to_gates.weight.abs().max() < 64**-0.5 + 0.01
    assert ordinary.state_to_gates.weight.std().item() == pytest.approx(64**-0.5 / 3**0.5, rel=0.05)


def test_a_training_repeats() -> None:
    first, again, other = (learn(ORTHOGONAL, seed, steps=3).state_dict() for seed in (0, 0, 1))
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert not torch.equal(first["embedding.weight"], other["embedding.weight"])


def test_an_lstm_learns_the_parity_of_neighbours(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("captioning.studies.gap.LONGEST", 0)
    assert accuracy(learn(LSTM, seed=0, steps=600), 0) > 0.95


CURVES = [
    Curve("window", 1234, [0, 1], [[1.0] * len(MEASURED), [0.5] * len(MEASURED)], [10.0, 20.0]),
    Curve("LSTM", 99, [0, 1], [[0.9] * len(MEASURED)] * 2, [1.0, 2.0]),
]


def test_the_table_has_mean_and_deviation_in_percent() -> None:
    header, _, window, lstm, *_ = gap_table(CURVES).splitlines()
    assert header.startswith("| network | gap 0 | gap 2 |")
    assert window == f"| window | {'75 ± 35 | ' * len(MEASURED)}1,234 | 15 |"
    assert lstm == f"| LSTM | {'90 ± 0 | ' * len(MEASURED)}99 | 2 |"


def test_the_picture_has_a_line_a_network(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    figures: list[Figure] = []
    save = Figure.savefig
    monkeypatch.setattr(Figure, "savefig", lambda self, *args, **how: (figures.append(self), save(self, *args, **how)))
    gap_picture(CURVES, tmp_path / "gap.png")
    assert load_image(tmp_path / "gap.png").width > 500
    lines = {line.get_label(): list(line.get_ydata()) for line in figures[0].axes[0].lines}
    assert lines["window"] == [75.0] * len(MEASURED)
    assert lines["LSTM"] == pytest.approx([90.0] * len(MEASURED))


def test_the_command_writes_the_picture_and_the_numbers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("captioning.studies.gap.STEPS", 2)
    monkeypatch.setattr("captioning.studies.gap.measure", lambda seeds, progress: measure(seeds, 2, progress))
    picture = tmp_path / "gap.png"
    assert main(["gap", "--seeds", "3", "3", "-o", str(picture)]) == 0
    assert capsys.readouterr().out.startswith("| network | gap 0 |")
    assert load_image(picture).width > 500
    document = read_json(tmp_path / "gap.json")
    assert [curve["name"] for curve in document] == [learner.name for learner in LEARNERS]
    assert document[0]["seeds"] == [3]
    assert main(["gap", "-o", str(tmp_path)]) == 2
    assert "is a folder; name a file" in capsys.readouterr().err
