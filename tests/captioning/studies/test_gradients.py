"""Streams, radii that bound the norms, clipping against the change of the weights, and trained models."""

import dataclasses
import json
import math
from collections import Counter
from pathlib import Path

import pytest
import torch

from captioning.captioner import Captioner
from captioning.network.gradient_flow import geometric_mean, gradient_flow
from captioning.studies import gradients
from captioning.studies.gradients import descend, fresh_rnn, measure_captioner, study_gradients, word_streams
from data_prep.captions import prepare_captions
from data_prep.images import load_image
from data_prep.prepared_captions import PreparedCaptions
from data_prep.vocabulary import BOS, Vocabulary
from vision_rnn.errors import UserError

CAPTIONS = [["a", "dog"], ["a", "red", "cat"], ["the", "dog", "runs", "far"], ["sits"]]
VOCABULARY = Vocabulary(sorted({word for caption in CAPTIONS for word in caption}))


@pytest.fixture(scope="module")
def data(synthetic_captions: Path, tmp_path_factory: pytest.TempPathFactory) -> PreparedCaptions:
    folder = tmp_path_factory.mktemp("prepared") / "shapes"
    prepare_captions(synthetic_captions / "captions.jsonl", folder, min_count=1)
    return PreparedCaptions.open(folder)


@pytest.fixture
def short(monkeypatch: pytest.MonkeyPatch) -> None:
    """Train for twelve steps, which are enough to diverge."""
    monkeypatch.setattr(gradients, "_STEPS", 12)


def test_a_stream_holds_whole_captions_in_an_order_of_the_seed():
    streams = word_streams(CAPTIONS, VOCABULARY, 10, seed=3)
    assert streams.shape == (1, 1, 11)
    assert streams[0, 0, 0] == BOS
    words = VOCABULARY.decode(streams[0, 0])
    assert Counter(words) == Counter(word for caption in CAPTIONS for word in caption)
    text = " ".join(words)
    assert all(" ".join(caption) in text for caption in CAPTIONS)
    cut = word_streams(CAPTIONS, VOCABULARY, 3, seed=3)
    assert VOCABULARY.decode(cut[..., 1:].flatten()) == words[:9]
    assert (cut[..., 0] == BOS).all()
    assert len({tuple(word_streams(CAPTIONS, VOCABULARY, 10, seed)[0, 0].tolist()) for seed in range(9)}) > 1


def test_too_few_words_are_named():
    with pytest.raises(UserError, match="have only 10 words of the 11 needed"):
        word_streams(CAPTIONS, VOCABULARY, 11, seed=0)


@pytest.mark.parametrize("radius", [0.5, 2.5])
def test_a_fresh_rnn_turns_and_scales_by_its_radius(radius: float):
    weight = fresh_rnn(9, radius, seed=1).cell.state_to_gates.weight.detach() / radius
    torch.testing.assert_close(weight @ weight.T, torch.eye(len(weight)), atol=1e-5, rtol=0)


def one_step(clip: float | None) -> tuple[float, float, float]:
    """Return the reported norms of the gradient and the update, and the actual change of the weights."""
    decoder = fresh_rnn(len(VOCABULARY), 3.0, seed=0)
    before = [parameter.detach().clone() for parameter in decoder.parameters()]
    descent = descend(decoder, word_streams(CAPTIONS * 40, VOCABULARY, 40, seed=0), clip, seed=0)
    moved = [(was - is_now).flatten() for was, is_now in zip(before, decoder.parameters(), strict=True)]
    return descent.gradient_norms[0], descent.update_norms[0], torch.cat(moved).norm().item()


