import json
import os
import shutil
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

from data_prep import inspect_pixels
from data_prep.captions import prepare_captions
from data_prep.cli import main
from data_prep.inspect_captions import summarize, write_contact_sheet
from data_prep.pixels import prepare_pixels
from data_prep.prepared_captions import PreparedCaptions
from data_prep.prepared_pixels import PreparedPixels
from vision_rnn.errors import UserError


@pytest.fixture
def prepared(synthetic_captions, tmp_path):
    prepare_captions(synthetic_captions, tmp_path / "shapes", min_count=2)
    return tmp_path / "shapes"


def test_captions_command(synthetic_captions, tmp_path, capsys):
    out = tmp_path / "out"
    assert main(["captions", str(synthetic_captions), "-o", str(out), "--min-count", "2"]) == 0
    printed = capsys.readouterr()
    assert "train: 16 images, 40 captions" in printed.out
    assert PreparedCaptions.open(out).manifest["options"]["min_count"] == 2


def test_skipped_inputs_are_named_and_make_the_exit_status_one(synthetic_captions, tmp_path, capsys):
    source = shutil.copytree(synthetic_captions, tmp_path / "source")
    broken = sorted((source / "images").iterdir())[0]
    broken.write_bytes(b"no image")
    assert main(["captions", str(source), "-o", str(tmp_path / "out")]) == 1
    printed = capsys.readouterr()
    assert f"data-prep: skipped {broken.name}: " in printed.err
    assert "data-prep: 1 input skipped" in printed.err
    assert broken.name not in printed.out


@pytest.mark.parametrize("format", ["auto", "jsonl"])
def test_a_pipe_is_refused_with_the_reason(format, tmp_path, capsys):
    os.mkfifo(tmp_path / "pipe")  # What the shell's <(command) is.
    assert main(["captions", str(tmp_path / "pipe"), "-o", str(tmp_path / "out"), "--format", format]) == 2
    assert "pipe: a pipe, which can be read only once and has no suffix" in capsys.readouterr().err


def test_a_device_in_a_caption_file_is_skipped_and_named(synthetic_captions, tmp_path, capsys):
    source = shutil.copytree(synthetic_captions, tmp_path / "source")
    os.mkfifo(source / "images" / "pipe.png")
    with (source / "captions.jsonl").open("a") as file:
        for name in ("/dev/zero", "pipe.png", "."):
            file.write(json.dumps({"image": name, "caption": "A grey nothing", "split": "train"}) + "\n")
    assert main(["captions", str(source), "-o", str(tmp_path / "out")]) == 1
    errors = capsys.readouterr().err
    assert "/dev/zero: lies outside the source's folder" in errors
    # A name that is no file of the image folders is taken to be beside the captions.
    assert "skipped pipe.png: " in errors
    assert f"{source}: is a folder; name an image file\n" in errors
    assert "data-prep: 3 inputs skipped\n" in errors


@pytest.mark.parametrize("command", ["captions", "pixels"])
def test_files_that_look_like_images_but_are_skipped_are_in_one_note(command, make_image, tmp_path, capsys):
    for name in ("a", "b"):
        make_image(tmp_path / "photos" / "sub" / f"{name}.png", colour={"a": "red", "b": "blue"}[name])
        (tmp_path / "photos" / "sub" / f"{name}.txt").write_text("A plain colour\n")
    (tmp_path / "photos" / "sub" / "c.dng").touch()
    (tmp_path / "photos" / "sub" / "c.txt").write_text("A photo that is not developed\n")
    options = ["--min-count", "1"] if command == "captions" else []
    assert main([command, str(tmp_path / "photos"), "-o", str(tmp_path / "out"), *options]) == 0
    note = "1 file looks like an image but was skipped: sub/c.dng (convert to JPEG or PNG)"
    assert capsys.readouterr().err.count(f"data-prep: {tmp_path / 'photos'}: {note}\n") == 1


def test_what_was_done_to_the_splits_is_told(synthetic_captions, tmp_path, capsys):
    source = shutil.copytree(synthetic_captions, tmp_path / "source")
    lines = [json.loads(line) for line in (source / "captions.jsonl").read_text().splitlines()]
    lines = [line for line in lines if line["split"] != "validation"]
    by_split = {line["split"]: line["image"] for line in lines}
    shutil.copy(source / "images" / by_split["train"], source / "images" / by_split["test"])
    (source / "captions.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    for seed in range(2):
        assert main(["captions", str(source), "-o", str(tmp_path / "out"), "--seed", str(seed)]) == 0
        printed = capsys.readouterr()
        assert "data-prep: split by source; validation cut from train by seed\n" in printed.err
        assert "data-prep: 1 images are in several splits" in printed.err
        assert "validation: 1 image" in printed.out


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="the system has no /dev/full")
def test_results_that_cannot_be_printed_are_one_line_and_exit_status_two(prepared):
    command = [sys.executable, "-m", "data_prep", "inspect", str(prepared)]
    with open("/dev/full", "w") as full:
        result = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, text=True)
    assert result.returncode == 2
    assert result.stderr.splitlines()[-1].startswith("data-prep: error: ")
    assert "Traceback" not in result.stderr
    assert "Exception" not in result.stderr


