"""The command as users see it: its output, its exit status, and one line for every error."""

import functools
import json
import os
import shutil
import signal
import struct
import subprocess
import sys
import threading
import time
import zlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from PIL import Image

from captioning.caption_generator import Caption
from captioning.captioner import load_torch_captioner
from captioning.captioner_config import DecoderConfig, EncoderConfig, SearchConfig, TrainingConfig
from captioning.cli import COMMANDS, main
from captioning.onnx.engine import OnnxCaptioner, OnnxDecoding
from captioning.photos import framed
from captioning.training.task import CaptioningTask
from data_prep.captions import prepare_captions
from data_prep.images import load_image
from vision_rnn.cli import command_parser
from vision_rnn.trainer_config import TrainerConfig

CONFIGS = sorted((Path(__file__).parents[2] / "configs" / "captioning").glob("*.yaml"))
CaptionsOf = Callable[..., list[Caption]]
COLOURS = ("red", "green", "blue", "white", "black", "yellow")


class Result(NamedTuple):
    status: int
    output: list[str]
    errors: list[str]


Run = Callable[..., Result]


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Run:
    """Run the command. An exception that leaves the command, which users would see as a traceback, fails the test."""

    def call(*arguments: object) -> Result:
        status = main([str(argument) for argument in arguments])
        output, errors = capsys.readouterr()
        return Result(status, output.splitlines(), errors.splitlines())

    return call


@pytest.fixture
def caption(run: Run, model_folder: Path) -> Run:
    """Run `captioning caption` with the tiny model."""
    return functools.partial(run, "caption", "--model", model_folder)


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """A folder with five photos, and a sixth photo in its subfolder."""
    folder = tmp_path / "photos"
    (folder / "sub").mkdir(parents=True)
    for index, colour in enumerate(COLOURS):
        Image.effect_mandelbrot((20 + index, 20), (-2 + index / 3, -1.5, 1, 1.5), 50 + index).convert("RGB").save(
            folder / ("sub" if index == 5 else "") / f"{colour}.png"
        )
    (folder / "notes.md").write_text("not a photo")
    return folder


@pytest.fixture
def captions_of(model_folder: Path) -> CaptionsOf:
    """The captions of one photo from the library."""
    model = load_torch_captioner(model_folder)

    def call(path: Path, **how: Any) -> list[Caption]:
        return model.caption([load_image(path)], **how)[0]

    return call


