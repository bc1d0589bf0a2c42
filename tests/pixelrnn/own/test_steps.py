"""A pixel model of one's own: all steps, continued from any moment, with nothing repeated and every bad input named."""

import json
import os
import random
import shlex
import shutil
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from PIL import Image

from data_prep.prepared_pixels import PreparedPixels
from pixelrnn.cli import main
from pixelrnn.model import load_pixel_model
from pixelrnn.own.estimate import estimate
from pixelrnn.own.picture_source import PictureSource
from pixelrnn.own.steps import FEWEST_PICTURES, train_own
from pixelrnn.pixel_config import BUNDLED, ImageShape, ModelConfig, TrainingConfig
from tests.moments import calls_of, count_calls, kill_at, kill_in
from vision_rnn.errors import UserError

MODEL = ModelConfig(num_layers=1, hidden_channels=4, output_channels=4)
TRAINING = TrainingConfig(epochs=2, batch_size=4, average_decay=0.5, learning_rate=0.03)
HEIGHT, WIDTH = 6, 5


def stripes(number: int) -> np.ndarray:
    """Grey pictures (6, 5), uint8, with dark and light rows or columns, and noise; all differ."""
    random_state = np.random.default_rng(number)
    place = np.indices((HEIGHT, WIDTH))[number % 2] % 2
    return (40 + 150 * place + random_state.integers(0, 60, (HEIGHT, WIDTH))).astype(np.uint8)


def fill(folder: Path, number: int = 20, convert: Callable[[np.ndarray], np.ndarray] = lambda picture: picture) -> Path:
    folder.mkdir(parents=True)
    for index in range(number):
        Image.fromarray(convert(stripes(index))).save(folder / f"{index:02}.png")
    return folder


