"""Parts of a caption data set: merged, they are the data set that is prepared at once."""

import json
import shutil
from pathlib import Path

import pytest

from data_prep.cli import main
from data_prep.prepared_captions import PreparedCaptions
from vision_rnn.errors import UserError


@pytest.fixture(scope="module")
def sources(synthetic_captions: Path, tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """Two sources; of the first an image cannot be decoded and an image is missing, the second has no splits."""
    folder = tmp_path_factory.mktemp("sources")
    first, second = folder / "first", folder / "second"
    shutil.copytree(synthetic_captions, first)
    lines = [json.loads(line) for line in (first / "captions.jsonl").read_text().splitlines()]
    names = sorted(line["image"] for line in lines if line["split"] == "train")
    (first / "images" / names[3]).write_bytes(b"no image")
    for line in lines:
        if line["image"] == names[7]:
            line["image"] = "missing.png"
    lines.append({"image": "unsaid.png", "captions": ["..."], "split": "train"})
    (first / "captions.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    (second / "images").mkdir(parents=True)
    rows = []
    for number, line in enumerate(line for line in lines if line["split"] == "test"):
        shutil.copy(first / "images" / line["image"], second / "images" / f"{number}.png")
        rows.append(json.dumps({"image": f"{number}.png", "captions": line["captions"]}) + "\n")
    (second / "captions.jsonl").write_text("".join(rows))
    return [str(first), str(second)]


def prepare(sources: list[str], output: Path, *options: str) -> int:
    return main(["captions", *sources, "-o", str(output), "--min-count", "2", *options])


def prepare_parts(sources: list[str], folder: Path, parts: int, *options: str) -> list[str]:
    folders = [folder / f"part-{number}" for number in range(1, parts + 1)]
    for number, part in enumerate(folders, start=1):
        prepare(sources, part, "--shard", f"{number}/{parts}", *options)
    return [str(part) for part in folders]


@pytest.mark.parametrize(("parts", "options"), [(3, []), (40, []), (2, ["--max-images", "5"])])
def test_merged_parts_are_what_is_prepared_at_once(
    sources: list[str], tmp_path: Path, parts: int, options: list[str], capsys: pytest.CaptureFixture[str]
):
    assert prepare(sources, tmp_path / "whole", *options) == 1
    said = capsys.readouterr()
    folders = prepare_parts(sources, tmp_path, parts, *options)
    capsys.readouterr()
    # Parts that were copied from several machines may come in any order.
    assert main(["merge", *folders[::-1], "-o", str(tmp_path / "merged")]) == 1
    merged, whole = PreparedCaptions.open(tmp_path / "merged"), PreparedCaptions.open(tmp_path / "whole")
    assert merged.manifest == whole.manifest
    assert [entry["reason"] for entry in merged.manifest["left_out"]]
    assert merged.vocabulary.words == whole.vocabulary.words
    for split in whole.manifest["splits"]:
        assert merged.split(split).to_list() == whole.split(split).to_list()
    spoken = capsys.readouterr()
    assert spoken.err.splitlines() == [line for line in said.err.splitlines() if "reading images" not in line]
    assert spoken.out == said.out.replace(str(tmp_path / "whole"), str(tmp_path / "merged"))


def test_files_are_shared_and_outlive_the_parts(sources: list[str], tmp_path: Path):
    folders = prepare_parts(sources, tmp_path, 2)
    main(["merge", *folders, "-o", str(tmp_path / "merged")])
    data = PreparedCaptions.open(tmp_path / "merged")
    shared = {path.stat().st_ino for part in folders for path in Path(part).rglob("*.arrow")}
    assert {path.stat().st_ino for path in data.folder.rglob("*.arrow")} == shared
    for part in folders:
        shutil.rmtree(part)
    assert len(data.split("train")[:]["captions"]) == data.manifest["splits"]["train"]["images"]


def test_a_part_says_what_it_is_and_what_to_do(sources: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    (part,) = prepare_parts(sources, tmp_path, 1)
    said = capsys.readouterr()
    assert f"part 1/1 written to {part}; merge all parts with: data-prep merge" in said.out
    assert "1 input cannot be used by any part; data-prep merge names them" in said.err
    assert "2 inputs skipped" in said.err
    with pytest.raises(UserError, match="a part of a caption data set; merge all parts with: data-prep merge"):
        PreparedCaptions.open(part)
    assert main(["inspect", part]) == 2
    assert "a part of a caption data set; merge all parts" in capsys.readouterr().err


def test_what_is_no_whole_is_refused_by_name(sources: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    folders = prepare_parts(sources, tmp_path, 3)
    others = prepare_parts(sources, tmp_path / "others", 3, "--seed", "1")
    fewer = prepare_parts(sources, tmp_path / "fewer", 2)
    prepare(sources, tmp_path / "whole")
    capsys.readouterr()
    for named, problem in (
        (folders[:1], "missing of 3 parts: 2, 3; name the folders of all parts"),
        ([*folders, folders[0]], f"{folders[0]}: part 1/3, as {folders[0]}; name each part once"),
        ([*folders[:2], others[2]], f"{others[2]}: of another data set than {folders[0]}"),
        ([folders[0], fewer[1]], f"{fewer[1]}: of another data set than {folders[0]}"),
        (
            [str(tmp_path / "whole")],
            "whole: a prepared caption data set, not captions-part; make one with: data-prep captions SOURCE --shard",
        ),
    ):
        assert main(["merge", *named, "-o", str(tmp_path / "merged")]) == 2
        (line,) = capsys.readouterr().err.splitlines()
        assert problem in line
    (damaged,) = Path(folders[1]).rglob("train/*.arrow")
    content = bytearray(damaged.read_bytes())
    content[len(content) // 2] ^= 1
    damaged.write_bytes(content)
    assert main(["merge", *folders, "-o", str(tmp_path / "merged")]) == 2
    assert "damaged" in capsys.readouterr().err
    assert not (tmp_path / "merged").exists()
    assert prepare(sources, tmp_path / "part", "--shard", "4/3") == 2
    assert "--shard 4/3: not a part of several; give one such as 2/8" in capsys.readouterr().err