def test_a_reader_that_has_gone_is_exit_status_two(prepared):
    reading, writing = os.pipe()
    os.close(reading)
    command = [sys.executable, "-m", "data_prep", "inspect", str(prepared)]
    result = subprocess.run(command, stdout=writing, stderr=subprocess.PIPE, text=True)
    os.close(writing)
    assert result.returncode == 2
    assert result.stderr.splitlines()[-1] == "data-prep: error: [Errno 32] Broken pipe"
    assert "Traceback" not in result.stderr


def test_an_interruption_is_one_line_and_leaves_nothing(synthetic_captions, tmp_path, monkeypatch, capsys):
    def interrupt(*arguments: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("data_prep.captions.load_image", interrupt)
    assert main(["captions", str(synthetic_captions), "-o", str(tmp_path / "out")]) == 130
    assert capsys.readouterr().err.splitlines()[-1] == "data-prep: interrupted"
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "arguments", [["captions", "absent", "-o", "out"], ["inspect", "absent"]], ids=["captions", "inspect"]
)
def test_a_users_mistake_is_one_line_and_exit_status_two(arguments, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main(arguments) == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    assert printed.err.startswith("data-prep: error: absent: ")
    assert printed.err.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["captions", "x"],
        ["captions", "x", "-o", "y", "--min-count", "0"],
        ["captions", "x", "-o", "y", "--format", "xml"],
    ],
)
def test_wrong_usage_is_exit_status_two(arguments, capsys):
    assert main(arguments) == 2
    printed = capsys.readouterr()
    assert (printed.out, printed.err.count("\n")) == ("", 1)
    assert printed.err.startswith("data-prep: error: ")


SIZES = ["0", "3x", "3x4x5", "big", "10001", "4x1000000000", "9" * 5000, "nan", "-1"]


@pytest.mark.parametrize("option", [*(f"--size={size}" for size in SIZES), "--channels=2", "--seed=-1"])
def test_wrong_pixel_options_are_exit_status_two(option, tmp_path, capsys):
    assert main(["pixels", str(tmp_path), "-o", str(tmp_path / "out"), option]) == 2
    assert option.partition("=")[0].strip("-") in capsys.readouterr().err


