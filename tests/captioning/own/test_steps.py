"""A captioner of one's own: all steps, continued from any moment, with nothing repeated and every bad input named."""

import json
import os
import random
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from PIL import Image

from captioning.captioner import load_torch_captioner
from captioning.captioner_config import DecoderConfig, EncoderConfig, SearchConfig, TrainingConfig
from captioning.cli import main
from captioning.own.captioned_photos import FEWEST_PHOTOS
from captioning.own.estimate import estimate
from captioning.own.steps import train_own
from captioning.scoring.table import before_and_after
from tests.moments import calls_of, count_calls, kill_at, kill_in
from vision_rnn.errors import UserError

TRAINING = TrainingConfig(epochs=2, batch_size=4, learning_rate=3e-3, mirror=False, precision="32")
pytestmark = pytest.mark.usefixtures("random_backbones")


@pytest.fixture(scope="session")
def album(synthetic_captions: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """24 photos, each with a text file of two or three captions. Tests must not write to it."""
    folder = tmp_path_factory.mktemp("own") / "album"
    folder.mkdir()
    for line in (synthetic_captions / "captions.jsonl").read_text().splitlines():
        photo = json.loads(line)
        shutil.copy(synthetic_captions / "images" / photo["image"], folder)
        (folder / photo["image"]).with_suffix(".txt").write_text("\n".join(photo["captions"]))
    return folder


@pytest.fixture
def photos(album: Path, tmp_path: Path) -> Path:
    return shutil.copytree(album, tmp_path / "photos")


@pytest.fixture
def start(photos: Path, model_folder: Path) -> Callable[..., dict[str, Any]]:
    """Train a tiny captioner on `photos`."""

    def start(source: Path = photos, **options: Any) -> dict[str, Any]:
        options = {"init_from": str(model_folder), "training": TRAINING, "force": True} | options
        return train_own(source, **options)

    return start


@pytest.fixture(scope="session")
def finished(album: Path, model_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The output of an uninterrupted run. Tests must not write to it."""
    output = tmp_path_factory.mktemp("finished") / "captioner"
    train_own(album, output, init_from=str(model_folder), training=TRAINING, force=True)
    return output


def result_of(output: Path) -> tuple[bytes, Any, Any]:
    scores = (json.loads((output / name).read_text()) for name in ("before.json", "after.json"))
    return (output / "model" / "model.safetensors").read_bytes(), *scores


# Functions that the steps call again and again, from the first step to the last.
MOMENTS = (
    "data_prep.captions.load_image",
    "data_prep.captions.write_json",
    "captioning.training.features.load_image",
    "captioning.training.task.CaptioningTask.training_step",
    "captioning.training.task.beam_search",
    "captioning.scoring.model.beam_search",
    "vision_rnn.run_folder.write_json",
    "vision_rnn.saved_model.save",
    "captioning.own.steps.write_json",
)


@pytest.fixture(scope="session")
def moments(album: Path, model_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """The calls of MOMENTS in an uninterrupted run."""
    output, begun = tmp_path_factory.mktemp("counted") / "captioner", str(model_folder)
    return calls_of(MOMENTS, lambda: train_own(album, output, init_from=begun, training=TRAINING, force=True))


@pytest.mark.parametrize("seed", range(3))
def test_a_run_killed_at_three_random_moments_ends_as_an_uninterrupted_one(
    seed: int, start: Callable[..., dict[str, Any]], finished: Path, moments: list[str], album: Path, tmp_path: Path
):
    output, generator = tmp_path / "captioner", random.Random(seed)
    for _ in range(3):
        kill_at(generator.randrange(len(moments) // 2), MOMENTS, lambda: start(album, output=output))
    start(album, output=output)
    assert result_of(output) == result_of(finished)


@pytest.mark.parametrize("name", MOMENTS)
def test_a_run_killed_in_any_step_is_continued_without_repeating_the_finished_ones(
    name: str, start: Callable[..., dict[str, Any]], finished: Path, moments: list[str], album: Path, tmp_path: Path
):
    """Killed at the last call of each kind."""

    def last(name: str) -> int:
        return len(moments) - 1 - moments[::-1].index(name)

    output, moment = tmp_path / "captioner", last(name)
    kill_at(moment, MOMENTS, lambda: start(album, output=output))
    with pytest.MonkeyPatch.context() as patch:
        counter = count_calls(MOMENTS, patch)
        start(album, output=output)
    assert result_of(output) == result_of(finished)
    ends = {
        "data_prep.captions.load_image": "data_prep.captions.write_json",
        "captioning.training.features.load_image": "captioning.training.features.load_image",
        "captioning.training.task.CaptioningTask.training_step": "vision_rnn.saved_model.save",
    }
    done = {step for step, end in ends.items() if last(end) < moment}
    assert done.isdisjoint(counter.names)


def test_it_writes_beside_the_photos_and_says_first_what_it_will_do(
    start: Callable[..., dict[str, Any]], photos: Path, model_folder: Path, capsys: pytest.CaptureFixture[str]
):
    before = sorted(photos.iterdir())
    document = start()
    assert sorted(photos.iterdir()) == before
    output = photos.parent / "photos-captioner"
    assert document["model"] == str(output / "model")
    assert document["skipped"] == 0
    # A tenth each to validate and to test.
    assert (document["before"]["images"], document["after"]["images"]) == (2, 2)
    assert document["before"]["split"] == "test"
    captioner = load_torch_captioner(document["model"])
    assert {"square", "background", "dog"} <= set(captioner.vocabulary.words)
    assert captioner.search == load_torch_captioner(model_folder).search
    lines = capsys.readouterr().err.splitlines()
    assert "24 photos with captions: 20 to learn from" in lines[0]
    assert "2 epochs with batch size 4 and learning rate 0.003" in lines[1]
    assert (
        "prepares the photos, measures the model to start from, trains, measures the trained model: about" in lines[2]
    )
    assert " and 0.0 GB, written to " in lines[2]


def test_a_finished_run_is_shown_again_without_work(
    start: Callable[..., dict[str, Any]], finished: Path, album: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("captioning.own.steps._work", lambda *_: pytest.fail("worked"))
    files = {path: path.stat().st_mtime_ns for path in finished.rglob("*")}
    document = start(album, output=finished)
    assert (document["before"], document["after"]) == result_of(finished)[1:]
    assert {path: path.stat().st_mtime_ns for path in finished.rglob("*")} == files


def test_the_data_of_a_finished_run_may_be_deleted(
    start: Callable[..., dict[str, Any]], finished: Path, photos: Path, tmp_path: Path
):
    output = shutil.copytree(finished, tmp_path / "captioner")
    shutil.rmtree(output / "data")
    assert start(output=output)["after"] == result_of(finished)[2]
    add_photo(photos)
    with pytest.raises(UserError, match="1 added, such as new"):
        start(output=output)


def test_a_prepared_data_set_is_not_taken_for_photos(start: Callable[..., dict[str, Any]], finished: Path):
    with pytest.raises(UserError, match="data: a prepared data set; train on it with --data"):
        start(finished / "data")


def add_photo(photos: Path) -> None:
    Image.new("RGB", (8, 8)).save(photos / "new.png")
    (photos / "new.txt").write_text("a new one")


@pytest.mark.parametrize(
    ("change", "named"),
    [
        (add_photo, "1 added, such as new.png"),
        (lambda photos: (photos / "square_red_on_blue.png").unlink(), "1 removed, such as square_red_on_blue.png"),
        (
            lambda photos: Image.new("RGB", (9, 9)).save(photos / "circle_red_on_blue.png"),
            "1 changed, such as circle_red_on_blue.png",
        ),
        (lambda photos: (photos / "circle_red_on_blue.txt").write_text("other"), "1 changed, such as"),
    ],
)
def test_photos_that_changed_since_the_interruption_are_named(
    change: Callable[[Path], object], named: str, start: Callable[..., dict[str, Any]], photos: Path, tmp_path: Path
):
    kill_in("captioning.own.steps.train", start)
    change(photos)
    with pytest.raises(UserError, match=f"photos-captioner: was started with other photos or captions.*{named}"):
        start()


def test_other_files_and_times_of_change_do_not_matter(
    start: Callable[..., dict[str, Any]], photos: Path, capsys: pytest.CaptureFixture[str]
):
    kill_in("captioning.own.steps.train", start)
    (photos / ".DS_Store").write_bytes(b"\0")
    os.utime(photos / "circle_red_on_blue.png", (0, 0))
    capsys.readouterr()
    assert start()["after"]["images"] == 2
    assert "vision-rnn: trains, measures the trained model: about" in capsys.readouterr().err


def test_photos_that_changed_before_anything_was_prepared_are_used_as_they_are(
    start: Callable[..., dict[str, Any]], photos: Path
):
    kill_in("captioning.own.steps.prepare_captions", start)
    for name in ("new", "newer"):
        Image.new("RGB", (8, 8)).save(photos / f"{name}.png")
        (photos / f"{name}.txt").write_text("a new one")
    start()
    manifest = json.loads((photos.parent / "photos-captioner" / "data" / "manifest.json").read_text())
    assert sum(count["images"] for count in manifest["splits"].values()) == 26


@pytest.mark.parametrize(
    ("option", "named"),
    [
        ({"training": TrainingConfig(epochs=3)}, "another training"),
        ({"init_from": None}, "another init_from"),
        ({"search": SearchConfig(beam_size=7)}, "another search"),
    ],
)
def test_other_settings_than_those_of_the_start_are_refused(
    option: dict[str, Any], named: str, start: Callable[..., dict[str, Any]], finished: Path, album: Path
):
    with pytest.raises(UserError, match=f"{named}; give the same options"):
        start(album, output=finished, **option)


def test_settings_that_are_not_given_are_those_of_the_start(
    start: Callable[..., dict[str, Any]], finished: Path, album: Path, monkeypatch: pytest.MonkeyPatch
):
    """Even if a later version would choose others."""
    monkeypatch.setattr("captioning.own.settings.choose_training", lambda *_: (1, TrainingConfig(epochs=99)))
    assert start(album, output=finished, training=TrainingConfig())["model"] == str(finished / "model")


def test_too_few_photos_are_refused_with_the_number_needed(start: Callable[..., dict[str, Any]], photos: Path):
    with pytest.raises(UserError, match=rf"24 photos with captions are too few.*have {FEWEST_PHOTOS} .*--force"):
        start(force=False)
    for path in sorted(photos.iterdir())[4:]:
        path.unlink()
    with pytest.raises(UserError, match=r"2 photos with captions are too few.*have 3 "):
        start()
    assert not (photos.parent / "photos-captioner").exists()


def test_a_folder_without_captions_says_what_was_looked_for(start: Callable[..., dict[str, Any]], tmp_path: Path):
    bare = tmp_path / "bare"
    bare.mkdir()
    with pytest.raises(UserError, match=r"bare: .*\.txt.*captions\.csv"):
        start(bare)
    Image.new("RGB", (8, 8)).save(bare / "a.png")
    with pytest.raises(UserError, match=r"bare: contains images, but no captions; .*a\.txt.*captions\.csv"):
        start(bare)


def test_a_disk_that_is_too_full_is_named_before_anything_is_written(
    start: Callable[..., dict[str, Any]], photos: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("vision_rnn.announcement.shutil.disk_usage", lambda _: SimpleNamespace(free=1000))
    with pytest.raises(UserError, match=r"photos-captioner: .* GB are needed, but 0.0 GB are free; free some space"):
        start()
    assert not (photos.parent / "photos-captioner").exists()


@pytest.mark.parametrize("mirror", [False, True])
def test_the_space_is_that_of_photos_features_and_checkpoints(
    mirror: bool, start: Callable[..., dict[str, Any]], photos: Path, monkeypatch: pytest.MonkeyPatch
):
    announced = []
    monkeypatch.setattr(
        "captioning.own.steps.estimate", lambda *given: announced.append(estimate(*given)) or announced[-1]
    )
    start(training=replace(TRAINING, mirror=mirror))
    output = photos.parent / "photos-captioner"
    features = sum(path.stat().st_size - 128 for path in output.rglob("*.npy"))
    images = sum(path.stat().st_size for path in photos.glob("*.png"))
    checkpoints = sum(path.stat().st_size for path in output.rglob("*.ckpt"))
    assert 0 < announced[0].seconds < 600
    assert announced[0].size - features - images == pytest.approx(1.5 * checkpoints, rel=0.5)


@pytest.mark.parametrize("place", ["photos", "photos/sub", "held"])
def test_an_output_among_the_photos_or_in_other_work_is_refused(
    place: str, start: Callable[..., dict[str, Any]], tmp_path: Path
):
    (tmp_path / "held").mkdir()
    (tmp_path / "held" / "thesis.txt").write_text("years of work")
    with pytest.raises(UserError, match="choose another --output"):
        start(output=tmp_path / place)
    assert (tmp_path / "held" / "thesis.txt").is_file()
    assert not (tmp_path / "photos" / "sub").exists()


@pytest.mark.parametrize(("source", "named"), [("none", "no such file or folder"), ("hub:a/b", "data-prep captions")])
def test_a_source_that_is_no_folder_of_photos_is_named(
    source: str, named: str, start: Callable[..., dict[str, Any]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match=named):
        start(Path(source))


def test_a_source_with_splits_keeps_them_and_a_broken_photo_is_named(
    start: Callable[..., dict[str, Any]], synthetic_captions: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    source = shutil.copytree(synthetic_captions, tmp_path / "source")
    (source / "images" / "square_red_on_green.png").write_bytes(b"broken")
    document = start(source / "captions.jsonl", output=tmp_path / "out")
    assert (document["after"]["images"], document["skipped"]) == (4, 1)
    assert any("skipped" in line and "square_red_on_green.png" in line for line in capsys.readouterr().err.splitlines())


def test_without_a_test_split_it_says_what_the_scores_are_of(
    start: Callable[..., dict[str, Any]], photos: Path, capsys: pytest.CaptureFixture[str]
):
    for index, path in enumerate(sorted(photos.iterdir())):
        place = photos / ("validation" if index < 8 else "train")
        place.mkdir(exist_ok=True)
        path.rename(place / path.name)
    document = start()
    assert (document["after"]["split"], document["after"]["images"]) == ("validation", 4)
    assert "has no test split" in capsys.readouterr().err


def test_a_note_on_the_source_is_printed_once(
    start: Callable[..., dict[str, Any]], photos: Path, capsys: pytest.CaptureFixture[str]
):
    text = min(photos.glob("*.txt"))
    shutil.copy(text, text.with_suffix(".caption"))
    start()
    assert capsys.readouterr().err.count("several text files") == 1


def test_from_scratch_has_its_own_words_alone(start: Callable[..., dict[str, Any]], photos: Path):
    tiny = EncoderConfig(backbone="timm:test_resnet", image_size=64)
    small = DecoderConfig(hidden_size=16, embedding_size=16, attention_size=16)
    document = start(init_from=None, encoder=tiny, decoder=small)
    assert document["before"] is None
    captioner = load_torch_captioner(document["model"])
    assert "dog" not in captioner.vocabulary
    assert captioner.decoder_config.hidden_size == 16
    assert "| score | after |" in before_and_after(document)


def test_what_a_kill_left_is_removed_and_a_second_process_is_kept_out(
    start: Callable[..., dict[str, Any]], photos: Path
):
    fcntl = pytest.importorskip("fcntl")
    kill_in("captioning.own.steps.train", start)
    output = photos.parent / "photos-captioner"
    remains = output / "data" / "features" / ".train.npy.unfinished" / "train.npy"
    remains.parent.mkdir(parents=True)
    remains.write_bytes(b"half")
    with (output / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with pytest.raises(UserError, match="photos-captioner: another process is writing it"):
            start()
        assert remains.is_file()
    start()
    assert not remains.parent.exists()


def test_an_interruption_says_how_to_continue(
    start: Callable[..., dict[str, Any]], photos: Path, monkeypatch: pytest.MonkeyPatch
):
    def interrupt(*_: Any, **__: Any) -> None:
        raise KeyboardInterrupt("add --ckpt_path last to continue")

    monkeypatch.setattr("captioning.own.steps.train", interrupt)
    with pytest.raises(KeyboardInterrupt, match="give the same command again to continue"):
        start()


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
    options: list[str], named: str, photos: Path, capsys: pytest.CaptureFixture[str]
):
    assert main(["train", str(photos), *options]) == 2
    assert named in capsys.readouterr().err
    assert not (photos.parent / "photos-captioner").exists()


@pytest.mark.parametrize("option", ["--from-scratch", "--force"])
def test_the_command_names_options_that_need_a_folder(option: str, capsys: pytest.CaptureFixture[str], tmp_path: Path):
    assert main(["train", "--data", "d", "-o", str(tmp_path / "run"), option]) == 2
    assert f"{option}: goes with a folder of photos" in capsys.readouterr().err


def test_the_command_prints_the_scores_and_the_next_command(
    photos: Path, model_folder: Path, capsys: pytest.CaptureFixture[str]
):
    (photos / "broken.jpg").write_bytes(b"broken")
    (photos / "broken.txt").write_text("a broken one")
    options = ["--init_from", model_folder, "--force", "--training.epochs", 1, "-o", photos.parent / "my model"]
    assert main(["train", *map(str, [photos, *options])]) == 1
    output, errors = capsys.readouterr()
    assert "| score | before | after |" in output
    assert (
        output.splitlines()[-1]
        == f"next: captioning caption photo.jpg --model '{photos.parent / 'my model' / 'model'}'"
    )
    assert "skipped broken.jpg" in errors
    assert main(["train", "--json", *map(str, [photos, *options])]) == 1
    assert json.loads(capsys.readouterr().out)["skipped"] == 1
