"""The gates: they determine the states of the decoder; the picture, and the option that draws it."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from matplotlib.figure import Figure
from PIL import Image

from captioning.caption_generator import Caption, OpenGates
from captioning.captioner import Captioner
from captioning.captioner_config import DecoderConfig, EncoderConfig
from captioning.cli import main
from captioning.studies.gates import gates_picture
from data_prep.images import load_image
from data_prep.vocabulary import BOS

WORDS = ["a", "dog", "red", "runs"]
CAPTION = ["a", "red", "dog", "runs"]


@pytest.mark.parametrize("num_layers", [1, 3])
def test_the_gates_make_the_states_of_the_decoder(num_layers: int) -> None:
    torch.manual_seed(1)
    config = DecoderConfig(hidden_size=5, embedding_size=6, attention_size=4, num_layers=num_layers)
    captioner = Captioner(EncoderConfig(backbone="timm:test_resnet", image_size=64), config, WORDS).eval()
    image = Image.effect_mandelbrot((64, 64), (-2, -1, 1, 1), 50).convert("RGB")
    opened = captioner.open_gates(image, CAPTION)
    assert {array.shape for array in opened} == {(4, 5)}
    gates = OpenGates(*map(torch.from_numpy, opened))  # type: ignore[arg-type]
    decoder = captioner.decoder
    with torch.inference_mode():
        memory = captioner.remember([image])
        state = decoder.initial_state(memory, 1)
        cell = state.cell_state[0, 0, -1]
        for time, word in enumerate([BOS, *captioner.vocabulary.encode(CAPTION[:-1])]):
            _, state, _ = decoder.step(torch.tensor([[word]]), state, memory)
            cell = gates.forget[time] * cell + gates.input[time] * gates.candidate[time]
            torch.testing.assert_close(gates.cell[time], cell)
            torch.testing.assert_close(state.cell_state[0, 0, -1], cell)
            torch.testing.assert_close(state.hidden[0, 0, -1], gates.output[time] * cell.tanh())
    assert "gates" not in vars(decoder.top_cell)


def test_the_picture_has_every_gate_with_its_units_in_one_order(tmp_path: Path, monkeypatch) -> None:
    figures: list[Figure] = []
    save = Figure.savefig
    monkeypatch.setattr(Figure, "savefig", lambda self, *args, **how: (figures.append(self), save(self, *args, **how)))
    # Three units; the last forgets most, and the first least.
    unit = np.broadcast_to(np.float32([0.3, 0.2, 0.1]), (2, 3))
    gates = OpenGates(unit, unit + 0.5, unit, -unit, 2 * unit)
    caption = Caption(["a", "dog"], -1.0, np.full((2, 2, 2), 0.25))
    gates_picture(Image.new("RGB", (20, 10), "red"), caption, gates, tmp_path / "gates.png")
    assert load_image(tmp_path / "gates.png").height > 500
    maps = {axes.get_ylabel(): axes.images[0].get_array() for axes in figures[0].axes if axes.get_ylabel()}
    assert list(maps) == ["input gate", "forget gate", "output gate", "candidate", "tanh of the cell"]
    assert [axes.get_title() for axes in figures[0].axes[:2]] == ["a", "dog"]
    for name, expected in zip(maps, gates, strict=True):
        shown = np.tanh(expected) if name == "tanh of the cell" else expected
        np.testing.assert_allclose(maps[name].data, shown.T[::-1])


def test_the_option_draws_a_picture_a_photo(
    make_image: Callable[..., Path], model_folder: Path, tmp_path: Path
) -> None:
    photo = make_image(tmp_path / "dog.png", size=(60, 40))
    caption = ["caption", str(photo), "--model", str(model_folder)]
    assert main([*caption, "--gates", str(tmp_path / "out"), "--attention", str(tmp_path / "looks")]) == 0
    assert load_image(tmp_path / "out" / "dog.png").width > 500
    assert load_image(tmp_path / "looks" / "dog.png").width > 500


def test_pictures_of_two_kinds_need_two_folders(
    make_image: Callable[..., Path], model_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    photo = make_image(tmp_path / "dog.png")
    both = ["--gates", str(tmp_path / "out"), "--attention", str(tmp_path / "out")]
    assert main(["caption", str(photo), "--model", str(model_folder), *both]) == 2
    assert "--gates: would overwrite" in capsys.readouterr().err


def test_a_model_without_gates_is_refused(
    make_image: Callable[..., Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = DecoderConfig(cell="rnn", hidden_size=4, embedding_size=4, attention="none")
    Captioner(EncoderConfig(backbone="timm:test_resnet", image_size=64), config, WORDS).save_pretrained(
        tmp_path / "rnn"
    )
    photo = make_image(tmp_path / "dog.png")
    arguments = ["caption", str(photo), "--model", str(tmp_path / "rnn"), "--gates", str(tmp_path / "out")]
    assert main(arguments) == 2
    assert "this model is not an LSTM and has no gates" in capsys.readouterr().err
