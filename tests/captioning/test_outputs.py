"""Outputs: captions that are written can be read again, and finished captions are never lost."""

import csv
import json
import os
import string
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from captioning.outputs import RecordFile, Sidecars, Written
from vision_rnn.errors import UserError
from vision_rnn.locks import InUseError

FORMATS = (".jsonl", ".csv", ".txt")


def make_caption(text: str, log_probability: float = -1.5) -> Written:
    return Written(text, log_probability)


def write(path: Path, captions: dict[str, list[str]], go_on: bool = False) -> None:
    output = RecordFile(path, go_on)
    for image, texts in captions.items():
        output.add(Path(image), [make_caption(text, -float(rank)) for rank, text in enumerate(texts, start=1)])
    output.finish()
    output.close()


def write_part(path: Path, image: str, text: str) -> None:
    """Write a caption as a run does that is stopped before its end."""
    output = RecordFile(path, go_on=False)
    output.add(Path(image), [make_caption(text)])
    output.close()


def holds(path: Path, image: str) -> bool:
    output = RecordFile(path, go_on=True)
    output.close()
    return output.holds(Path(image))


def test_jsonl_is_a_record_a_photo(tmp_path: Path) -> None:
    write(tmp_path / "out.jsonl", {"é.jpg": ["a dog", "a cat"], "b.jpg": ["it's red"]})
    lines = (tmp_path / "out.jsonl").read_text(encoding="utf-8").splitlines()
    assert "é.jpg" in lines[0]
    assert [json.loads(line) for line in lines] == [
        {
            "image": "é.jpg",
            "captions": [
                {"caption": "a dog", "log_probability": -1.0},
                {"caption": "a cat", "log_probability": -2.0},
            ],
        },
        {"image": "b.jpg", "captions": [{"caption": "it's red", "log_probability": -1.0}]},
    ]


def test_csv_is_a_row_a_caption(tmp_path: Path) -> None:
    write(tmp_path / "out.csv", {"a, b.jpg": ["a dog", "a cat"], "b.jpg": ["red"]})
    with open(tmp_path / "out.csv", newline="") as file:
        assert list(csv.reader(file)) == [
            ["image", "rank", "caption", "log_probability", "confidence"],
            ["a, b.jpg", "1", "a dog", "-1.0", ""],
            ["a, b.jpg", "2", "a cat", "-2.0", ""],
            ["b.jpg", "1", "red", "-1.0", ""],
        ]