def test_clipping_bounds_how_far_the_weights_move(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(gradients, "_STEPS", 1)
    gradient, update, moved = one_step(None)
    assert moved == pytest.approx(update, rel=1e-3)
    assert update == pytest.approx(gradient * gradients._LEARNING_RATE)
    clipped_gradient, clipped_update, clipped_moved = one_step(gradient / 7)
    assert clipped_gradient == gradient
    assert clipped_update == pytest.approx(update / 7, rel=1e-4)
    assert clipped_moved == pytest.approx(moved / 7, rel=1e-3)


@pytest.mark.usefixtures("short")
def test_without_clipping_a_great_radius_diverges_and_with_it_or_a_small_radius_nothing_does():
    streams = word_streams(CAPTIONS * 40, VOCABULARY, 40, seed=0)
    exploding, clipped, again, calm = (
        descend(fresh_rnn(len(VOCABULARY), radius, seed=0), streams, clip, seed=0)
        for radius, clip in ((4.0, None), (4.0, 1.0), (4.0, 1.0), (0.5, None))
    )
    assert exploding.diverged
    assert len(exploding.losses) == len(exploding.gradient_norms) == len(exploding.update_norms) < 12
    assert all(map(math.isfinite, exploding.losses + exploding.gradient_norms))
    assert exploding.last_loss == exploding.losses[-1]
    assert clipped == again
    assert clipped.losses[0] == exploding.losses[0]
    assert not clipped.diverged
    assert clipped.clipped == sum(norm > 1 for norm in clipped.gradient_norms) > 0
    assert max(clipped.update_norms) <= gradients._LEARNING_RATE * (1 + 1e-5)
    assert not calm.diverged
    assert calm.clipped == 0
    assert calm.last_loss == pytest.approx(sum(calm.losses[2:]) / 10)
    assert calm.last_loss < calm.losses[0]


@pytest.mark.usefixtures("short")
def test_the_radius_bounds_what_is_measured_and_open_gates_hold_more(
    data: PreparedCaptions, model_folder: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(gradients, "_RADII", (3.0, 1.0, 0.5))
    study = study_gradients(data, "train", [str(model_folder)], seed=0)
    strong, middle, weak = study.radii
    assert [network.spectral_radii["layer 1, state"] for network in study.radii] == pytest.approx([3, 1, 0.5])
    # tanh has a slope of at most 1, and the other factor is a rotation times the radius.
    for network, radius in ((middle, 1.0), (weak, 0.5)):
        assert len(network.hidden) == 60
        assert all(
            further <= radius * nearer * 1.001
            for nearer, further in zip(network.hidden, network.hidden[1:], strict=False)
        )
    assert strong.hidden[-1] > 1e3 * strong.hidden[0]
    rnn, begun, opened = study.gates
    assert rnn.cell is None
    assert begun.cell is not None
    assert opened.cell is not None
    faded = [of_state[40] / of_state[0] for of_state in (rnn.hidden, begun.cell, opened.cell)]
    assert faded[0] < faded[1] < faded[2]
    assert [network.name for network in study.trained] == [str(model_folder)]
    assert [(descent.radius > 1, descent.clip) for descent in study.descents] == [
        (True, None),
        (True, 2.0),
        (False, None),
    ]
    document = json.loads(json.dumps(study.document(), allow_nan=False))
    assert document["content_hash"] == data.content_hash
    assert document["descents"][1]["losses"] == study.descents[1].losses


def test_a_captioner_reads_the_longest_captions_beside_their_images(
    data: PreparedCaptions, tiny_captioner: Captioner, model_folder: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(gradients, "_CAPTIONS", 3)
    rows = data.split("validation")
    pairs = [(row["image"]["bytes"], caption) for row in rows for caption in row["tokens"]]
    lengths = sorted((len(caption) for _, caption in pairs), reverse=True)
    captioner = Captioner.from_pretrained(model_folder).eval()
    hidden, cell = [], []
    for image, caption in sorted(pairs, key=lambda pair: len(pair[1]), reverse=True)[:3]:
        words = torch.tensor([[[BOS, *tiny_captioner.vocabulary.encode(caption)]]])
        flow = gradient_flow(captioner.decoder, captioner.remember([load_image(image)]), words)
        hidden.append(flow.hidden[0, 0, : lengths[2]])
        assert flow.cell is not None
        cell.append(flow.cell[0, 0, : lengths[2]])
    measured = measure_captioner(str(model_folder), data, "validation")
    assert measured.sequences == 3
    assert measured.hidden == pytest.approx(geometric_mean(torch.stack(hidden)).tolist(), rel=1e-4)
    assert measured.cell == pytest.approx(geometric_mean(torch.stack(cell)).tolist(), rel=1e-4)


def test_a_captioner_that_is_a_window_is_named(data: PreparedCaptions, tiny_captioner: Captioner, tmp_path: Path):
    config = dataclasses.replace(tiny_captioner.decoder_config, cell="window", attention="none")
    window = Captioner(tiny_captioner.encoder.config, config, tiny_captioner.vocabulary.words)
    window.save_pretrained(tmp_path / "window")
    with pytest.raises(UserError, match=r"window: .* no recurrent path"):
        study_gradients(data, "train", [str(tmp_path / "window")], seed=0)
