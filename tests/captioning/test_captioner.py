"""The complete captioner: its captions, and model folders that load the same captioner or name what is wrong."""

import hashlib
import json
import pickle
import shutil
from pathlib import Path
from typing import Any, NoReturn

import huggingface_hub.hub_mixin
import numpy as np
import pytest
import torch
from huggingface_hub.errors import EntryNotFoundError, LocalEntryNotFoundError
from PIL import Image
from safetensors.torch import load_file, save_file

from captioning.caption_generator import Caption
from captioning.captioner import Captioner, load_torch_captioner
from captioning.captioner_config import DecoderConfig, EncoderConfig, SearchConfig
from captioning.onnx.names import DECODER, ENCODER
from data_prep.vocabulary import EOS
from vision_rnn import saved_model
from vision_rnn.errors import UserError
from vision_rnn.model_folder import CHECKSUMS, CONFIG, WEIGHTS

WORDS = ["a", "dog", "runs", "on", "café"]


@pytest.fixture(scope="module")
def model() -> Captioner:
    """An untrained captioner with half-precision weights, which saving keeps exactly."""
    torch.manual_seed(0)
    captioner = Captioner(
        EncoderConfig(backbone="timm:test_resnet", image_size=64, mean=(0.4, 0.5, 0.6)),
        DecoderConfig(hidden_size=12, embedding_size=10, attention_size=6, attention="additive", context_gate="scalar"),
        WORDS,
        SearchConfig(beam_size=3, length_exponent=0.5, max_words=6),
    )
    for parameter in captioner.decoder.parameters():
        torch.nn.init.normal_(parameter, std=0.8)
    captioner.decoder.output_bias.data[EOS] = -2.0  # otherwise every caption is empty
    for parameter in captioner.parameters():
        parameter.data = parameter.data.half().float()
    return captioner.eval()