def test_help_imports_nothing_heavy():
    code = (
        "import sys; from data_prep.cli import COMMANDS, main\n"
        "for argv in (['--help'], *([name, '--help'] for name in COMMANDS)): main(argv)\n"
        "print('heavy:', {'datasets', 'torch', 'matplotlib', 'pyarrow', 'nltk'} & sys.modules.keys())"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.splitlines()[-1] == "heavy: set()"


def test_inspect_prints_numbers_that_agree_with_a_count_by_hand(prepared, capsys):
    assert main(["inspect", str(prepared), "--json"]) == 0
    summary = json.loads(capsys.readouterr().out)
    opened = PreparedCaptions.open(prepared)
    assert summary == summarize(opened)
    for split in ("train", "validation", "test"):
        token_lists = [tokens for captions in opened.split(split)["tokens"] for tokens in captions]
        lengths = sorted(map(len, token_lists))
        known = set(opened.vocabulary.words)
        running = [token for tokens in token_lists for token in tokens]
        counted = summary["splits"][split]
        assert counted["images"] == len(opened.split(split))
        assert counted["captions"] == len(token_lists)
        assert counted["caption_tokens"]["mean"] == pytest.approx(sum(lengths) / len(lengths), abs=0.01)
        assert (counted["caption_tokens"]["min"], counted["caption_tokens"]["max"]) == (lengths[0], lengths[-1])
        assert lengths[0] <= counted["caption_tokens"]["median"] <= counted["caption_tokens"]["percentile_95"]
        assert counted["coverage"] == pytest.approx(sum(token in known for token in running) / len(running), abs=1e-4)
    assert summary["vocabulary"]["size"] == len(opened.vocabulary)


def test_inspect_without_json_is_a_table_and_writes_the_sheet_where_asked(prepared, tmp_path, capsys):
    sheet = tmp_path / "sheets" / "shapes.png"
    assert main(["inspect", str(prepared), "-o", str(sheet)]) == 0
    printed = capsys.readouterr()
    assert printed.out.splitlines()[4].split()[:3] == ["train", "16", "40"]
    assert str(sheet) in printed.err
    assert sheet.read_bytes().startswith(b"\x89PNG")
    assert not (prepared / "contact-sheet.png").exists()


def test_contact_sheet_shows_the_images_of_the_data_set(prepared, tmp_path):
    write_contact_sheet(PreparedCaptions.open(prepared), tmp_path / "sheet.png")
    with Image.open(tmp_path / "sheet.png") as sheet:
        pixels = np.asarray(sheet.convert("RGB")).reshape(-1, 3)
    for colour in ((220, 30, 30), (30, 170, 60), (40, 60, 220), (240, 220, 40)):
        assert (pixels == colour).all(axis=1).mean() > 0.02


def test_contact_sheet_is_the_same_each_time_and_differs_by_seed(prepared, tmp_path):
    sheets = []
    for seed in (0, 0, 1):
        write_contact_sheet(PreparedCaptions.open(prepared), tmp_path / "sheet.png", seed)
        sheets.append((tmp_path / "sheet.png").read_bytes())
    assert sheets[0] == sheets[1] != sheets[2]


def test_captions_with_dollar_signs_are_not_read_as_formulas(make_image, tmp_path):
    make_image(tmp_path / "source" / "a.png").with_suffix(".txt").write_text(r"a sign with $5 \frac and $6")
    prepare_captions(tmp_path / "source", tmp_path / "out", min_count=1)
    write_contact_sheet(PreparedCaptions.open(tmp_path / "out"), tmp_path / "sheet.png")
    assert (tmp_path / "sheet.png").stat().st_size > 0


def test_contact_sheet_must_be_png(prepared, tmp_path):
    with pytest.raises(UserError, match=r"end its name in \.png"):
        write_contact_sheet(PreparedCaptions.open(prepared), tmp_path / "sheet.jpg")


@pytest.fixture
def pixel_source(tmp_path):
    generator = np.random.default_rng(0)
    arrays = {f"x_{split}": generator.integers(0, 256, (count, 3, 4)) for split, count in (("train", 60), ("test", 7))}
    np.savez(tmp_path / "noise.npz", **arrays, y_train=np.arange(60) % 4)
    return tmp_path / "noise.npz"


def test_pixels_command(pixel_source, tmp_path, capsys):
    out = tmp_path / "out"
    options = ["--size", "2x6", "--channels", "1", "--binarize", "stochastic", "--seed", "5"]
    assert main(["pixels", str(pixel_source), "-o", str(out), *options]) == 0
    printed = capsys.readouterr()
    assert printed.out.splitlines() == [
        "train: 54 images",
        "validation: 6 images",
        "test: 7 images",
        "images: 2x6, channels: 1",
        "levels: 2, binarization: drawn once with seed 5, pixel by pixel, P(1) = grey level / 255",
        f"written to {out} (read as npz)",
    ]
    assert "data-prep: split by source; validation cut from train by seed\n" in printed.err
    manifest = PreparedPixels.open(out).manifest
    assert manifest["options"] == {
        "size": [2, 6],
        "channels": 1,
        "binarize": "stochastic",
        "seed": 5,
        "split_by": "source; validation cut from train by seed",
        "max_images": None,
    }


def test_what_was_drawn_is_told(pixel_source, synthetic_captions, tmp_path, capsys):
    assert main(["pixels", str(pixel_source), "-o", str(tmp_path / "pixels"), "--max-images", "6"]) == 0
    printed = capsys.readouterr()
    assert printed.out.splitlines()[:3] == ["train: 6 images", "validation: 6 images", "test: 6 images"]
    assert [line for line in printed.err.splitlines() if "--max-images" in line] == [
        "data-prep: train: 6 of 54 images were drawn (--max-images)",
        "data-prep: test: 6 of 7 images were drawn (--max-images)",
    ]
    options = ["--max-images", "5", "--min-count", "1"]
    assert main(["captions", str(synthetic_captions), "-o", str(tmp_path / "captions"), *options]) == 0
    printed = capsys.readouterr()
    assert "train: 5 images, " in printed.out
    assert "data-prep: train: 5 of 16 images were drawn (--max-images)\n" in printed.err
    assert "in no split" not in printed.err


def test_a_single_size_is_a_square(pixel_source, tmp_path):
    assert main(["pixels", str(pixel_source), "-o", str(tmp_path / "out"), "--size", "2", "--channels", "3"]) == 0
    assert PreparedPixels.open(tmp_path / "out").split("test").pixels.shape == (7, 2, 2, 3)


def test_broken_images_are_named_and_make_the_exit_status_one(make_image, tmp_path, capsys):
    for name in ("train/a.png", "train/b.png", "val/c.png"):
        make_image(tmp_path / "source" / name)
    (tmp_path / "source" / "train" / "b.png").write_bytes(b"no image")
    assert main(["pixels", str(tmp_path / "source"), "-o", str(tmp_path / "out")]) == 1
    printed = capsys.readouterr()
    assert "data-prep: skipped train/b.png: " in printed.err
    assert "data-prep: 1 input skipped" in printed.err
    assert "data-prep: 1 images are in several splits" in printed.err
    assert "train: 1 image\nvalidation: 1 image" in printed.out


@pytest.mark.parametrize("binarize", ["none", "threshold"])
def test_inspect_measures_pixels(binarize, pixel_source, tmp_path, capsys):
    out = tmp_path / "out"
    prepare_pixels(pixel_source, out, binarize=binarize)
    assert main(["inspect", str(out), "--json"]) == 0
    summary = json.loads(capsys.readouterr().out)
    prepared = PreparedPixels.open(out)
    assert summary == inspect_pixels.summarize(prepared)
    assert (summary["height"], summary["width"], summary["num_classes"]) == (3, 4, 4)
    for split in ("train", "validation", "test"):
        rows = prepared.split(split)
        flat = rows.pixels.ravel().tolist()
        labels = None if rows.labels is None else rows.labels.tolist()
        assert summary["splits"][split] == {
            "images": len(rows.pixels),
            "mean": pytest.approx(sum(flat) / len(flat), abs=1e-4),
            "min": min(flat),
            "max": max(flat),
            "images_per_class": labels and [labels.count(number) for number in range(4)],
        }
    assert main(["inspect", str(out), "-o", str(tmp_path / "sheet.png")]) == 0
    table = capsys.readouterr().out.splitlines()
    mean = summary["splits"]["test"]["mean"]
    shown = f"{mean:.2f}" if binarize == "none" else f"{mean:.2%}"
    extremes = [str(summary["splits"]["test"][key]) for key in ("min", "max")]
    assert table[-1].split() == ["test", "7", shown, *extremes, "no", "labels"]


@pytest.mark.parametrize("options", [{}, {"binarize": "threshold"}, {"channels": 3}], ids=["grey", "binary", "colour"])
def test_pixel_contact_sheet_shows_images_of_each_split_enlarged(options, pixel_source, tmp_path):
    prepare_pixels(pixel_source, tmp_path / "out", **options)
    prepared = PreparedPixels.open(tmp_path / "out")
    inspect_pixels.write_contact_sheet(prepared, tmp_path / "sheet.png")
    with Image.open(tmp_path / "sheet.png") as image:
        sheet = np.asarray(image)
    scale, gap, title = 20, 2, 16
    top = 0
    for split, shown in (("train", 40), ("validation", 6), ("test", 7)):
        top += title
        levels = prepared.split(split).pixels.astype(int) * (255 // (prepared.levels - 1))
        expected = {np.broadcast_to(image, (3, 4, 3)).astype(np.uint8).tobytes() for image in levels}
        for index in range(shown):
            row, column = top + index // 10 * (3 * scale + gap), index % 10 * (4 * scale + gap)
            cell = sheet[row : row + 3 * scale, column : column + 4 * scale]
            pixels = cell[::scale, ::scale]
            np.testing.assert_array_equal(cell, pixels.repeat(scale, axis=0).repeat(scale, axis=1))
            assert pixels.tobytes() in expected
        top += -(-shown // 10) * (3 * scale + gap)
    assert top == len(sheet)


def test_pixel_contact_sheet_is_the_same_each_time_and_differs_by_seed(pixel_source, tmp_path):
    prepare_pixels(pixel_source, tmp_path / "out")
    sheets = []
    for seed in (0, 0, 1):
        inspect_pixels.write_contact_sheet(PreparedPixels.open(tmp_path / "out"), tmp_path / "sheet.png", seed)
        sheets.append((tmp_path / "sheet.png").read_bytes())
    assert sheets[0] == sheets[1] != sheets[2]
    with pytest.raises(UserError, match=r"end its name in \.png"):
        inspect_pixels.write_contact_sheet(PreparedPixels.open(tmp_path / "out"), tmp_path / "sheet.jpg")


def test_inspect_of_another_folder_names_both_commands(tmp_path, capsys):
    assert main(["inspect", str(tmp_path)]) == 2
    message = "not a prepared data set; make one with: data-prep captions or data-prep pixels"
    assert capsys.readouterr().err == f"data-prep: error: {tmp_path}: {message}\n"