@pytest.fixture(scope="module")
def prepared(synthetic_captions: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("prepared") / "data"
    prepare_captions(str(synthetic_captions / "captions.jsonl"), folder, image_root=synthetic_captions / "images")
    return folder


def interrupt_after(monkeypatch: pytest.MonkeyPatch, batches: int) -> None:
    """Interrupt with Ctrl-C while the batch after this many is captioned."""
    original, calls = OnnxCaptioner.decoding, []

    def decoding(self: OnnxCaptioner, prepared: Sequence[Any]) -> OnnxDecoding:
        calls.append(1)
        if len(calls) > batches:
            raise KeyboardInterrupt
        return original(self, prepared)

    monkeypatch.setattr(OnnxCaptioner, "decoding", decoding)


# Inputs and printed output


def test_one_photo_gives_its_caption_alone(caption: Run, photos: Path, captions_of: CaptionsOf) -> None:
    path = photos / "red.png"
    assert caption(path) == Result(0, [captions_of(path)[0].text], [])


def test_a_folder_gives_a_line_a_photo(caption: Run, photos: Path, captions_of: CaptionsOf) -> None:
    paths = sorted(photos.glob("*.png"))
    result = caption(photos, "--batch-size", 2)
    assert result == Result(0, [f"{path}\t{captions_of(path)[0].text}" for path in paths], [])


def test_subfolders_are_taken_when_asked_for(caption: Run, photos: Path) -> None:
    assert len(caption(photos, "--recursive").output) == 6
    assert len(caption(photos).output) == 5


def test_paths_are_read_from_standard_input(caption: Run, photos: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lines = photos / "lines.md"
    lines.write_text(f"{photos / 'red.png'}\n\n{photos / 'sub'}\r\n")
    with lines.open() as file:
        monkeypatch.setattr(sys, "stdin", file)
        printed = [line.split("\t")[0] for line in caption("-", photos / "blue.png").output]
    assert printed == [str(photos / "red.png"), str(photos / "sub" / "yellow.png"), str(photos / "blue.png")]


def test_lines_of_standard_input_are_captioned_as_they_come(photos: Path, model_folder: Path) -> None:
    command = [sys.executable, "-m", "captioning", "caption", "-", photos / "green.png", "--model", model_folder]
    pipes = {name: subprocess.PIPE for name in ("stdin", "stdout", "stderr")}
    # A job in the background ignores SIGINT, and so would its processes.
    with_default_interrupt = functools.partial(signal.signal, signal.SIGINT, signal.SIG_DFL)
    with subprocess.Popen(command, **pipes, preexec_fn=with_default_interrupt) as process:
        assert process.stdin
        assert process.stdout
        assert process.stderr
        for name in ("red.png", "sub", "blue.png"):
            process.stdin.write(os.fsencode(photos / name) + b"\n")
            process.stdin.flush()
            # There are less than a batch, and more lines may follow.
            assert process.stdout.readline().startswith(os.fsencode(photos / name))
        process.send_signal(signal.SIGINT)  # While it waits for a line.
        assert (process.wait(timeout=60), process.stderr.read()) == (130, b"captioning: interrupted\n")


def test_draws_do_not_depend_on_when_a_line_comes(caption: Run, photos: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    paths = sorted(photos.glob("*.png"))
    reading, writing = os.pipe()

    def write() -> None:
        with open(writing, "wb") as pipe:
            for path in paths:
                pipe.write(os.fsencode(path) + b"\n")
                pipe.flush()
                time.sleep(0.05)

    writer = threading.Thread(target=write)
    with open(reading) as file:
        monkeypatch.setattr(sys, "stdin", file)
        writer.start()
        drawn = caption("-", "--samples", 2, "--temperature", 2).output
        writer.join()
    assert drawn == caption(photos, "--samples", 2, "--temperature", 2).output


def test_a_photo_named_twice_is_captioned_once(caption: Run, photos: Path) -> None:
    assert len(caption(photos / "red.png", photos).output) == 5


def test_n_best_raises_the_beam_to_n(caption: Run, photos: Path, captions_of: CaptionsOf) -> None:
    path = photos / "red.png"
    expected = captions_of(path, search=SearchConfig(beam_size=4, max_words=6))
    assert caption(path, "--num-captions", 4).output == [caption.text for caption in expected]
    assert len({caption.text for caption in expected}) == 4


def test_every_caption_starts_with_the_prefix(caption: Run, photos: Path) -> None:
    lines = caption(photos, "--prefix", "The Cat").output
    assert len(lines) == 5
    assert all(line.split("\t")[1].startswith("the cat") for line in lines)


def test_samples_depend_on_the_seed_alone(caption: Run, photos: Path) -> None:
    first, again, other = (
        caption(photos / "red.png", "--samples", 6, "--temperature", 2, "--seed", seed).output for seed in (1, 1, 2)
    )
    assert len(first) == 6
    assert first == again
    assert first != other


def test_json_is_one_document(caption: Run, photos: Path, captions_of: CaptionsOf) -> None:
    path = photos / "red.png"
    document = json.loads("\n".join(caption(path, "--json", "--num-captions", 2).output))
    assert [record["image"] for record in document] == [str(path)]
    assert [entry["caption"] for entry in document[0]["captions"]] == [entry.text for entry in captions_of(path)]
    assert document[0]["captions"][0]["log_probability"] == pytest.approx(captions_of(path)[0].log_probability)


def test_a_name_that_is_not_utf8_is_printed_as_it_is(
    photos: Path, model_folder: Path, capfdbinary: pytest.CaptureFixture[bytes]
) -> None:
    path = shutil.copy(photos / "red.png", photos.parent / "caf\udce9.png")
    assert main(["caption", "--model", str(model_folder), str(path), str(photos / "blue.png")]) == 0
    assert b"/caf\xe9.png\t" in capfdbinary.readouterr().out


def test_alike_captions_of_many_photos_are_remarked_on(caption: Run, photos: Path) -> None:
    for index in range(10):
        shutil.copy(photos / "red.png", photos / "sub" / f"{index}.png")
    (photos / "sub" / "yellow.png").unlink()
    assert caption(photos / "sub").errors == [
        "captioning: all 10 images got the same caption; is the model trained, and are the images intact?"
    ]
    (photos / "sub" / "9.png").unlink()
    assert caption(photos / "sub").errors == []


# Invalid inputs


def save(path: Path, mode: str, **options: Any) -> None:
    Image.effect_noise((40, 30), 90).convert(mode).save(path, **options)


def write_bomb(path: Path) -> None:
    """A PNG of a few bytes that claims 40,000 x 40,000 pixels."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", 40_000, 40_000, 8, 2, 0, 0, 0)
    chunks = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(bytes(1000))) + chunk(b"IEND", b"")
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + chunks)


def test_odd_photos_are_captioned_and_broken_ones_are_named(caption: Run, tmp_path: Path) -> None:
    folder = tmp_path / "photos"
    folder.mkdir()
    save(folder / "cmyk.jpg", "CMYK")
    save(folder / "palette.png", "P")
    Image.new("I;16", (20, 10), 40_000).save(folder / "sixteen.png")
    frames = [Image.new("RGB", (9, 9), colour) for colour in COLOURS]
    frames[0].save(folder / "animated.gif", save_all=True, append_images=frames[1:])
    exif = Image.Exif()
    exif[0x0112] = 6
    save(folder / "turned.jpg", "RGB", exif=exif)
    Image.new("RGB", (1, 1)).save(folder / "one_pixel.png")
    sound = {path.name for path in folder.iterdir()}

    save(folder / "sound.jpg", "RGB")
    encoded = (folder / "sound.jpg").read_bytes()
    (folder / "sound.jpg").unlink()
    (folder / "truncated.jpg").write_bytes(encoded[: len(encoded) // 2])
    (folder / "corrupt.jpg").write_bytes(bytes(range(256)) * 4)
    (folder / "empty.jpg").write_bytes(b"")
    write_bomb(folder / "bomb.png")
    missing = folder / "missing.jpg"

    status, output, errors = caption(folder, missing, "--batch-size", 3)
    assert status == 1
    assert {Path(line.split("\t")[0]).name for line in output} == sound
    assert len(errors) == 5
    for name, reason in {
        "bomb.png": "decompression bombs",
        "corrupt.jpg": "not an image",
        "empty.jpg": "empty",
        "truncated.jpg": "broken or truncated",
        "missing.jpg": "no such file",
    }.items():
        assert any(line.startswith(f"captioning: {folder / name}: ") and reason in line for line in errors)


@pytest.mark.usefixtures("no_pillow_heif")
def test_what_looks_like_a_photo_but_is_skipped_is_in_one_note(caption: Run, photos: Path, tmp_path: Path) -> None:
    for name in ("IMG_2.heic", "drawing.SVG"):
        (photos / name).touch()
    shutil.copy(photos / "red.png", photos / "sub" / "scan")
    (photos / "sub" / "linked").symlink_to(tmp_path)
    status, output, errors = caption(photos, "--recursive")
    assert (status, len(output)) == (0, 6)
    assert errors == [
        f"captioning: {photos}: 3 files look like images but were skipped: IMG_2.heic (to read HEIC: pip install "
        "'vision-rnn[heif]'); drawing.SVG (convert to JPEG or PNG); sub/scan (add the suffix of the format, such as "
        ".jpg); 1 linked folder was not followed: sub/linked (name them too, or replace the links)"
    ]
    # A sound photo without a suffix can be named itself.
    assert caption(photos / "sub" / "scan").status == 0
    # Skipped files of several folders are in one note, which --quiet omits.
    shutil.copytree(photos, tmp_path / "more", symlinks=True)
    (line,) = [error for error in caption(photos, tmp_path / "more").errors if "skipped" in error]
    assert line.startswith("captioning: 2 folders: 4 files look like images but were skipped: ")
    assert caption(photos, "--quiet").errors == []


@pytest.mark.usefixtures("no_pillow_heif")
def test_files_that_are_no_readable_photos_are_each_named(
    caption: Run, photos: Path, tmp_path: Path, heic: bytes
) -> None:
    (tmp_path / "IMG_1.HEIC").write_bytes(heic)
    (tmp_path / "named.jpg").mkdir()
    wrong = [tmp_path / "IMG_1.HEIC", Path("/dev/zero")]
    status, output, errors = caption(*wrong, photos / "red.png")
    assert (status, len(output)) == (1, 1)
    assert errors == [
        f"captioning: {wrong[0]}: HEIC, which needs pillow-heif; pip install 'vision-rnn[heif]'",
        "captioning: /dev/zero: not a regular file; name an image file",
    ]
    assert (
        caption(tmp_path / "named.jpg").errors[0].startswith(f"captioning: error: {tmp_path / 'named.jpg'}: contains")
    )


@pytest.mark.usefixtures("pillow_heif")
def test_heic_is_captioned_where_pillow_heif_is_installed(caption: Run, tmp_path: Path, heic: bytes) -> None:
    for name in ("a.heic", "b.HEIF"):
        (tmp_path / name).write_bytes(heic)
    status, output, errors = caption(tmp_path)
    assert (status, len(output), errors) == (0, 2, [])


def test_parts_of_a_folder_together_hold_every_photo(
    caption: Run, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(photos)
    assert caption(".", "-o", tmp_path / "whole.txt").status == 0
    lines = []
    for part in ("1/2", "2/2"):
        assert caption(".", "--shard", part, "-o", tmp_path / "part.txt").status == 0
        lines += (tmp_path / "part.txt").read_text().splitlines()
    assert sorted(lines) == sorted((tmp_path / "whole.txt").read_text().splitlines())
    assert caption(".", "--shard", "3/2").errors == [
        "captioning: error: --shard 3/2: not a part of several; give one such as 2/8, from 1/8 to 8/8"
    ]


def test_an_output_that_is_a_pipe_is_not_opened(caption: Run, photos: Path, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "out.jsonl")
    result = caption(photos, "-o", tmp_path / "out.jsonl", "--skip-existing")
    assert (result.status, result.output) == (2, [])
    assert result.errors == [f"captioning: error: {tmp_path / 'out.jsonl'}: a device, socket or pipe; name a file"]


def test_a_broken_photo_alone_is_an_error_and_leaves_the_output(caption: Run, tmp_path: Path) -> None:
    (tmp_path / "broken.jpg").write_bytes(b"no photo")
    (tmp_path / "out.txt").write_text("a.jpg\ta dog\n")
    status, output, errors = caption(tmp_path / "broken.jpg", "-o", tmp_path / "out.txt")
    assert (status, output, len(errors)) == (1, [], 1)
    assert (tmp_path / "out.txt").read_text() == "a.jpg\ta dog\n"


def test_nothing_to_caption_is_wrong_usage(
    caption: Run, tmp_path: Path, photos: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    empty = tmp_path / "empty"
    empty.mkdir()
    assert caption(empty) == Result(
        2, [], [f"captioning: error: {empty}: contains no image; name a folder of JPEG or PNG files"]
    )
    status, output, errors = caption(empty, photos)
    assert (status, len(output), len(errors)) == (1, 5, 1)
    with open(os.devnull) as file:
        monkeypatch.setattr(sys, "stdin", file)
        assert caption("-") == Result(2, [], ["captioning: error: nothing to caption; name a photo or a folder"])
    # Not even the folder of the output is made.
    assert caption(empty, "-o", tmp_path / "new" / "out.jsonl").status == 2
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        ([], "command"),
        (["paint"], "paint"),
        (["caption"], "images"),
        (["caption", "a.jpg", "--beam-size", "0"], "beam_size"),
        (["caption", "a.jpg", "--beam", "3"], "--beam"),
        (["caption", "a.jpg", "--beam-size", "1001"], "beam_size"),
        (["caption", "a.jpg", "--num-captions", "1001"], "num_captions"),
        (["caption", "a.jpg", "--samples", "10001"], "samples"),
        (["caption", "a.jpg", "--batch-size", str(2**31)], "batch_size"),
        *((["caption", "a.jpg", "--temperature", each], "temperature") for each in ("0", "1e-45", "inf", "nan", "1e5")),
        (["sample", "--model", "m", "-n", "10001"], "number"),
        (["caption", "a.jpg", "--json", "--sidecar"], "--sidecar"),
        (["caption", "a.jpg", "--samples", "2", "--num-captions", "2"], "--num-captions"),
        (["caption", "a.jpg", "--skip-existing"], "--skip-existing"),
        (["caption", "a.jpg", "-o", "out.xls"], "out.xls"),
        (["caption", "a.jpg", "--model", "no/such/model"], "no/such/model"),
        (["evaluate"], "data"),
        (["evaluate", "--data", "no/such/data"], "no/such/data"),
        (["evaluate", "--data", "no/such/data", "-o", "."], "is a folder"),
        (["export", "no/such/run", "-o", "out"], "no/such/run"),
        (["train"], "data"),
        (["train", "--config", "no/such.yaml"], "no/such.yaml"),
        (["train", "--data", "d", "--output", "o", "--training.epocks", "3"], "training.epocks"),
        (["train", "--data", "d", "--output", "o", "--training.epochs", "many"], "training.epochs"),
        (["train", "--data", "no/such/data", "--output", "no/such/run"], "no/such/data"),
        (["train", "--data", "d", "--output", "no/such/run", "--ckpt_path", "last"], "no/such/run"),
    ],
)
def test_wrong_usage_is_one_line_that_names_the_fault(
    run: Run, arguments: list[str], named: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    status, output, errors = run(*arguments)
    assert (status, output, len(errors)) == (2, [], 1)
    assert errors[0].startswith("captioning: error: ")
    assert named in errors[0]


def test_a_word_that_the_model_does_not_know_is_named(caption: Run, photos: Path) -> None:
    status, output, errors = caption(photos, "--prefix", "a zebra")
    assert (status, output) == (2, [])
    assert errors == ["captioning: error: prefix: the model does not know the word 'zebra'; choose another"]


@pytest.mark.parametrize("name", ["config.json", "model.safetensors", "SHA256SUMS"])
@pytest.mark.parametrize("damage", ["missing", "altered", "emptied"])
def test_a_damaged_model_folder_is_one_line(
    run: Run, photos: Path, model_folder: Path, tmp_path: Path, name: str, damage: str
) -> None:
    model = shutil.copytree(model_folder, tmp_path / "model")
    content = bytearray((model / name).read_bytes())
    content[len(content) // 2] ^= 1
    if damage == "missing":
        (model / name).unlink()
    else:
        (model / name).write_bytes(content if damage == "altered" else b"")
    status, output, errors = run("caption", photos / "red.png", "--model", model)
    assert (status, output, len(errors)) == (2, [], 1)
    assert str(model) in errors[0]


# Files of captions


@pytest.mark.parametrize("suffix", [".jsonl", ".csv", ".txt"])
def test_an_interrupted_run_goes_on_where_it_stopped(
    caption: Run, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, suffix: str
) -> None:
    whole, path = tmp_path / f"whole{suffix}", tmp_path / f"out{suffix}"
    how = ("--batch-size", 2, "--num-captions", 2)
    assert caption(photos, "-o", whole, *how) == Result(0, [], [])
    with monkeypatch.context() as patches:
        interrupt_after(patches, batches=1)
        result = caption(photos, "-o", path, *how)
    assert result == Result(130, [], ["captioning: interrupted; add --skip-existing to continue"])
    assert not path.exists()
    with open(f"{path}.part", "a") as journal:  # As left by a run that is killed while it writes.
        journal.write('{"image": "')
    status, output, errors = caption(photos, "-o", path, *how, "--skip-existing")
    assert (status, output) == (0, [])
    assert errors == ["captioning: 2 of 5 photos have captions and are skipped"]
    assert path.read_bytes() == whole.read_bytes()
    assert sorted(tmp_path.iterdir()) == sorted([path, whole, photos])


def test_skipping_takes_up_new_photos_and_tries_broken_ones_again(
    caption: Run, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "out.jsonl"
    (photos / "broken.png").write_bytes(b"")
    assert caption(photos, "-o", path).status == 1
    shutil.copy(photos / "red.png", photos / "broken.png")
    assert caption(photos, "-o", path, "--recursive", "--skip-existing").status == 0
    images = [json.loads(line)["image"] for line in path.read_text().splitlines()]
    assert len(images) == len(set(images)) == 7
    interrupt_after(monkeypatch, batches=0)  # Nothing is left to do, so the model is not called.
    assert caption(photos, "-o", path, "--recursive", "--skip-existing").status == 0


def test_an_output_is_replaced_unless_told_otherwise(caption: Run, photos: Path, tmp_path: Path) -> None:
    path = tmp_path / "out.txt"
    path.write_text("old.jpg\ta dog\n")
    assert caption(photos / "red.png", "-o", path, "--skip-existing").status == 0
    assert len(path.read_text().splitlines()) == 2
    assert caption(photos / "red.png", "-o", path).status == 0
    assert len(path.read_text().splitlines()) == 1


def test_texts_for_training_tools_have_their_suffix_and_their_trigger_words(
    caption: Run, photos: Path, captions_of: CaptionsOf
) -> None:
    how = ("--sidecar", "--extension", ".caption", "--prepend", "myword,", "--append", ", on film")
    assert caption(photos, *how) == Result(0, [], [])
    texts = {path.stem: path.read_text() for path in photos.glob("*.caption")}
    assert texts == {
        path.stem: f"myword, {captions_of(path)[0].text}, on film\n" for path in sorted(photos.glob("*.png"))
    }
    refused = caption(photos, *how)
    assert (refused.status, "black.caption: exists; add --skip-existing" in refused.errors[0]) == (2, True)
    assert caption(photos, *how, "--skip-existing").errors == [
        "captioning: 5 of 5 photos have captions and are skipped"
    ]
    assert caption(photos / "red.png", "--extension", ".caption").status == 2


@pytest.mark.parametrize(
    ("before", "after", "expected"),
    [
        ("", "", "a dog"),
        ("x", "y", "x a dog y"),
        ("x ", ".", "x a dog."),
        ("", " y", "a dog y"),
        ("x, ", ", y", "x, a dog, y"),
    ],
)
def test_text_around_a_caption_is_set_off_by_a_space(before: str, after: str, expected: str) -> None:
    assert framed("a dog", before, after) == expected


def test_search_settings_of_the_command_take_precedence(caption: Run, photos: Path, captions_of: CaptionsOf) -> None:
    path = photos / "red.png"
    for options, search in (
        (("--max-words", 2), SearchConfig(beam_size=2, max_words=2)),
        (("--length-exponent", 0), SearchConfig(beam_size=2, max_words=6, length_exponent=0)),
    ):
        assert caption(path, *options).output == [captions_of(path, search=search)[0].text]
    assert len(caption(path, "--max-words", 2).output[0].split()) <= 2


def test_an_address_is_refused_with_the_way_to_do_it(caption: Run, photos: Path) -> None:
    address = "https://example.org/dog.jpg"
    said = f"captioning: error: {address}: an address, and nothing is downloaded; save the photo and name the file"
    assert caption(address) == Result(2, [], [said])
    result = caption(photos / "red.png", address)
    assert (result.status, len(result.output), result.errors) == (1, 1, [said.replace("error: ", "")])


def test_sidecars_are_made_skipped_and_replaced(caption: Run, photos: Path, captions_of: CaptionsOf) -> None:
    (photos / "red.txt").write_text("mine\n")
    assert caption(photos, "--sidecar", "--skip-existing").status == 0
    assert (photos / "red.txt").read_text() == "mine\n"
    assert (photos / "blue.txt").read_text() == captions_of(photos / "blue.png")[0].text + "\n"
    (photos / "white.txt").write_text("")
    before = {path: path.read_text() for path in photos.glob("*.txt")}
    refused = caption(photos, "--sidecar")
    assert (refused.status, refused.output) == (2, [])
    assert refused.errors == [
        f"captioning: error: {photos / 'black.txt'}: exists; add --skip-existing to keep such files, or --overwrite to "
        "replace them"
    ]
    assert {path: path.read_text() for path in photos.glob("*.txt")} == before
    # An empty text file is not a caption.
    assert caption(photos, "--sidecar", "--skip-existing").status == 0
    assert (photos / "white.txt").read_text() == captions_of(photos / "white.png")[0].text + "\n"
    assert caption(photos, "--sidecar", "--overwrite") == Result(0, [], ["captioning: 5 text files were overwritten"])
    assert (photos / "red.txt").read_text() == captions_of(photos / "red.png")[0].text + "\n"


# Attention


def test_attention_gives_a_picture_a_photo(caption: Run, photos: Path, tmp_path: Path) -> None:
    shutil.copy(photos / "red.png", photos / "sub")
    assert caption(photos, "--recursive", "--attention", tmp_path / "out").status == 0
    pictures = {path.name for path in (tmp_path / "out").iterdir()}
    assert pictures == {*(f"{colour}.png" for colour in COLOURS), "red-2.png"}
    # A panel is at least 300 pixels wide, and the photo alone would be one.
    assert all(load_image(path).width > 600 for path in (tmp_path / "out").iterdir())


def test_attention_does_not_overwrite_a_photo(caption: Run, photos: Path) -> None:
    photo = next(photos.glob("*.png"))
    before = photo.read_bytes()
    status, _, errors = caption(photo, "--attention", photo.parent)
    assert status == 2
    assert f"would overwrite {photo}" in errors[-1]
    assert photo.read_bytes() == before


def test_attention_does_not_overwrite_a_photo_that_is_listed_later(
    caption: Run, photos: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("captioning.photos._LISTED_FIRST", 1)
    last = photos / "sub" / "black.png"
    (photos / "sub" / "yellow.png").rename(last)
    before = last.read_bytes()
    status, output, errors = caption(photos, "--recursive", "--attention", photos / "sub", "--batch-size", 1)
    assert (status, output) == (2, [])
    assert f"would overwrite {last}" in errors[-1]
    assert last.read_bytes() == before


@pytest.mark.parametrize("config", CONFIGS, ids=lambda path: path.stem)
def test_every_shipped_configuration_is_accepted(config: Path) -> None:
    parser = command_parser("captioning", "train", COMMANDS["train"])
    settings = parser.instantiate(parser.parse_args(["--config", str(config)]))
    assert isinstance(settings.training, TrainingConfig)


def test_attention_of_a_model_without_any_is_refused(
    run: Run, photos: Path, tmp_path: Path, model_folder_without_attention: Path
) -> None:
    status, output, errors = run(
        "caption", photos, "--model", model_folder_without_attention, "--attention", tmp_path / "out"
    )
    assert (status, output, len(errors)) == (2, [], 1)
    assert "this model has no attention" in errors[0]


# The other commands


def test_evaluate_prints_what_it_writes(run: Run, model_folder: Path, prepared: Path, tmp_path: Path) -> None:
    scores = tmp_path / "scores.json"
    arguments = ("evaluate", "--model", model_folder, "--data", prepared, "--beam-size", 1, "--length-exponent", 0)
    status, output, _ = run(*arguments, "-o", scores)
    assert status == 0
    document = json.loads(scores.read_text())
    assert document["images"] == len(document["captions"]) == 4
    assert output[0] == document["protocol"]
    assert "beam size 1, length exponent 0.0" in output[0]
    names, values = output[-4].split(), output[-3].split()
    assert dict(zip(names, values, strict=True)) == {name: f"{document[name]:.4f}" for name in names}
    assert output[-1].startswith(f"perplexity {document['perplexity']:.2f} per word")
    assert json.loads("\n".join(run(*arguments, "--json").output)) == document


def test_evaluate_names_the_splits_there_are(run: Run, model_folder: Path, prepared: Path) -> None:
    status, output, errors = run("evaluate", "--model", model_folder, "--data", prepared, "--split", "exam")
    assert (status, output, len(errors)) == (2, [], 1)
    assert "no split 'exam'; choose one of: train, validation, test" in errors[0]


def test_train_reads_its_options_from_file_and_command_line(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    received: dict[str, Any] = {}

    @functools.wraps(COMMANDS["train"])
    def train(source: str | None, **options: Any) -> Path:
        received.update(options, source=source)
        return Path("somewhere")

    monkeypatch.setitem(COMMANDS, "train", train)
    config = tmp_path / "config.yaml"
    config.write_text("data: d\noutput: o\ntraining: {learning_rate: 1e-4, epochs: 9}\nencoder: {mean: [0, 0.5, 1]}\n")
    result = run("train", "--config", config, "--training.epochs", "3", "--decoder.hidden_size=256", "--ckpt_path=last")
    assert result == Result(0, ["somewhere"], [])
    assert received == {
        "source": None,
        "data": "d",
        "output": "o",
        "encoder": EncoderConfig(mean=(0, 0.5, 1)),
        "decoder": DecoderConfig(hidden_size=256),
        "search": SearchConfig(),
        "training": TrainingConfig(learning_rate=1e-4, epochs=3),
        "init_from": None,
        "ckpt_path": "last",
        "from_scratch": False,
        "force": False,
        "feature_shard": None,
        "device": "auto",
        "trainer": TrainerConfig(),
    }


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("training: {epocks: 3}", "'training' does not accept option 'epocks'"),
        ("optimiser: adam", "optimiser"),
        ("training: {objective: guess}", "training.objective"),
        ("training: [", "config"),
    ],
)
def test_train_names_the_key_that_is_wrong(run: Run, tmp_path: Path, text: str, named: str) -> None:
    (tmp_path / "config.yaml").write_text(f"data: d\noutput: {tmp_path / 'run'}\n{text}\n")
    status, output, errors = run("train", "--config", tmp_path / "config.yaml")
    assert (status, output, len(errors)) == (2, [], 1)
    assert named in errors[0]
    assert not (tmp_path / "run").exists()


@pytest.fixture
def scored(tmp_path: Path) -> tuple[Path, Path]:
    """A file of captions, and a file of references of the same images."""
    captions, references = tmp_path / "captions.json", tmp_path / "references.jsonl"
    texts = {f"{number}.jpg": f"a {colour} dog runs" for number, colour in enumerate(COLOURS)}
    captions.write_text(json.dumps(texts))
    lines = [
        {"image": name, "captions": [text, "The dog is running ."], "split": "test"} for name, text in texts.items()
    ]
    references.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return captions, references


def test_score_prints_tables(run: Run, scored: tuple[Path, Path]) -> None:
    result = run("score", *scored, "--against", scored[0], "--audit", "--claimed", "1.0")
    assert (result.status, result.errors) == (0, [])
    assert "| BLEU-4 | 1.0000 | 1.0000 to 1.0000 |" in result.output
    assert "6 images, 12 references; 24 words, and 24 in the closest references" in result.output
    assert "| BLEU-4 | +0.0000 | +0.0000 to +0.0000 | 1.000 |" in result.output
    assert any(line.startswith("claimed 1.0: BLEU-1 (COCO caption protocol), BLEU-2 ") for line in result.output)
    assert "suspicious: 6 of 6 captions are identical to a reference of their image" in result.output


def test_score_prints_json(run: Run, scored: tuple[Path, Path]) -> None:
    result = run("score", *scored, "--json")
    document = json.loads("\n".join(result.output))
    assert document["scores"]["BLEU-4"]["score"] == 1
    assert document["images"] == 6
    assert "audit" not in document


def test_score_names_what_is_wrong(run: Run, scored: tuple[Path, Path], tmp_path: Path) -> None:
    captions, references = scored
    for claimed in ("much", "nan", "inf"):
        assert run("score", captions, references, "--claimed", claimed).errors == [
            f"captioning: error: --claimed {claimed}: not a number; give the score as published, such as 0.2345"
        ]
    captions.write_text('{"0.jpg": "a"}')
    result = run("score", captions, references)
    assert result.status == 2
    assert "5 of 6 images of the split test have no caption, such as 1.jpg" in result.errors[0]
    assert run("score", tmp_path / "none.json", references).status == 2


def test_score_reads_what_evaluate_wrote_though_splits_reuse_file_names(
    run: Run, model_folder: Path, make_image: Callable[..., Path], tmp_path: Path
) -> None:
    for split in ("train", "val", "test"):
        for number in (1, 2):
            image = make_image(tmp_path / "source" / split / f"{number}.png", colour=(90 * number, 7 * len(split), 40))
            image.with_suffix(".txt").write_text(f"a {split} picture\nit is number {number}\n")
    data, scores = tmp_path / "data", tmp_path / "scores.json"
    prepare_captions(tmp_path / "source", data, min_count=1)
    for split in ("validation", "train"):
        arguments = ("--model", model_folder, "--data", data, "--split", split, "-o", scores)
        assert run("evaluate", *arguments).status == 0
        expected = json.loads(scores.read_text())
        for references in (data, tmp_path / "source"):
            status, output, errors = run("score", scores, references, "--json")
            assert (status, errors) == (0, [])
            document = json.loads("\n".join(output))
            assert (document["split"], document["images"], document["references"]) == (split, 2, 4)
            assert document["scores"]["CIDEr-D"]["score"] == pytest.approx(expected["CIDEr-D"])
    status, output, errors = run("score", scores, data, "--split", "test")
    assert (status, output) == (2, [])
    assert errors == [
        f"captioning: error: {scores}: holds captions of the split train, but test is to be scored; omit --split, or "
        "choose another file"
    ]
    # Without the name of the split, the names say nothing.
    scores.write_text(json.dumps(expected["captions"]))
    assert "test, train, validation); add --split" in run("score", scores, data).errors[0]
    assert run("score", scores, data, "--split", "test").status == 0


@pytest.mark.parametrize("suffix", [".txt", ".csv", ".jsonl"])
def test_score_reads_what_caption_wrote(caption: Run, run: Run, photos: Path, tmp_path: Path, suffix: str) -> None:
    output, references = tmp_path / f"out{suffix}", tmp_path / "references.jsonl"
    assert caption(photos, "--num-captions", 2, "-o", output).status == 0
    best = {}
    for line in caption(photos).output:
        path, text = line.split("\t")
        best[Path(path).name] = text
    references.write_text("".join(json.dumps({"image": name, "caption": best[name]}) + "\n" for name in best))
    status, printed, errors = run("score", output, references)
    assert status == 0
    assert "| BLEU-1 | 1.0000 | 1.0000 to 1.0000 |" in printed
    assert errors[0].endswith("images with several captions: 5; the caption of the lowest rank, or the first, is used")
    assert "images matched other than by the exact name or id: 5 of 5 (5 by the end of the path, such as" in errors[1]


def test_score_says_how_many_of_how_many_images_are_scored(run: Run, scored: tuple[Path, Path], tmp_path: Path) -> None:
    captions, references = scored
    part, other = tmp_path / "part.json", tmp_path / "other.json"
    texts = json.loads(captions.read_text())
    part.write_text(json.dumps({name: texts[name] for name in ("1.jpg", "3.jpg", "4.jpg")}))
    other.write_text(json.dumps([{"image_id": name, "caption": "a dog"} for name in ("4.jpg", "3.jpg", "0.jpg")]))
    status, output, errors = run("score", part, references, "--subset", "--against", other, "--audit")
    assert (status, errors) == (0, [])
    assert any(line.startswith("2 of 6 images, those with a caption, 4 references") for line in output)
    assert any("|images:2/6|" in line for line in output)
    document = json.loads("\n".join(run("score", part, references, "--subset", "--json").output))
    assert (document["images"], document["subset_of"]) == (3, 6)


def test_score_explains_a_cider_that_must_be_zero_once(run: Run, tmp_path: Path) -> None:
    captions, references = tmp_path / "captions.json", tmp_path / "references.csv"
    captions.write_text('{"a.jpg": "two cats sleep"}')
    references.write_text("image,caption\na.jpg,two cats sleep\n")
    status, output, errors = run("score", captions, references, "--against", captions)
    assert (status, len(errors)) == (0, 1)
    assert "CIDEr-D and CIDEr are 0 for any captions" in errors[0]
    assert "| CIDEr-D | 0.0000 | 0.0000 to 0.0000 |" in output
    assert run("score", captions, references, "--quiet").errors == []


@pytest.mark.parametrize("backbone", ["resnet", "timm:resnet999", "torchvision:resnet999"])
def test_train_names_an_unknown_backbone(run: Run, prepared: Path, tmp_path: Path, backbone: str) -> None:
    status, output, errors = run("train", "--data", prepared, "--output", tmp_path, "--encoder.backbone", backbone)
    assert (status, output) == (2, [])
    assert backbone in errors[-1]


@pytest.fixture
def train(run: Run, prepared: Path, model_folder: Path, tmp_path: Path) -> Callable[..., Result]:
    """Train the tiny model for one epoch in `tmp_path / "run"`."""
    options = ["--data", prepared, "--init_from", model_folder, "--training.epochs", 1, "--training.batch_size", 8]
    return functools.partial(run, "train", *options, "--output", tmp_path / "run")


def test_from_training_to_a_model_that_captions(train: Run, run: Run, prepared: Path, tmp_path: Path) -> None:
    result = train()
    assert (result.status, result.output[-1]) == (0, str(tmp_path / "run" / "model"))
    assert train().errors[-1].endswith("add --ckpt_path last to continue it, or choose another output")
    scores, model = tmp_path / "scores.json", tmp_path / "model"
    assert run("evaluate", "--model", tmp_path / "run" / "model", "--data", prepared, "-o", scores).status == 0
    exported = run("export", tmp_path / "run", "-o", model, "--evaluation", scores)
    assert (exported.status, exported.output) == (0, [str(model)])
    assert "no confidence" in exported.errors[0]
    assert f"| {json.loads(scores.read_text())['CIDEr-D']:.4f} |" in (model / "README.md").read_text()
    Image.new("RGB", (30, 30)).save(tmp_path / "photo.png")
    assert run("caption", tmp_path / "photo.png", "--model", model).status == 0

    mine = tmp_path / "mine"
    mine.mkdir()
    (mine / "thesis.txt").write_text("years of work")
    assert run("export", tmp_path / "run", "-o", mine).errors == [
        f"captioning: error: {mine}: holds something other than a model; choose another folder"
    ]
    assert (mine / "thesis.txt").exists()
    assert (
        "not an evaluation"
        in run("export", tmp_path / "run", "-o", model, "--evaluation", model / "config.json").errors[0]
    )


def test_interrupted_training_says_how_to_go_on(train: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(CaptioningTask, "validation_step", interrupt)
    handler = signal.getsignal(signal.SIGINT)
    try:
        status, _, errors = train()
    finally:
        signal.signal(signal.SIGINT, handler)  # Lightning disables it.
    assert status == 130
    # The interruption was in the first epoch, of which nothing is kept.
    assert errors[-1] == "captioning: interrupted; no epoch was completed"


# The process


def test_help_and_wrong_usage_import_nothing_heavy() -> None:
    script = """
import sys
from captioning.cli import COMMANDS, main
for argv in (["--help"], *([name, "--help"] for name in COMMANDS), ["--version"], ["caption", "a.jpg", "--bogus"]):
    try:
        main(argv)
    except SystemExit as end:
        assert not end.code
heavy = {"torch", "torchvision", "lightning", "datasets", "matplotlib", "timm", "pandas"} & set(sys.modules)
sys.exit(", ".join(heavy) or None)
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "usage: captioning" in done.stdout
    assert done.stderr == "captioning: error: unrecognized arguments: --bogus\n"


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_a_full_disk_behind_standard_output_is_one_line(photos: Path, model_folder: Path) -> None:
    command = [sys.executable, "-m", "captioning", "caption", photos / "red.png", "--model", model_folder]
    with open("/dev/full", "w") as full:
        done = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, text=True, check=False)
    assert (done.returncode, done.stderr) == (2, "captioning: error: [Errno 28] No space left on device\n")


# gradients


def test_gradients_draws_a_picture_and_prints_tables(
    run: Run, prepared: Path, model_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("captioning.studies.gradients._STEPS", 2)
    picture = tmp_path / "gradients.png"
    measure = functools.partial(run, "gradients", "--data", prepared, "--split", "train", "--model", model_folder)
    status, output, errors = measure("-o", picture)
    assert (status, errors) == (0, [])
    assert load_image(picture).width > 500
    assert [line.split(" | ")[1:3] for line in output if line.startswith(f"| {model_folder} | h")]
    document = json.loads("\n".join(measure("-o", picture, "--json").output))
    assert [network["name"] for network in document["trained"]] == [str(model_folder)]


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (["-o", "gradients.txt"], "gradients.txt: not a file that can be written; end its name in .png, .svg, .pdf"),
        (["-o", "."], ".: is a folder; name a file"),
        (["-o", "g.png", "--split", "test", "--model", "no/such"], "no/such"),
    ],
)
def test_gradients_names_what_is_wrong(run: Run, prepared: Path, arguments: list[str], reason: str) -> None:
    status, output, errors = run("gradients", "--data", prepared, *arguments)
    assert (status, output, len(errors)) == (2, [], 1)
    assert reason in errors[0]
