"""The ladder of captioners: the count of operations by hand, the command, the table, the figure, the configurations.

Training, skipping and continuing of runs is tested with the ladder of the pixel models.
"""

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from jsonargparse import ArgumentParser
from matplotlib.figure import Figure

from captioning.captioner import Captioner, load_torch_captioner
from captioning.captioner_config import DecoderConfig, EncoderConfig, TrainingConfig
from captioning.cli import main
from captioning.scoring.model import evaluate
from captioning.studies.ladder import flops_of_a_word, ladder_picture, ladder_table
from captioning.training.run import train
from data_prep.captions import prepare_captions
from data_prep.prepared_captions import PreparedCaptions
from vision_rnn.sweep import Measurement, Rung

CONFIGS = Path(__file__).parents[3] / "configs" / "captioning" / "ladder"
E, H, A, L, V = 6, 5, 3, 4, 14  # the encoder's grid is 2x2; ten words and four special tokens
READ_AND_SAY = E * E + H * E + E * V  # L_y, L_h and L_o
LSTM = (E + H) * 4 * H
# The query, the scores, the context; the products of the context in the gates and in the output.
LOOK = H * A + L * A + L * H + H * 4 * H + H * E


@pytest.mark.parametrize(
    ("decoder", "multiplications"),
    [
        ({"cell": "window", "window": 3, "attention": "none"}, (E + H) * 3 * H + H * E + READ_AND_SAY),
        ({"cell": "rnn", "attention": "none"}, (E + H) * H + READ_AND_SAY),
        ({"cell": "lstm", "attention": "none"}, LSTM + READ_AND_SAY),
        ({"cell": "lstm", "attention": "mean"}, (E + 2 * H) * 4 * H + H * E + READ_AND_SAY),
        ({"cell": "lstm", "attention": "none", "num_layers": 3}, LSTM + 2 * (H + H) * 4 * H + READ_AND_SAY),
        ({"attention": "dot", "context_gate": "none"}, LSTM + READ_AND_SAY + LOOK),
        ({"attention": "dot"}, LSTM + READ_AND_SAY + LOOK + H * H),
        ({"attention": "additive", "context_gate": "none"}, LSTM + READ_AND_SAY + LOOK),
    ],
)
def test_the_operations_of_a_word_are_those_of_its_equations(decoder: dict[str, Any], multiplications: int):
    config = DecoderConfig(embedding_size=E, hidden_size=H, attention_size=A, **decoder)
    words = [f"word{number}" for number in range(V - 4)]
    captioner = Captioner(EncoderConfig(backbone="timm:test_resnet", image_size=64), config, words)
    assert flops_of_a_word(captioner) == 2 * multiplications


def test_the_command_trains_measures_and_prints_the_table(synthetic_captions: Path, tmp_path: Path, capsys):
    prepare_captions(synthetic_captions / "captions.jsonl", tmp_path / "data", min_count=1)
    rungs = tmp_path / "rungs"
    rungs.mkdir()
    for name, cell in (("a-window", "window"), ("b-lstm", "lstm")):
        (rungs / f"{name}.yaml").write_text(
            f"data: {tmp_path / 'data'}\noutput: never\nencoder: {{backbone: none}}\n"
            f"decoder: {{cell: {cell}, attention: none, hidden_size: 4, embedding_size: 4}}\n"
            "search: {beam_size: 2, max_words: 8}\n"
            "training: {epochs: 1, batch_size: 8, mirror: false, monitor: perplexity}\n"
        )
    output = tmp_path / "out"
    assert main(["ladder", str(rungs), "--seeds", "0", "1", "-o", str(output)]) == 0
    table = capsys.readouterr().out
    assert table == (output / "ladder.md").read_text()
    assert [line.split(" | ")[0] for line in table.splitlines()[2:4]] == ["| a-window", "| b-lstm"]
    (_, lstm) = json.loads((output / "ladder.json").read_text())
    captioner = load_torch_captioner(output / "b-lstm-seed1" / "model")
    measured = evaluate(captioner, PreparedCaptions.open(tmp_path / "data"), "test")
    for score in ("BLEU-4", "CIDEr-D", "perplexity"):
        assert lstm["scores"]["test"][score]["of_each_seed"][1] == pytest.approx(measured[score])
    assert lstm["decoder_parameters"] == sum(parameter.numel() for parameter in captioner.decoder.parameters())
    assert (lstm["encoder"]["backbone"], lstm["decoder"]["cell"]) == ("none", "lstm")
    # The second time, all runs are finished.
    assert main(["ladder", str(rungs), "--seeds", "0", "1", "-o", str(output)]) == 0
    assert capsys.readouterr().out == table