def test_csv_cells_are_no_formulas_and_come_back(tmp_path: Path) -> None:
    captions = {"=1+2.jpg": ["=1+2", "'=1+2", "it's"], "./-x.jpg": ["+a"], "@b.jpg": ["-1"], "a=b.jpg": ["''"]}
    write(tmp_path / "out.csv", captions)
    with open(tmp_path / "out.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["image"] for row in rows] == ["./=1+2.jpg"] * 3 + ["./-x.jpg", "./@b.jpg", "a=b.jpg"]
    assert [row["caption"] for row in rows] == ["'=1+2", "''=1+2", "it's", "'+a", "'-1", "''"]
    before = (tmp_path / "out.csv").read_bytes()
    for name in captions:
        assert holds(tmp_path / "out.csv", str(Path(name)))
    write(tmp_path / "out.csv", {}, go_on=True)
    assert (tmp_path / "out.csv").read_bytes() == before


def test_text_is_path_tab_caption(tmp_path: Path) -> None:
    write(tmp_path / "out.txt", {"a.jpg": ["a dog", "a cat"], "b.jpg": ["red"]})
    assert (tmp_path / "out.txt").read_text() == "a.jpg\ta dog\na.jpg\ta cat\nb.jpg\tred\n"


# File names are bytes: not always valid UTF-8, and with any characters.
names = st.binary(min_size=1, max_size=12).map(os.fsdecode).filter(lambda name: str(Path(name)) == name)
texts = st.lists(st.text(string.ascii_letters + "',\"é", min_size=1), max_size=3).map(" ".join)


@pytest.mark.parametrize("suffix", FORMATS)
@settings(max_examples=50, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(captions=st.dictionaries(names, st.lists(texts, min_size=1, max_size=3), min_size=1, max_size=4))
def test_going_on_without_new_photos_changes_nothing(
    tmp_path: Path, suffix: str, captions: dict[str, list[str]]
) -> None:
    if suffix == ".txt":
        captions = {name.replace("\n", " "): texts for name, texts in captions.items()}
    path = tmp_path / f"out{suffix}"
    write(path, captions)
    before = path.read_bytes()
    output = RecordFile(path, go_on=True)
    assert all(output.holds(Path(name)) for name in captions)
    output.finish()
    assert path.read_bytes() == before


@pytest.mark.parametrize("suffix", FORMATS)
def test_going_on_adds_to_the_file(tmp_path: Path, suffix: str) -> None:
    first, second = {"a.jpg": ["a dog", "a cat"]}, {"b.jpg": ["red"]}
    write(tmp_path / f"whole{suffix}", first | second)
    write(tmp_path / f"parts{suffix}", first)
    write(tmp_path / f"parts{suffix}", second, go_on=True)
    assert (tmp_path / f"parts{suffix}").read_bytes() == (tmp_path / f"whole{suffix}").read_bytes()


@pytest.mark.parametrize("suffix", FORMATS)
def test_a_run_cut_at_any_byte_loses_at_most_its_last_photo(tmp_path: Path, suffix: str) -> None:
    captions = {"a.jpg": ["a dog", "a cat"], "é.jpg": ["red"]}
    write(tmp_path / f"whole{suffix}", captions)
    path, journal = tmp_path / f"out{suffix}", tmp_path / f"out{suffix}.part"
    killed = RecordFile(path, go_on=False)
    for image, texts in captions.items():
        killed.add(Path(image), [make_caption(text, -float(rank)) for rank, text in enumerate(texts, start=1)])
    killed.close()
    content = journal.read_bytes()
    line_ends = [place + 1 for place, byte in enumerate(content) if byte == ord("\n")]
    for length in range(len(content) + 1):
        path.unlink(missing_ok=True)
        journal.write_bytes(content[:length])
        resumed = RecordFile(path, go_on=True)
        missing = [image for image in captions if not resumed.holds(Path(image))]
        assert len(missing) == len(captions) - sum(end <= length for end in line_ends)
        for image in missing:
            texts = enumerate(captions[image], start=1)
            resumed.add(Path(image), [make_caption(text, -float(rank)) for rank, text in texts])
        resumed.finish()
        assert path.read_bytes() == (tmp_path / f"whole{suffix}").read_bytes()
        assert not journal.exists()


@pytest.mark.parametrize("suffix", FORMATS)
def test_newer_captions_take_the_place_of_those_of_the_file(tmp_path: Path, suffix: str) -> None:
    """A run that started over was killed, and is continued."""
    path = tmp_path / f"out{suffix}"
    write(path, {"a.jpg": ["a dog", "a cat"], "é.jpg": ["a dog"], "c.jpg": ["a dog"]})
    killed = RecordFile(path, go_on=False)
    for image, texts in {"c.jpg": ["red"], "a.jpg": ["red", "red cat"]}.items():
        killed.add(Path(image), [make_caption(text, -float(rank)) for rank, text in enumerate(texts, start=1)])
    killed.close()
    write(path, {"d.jpg": ["red"]}, go_on=True)
    expected = {"a.jpg": ["red", "red cat"], "é.jpg": ["a dog"], "c.jpg": ["red"], "d.jpg": ["red"]}
    write(tmp_path / f"whole{suffix}", expected)
    assert path.read_bytes() == (tmp_path / f"whole{suffix}").read_bytes()


def test_an_earlier_file_stays_until_the_new_one_is_whole(tmp_path: Path) -> None:
    path = tmp_path / "out.txt"
    write(path, {"old.jpg": ["a dog"]})
    output = RecordFile(path, go_on=False)
    output.add(Path("new.jpg"), [make_caption("a cat")])
    assert path.read_text() == "old.jpg\ta dog\n"
    output.finish()
    assert path.read_text() == "new.jpg\ta cat\n"
    assert list(tmp_path.iterdir()) == [path]


def test_earlier_files_stay_if_nothing_was_captioned(tmp_path: Path) -> None:
    write(tmp_path / "out.txt", {"old.jpg": ["a dog"]})
    write_part(tmp_path / "out.txt", "new.jpg", "a cat")
    write(tmp_path / "out.txt", {})
    assert (tmp_path / "out.txt").read_text() == "old.jpg\ta dog\n"
    assert holds(tmp_path / "out.txt", "new.jpg")


def test_starting_over_forgets_an_interrupted_run(tmp_path: Path) -> None:
    write_part(tmp_path / "out.txt", "old.jpg", "a dog")
    write(tmp_path / "out.txt", {"new.jpg": ["a cat"], "newer.jpg": ["red"]})
    assert (tmp_path / "out.txt").read_text() == "new.jpg\ta cat\nnewer.jpg\tred\n"


@pytest.mark.parametrize(
    ("name", "content", "entry"),
    [
        ("out.jsonl", '{"image": "a.jpg", "captions": []}\nnot json\n', "entry 2"),
        ("out.jsonl", '{"photo": "a.jpg"}\n', "entry 1"),
        ("out.jsonl", "[1, 2]\n", "entry 1"),
        (
            "out.jsonl",
            '{"image": "\\u00e9.jpg", "captions": []}\n{"image": "b\\ud800.jpg", "captions": []}\n',
            "entry 2",
        ),
        ("out.csv", "image,caption\na.jpg,a dog\n", "entry 1"),
        ("out.csv", "image,rank,caption,log_probability\na.jpg,1,a dog,-1\nb.jpg,1\n", "entry 2"),
        ("out.txt", "a.jpg\ta dog\nnotes of mine\n", "entry 2"),
    ],
)
def test_going_on_with_a_foreign_file_is_refused_and_leaves_it(
    tmp_path: Path, name: str, content: str, entry: str
) -> None:
    (tmp_path / name).write_text(content)
    with pytest.raises(UserError, match=entry):
        RecordFile(tmp_path / name, go_on=True)
    assert (tmp_path / name).read_text() == content


def test_unknown_formats_and_folders_are_refused(tmp_path: Path) -> None:
    (tmp_path / "folder.txt").mkdir()
    with pytest.raises(UserError, match=r"out\.xls: .*\.jsonl, \.csv, \.txt"):
        RecordFile(tmp_path / "out.xls", go_on=False)
    with pytest.raises(UserError, match="is a folder"):
        RecordFile(tmp_path / "folder.txt", go_on=False)


def test_a_full_disk_is_one_line_and_the_journal_can_be_continued(tmp_path: Path) -> None:
    resource = pytest.importorskip("resource")
    path, journal = tmp_path / "out.csv", tmp_path / "out.csv.part"
    write_part(path, "a.jpg", "a dog")
    whole = journal.stat().st_size
    output = RecordFile(path, go_on=True)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (whole + 20, hard))
    try:
        with pytest.raises(
            UserError, match=r"out\.csv\.part: cannot be written \(File too large\); choose another path"
        ):
            output.add(Path("b.jpg"), [make_caption("a cat")])
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    output.close()
    assert journal.stat().st_size == whole + 20
    assert holds(path, "a.jpg")
    assert not holds(path, "b.jpg")


def test_two_runs_do_not_write_one_file(tmp_path: Path) -> None:
    path = tmp_path / "out.csv"
    first = RecordFile(path, go_on=False)
    first.add(Path("a.jpg"), [make_caption("a dog")])
    for go_on in (False, True):
        with pytest.raises(InUseError, match=r"out\.csv: another process is writing it; wait for it, or choose"):
            RecordFile(path, go_on)
    first.add(Path("b.jpg"), [make_caption("a cat")])
    first.finish()
    assert [holds(path, name) for name in ("a.jpg", "b.jpg")] == [True, True]
    assert list(tmp_path.iterdir()) == [path]


def test_a_run_that_writes_nothing_leaves_nothing(tmp_path: Path) -> None:
    write(tmp_path / "out.csv", {})
    assert list(tmp_path.iterdir()) == []


def test_a_journal_that_is_a_link_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("mine")
    (tmp_path / "out.csv.part").symlink_to(tmp_path / "thesis.txt")
    with pytest.raises(UserError, match=r"out\.csv\.part: cannot be written \(a link, which is not followed\)"):
        RecordFile(tmp_path / "out.csv", go_on=False)
    assert (tmp_path / "thesis.txt").read_text() == "mine"


def test_sidecars_hold_a_caption_a_line(tmp_path: Path) -> None:
    image = tmp_path / "photo.jpg"
    output = Sidecars(".txt", keep=False, overwrite=False)
    assert not output.holds(image)
    output.add(image, [make_caption("a dog"), make_caption("a cat")])
    assert (tmp_path / "photo.txt").read_text() == "a dog\na cat\n"
    assert output.holds(image)
    assert list(tmp_path.iterdir()) == [tmp_path / "photo.txt"]


def test_sidecars_refuse_two_photos_of_one_name() -> None:
    output = Sidecars(".txt", keep=False, overwrite=False)
    for name in ("a/photo.jpg", "b/photo.jpg", "b/photo.jpg"):
        output.check(Path(name))
    with pytest.raises(UserError, match=r"b/photo\.png: would share its text file with b/photo\.jpg"):
        output.check(Path("b/photo.png"))


@pytest.mark.parametrize("suffix", ["txt", ".", "", ".a/b", ".jpg", ".PNG", ".."])
def test_the_suffix_of_sidecars_is_one_of_texts(suffix: str) -> None:
    with pytest.raises(UserError, match=r"--extension .*: not the suffix of a text file"):
        Sidecars(suffix, keep=True, overwrite=False)