@pytest.fixture(scope="module")
def saved(model: Captioner, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("model") / "saved"
    model.save_pretrained(folder)
    return folder


@pytest.fixture
def folder(saved: Path, tmp_path: Path) -> Path:
    """A copy of the model folder that tests may damage."""
    return shutil.copytree(saved, tmp_path / "model")


@pytest.fixture
def photos() -> list[Image.Image]:
    """Three different images of different sizes."""
    noise = torch.randint(256, (50, 70, 3), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
    return [
        Image.fromarray(noise.numpy()),
        Image.new("RGB", (64, 64), "navy"),
        Image.linear_gradient("L").convert("RGB"),
    ]


def as_data(captions: list[list[Caption]]) -> list[list[tuple[list[str], float, list[Any]]]]:
    return [[(one.words, one.log_probability, one.attention.tolist()) for one in many] for many in captions]


def rewrite_checksums(folder: Path) -> None:
    sums = [f"{hashlib.sha256((folder / name).read_bytes()).hexdigest()}  {name}" for name in (CONFIG, WEIGHTS)]
    (folder / CHECKSUMS).write_text("\n".join(sums) + "\n")


def test_captions_have_words_scores_and_attention(model: Captioner, photos: list[Image.Image]) -> None:
    captions = model.caption(photos)
    assert [len(one) for one in captions] == [3, 3, 3]
    assert len({tuple(one[0].words) for one in captions}) > 1, "every photo has the same caption"
    for caption in (caption for one in captions for caption in one):
        assert set(caption.words) <= set(WORDS)
        assert len(caption.words) <= 6
        assert caption.log_probability < 0
        assert caption.attention.shape == (len(caption.words), 2, 2)
        np.testing.assert_allclose(caption.attention.sum((1, 2)), np.ones(len(caption.words)), rtol=1e-5)


def test_a_batch_of_photos_gives_what_each_gives_alone(model: Captioner, photos: list[Image.Image]) -> None:
    together = model.caption(photos)
    for one, photo in zip(together, photos, strict=True):
        (alone,) = model.caption([photo])
        assert [caption.words for caption in one] == [caption.words for caption in alone]
        assert [caption.log_probability for caption in one] == pytest.approx(
            [caption.log_probability for caption in alone], abs=1e-4
        )


def test_search_settings_of_the_call_take_precedence(model: Captioner, photos: list[Image.Image]) -> None:
    one = model.caption(photos, search=SearchConfig(beam_size=1, max_words=1))
    assert [len(captions) for captions in one] == [1, 1, 1]
    assert all(len(caption.words) <= 1 for captions in one for caption in captions)
    # With at most one word there are only six captions, including the empty one.
    all_captions = model.caption(photos, search=SearchConfig(beam_size=20, max_words=1))
    assert [len(captions) for captions in all_captions] == [6, 6, 6]


def test_samples_are_drawn_by_their_generator(model: Captioner, photos: list[Image.Image]) -> None:
    draws = [
        as_data(model.caption(photos, samples=8, temperature=2.0, generator=np.random.default_rng(seed)))
        for seed in (1, 1, 2)
    ]
    assert [len(one) for one in draws[0]] == [8, 8, 8]
    assert draws[0] == draws[1]
    assert draws[0] != draws[2]


def test_captions_start_with_the_prefix(model: Captioner, photos: list[Image.Image]) -> None:
    for captions in model.caption(photos, prefix="Café dog"):
        assert all(caption.words[:2] == ["café", "dog"] for caption in captions)


def test_an_unknown_word_in_the_prefix_is_named(model: Captioner, photos: list[Image.Image]) -> None:
    with pytest.raises(UserError, match=r"prefix: .*'zebra'; choose another"):
        model.caption(photos, prefix="a zebra")


def test_text_joins_clitics_to_their_words() -> None:
    words = ["the", "dog", "'s", "owners", "are", "n't", "sad", "'cause", "they", "'re", "where", "it", "'ll", "run"]
    expected = "the dog's owners aren't sad 'cause they're where it'll run"
    assert Caption(words, -1.0, np.empty(0)).text == expected


def test_a_model_folder_gives_the_same_captioner(model: Captioner, saved: Path, photos: list[Image.Image]) -> None:
    for loaded in (load_torch_captioner(saved), load_torch_captioner(str(saved)), Captioner.from_pretrained(saved)):
        assert not loaded.training
        assert loaded.search == model.search
        assert loaded.decoder_config == model.decoder_config
        assert loaded.vocabulary.words == WORDS
        pixels = torch.stack([model.encoder.preprocess(photo) for photo in photos])
        assert torch.equal(pixels, torch.stack([loaded.encoder.preprocess(photo) for photo in photos]))
        with torch.inference_mode():
            torch.testing.assert_close(loaded.encoder(pixels), model.encoder(pixels), rtol=0, atol=0)
        assert as_data(loaded.caption(photos)) == as_data(model.caption(photos))


def test_weights_are_stored_in_half_precision(saved: Path) -> None:
    tensors = load_file(saved / WEIGHTS)
    assert {tensor.dtype for tensor in tensors.values() if tensor.is_floating_point()} == {torch.float16}
    assert any(name.startswith("encoder.") for name in tensors)


def test_saving_again_gives_identical_files(saved: Path, tmp_path: Path) -> None:
    load_torch_captioner(saved).save_pretrained(tmp_path)
    names = sorted(path.name for path in saved.iterdir())
    assert names == sorted([CONFIG, WEIGHTS, CHECKSUMS, ENCODER, DECODER, "README.md"])
    for name in names:
        assert (tmp_path / name).read_bytes() == (saved / name).read_bytes(), name


def test_loading_runs_no_code_of_the_folder(saved: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*arguments: object, **options: object) -> NoReturn:
        raise AssertionError("a model folder was unpickled")

    monkeypatch.setattr(torch, "load", refuse)
    for name in ("load", "loads", "Unpickler"):
        monkeypatch.setattr(pickle, name, refuse)
    load_torch_captioner(saved)


def test_a_missing_folder_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"nowhere: no such model folder; .*hub:OWNER/NAME"):
        load_torch_captioner(tmp_path / "nowhere")


@pytest.mark.parametrize("name", [CONFIG, WEIGHTS, CHECKSUMS])
def test_a_missing_file_is_named(folder: Path, name: str) -> None:
    (folder / name).unlink()
    with pytest.raises(UserError, match=f"{name} is missing"):
        load_torch_captioner(folder)


@pytest.mark.parametrize("name", [CONFIG, WEIGHTS])
def test_an_altered_file_is_named(folder: Path, name: str) -> None:
    altered = bytearray((folder / name).read_bytes())
    altered[-2] ^= 1
    (folder / name).write_bytes(altered)
    with pytest.raises(UserError, match=rf"{name}: differs from the file that was saved"):
        load_torch_captioner(folder)


@pytest.mark.parametrize("sums", [b"", b"one two three\n", b"\xff\xfe\n\n"])
def test_broken_checksums_are_an_error_of_one_line(folder: Path, sums: bytes) -> None:
    (folder / CHECKSUMS).write_bytes(sums)
    with pytest.raises(UserError, match=rf"{CONFIG}: differs from the file that was saved"):
        load_torch_captioner(folder)


def without_vocabulary(folder: Path) -> None:
    config = json.loads((folder / CONFIG).read_text())
    del config["vocabulary"]
    (folder / CONFIG).write_text(json.dumps(config))


def with_fewer_words(folder: Path) -> None:
    config = json.loads((folder / CONFIG).read_text())
    config["vocabulary"].pop()
    (folder / CONFIG).write_text(json.dumps(config))


def with_other_tensors(folder: Path) -> None:
    save_file({"weight": torch.zeros(2)}, folder / WEIGHTS)


def with_weights_cut_short(folder: Path) -> None:
    (folder / WEIGHTS).write_bytes((folder / WEIGHTS).read_bytes()[:-10])


def with_config_cut_short(folder: Path) -> None:
    (folder / CONFIG).write_bytes((folder / CONFIG).read_bytes()[:-10])


@pytest.mark.parametrize(
    "change",
    [
        without_vocabulary,
        with_fewer_words,
        with_other_tensors,
        with_weights_cut_short,
        with_config_cut_short,
    ],
)
def test_a_folder_of_another_version_is_an_error_of_one_line(folder: Path, change: Any) -> None:
    change(folder)
    rewrite_checksums(folder)
    with pytest.raises(UserError, match=r"^[^\n]*model: written by another version[^\n]*$"):
        load_torch_captioner(folder)


def serve_from(folder: Path, monkeypatch: pytest.MonkeyPatch, expected_revision: str | None = None) -> None:
    """Make `folder` the only model on the hub."""

    def download(repo_id: str, filename: str, revision: str | None = None, **options: object) -> str:
        assert (repo_id, revision) == ("someone/captioner", expected_revision)
        if not (folder / filename).is_file():
            raise EntryNotFoundError(f"no {filename}")
        return str(folder / filename)

    for module in (huggingface_hub.hub_mixin, saved_model):
        monkeypatch.setattr(module, "hf_hub_download", download)


def test_a_hub_name_loads_what_the_hub_holds(
    model: Captioner, saved: Path, photos: list[Image.Image], monkeypatch: pytest.MonkeyPatch
) -> None:
    serve_from(saved, monkeypatch)
    assert as_data(load_torch_captioner("hub:someone/captioner").caption(photos)) == as_data(model.caption(photos))


def test_a_hub_name_may_pin_a_revision(saved: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    serve_from(saved, monkeypatch, expected_revision="refs/pr/1")
    load_torch_captioner("hub:someone/captioner@refs/pr/1")


def test_a_damaged_file_of_the_hub_is_named(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    weights = folder / WEIGHTS
    weights.write_bytes(weights.read_bytes()[:-1] + b"?")
    serve_from(folder, monkeypatch)
    with pytest.raises(
        UserError, match=rf"hub:someone/captioner: {WEIGHTS} differs from the file that was saved \(SHA-256\); "
    ):
        load_torch_captioner("hub:someone/captioner")


def test_a_hub_model_without_checksums_loads_with_a_note(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (folder / CHECKSUMS).unlink()
    serve_from(folder, monkeypatch)
    load_torch_captioner("hub:someone/captioner")
    assert "hub:someone/captioner: has no SHA256SUMS, and is not checked for damage" in capsys.readouterr().err


def test_a_hub_name_of_another_kind_of_model_is_an_error(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (folder / CONFIG).write_text('{"model_type": "bert"}')
    rewrite_checksums(folder)
    serve_from(folder, monkeypatch)
    with pytest.raises(UserError, match="hub:someone/captioner: cannot be loaded from the hub"):
        load_torch_captioner("hub:someone/captioner")


@pytest.mark.parametrize("error", [LocalEntryNotFoundError("no network"), ConnectionError("no network"), OSError()])
def test_a_hub_name_without_a_network_says_so(error: OSError, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*arguments: object, **options: object) -> NoReturn:
        raise error

    for module in (huggingface_hub.hub_mixin, saved_model):
        monkeypatch.setattr(module, "hf_hub_download", refuse)
    with pytest.raises(UserError, match=r"hub:someone/captioner: .*check the name, the network and the disk space"):
        load_torch_captioner("hub:someone/captioner")
