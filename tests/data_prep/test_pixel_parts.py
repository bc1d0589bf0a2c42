"""Parts of a pixel data set: merged, they are the data set that is prepared at once."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from data_prep.cli import main
from data_prep.prepared_pixels import PreparedPixels
from vision_rnn.errors import UserError


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Images of two classes in two splits, of several sizes; one of each split cannot be decoded."""
    folder, generator = tmp_path_factory.mktemp("source"), np.random.default_rng(0)
    for split, number in (("train", 23), ("test", 7)):
        for index in range(number):
            path = folder / split / "ab"[index % 2] / f"{index:02}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            image = generator.integers(0, 256, (8 + index, 8, 3), dtype=np.uint8)
            path.write_bytes(b"none") if index == 5 else Image.fromarray(image).save(path)
    return folder


def prepare(source: Path, output: Path, *options: str) -> int:
    return main(["pixels", str(source), "-o", str(output), "--size", "6", *options])


def prepare_parts(source: Path, folder: Path, parts: int, *options: str) -> list[str]:
    folders = [folder / f"part-{number}" for number in range(1, parts + 1)]
    for number, part in enumerate(folders, start=1):
        assert prepare(source, part, "--shard", f"{number}/{parts}", *options) < 2
    return [str(part) for part in folders]


@pytest.mark.parametrize(
    ("parts", "options"),
    [
        (1, []),
        (3, []),
        (40, ["--channels", "1", "--binarize", "threshold"]),
        (2, ["--max-images", "5"]),
        (2, ["--last-for-validation", "4"]),
    ],
)
def test_merged_parts_are_what_is_prepared_at_once(
    source: Path, tmp_path: Path, parts: int, options: list[str], capsys: pytest.CaptureFixture[str]
):
    status = prepare(source, tmp_path / "whole", *options)
    said = capsys.readouterr()
    folders = prepare_parts(source, tmp_path, parts, *options)
    capsys.readouterr()
    assert main(["merge", *folders[::-1], "-o", str(tmp_path / "merged")]) == status
    merged, whole = PreparedPixels.open(tmp_path / "merged"), PreparedPixels.open(tmp_path / "whole")
    assert merged.manifest == whole.manifest
    assert merged.num_classes == 2
    for split in whole.manifest["splits"]:
        expected, found = whole.split(split), merged.split(split)
        np.testing.assert_array_equal(found.pixels, expected.pixels)
        assert expected.labels is not None
        np.testing.assert_array_equal(found.labels, expected.labels)
    spoken = capsys.readouterr()
    assert spoken.err.splitlines() == [line for line in said.err.splitlines() if "reading images" not in line]
    assert spoken.out == said.out.replace(str(tmp_path / "whole"), str(tmp_path / "merged"))


def test_what_is_skipped_is_named_by_its_part_and_by_the_whole(
    source: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    folders = prepare_parts(source, tmp_path, 3)
    said = capsys.readouterr()
    skipped = [line for line in said.err.splitlines() if "skipped " in line]
    assert said.err.count("skipped train/b/05.png") == said.err.count("skipped test/b/05.png") == 1
    assert main(["merge", *folders, "-o", str(tmp_path / "merged")]) == 1
    assert [line for line in capsys.readouterr().err.splitlines() if "skipped " in line] == skipped
    with pytest.raises(UserError, match="a part of a pixel data set; merge all parts with: data-prep merge"):
        PreparedPixels.open(folders[0])
    assert main(["inspect", folders[0]]) == 2


def test_what_is_no_whole_is_refused_by_name(source: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    folders = prepare_parts(source, tmp_path, 3)
    others = prepare_parts(source, tmp_path / "others", 3, "--channels", "1")
    prepare(source, tmp_path / "whole")
    capsys.readouterr()
    for named, problem in (
        (folders[1:], "missing of 3 parts: 1; name the folders of all parts"),
        ([*folders[:2], others[2]], f"{others[2]}: of another data set than {folders[0]}, or prepared with other"),
        (
            [str(tmp_path / "whole")],
            "a prepared pixel data set, not pixels-part; make one with: data-prep pixels SOURCE",
        ),
    ):
        assert main(["merge", *named, "-o", str(tmp_path / "merged")]) == 2
        (line,) = capsys.readouterr().err.splitlines()
        assert problem in line
    assert not (tmp_path / "merged").exists()
    stochastic = ["--shard", "1/2", "--channels", "1", "--binarize", "stochastic"]
    assert prepare(source, tmp_path / "drawn", *stochastic) == 2
    assert "--binarize stochastic: draws one image after the other; omit --shard" in capsys.readouterr().err


def test_parts_of_different_shapes_are_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    source = tmp_path / "source" / "train"
    source.mkdir(parents=True)
    for index, mode in enumerate(["RGB"] * 2 + ["L"] * 4):
        Image.new("RGB", (4, 4), (200, 40 * index, 0)).convert(mode).save(source / f"{index}.png")
    folders = [str(tmp_path / f"part-{number}") for number in (1, 2)]
    for number, part in enumerate(folders, start=1):
        command = ["pixels", str(source.parent), "-o", part, "--shard", f"{number}/2", "--last-for-validation", "1"]
        assert main(command) == 0
    capsys.readouterr()
    assert main(["merge", *folders, "-o", str(tmp_path / "merged")]) == 2
    found = f"{folders[1]}: images are 4x4x1, but those of {folders[0]} 4x4x3"
    assert found in capsys.readouterr().err
