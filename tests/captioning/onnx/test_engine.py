"""Captioning by onnxruntime: the same captions as torch's, for every kind of decoder, and what stands in its way."""

import json
import os
import shutil
import subprocess
import sys
from concurrent.futures import Future
from itertools import chain
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import huggingface_hub.hub_mixin
import numpy as np
import onnx
import pytest
import torch
from huggingface_hub.errors import LocalEntryNotFoundError
from PIL import Image
from safetensors.torch import load_file, save_file

from captioning import Captioner, load_captioner
from captioning.caption_generator import Caption, CaptionGenerator
from captioning.captioner import load_torch_captioner
from captioning.captioner_config import DecoderConfig, EncoderConfig, Engine, SearchConfig
from captioning.cli import main
from captioning.onnx import engine
from captioning.onnx.engine import OnnxCaptioner
from captioning.onnx.names import DECODER, ENCODER
from data_prep.vocabulary import EOS
from vision_rnn import saved_model
from vision_rnn.errors import UserError
from vision_rnn.model_folder import CHECKSUMS, CONFIG, WEIGHTS, write_checksums

WORDS = ["a", "dog", "cat", "red", "ball", "runs", "sits"]
DECODERS: dict[str, dict[str, Any]] = {
    "dot attention": {},
    "additive attention, scalar gate": {"attention": "additive", "context_gate": "scalar"},
    "hard attention, no gate": {"hard": True, "context_gate": "none"},
    "deep and residual": {"num_layers": 3, "residual": True},
    "image once": {"attention": "none"},
    "mean at every word": {"attention": "mean"},
    "RNN": {"cell": "rnn", "attention": "none", "num_layers": 2},
    "RNN with attention": {"cell": "rnn"},
    "window": {"cell": "window", "window": 3, "attention": "none"},
}


