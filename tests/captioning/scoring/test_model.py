"""The perplexity against the definition, word by word."""

import itertools
import math
from pathlib import Path

import pytest
import torch

from captioning.captioner import Captioner
from captioning.scoring.model import evaluate
from captioning.training.batches import pad_captions
from data_prep.captions import prepare_captions
from data_prep.images import load_image
from data_prep.prepared_captions import PreparedCaptions
from data_prep.vocabulary import BOS, EOS


def test_log_likelihoods_are_those_of_single_steps_and_zero_for_padding(tiny_captioner: Captioner) -> None:
    decoder = tiny_captioner.decoder
    captions = [[[BOS, 4, 7, EOS], [BOS, EOS]], [[BOS, 5, EOS]]]
    memory = decoder.remember(torch.randn(2, 4, tiny_captioner.encoder.channels))
    words = pad_captions([[torch.tensor(caption) for caption in several] for several in captions])
    found = decoder.log_likelihoods(memory, words)
    expected = torch.zeros(2, 2, 3)
    for image, several in enumerate(captions):
        for number, caption in enumerate(several):
            state = decoder.initial_state(memory, 1)
            for time, (last, word) in enumerate(itertools.pairwise(caption)):
                logits, state, _ = decoder.step(torch.full((2, 1), last), state, memory)
                expected[image, number, time] = logits[image, 0].log_softmax(-1)[word]
    torch.testing.assert_close(found, expected)


def test_perplexity_counts_end_tokens_and_unknown_words(
    tiny_captioner: Captioner, synthetic_captions: Path, tmp_path: Path
) -> None:
    prepare_captions(synthetic_captions / "captions.jsonl", tmp_path / "data", min_count=1)
    data = PreparedCaptions.open(tmp_path / "data")
    document = evaluate(tiny_captioner, data, "test")
    rows = data.split("test")
    nats, count = 0.0, 0
    for image, captions in zip(rows["image"], rows["tokens"], strict=True):
        memory = tiny_captioner.remember([load_image(image["bytes"])])
        for caption in captions:
            ids = torch.tensor([BOS, *tiny_captioner.vocabulary.encode(caption), EOS])
            nats -= tiny_captioner.decoder.log_likelihoods(memory, ids[None, None]).sum().item()
            count += len(caption) + 1
    assert document["predicted_words"] == count
    assert document["perplexity"] == pytest.approx(math.exp(nats / count), rel=1e-5)


def test_a_cider_that_must_be_zero_is_explained(
    tiny_captioner: Captioner, make_image, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    make_image(tmp_path / "train" / "only.png").with_suffix(".txt").write_text("two cats sleep\n")
    prepare_captions(tmp_path / "train", tmp_path / "data", min_count=1)
    document = evaluate(tiny_captioner, PreparedCaptions.open(tmp_path / "data"), "train")
    assert document["CIDEr-D"] == 0
    assert "occurs in the only image" in capsys.readouterr().err


def test_cached_grids_give_the_same_scores(tiny_captioner: Captioner, synthetic_captions: Path, tmp_path: Path) -> None:
    prepare_captions(synthetic_captions / "captions.jsonl", tmp_path / "data", min_count=1)
    data = PreparedCaptions.open(tmp_path / "data")
    plain, cached = (evaluate(tiny_captioner, data, "test", cached=cached) for cached in (False, True))
    assert cached["captions"] == plain["captions"]
    # The cache is in half precision.
    assert cached["perplexity"] == pytest.approx(plain["perplexity"], rel=1e-2)
    assert cached["perplexity"] != plain["perplexity"]