def test_the_quick_ladder_says_what_it_omits(
    synthetic_captions: Path, tmp_path: Path, capsys, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.chdir(tmp_path)
    for folder, names in (("ladder", ("a", "b", "b-c")), ("ladder-quick", ("b-c", "b"))):
        Path("configs", folder).mkdir(parents=True)
        for name in names:
            Path("configs", folder, f"{name}.yaml").write_text(
                "data: small\noutput: never\nencoder: {backbone: none}\n"
                "decoder: {cell: rnn, attention: none, hidden_size: 4, embedding_size: 4}\n"
                "search: {beam_size: 1, max_words: 8}\n"
                "training: {epochs: 2, batch_size: 8, mirror: false, monitor: perplexity}\n"
            )
    monkeypatch.setattr("captioning.cli.CONFIGS", Path("configs"))
    assert main(["ladder", "--quick"]) == 2
    fix = "data-prep captions SOURCE -o small --max-images 750"
    assert capsys.readouterr().err == f"captioning: error: small: no such folder; make it with: {fix}\n"
    prepare_captions(synthetic_captions / "captions.jsonl", "small", min_count=1, max_images=6)
    capsys.readouterr()
    assert main(["ladder", "--quick"]) == 0
    table = capsys.readouterr().out
    assert table == Path("runs/caption-ladder-quick/ladder.md").read_text()
    assert table.startswith(
        "Quick ladder: 2 of 3 rungs, 6 of 16 training images, epochs: 2. It shows an order, not what each rung can "
        "reach; for that, omit --quick.\n\n| rung | "
    )
    assert [line.split(" | ")[0] for line in table.splitlines()[4:6]] == ["| b", "| b-c"]
    assert sorted(path.name for path in Path("runs/caption-ladder-quick").glob("*-seed*")) == ["b-c-seed0", "b-seed0"]


def measurement(name: str, cider: Sequence[float]) -> Measurement:
    rung = Rung(name, "data/some", {"decoder": DecoderConfig(), "training": TrainingConfig()})
    test = {"BLEU-4": [0.2 for _ in cider], "CIDEr-D": list(cider), "perplexity": [10.0 for _ in cider]}
    validation = test | {"CIDEr-D": [0.125 for _ in cider]}
    sizes = {"decoder_parameters": 1234567, "flops_of_a_word": 2_345_000}
    seconds = [100.0, None, 121.0][: len(cider)]
    return Measurement(rung, list(range(len(cider))), sizes, {"validation": validation, "test": test}, seconds)


def test_the_table_has_mean_and_deviation_over_the_seeds():
    header, _, row, *_ = ladder_table([measurement("some", [0.5, 0.6, 0.7])]).splitlines()
    assert dict(zip(header.split(" | "), row.split(" | "), strict=True)) == {
        "| rung": "| some",
        "validation BLEU-4": "0.2000 ± 0.0000",
        "validation CIDEr-D": "0.125 ± 0.000",
        "validation perplexity": "10.00 ± 0.00",
        "test BLEU-4": "0.2000 ± 0.0000",
        "test CIDEr-D": "0.600 ± 0.100",
        "test perplexity": "10.00 ± 0.00",
        "decoder parameters": "1,234,567",
        "MFLOP per word": "2.35",
        "training seconds |": "110 |",
    }


def test_the_figure_has_every_run_and_the_means(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    figures: list[Figure] = []
    save = Figure.savefig
    monkeypatch.setattr(Figure, "savefig", lambda self, *args, **how: (figures.append(self), save(self, *args, **how)))
    ladder_picture([measurement("first", [0.5, 0.7]), measurement("second", [0.4, 0.4])], tmp_path / "ladder.png")
    assert (tmp_path / "ladder.png").read_bytes().startswith(b"\x89PNG")
    panels = {axes.get_xlabel(): axes for axes in figures[0].axes}
    assert list(panels) == [
        "test BLEU-4 (higher is better)",
        "test CIDEr-D (higher is better)",
        "test perplexity (lower is better)",
    ]
    (bars,) = panels["test CIDEr-D (higher is better)"].containers
    line, _, (spread,) = bars.lines
    assert line.get_xdata() == pytest.approx([0.6, 0.4])
    assert [end for end in spread.get_segments()[0][:, 0]] == pytest.approx([0.6 - 0.02**0.5, 0.6 + 0.02**0.5])
    assert [label.get_text() for label in figures[0].axes[0].get_yticklabels()] == ["first", "second"]


def test_a_rung_of_the_quick_ladder_differs_from_that_of_the_full_one_in_data_and_budget_alone():
    parser = ArgumentParser(exit_on_error=False)
    parser.add_argument("--config", action="config")
    parser.add_function_arguments(train)
    quick = sorted((CONFIGS.parent / "ladder-quick").iterdir(), key=lambda path: path.stem)
    assert [path.stem for path in quick] == ["0-language-model", "3-lstm", "7-dot-attention"]
    for path in quick:
        few, all_ = (
            parser.instantiate(parser.parse_args(["--config", str(each)])) for each in (path, CONFIGS / path.name)
        )
        assert (few.encoder, few.decoder, few.search) == (all_.encoder, all_.decoder, all_.search)
        assert few.training == replace(all_.training, epochs=2, batch_size=4)
        assert (few.data, few.output) == ("data/flickr8k-quick", f"runs/caption-ladder-quick/{path.stem}-seed0")
        assert path.read_text().splitlines()[1] == f"#   captioning train --config bundled:ladder-quick/{path.stem}"


def test_the_shipped_rungs_have_one_budget_and_differ_in_the_decoder():
    parser = ArgumentParser(exit_on_error=False)
    parser.add_argument("--config", action="config")
    parser.add_function_arguments(train)
    found = {}
    for path in sorted(CONFIGS.iterdir()):
        settings = parser.instantiate(parser.parse_args(["--config", str(path)]))
        blind = path.stem == "0-language-model"
        assert settings.encoder == EncoderConfig(**({"backbone": "none"} if blind else {}))
        monitor = "perplexity" if blind else "CIDEr-D"
        assert settings.training == TrainingConfig(epochs=5, batch_size=32, mirror=False, monitor=monitor)
        decoder = settings.decoder
        same = DecoderConfig(hidden_size=256, embedding_size=256, attention_size=decoder.attention_size, dropout=0.3)
        for name in ("hidden_size", "embedding_size", "dropout", "context_gate"):
            assert getattr(decoder, name) == getattr(same, name)
        assert path.read_text().splitlines()[1] == (f"#   captioning train --config bundled:ladder/{path.stem}")
        assert settings.output == f"runs/caption-ladder/{path.stem}-seed0"
        found[path.stem] = (decoder.cell, decoder.num_layers, decoder.residual, decoder.attention, decoder.hard)
    assert found == {
        "0-language-model": ("lstm", 1, False, "none", False),
        "1-window": ("window", 1, False, "none", False),
        "2-rnn": ("rnn", 1, False, "none", False),
        "2-rnn-with-mean": ("rnn", 1, False, "mean", False),
        "3-lstm": ("lstm", 1, False, "none", False),
        "3-lstm-with-mean": ("lstm", 1, False, "mean", False),
        "4-deep-rnn": ("rnn", 3, True, "none", False),
        "5-deep-lstm": ("lstm", 3, True, "none", False),
        "6-additive-attention": ("lstm", 1, False, "additive", False),
        "7-dot-attention": ("lstm", 1, False, "dot", False),
        "8-hard-attention": ("lstm", 1, False, "additive", True),
    }