def save(folder: Path, **decoder: Any) -> Path:
    torch.manual_seed(1)
    sizes = {"hidden_size": 12, "embedding_size": 10, "attention_size": 6}
    captioner = Captioner(
        EncoderConfig(backbone="timm:test_resnet", image_size=64),
        DecoderConfig(**sizes, **decoder),
        WORDS,
        SearchConfig(beam_size=4, max_words=7),
    )
    for parameter in captioner.decoder.parameters():
        torch.nn.init.normal_(parameter, std=0.8)
    captioner.decoder.output_bias.data[EOS] = -2.0  # otherwise every caption is empty
    captioner.save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model folder with graphs. Tests must not write to it."""
    return save(tmp_path_factory.mktemp("model") / "tiny")


@pytest.fixture(scope="module")
def photos() -> list[Image.Image]:
    noise = np.random.default_rng(0).integers(0, 256, (50, 70, 3), np.uint8)
    return [Image.fromarray(noise), Image.new("RGB", (9, 9), "navy"), Image.linear_gradient("L").convert("RGB")]


def assert_equal(ours: list[list[Caption]], expected: list[list[Caption]]) -> None:
    assert [[one.words for one in many] for many in ours] == [[one.words for one in many] for many in expected]
    for caption, other in zip(chain(*ours), chain(*expected), strict=True):
        assert caption.log_probability == pytest.approx(other.log_probability, abs=1e-4)
        np.testing.assert_allclose(caption.attention, other.attention, atol=1e-4)


@pytest.mark.parametrize("decoder", DECODERS.values(), ids=DECODERS.keys())
def test_every_decoder_gives_torchs_captions(decoder: dict[str, Any], photos: list[Image.Image], tmp_path: Path):
    save(tmp_path / "model", **decoder)
    ours, expected = OnnxCaptioner(tmp_path / "model"), load_torch_captioner(tmp_path / "model")
    captions = ours.caption(photos)
    assert [len(many) for many in captions] == [4, 4, 4]
    assert len({many[0].log_probability for many in captions}) == 3, "the photos make no difference"
    assert_equal(captions, expected.caption(photos))
    for options in (
        {"batch_size": 2},
        {"search": SearchConfig(beam_size=1, max_words=3)},
        {"prefix": "A red"},
        {"samples": 5, "temperature": 1.5},
    ):
        seeds = [{"generator": np.random.default_rng(3)} for _ in range(2)]
        assert_equal(
            ours.caption(photos, **options, **seeds[0]),  # type: ignore[call-overload]
            expected.caption(photos, **options, **seeds[1]),  # type: ignore[call-overload]
        )


@pytest.mark.parametrize("num_layers", [1, 2])
def test_the_gates_are_torchs(num_layers: int, photos: list[Image.Image], tmp_path: Path):
    save(tmp_path / "model", num_layers=num_layers)
    words = ["a", "red", "dog"]
    ours, expected = (
        captioner.open_gates(photos[0], words)
        for captioner in (OnnxCaptioner(tmp_path / "model"), load_torch_captioner(tmp_path / "model"))
    )
    assert ours.forget.shape == (3, 12)
    for name in ours._fields:
        np.testing.assert_allclose(getattr(ours, name), getattr(expected, name), atol=1e-5, err_msg=name)


@pytest.mark.parametrize("image_size", [64, 75])  # padding beside the last pixels, and on both sides
def test_uneven_padding_is_part_of_the_convolutions(image_size: int, photos: list[Image.Image], tmp_path: Path):
    encoder = EncoderConfig(backbone="efficientnet_lite0", image_size=image_size)
    sizes = {"hidden_size": 12, "embedding_size": 10, "attention_size": 6}
    captioner = Captioner(encoder, DecoderConfig(**sizes), WORDS, SearchConfig(max_words=7))
    expected = captioner.caption(photos)
    captioner.save_pretrained(tmp_path / "model")
    graph = onnx.load(tmp_path / "model" / ENCODER, load_external_data=False).graph
    assert "Pad" not in {node.op_type for node in graph.node}
    assert len(graph.node) < 800, "the padding is computed in the graph"
    assert_equal(
        OnnxCaptioner(tmp_path / "model").caption(photos), load_torch_captioner(tmp_path / "model").caption(photos)
    )
    assert_equal(captioner.caption(photos), expected)


def test_several_networks_have_a_graph_each(photos: list[Image.Image], tmp_path: Path):
    encoder = EncoderConfig(backbone="timm:test_resnet+efficientnet_lite0", image_size=64)  # of different colours
    sizes = {"hidden_size": 12, "embedding_size": 10, "attention_size": 6}
    Captioner(encoder, DecoderConfig(**sizes), WORDS, SearchConfig(max_words=7)).save_pretrained(tmp_path)
    assert {path.name for path in tmp_path.glob("*.onnx")} == {ENCODER, DECODER, "network-1.onnx", "network-2.onnx"}
    assert_equal(OnnxCaptioner(tmp_path).caption(photos), load_torch_captioner(tmp_path).caption(photos))
    (tmp_path / "network-2.onnx").unlink()
    with pytest.raises(UserError, match=r"network-2\.onnx is missing"):
        load_captioner(tmp_path)


def test_the_graphs_read_the_weights_beside_them(folder: Path, photos: list[Image.Image], tmp_path: Path):
    """Other weights of the same shapes give other captions with the same graphs."""
    model = shutil.copytree(folder, tmp_path / "model")
    weights = load_file(model / WEIGHTS)
    save_file({name: -tensor if "decoder" in name else tensor for name, tensor in weights.items()}, model / WEIGHTS)
    write_checksums(model, [CONFIG, WEIGHTS, ENCODER, DECODER])
    ours, before = OnnxCaptioner(model).caption(photos), OnnxCaptioner(folder).caption(photos)
    assert ours[0][0].log_probability != before[0][0].log_probability
    assert_equal(ours, load_torch_captioner(model).caption(photos))


def test_photos_that_come_together_get_a_thread_each(
    folder: Path, photos: list[Image.Image], monkeypatch: pytest.MonkeyPatch
):
    """A photo that comes alone is shared by all threads. Either way the captions are the same."""
    threads: list[int] = []
    make = engine.Graph
    monkeypatch.setattr(engine, "Graph", lambda path, number=0: threads.append(number) or make(path, number))
    captioner = OnnxCaptioner(folder)
    alone = [captioner.caption(photo) for photo in photos]
    assert threads == [0, 0]
    captioner._latest = Future()  # a photo that is still being encoded
    together = captioner.caption(photos)
    assert threads == [0, 0, 1, 1]
    assert_equal(together, alone)


def test_only_the_graphs_of_the_same_weights_are_used(folder: Path, tmp_path: Path):
    shutil.copytree(folder, tmp_path / "model")
    other = save(tmp_path / "other", context_gate="none")
    shutil.copy(other / DECODER, tmp_path / "model" / DECODER)
    with pytest.raises(UserError, match=rf"{DECODER}: differs from the file that was saved"):
        load_captioner(tmp_path / "model")


@pytest.mark.parametrize("damage", [b"", b"no graph", None], ids=["empty", "text", "cut"])
def test_a_damaged_graph_is_an_error_of_one_line(damage: bytes | None, folder: Path, tmp_path: Path):
    import hashlib

    model = shutil.copytree(folder, tmp_path / "model")
    content = (model / ENCODER).read_bytes()[:-100] if damage is None else damage
    (model / ENCODER).write_bytes(content)
    with pytest.raises(UserError, match="differs from the file that was saved"):
        load_captioner(model)
    sums = [line for line in (model / CHECKSUMS).read_text().splitlines() if ENCODER not in line]
    (model / CHECKSUMS).write_text("\n".join([*sums, f"{hashlib.sha256(content).hexdigest()}  {ENCODER}"]))
    with pytest.raises(UserError, match=rf"^[^\n]*{ENCODER}: onnxruntime cannot read the graph [^\n]*$"):
        load_captioner(model)


def test_a_graph_that_cannot_be_computed_is_an_error_of_one_line(
    folder: Path, photos: list[Image.Image], tmp_path: Path
):
    model = shutil.copytree(folder, tmp_path / "model")
    graph = onnx.load(model / DECODER, load_external_data=False)
    transposed = next(node for node in graph.graph.node if node.op_type == "Transpose")
    transposed.attribute[0].ints[:] = [0]
    (model / DECODER).write_bytes(graph.SerializeToString())
    write_checksums(model, [CONFIG, WEIGHTS, ENCODER, DECODER])
    with pytest.raises(UserError, match=rf"^[^\n]*{DECODER}: onnxruntime cannot compute the graph [^\n]*$"):
        load_captioner(model).caption(photos)


def test_a_graph_for_which_memory_does_not_suffice_says_so(
    folder: Path, photos: list[Image.Image], monkeypatch: pytest.MonkeyPatch
):
    def run(*arguments: object) -> None:
        raise RuntimeError("Failed to allocate memory for requested buffer of size 1000000")

    captioner = OnnxCaptioner(folder)
    monkeypatch.setattr(captioner._graphs.decoder, "_session", SimpleNamespace(run=run))
    with pytest.raises(MemoryError, match="requested buffer"):
        captioner.caption(photos[0])


@pytest.mark.parametrize("engine", ["onnx", "torch"])
def test_a_vocabulary_that_repeats_a_word_is_an_error_of_one_line(engine: Engine, folder: Path, tmp_path: Path):
    model = shutil.copytree(folder, tmp_path / "model")
    description = json.loads((model / CONFIG).read_text())
    description["vocabulary"][1] = description["vocabulary"][0]
    (model / CONFIG).write_text(json.dumps(description))
    write_checksums(model, [CONFIG, WEIGHTS, ENCODER, DECODER])
    with pytest.raises(UserError, match=r"^[^\n]*words must differ[^\n]*$"):
        load_captioner(model, engine=engine)


@pytest.mark.parametrize("engine", ["onnx", "torch"])
def test_weights_that_give_no_numbers_are_an_error_of_one_line(
    engine: Engine, folder: Path, photos: list[Image.Image], tmp_path: Path, capfd: pytest.CaptureFixture[str]
):
    model = shutil.copytree(folder, tmp_path / "model")
    weights = load_file(model / WEIGHTS)
    weights["decoder.output_bias"].fill_(torch.nan)
    save_file(weights, model / WEIGHTS)
    write_checksums(model, [CONFIG, WEIGHTS, ENCODER, DECODER])
    with pytest.raises(UserError, match="the model's probabilities are not numbers"):
        load_captioner(model, engine=engine).caption(photos)


def test_weights_that_are_cut_are_an_error_of_one_line(folder: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]):
    model = shutil.copytree(folder, tmp_path / "model")
    (model / WEIGHTS).write_bytes((model / WEIGHTS).read_bytes()[:10_000])
    with pytest.raises(UserError, match=rf"^[^\n]*{WEIGHTS}: differs from the file that was saved [^\n]*$"):
        load_captioner(model)
    write_checksums(model, [CONFIG, WEIGHTS, ENCODER, DECODER])
    with pytest.raises(UserError, match=r"^[^\n]*: onnxruntime cannot read the graph [^\n]*$"):
        load_captioner(model)
    assert capfd.readouterr().err == ""


# Choice of the engine


@pytest.fixture
def without_graphs(folder: Path, tmp_path: Path) -> Path:
    """A model folder as earlier versions wrote it."""
    model = shutil.copytree(folder, tmp_path / "model", ignore=shutil.ignore_patterns("*.onnx"))
    lines = (model / CHECKSUMS).read_text().splitlines()
    (model / CHECKSUMS).write_text("".join(f"{line}\n" for line in lines if "onnx" not in line))
    return model


def test_a_folder_without_graphs_runs_on_torch_and_can_be_given_some(
    without_graphs: Path, folder: Path, photos: list[Image.Image], capsys: pytest.CaptureFixture[str]
):
    captioner: CaptionGenerator = load_captioner(without_graphs)
    assert isinstance(captioner, Captioner)
    advice = f"captioning export {without_graphs} -o {without_graphs}"
    assert f"runs on torch, which starts slower than onnxruntime; add its graphs with: {advice}" in (
        capsys.readouterr().err
    )
    assert_equal(captioner.caption(photos), load_captioner(folder).caption(photos))
    with pytest.raises(UserError, match="has no graphs for onnxruntime; add its graphs with"):
        load_captioner(without_graphs, engine="onnx")
    assert main(advice.split()[1:]) == 0
    assert isinstance(load_captioner(without_graphs), OnnxCaptioner)


def test_the_engine_follows_the_device(folder: Path):
    assert isinstance(load_captioner(folder), OnnxCaptioner)
    assert isinstance(load_captioner(folder, "cpu"), OnnxCaptioner)
    assert isinstance(load_captioner(folder, engine="torch"), Captioner)
    with pytest.raises(UserError, match="--engine onnx: computes on the processor, not on cuda"):
        load_captioner(folder, "cuda", "onnx")
    with pytest.raises(UserError, match="--engine onnx: needs a model folder on this machine"):
        load_captioner("hub:someone/captioner", engine="onnx")


def test_a_model_of_the_hub_runs_on_torch_and_can_be_given_graphs(
    folder: Path,
    photos: list[Image.Image],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
):
    def download(repo_id: str, filename: str, **_: Any) -> str:
        if not (folder / filename).is_file():
            raise LocalEntryNotFoundError(f"{repo_id} has no {filename}")
        return str(folder / filename)

    for module in (huggingface_hub.hub_mixin, saved_model):
        monkeypatch.setattr(module, "hf_hub_download", download)
    expected = load_captioner(folder).caption(photos)
    captioner = load_captioner("hub:someone/captioner")
    assert isinstance(captioner, Captioner)
    assert_equal(captioner.caption(photos), expected)
    said, _, advice = capsys.readouterr().err.strip().partition("; for a folder with graphs, use: ")
    assert said.endswith("hub:someone/captioner: runs on torch, which starts slower than onnxruntime")
    assert advice.startswith("captioning export ")
    monkeypatch.chdir(tmp_path)
    assert main(advice.split()[1:]) == 0
    exported = load_captioner("FOLDER")
    assert isinstance(exported, OnnxCaptioner)
    assert_equal(exported.caption(photos), expected)


def test_without_onnxruntime_torch_is_used_unless_it_is_asked_for(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    monkeypatch.setattr("captioning.loading.find_spec", lambda name: None)
    assert isinstance(load_captioner(folder), Captioner)
    assert capsys.readouterr().err == (
        f"vision-rnn: {folder}: runs on torch, which starts slower than onnxruntime; install it with: pip install "
        "onnxruntime\n"
    )
    with pytest.raises(UserError, match="onnxruntime is not installed; run: pip install onnxruntime"):
        load_captioner(folder, engine="onnx")


def test_captioning_imports_no_torch(folder: Path, photos: list[Image.Image], tmp_path: Path):
    photos[0].save(tmp_path / "photo.png")
    arguments = ["caption", str(tmp_path), "--model", str(folder), "--samples", "2", "-o", str(tmp_path / "x.jsonl")]
    code = f"""