@pytest.fixture(scope="session")
def album(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """20 grey pictures. Tests must not write to it."""
    return fill(tmp_path_factory.mktemp("own") / "album")


@pytest.fixture
def pictures(album: Path, tmp_path: Path) -> Path:
    return shutil.copytree(album, tmp_path / "pictures")


def start(source: Path, output: Path | None = None, **options: Any) -> dict[str, Any]:
    """Train a tiny model."""
    return train_own(source, output, **{"model": MODEL, "training": TRAINING, "force": True} | options)


@pytest.fixture(scope="session")
def finished(album: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The output of an uninterrupted run. Tests must not write to it."""
    output = tmp_path_factory.mktemp("finished") / "model"
    start(album, output)
    return output


def result_of(output: Path) -> list[bytes]:
    return [
        (output / name).read_bytes() for name in ("model/model.safetensors", "samples.png", "before.json", "after.json")
    ]


# Functions that the steps call, from the first step to the last.
MOMENTS = (
    "data_prep.pixels.write_json",
    "pixelrnn.training.task.PixelTask.training_step",
    "pixelrnn.training.task.PixelTask.validation_step",
    "pixelrnn.training.sample_grids.draw",
    "vision_rnn.run_folder.write_json",
    "vision_rnn.saved_model.save",
    "pixelrnn.own.steps.write_json",
    "pixelrnn.own.steps.save_picture",
    "pixelrnn.own.steps.evaluate",
)


@pytest.fixture(scope="session")
def moments(album: Path, tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """The calls of MOMENTS in an uninterrupted run."""
    return calls_of(MOMENTS, lambda: start(album, tmp_path_factory.mktemp("counted") / "model"))


@pytest.mark.parametrize("seed", range(3))
def test_a_run_killed_at_three_random_moments_ends_as_an_uninterrupted_one(
    seed: int, finished: Path, moments: list[str], album: Path, tmp_path: Path
):
    output, generator = tmp_path / "model", random.Random(seed)
    for _ in range(3):
        kill_at(generator.randrange(len(moments) // 2), MOMENTS, lambda: start(album, output))
    start(album, output)
    assert result_of(output) == result_of(finished)


@pytest.mark.parametrize("name", MOMENTS)
def test_a_run_killed_in_any_step_is_continued_without_repeating_the_finished_ones(
    name: str, finished: Path, moments: list[str], album: Path, tmp_path: Path
):
    """Killed at the last call of each kind."""

    def last(name: str) -> int:
        return len(moments) - 1 - moments[::-1].index(name)

    output, moment = tmp_path / "model", last(name)
    kill_at(moment, MOMENTS, lambda: start(album, output))
    with pytest.MonkeyPatch.context() as patch:
        counter = count_calls(MOMENTS, patch)
        start(album, output)
    assert result_of(output) == result_of(finished)
    done = {step for step in ("data_prep.pixels.write_json", "pixelrnn.own.steps.save_picture") if last(step) < moment}
    if last("vision_rnn.saved_model.save") < moment:
        done.add("pixelrnn.training.task.PixelTask.training_step")
    assert done.isdisjoint(counter.names)


def test_it_writes_beside_the_pictures_and_says_first_what_it_will_do(
    pictures: Path, capsys: pytest.CaptureFixture[str]
):
    before = sorted(pictures.iterdir())
    document = start(pictures)
    assert sorted(pictures.iterdir()) == before
    output = pictures.parent / "pictures-pixel-model"
    assert document["model"] == str(output / "model")
    assert document["skipped"] == 0
    # A tenth each to validate and to test.
    assert (document["before"]["images"], document["after"]["images"]) == (2, 2)
    assert document["before"]["split"] == "test"
    assert document["compared_with"] == "independent pixels"
    assert load_pixel_model(document["model"]).shape == ImageShape(height=HEIGHT, width=WIDTH, levels=256)
    with Image.open(document["samples"]) as samples:
        assert samples.width > 8 * WIDTH
    lines = capsys.readouterr().err.splitlines()
    assert "20 pictures: 16 to learn from, 2 to choose the best epoch, 2 held out" in lines[0]
    assert "grey images of 6x5 pixels and 256 levels, as no picture is in colour" in lines[1]
    assert "starts from no model; row_lstm with 1 layers of 4, 2 epochs with batch size 4" in lines[2]
    assert (
        "prepares the pictures, measures independent pixels, to compare, trains, draws samples, measures the trained "
        "model: about"
    ) in lines[3]


@pytest.mark.slow
def test_the_chosen_settings_learn_what_independent_pixels_cannot(tmp_path: Path):
    """Stripes, other ones in each picture: a pixel is like the one before it, and its place says nothing."""

    def two_tones(number: int) -> np.ndarray:
        return np.where(np.random.default_rng(number).random((8, 1)) < 0.5, 0, 255).repeat(8, axis=1).astype(np.uint8)

    source = tmp_path / "stripes"
    source.mkdir()
    for index in range(120):
        Image.fromarray(two_tones(index)).save(source / f"{index}.png")
    document = train_own(source)
    # A row is one bit, and so are eight independent pixels each.
    assert document["before"]["bits_per_dimension"] == pytest.approx(1, abs=0.05)
    assert document["after"]["bits_per_dimension"] < 0.2


def test_a_finished_run_is_shown_again_without_work(finished: Path, album: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("pixelrnn.own.steps._work", lambda *_: pytest.fail("worked"))
    files = {path: path.stat().st_mtime_ns for path in finished.rglob("*")}
    document = start(album, finished)
    assert document["after"] == json.loads((finished / "after.json").read_text())
    assert {path: path.stat().st_mtime_ns for path in finished.rglob("*")} == files


def test_the_data_of_a_finished_run_may_be_deleted(finished: Path, pictures: Path, tmp_path: Path):
    output = shutil.copytree(finished, tmp_path / "model")
    shutil.rmtree(output / "data")
    assert start(pictures, output)["after"] == json.loads((finished / "after.json").read_text())
    Image.new("L", (WIDTH, HEIGHT)).save(pictures / "new.png")
    with pytest.raises(UserError, match="1 added, such as new"):
        start(pictures, output)


@pytest.mark.parametrize(
    ("change", "named"),
    [
        (lambda pictures: Image.new("L", (WIDTH, HEIGHT)).save(pictures / "new.png"), "1 added, such as new.png"),
        (lambda pictures: (pictures / "03.png").unlink(), "1 removed, such as 03.png"),
        (lambda pictures: Image.new("L", (9, 9)).save(pictures / "03.png"), "1 changed, such as 03.png"),
    ],
)
def test_pictures_that_changed_since_the_interruption_are_named(
    change: Callable[[Path], object], named: str, pictures: Path
):
    kill_in("pixelrnn.own.steps.train", lambda: start(pictures))
    change(pictures)
    with pytest.raises(UserError, match=f"pictures-pixel-model: was started with other pictures.*{named}"):
        start(pictures)


def test_an_array_that_changed_is_named(tmp_path: Path):
    path, arrays = tmp_path / "album" / "a.npz", {"x": np.stack([stripes(index) for index in range(20)])}
    path.parent.mkdir()
    np.savez(path, **arrays)
    kill_in("pixelrnn.own.steps.train", lambda: start(path))
    arrays["x"][3] += 1
    np.savez(path, **arrays)
    with pytest.raises(UserError, match=r"album-pixel-model: was started with other .*1 changed, such as image 3"):
        start(path)


def test_other_files_and_times_of_change_do_not_matter(pictures: Path, capsys: pytest.CaptureFixture[str]):
    kill_in("pixelrnn.own.steps.train", lambda: start(pictures))
    (pictures / ".DS_Store").write_bytes(b"\0")
    os.utime(pictures / "03.png", (0, 0))
    capsys.readouterr()
    assert start(pictures)["after"]["images"] == 2
    errors = capsys.readouterr().err
    assert "20 pictures: 16 to learn from" in errors
    assert "vision-rnn: trains, draws samples, measures the trained model: about" in errors


@pytest.mark.parametrize(
    ("option", "named"),
    [
        ({"training": TrainingConfig(epochs=3)}, "another training"),
        ({"model": ModelConfig(num_layers=2)}, "another model"),
        ({"init_from": BUNDLED}, "another init_from"),
        ({"size": 4}, "another size"),
    ],
)
def test_other_settings_than_those_of_the_start_are_refused(
    option: dict[str, Any], named: str, finished: Path, album: Path
):
    with pytest.raises(UserError, match=f"{named}; give the same options"):
        start(album, finished, **option)


def test_settings_that_are_not_given_are_those_of_the_start(
    finished: Path, album: Path, monkeypatch: pytest.MonkeyPatch
):
    """Even if a later version would choose others."""
    monkeypatch.setattr("pixelrnn.own.settings.choose_training", lambda *_: TrainingConfig(epochs=99))
    assert start(album, finished, training=TrainingConfig())["model"] == str(finished / "model")


# Bad inputs


def test_too_few_pictures_are_refused_with_the_number_needed(pictures: Path):
    with pytest.raises(UserError, match=rf"20 pictures are too few.*have {FEWEST_PICTURES} .*--force"):
        start(pictures, force=False)
    for path in sorted(pictures.iterdir())[2:]:
        path.unlink()
    with pytest.raises(UserError, match=r"2 pictures are too few.*have 3 "):
        start(pictures)
    assert not (pictures.parent / "pictures-pixel-model").exists()


def test_a_folder_without_pictures_says_what_looks_like_one(tmp_path: Path):
    bare = tmp_path / "bare"
    bare.mkdir()
    with pytest.raises(UserError, match="bare: contains no image; name a folder"):
        start(bare)
    (bare / "photo.nef").write_bytes(b"raw")
    with pytest.raises(UserError, match=r"bare: contains no image; .*photo\.nef \(convert"):
        start(bare)
    (tmp_path / "one.jpg").write_bytes(b"")
    with pytest.raises(UserError, match=r"one\.jpg: no file of many pictures; name a folder"):
        start(tmp_path / "one.jpg")


@pytest.mark.parametrize(("source", "named"), [("none", "no such file or folder"), ("hub:a/b", "data-prep pixels")])
def test_a_source_that_is_no_folder_of_pictures_is_named(
    source: str, named: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match=named):
        start(Path(source))


def test_a_prepared_data_set_is_not_taken_for_pictures(finished: Path):
    with pytest.raises(UserError, match="data: a prepared data set; train on it with --data"):
        start(finished / "data")


def test_pictures_of_several_sizes_need_a_size_and_are_counted(pictures: Path, capsys: pytest.CaptureFixture[str]):
    Image.new("L", (9, 9)).save(pictures / "square.png")
    Image.new("L", (2, 2)).save(pictures / "tiny.png")
    with pytest.raises(UserError, match="pictures: pictures of 3 sizes, from 2x2 to 9x9 pixels; bring all to one with"):
        start(pictures)
    assert not (pictures.parent / "pictures-pixel-model").exists()
    document = start(pictures, size=4)
    assert document["resized"]
    assert load_pixel_model(document["model"]).shape == ImageShape(height=4, width=4, levels=256)
    assert (
        "22 of 22 pictures are resized to 4x4 pixels, 20 of them cropped before to the square around their centre, "
        "1 enlarged"
    ) in capsys.readouterr().err


def test_a_disk_that_is_too_full_is_named_before_anything_is_written(pictures: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("vision_rnn.announcement.shutil.disk_usage", lambda _: SimpleNamespace(free=1000))
    with pytest.raises(UserError, match=r"pictures-pixel-model: .* GB are needed, but 0.0 GB are free; free some"):
        start(pictures)
    assert not (pictures.parent / "pictures-pixel-model").exists()


@pytest.mark.parametrize("place", ["pictures", "pictures/sub", "held"])
def test_an_output_among_the_pictures_or_in_other_work_is_refused(place: str, pictures: Path, tmp_path: Path):
    (tmp_path / "held").mkdir()
    (tmp_path / "held" / "thesis.txt").write_text("years of work")
    with pytest.raises(UserError, match="choose another --output"):
        start(pictures, tmp_path / place)
    assert (tmp_path / "held" / "thesis.txt").is_file()
    assert not (tmp_path / "pictures" / "sub").exists()


def test_a_broken_picture_is_named_and_a_repeated_one_counted(pictures: Path, capsys: pytest.CaptureFixture[str]):
    (pictures / "broken.png").write_bytes(b"broken")
    for index in range(20):
        shutil.copy(pictures / "00.png", pictures / f"copy-{index}.png")
    assert start(pictures)["skipped"] == 1
    errors = capsys.readouterr().err.splitlines()
    assert any("skipped broken.png" in line for line in errors)
    assert any("1 pictures are in several splits" in line for line in errors)


# What is decided by the pictures


def test_black_and_white_pictures_give_a_binary_model(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    source = fill(tmp_path / "ink", convert=lambda picture: np.where(picture > 128, 255, 0).astype(np.uint8))
    document = start(source, size=4)
    assert load_pixel_model(document["model"]).shape == ImageShape(height=4, width=4, levels=2)
    errors = capsys.readouterr().err
    assert "2 levels, as all pictures are black and white" in errors
    assert "; then levels from 128 up become white, others black" in errors


def test_a_single_picture_in_colour_gives_a_model_of_colours(pictures: Path, capsys: pytest.CaptureFixture[str]):
    Image.new("RGB", (WIDTH, HEIGHT), (200, 10, 10)).save(pictures / "red.png")
    document = start(pictures)
    assert load_pixel_model(document["model"]).shape == ImageShape(height=HEIGHT, width=WIDTH, channels=3, levels=256)
    assert "RGB images of 6x5 pixels and 256 levels, as 1 of 21 pictures are in colour" in capsys.readouterr().err


def test_binary_pictures_of_the_bundled_size_start_from_the_bundled_model(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    digits = sorted((Path(__file__).parents[3] / "examples" / "digits").glob("*.png"))
    source = tmp_path / "digits"
    source.mkdir()
    for index, path in enumerate([*digits, *digits]):
        shutil.copy(path, source / f"{index}.png")
    training = TrainingConfig(epochs=1, batch_size=8)
    document = train_own(source, training=training, force=True)
    assert document["compared_with"] == BUNDLED
    assert document["before"]["nats_per_image"] < 200
    assert load_pixel_model(document["model"]).config == load_pixel_model(BUNDLED).config
    errors = capsys.readouterr().err
    assert "is for such images, so training starts from it; --from-scratch does not" in errors
    assert "measures the model to start from, trains" in errors
    with pytest.raises(UserError, match="another init_from"):
        train_own(source, training=training, force=True, from_scratch=True)


def test_a_source_with_splits_keeps_them_and_its_classes_are_used_if_asked(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    for split, number in {"train": 8, "validation": 3, "test": 2}.items():
        for name in ("a", "b"):
            fill(tmp_path / "album" / split / name, number)
    document = start(tmp_path / "album", training=TrainingConfig(epochs=1))
    splits = PreparedPixels.open(tmp_path / "album-pixel-model" / "data").manifest["splits"]
    assert splits == {"train": {"images": 16}, "validation": {"images": 6}, "test": {"images": 4}}
    assert document["classes"] == 0
    assert "the classes of the pictures are not used; --model.conditional=true" in capsys.readouterr().err
    conditional = ModelConfig(num_layers=1, hidden_channels=4, conditional=True)
    document = start(tmp_path / "album", tmp_path / "out", model=conditional, training=TrainingConfig(epochs=1))
    assert document["classes"] == 2
    assert load_pixel_model(document["model"]).shape.num_classes == 2


def test_without_a_test_split_it_says_what_the_likelihoods_are_of(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    for split in ("train", "validation"):
        fill(tmp_path / "album" / split, 8)
    document = start(tmp_path / "album")
    assert (document["after"]["split"], document["after"]["images"]) == ("validation", 8)
    errors = capsys.readouterr().err
    assert "none held out to measure" in errors
    assert "has no test split" in errors


def test_a_note_of_the_reader_is_printed_once(pictures: Path, capsys: pytest.CaptureFixture[str]):
    (pictures / "raw.nef").write_bytes(b"raw")
    start(pictures)
    assert capsys.readouterr().err.count("raw.nef") == 1


def test_the_space_is_that_of_data_and_checkpoints(pictures: Path, monkeypatch: pytest.MonkeyPatch):
    announced = []
    monkeypatch.setattr(
        "pixelrnn.own.steps.estimate", lambda *given: announced.append(estimate(*given)) or announced[-1]
    )
    start(pictures, model=ModelConfig(num_layers=1, hidden_channels=64))
    output = pictures.parent / "pictures-pixel-model"
    checkpoints = sum(path.stat().st_size for path in output.rglob("*.ckpt"))
    assert 0 < announced[0].seconds < 600
    assert announced[0].size - 20 * HEIGHT * WIDTH == pytest.approx(1.5 * checkpoints, rel=0.5)


def test_a_survey_counts_what_can_be_read(pictures: Path):
    Image.new("RGB", (3, 4), (9, 8, 7)).save(pictures / "red.png")
    (pictures / "broken.png").write_bytes(b"broken")
    survey = PictureSource.read(pictures).survey()
    assert survey.sizes == {(HEIGHT, WIDTH): 20, (4, 3): 1}
    assert (survey.number, survey.in_colour, survey.is_binary, survey.has_labels) == (21, 1, False, False)
    assert survey.splits.total() == 21


def test_what_a_kill_left_is_removed_and_a_second_process_is_kept_out(pictures: Path):
    fcntl = pytest.importorskip("fcntl")
    kill_in("pixelrnn.own.steps.train", lambda: start(pictures))
    output = pictures.parent / "pictures-pixel-model"
    remains = output / "checkpoints" / ".last.ckpt.unfinished" / "last.ckpt"
    remains.parent.mkdir(parents=True)
    remains.write_bytes(b"half")
    with (output / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with pytest.raises(UserError, match="pictures-pixel-model: another process is writing it"):
            start(pictures)
        assert remains.is_file()
    start(pictures)
    assert not remains.parent.exists()


def test_an_interruption_says_how_to_continue(pictures: Path, monkeypatch: pytest.MonkeyPatch):
    def interrupt(*_: Any, **__: Any) -> None:
        raise KeyboardInterrupt("add --ckpt_path last to continue")

    monkeypatch.setattr("pixelrnn.own.steps.train", interrupt)
    with pytest.raises(KeyboardInterrupt, match="give the same command again to continue"):
        start(pictures)


# The command


@pytest.mark.parametrize(
    ("options", "named"),
    [
        (["--data", "d"], "--data d: cannot be combined"),
        (["--ckpt_path", "last"], "--ckpt_path: goes with --data"),
        (["--trainer.devices=2"], "--trainer: goes with --data"),
        (["--init_from", "m", "--from-scratch"], "--from-scratch: cannot be combined"),
    ],
)
def test_the_command_names_options_that_do_not_go_with_a_folder(
    options: list[str], named: str, pictures: Path, capsys: pytest.CaptureFixture[str]
):
    assert main(["train", str(pictures), *options]) == 2
    assert named in capsys.readouterr().err
    assert not (pictures.parent / "pictures-pixel-model").exists()


@pytest.mark.parametrize("option", [["--from-scratch"], ["--force"], ["--size", "8"]])
def test_the_command_names_options_that_need_a_folder(
    option: list[str], capsys: pytest.CaptureFixture[str], tmp_path: Path
):
    assert main(["train", "--data", "d", "-o", str(tmp_path / "run"), *option]) == 2
    assert f"{option[0]}: goes with a folder of pictures" in capsys.readouterr().err


@pytest.mark.slow
def test_the_printed_commands_work(pictures: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch):
    (pictures / "broken.jpg").write_bytes(b"broken")
    tiny = ["--model.num_layers=1", "--model.hidden_channels=4", "--training.epochs=1"]
    arguments = ["train", str(pictures), "--size", "5", *tiny, "--force", "-o", str(pictures.parent / "my model")]
    assert main(arguments) == 1
    output, errors = capsys.readouterr()
    assert "before: independent pixels" in output
    assert "skipped broken.jpg" in errors
    commands = [shlex.split(line.removeprefix("next: ")) for line in output.splitlines() if line.startswith("next: ")]
    assert [command[:2] for command in commands] == [["pixelrnn", name] for name in ("complete", "sample", "report")]
    monkeypatch.chdir(pictures.parent)
    shutil.copy(pictures / "03.png", "picture.png")
    for command in commands:
        assert main(command[1:]) == 0
    assert {"completions.png", "samples.png", "report.html"} <= {path.name for path in Path().iterdir()}
    capsys.readouterr()
    assert main([*arguments, "--json"]) == 1
    assert json.loads(capsys.readouterr().out)["skipped"] == 1