import sys
from captioning.cli import main
assert main({arguments!r}) == 0
heavy = {{"torch", "torchvision", "timm", "lightning", "datasets", "matplotlib", "nltk", "numba"}} & set(sys.modules)
assert not heavy, heavy
"""
    subprocess.run([sys.executable, "-c", code], check=True)


def test_onnxruntime_reports_nothing_and_leaves_nothing(folder: Path, photos: list[Image.Image], tmp_path: Path):
    """Its telemetry would keep an identifier and a database in the user's folders, and an uploader in the process."""
    photos[0].save(tmp_path / "photo.png")
    home, temporary = tmp_path / "home", tmp_path / "temporary"
    home.mkdir()
    temporary.mkdir()
    places = {"HOME": str(home), "XDG_CACHE_HOME": str(home / "cache"), "TMPDIR": str(temporary)}
    environment = {name: value for name, value in os.environ.items() if name != "ORT_DISABLE_TELEMETRY"} | places
    arguments = ["caption", str(tmp_path / "photo.png"), "--model", str(folder)]
    code = f"from captioning.cli import main; assert main({arguments!r}) == 0"
    subprocess.run([sys.executable, "-c", code], check=True, env=environment, cwd=Path(__file__).parents[3])
    assert [*home.rglob("*"), *temporary.rglob("*")] == []


def test_a_language_model_has_no_graphs_and_is_not_advised_to_have_some(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    Captioner(EncoderConfig(backbone="none"), DecoderConfig(attention="none", hidden_size=4), WORDS).save_pretrained(
        tmp_path
    )
    assert not list(tmp_path.glob("*.onnx"))
    assert load_captioner(tmp_path).blind
    assert capsys.readouterr().err == ""
    with pytest.raises(UserError, match="is a language model, which runs on torch alone; omit --engine"):
        load_captioner(tmp_path, engine="onnx")
