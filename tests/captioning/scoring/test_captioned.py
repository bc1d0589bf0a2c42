"""Captions matched with the references of their images; mismatches are named, and nothing is skipped in silence."""

import pytest

from captioning.scoring.captioned import Captioned, in_both, match
from data_prep.predictions import Predictions
from data_prep.references import Reference
from vision_rnn.errors import UserError

# Every split has the same file names.
REUSED = [
    Reference(f"{number}.jpg", None, split, [f"{split} {number}"]) for split in ("test", "train") for number in (1, 2)
]


def of(captions: dict[str, str], split: str | None = None) -> Predictions:
    return Predictions("theirs.json", captions, split)


@pytest.fixture
def notes(capsys: pytest.CaptureFixture[str]):
    """A function that returns the notes printed since its last call."""
    return lambda: capsys.readouterr().err.splitlines()


def test_images_are_found_by_path_file_name_and_id(notes, known: list[Reference], sentences: list[str]) -> None:
    for names, loose in (
        (["x/a.jpg", "b.jpg", "c.jpg"], 0),
        (["1", "2", "3"], 0),
        (["a.jpg", "photos/b.jpg", "c.jpg"], 2),
        (["a", "002", "3.0"], 3),
    ):
        captioned = match(of(dict(zip(reversed(names), reversed(sentences), strict=True))), known)
        assert captioned == Captioned(known[:3], sentences, "test")
        assert [f"name or id: {loose} of 3" in line for line in notes()] == [True] * bool(loose)


def test_a_note_shows_how_images_were_matched(notes, known: list[Reference]) -> None:
    match(of({"a": "", "b": "", "0003": ""}), known)
    assert notes() == [
        "vision-rnn: theirs.json: images matched other than by the exact name or id: 3 of 3 (2 by the file name "
        "without suffix, such as a as x/a.jpg (id 1); 1 by the number, such as 0003 as c.jpg (id 3))"
    ]


def test_captions_of_other_splits_are_skipped_if_one_is_named(
    notes, known: list[Reference], sentences: list[str]
) -> None:
    names = dict(zip("1234", [*sentences, "a cat"], strict=True))
    assert match(of(names), known, "test").captions == sentences
    assert notes() == ["vision-rnn: theirs.json: captions of other splits than test, skipped: 1 of 4"]
    assert match(of(names), known, "train").captions == ["a cat"]
    assert notes() == ["vision-rnn: theirs.json: captions of other splits than train, skipped: 3 of 4"]


@pytest.mark.parametrize(
    ("captions", "split", "message"),
    [
        (
            {"z.jpg": "a", "1": "b", "y": "c"},
            None,
            r"do not have: 2 of 3, such as z\.jpg, y; the references have x/a\.jpg \(id 1\), b\.jpg \(id 2\)",
        ),
        ({"77": "a", "4": "b"}, "train", r"1 of 2, such as 77; the references have d\.jpg \(id 4\); use"),
        ({"1": "a", "2": "b"}, None, r"1 of 3 images of the split test have no caption, such as c\.jpg .*--subset"),
        ({"1": "a", "4": "b"}, None, r"several splits of the references \(test, train\); add --split"),
        (
            {"1": "a", "a.jpg": "b"},
            None,
            r"1 and a\.jpg are the same image, x/a\.jpg \(id 1\), with different captions",
        ),
        ({"4": "a"}, "validation", "no references of the split 'validation'"),
        ({"4": "a"}, "test", "no captions of images of the split test; choose another split"),
    ],
)
def test_what_does_not_fit_is_named(
    captions: dict[str, str], split: str | None, message: str, known: list[Reference]
) -> None:
    with pytest.raises(UserError, match=message):
        match(of(captions), known, split)


@pytest.mark.parametrize(
    ("names", "name"), [(["x/a.jpg", "y/a.jpg"], "a.jpg"), (["a.jpg", "a.png"], "a"), (["04.jpg", "4.jpg"], "004")]
)
@pytest.mark.parametrize("subset", [False, True])
def test_a_name_of_two_images_is_refused(names: list[str], name: str, subset: bool) -> None:
    images = [Reference(other, None, None, ["a"]) for other in names]
    expected = f"{name} may be any of 2 images of the references, such as {', '.join(names)}"
    with pytest.raises(UserError, match=expected):
        match(of({name: "a"}), images, subset=subset)
    with pytest.raises(UserError, match=expected):
        match(of({name: "a"}), [Reference(other, None, "test", ["a"]) for other in names], "test", subset)


def test_names_that_splits_reuse_are_resolved_within_the_split() -> None:
    captions = {"1.jpg": "one", "2.jpg": "two"}
    for split, images in (("test", REUSED[:2]), ("train", REUSED[2:])):
        expected = Captioned(images, ["one", "two"], split)
        assert match(of(captions), REUSED, split) == expected
        assert match(of(captions, split), REUSED) == expected
        assert match(of(captions, split), REUSED, split) == expected
    with pytest.raises(UserError, match=r"several splits of the references \(test, train\); add --split"):
        match(of(captions), REUSED)


def test_the_only_split_with_all_names_is_used() -> None:
    images = [*REUSED, Reference("3.jpg", None, "train", ["train 3"])]
    captioned = match(of({"1.jpg": "one", "2.jpg": "two", "3.jpg": "three"}), images)
    assert captioned == Captioned(images[2:], ["one", "two", "three"], "train")


def test_a_folder_named_after_the_split_decides(notes) -> None:
    folders = {"photos/train/1.jpg": "a", "photos/train/2.jpg": "b", "photos/test/1.jpg": "c", "photos/test/2.jpg": "d"}
    assert match(of(folders), REUSED, "train") == Captioned(REUSED[2:], ["a", "b"], "train")
    assert notes()[0].endswith("captions of other splits than train, skipped: 2 of 4")
    assert match(of({"val/test/1.jpg": "c", "val/test/2.jpg": "d"}), REUSED).split == "test"


def test_an_exact_name_in_another_split_goes_before_a_looser_one_in_this_split() -> None:
    images = [Reference("test/1.jpg", None, "test", ["a"]), Reference("train/1.jpg", None, "train", ["b"])]
    assert match(of({"test/1.jpg": "A", "train/1.jpg": "B"}), images, "test").captions == ["A"]


def test_the_split_of_the_file_and_that_of_the_option_must_agree() -> None:
    with pytest.raises(UserError, match=r"theirs\.json: holds captions of the split test, but train is to be scored"):
        match(of({"1.jpg": "a", "2.jpg": "b"}, "test"), REUSED, "train")


def test_a_split_that_the_references_do_not_have_says_nothing(notes) -> None:
    captions = of({"1.jpg": "one", "2.jpg": "two"}, "validation")
    assert match(captions, REUSED[:2]) == Captioned(REUSED[:2], ["one", "two"], "test")
    assert "names the split validation, which the references do not have" in notes()[0]
    assert match(captions, REUSED, "train").split == "train"
    notes()
    without = [Reference("1.jpg", None, None, ["a"]), Reference("2.jpg", None, None, ["b"])]
    assert match(captions, without) == Captioned(without, ["one", "two"], None)
    assert notes() == []


def test_the_same_caption_under_another_name_is_counted(notes, known: list[Reference], sentences: list[str]) -> None:
    captions = dict(zip("123", sentences, strict=True)) | {"b.jpg": sentences[1], "c.jpg": sentences[2]}
    assert match(of(captions), known).captions == sentences
    assert notes() == [
        "vision-rnn: theirs.json: repeated captions of an image under another name: 2; every image is scored once"
    ]


def test_an_image_of_a_split_is_not_captioned_by_its_namesake_without_split() -> None:
    images = [Reference("1.jpg", None, "test", ["a"])] + [Reference(f"{n}.jpg", None, None, ["b"]) for n in (1, 2)]
    with pytest.raises(UserError, match=r"1 of 3 images of the references have no caption, such as 1\.jpg"):
        match(of({"1.jpg": "one", "2.jpg": "two"}), images)


def test_a_subset_is_scored_on_purpose(known: list[Reference]) -> None:
    captions = of({"3": "children", "1": "a dog"})
    assert match(captions, known, subset=True) == Captioned([known[0], known[2]], ["a dog", "children"], "test", 3)
    with pytest.raises(UserError, match="references do not have: 1 of 2"):
        match(of({"1": "a", "9": "b"}), known, subset=True)
    with pytest.raises(UserError, match="no captions of images of the split train"):
        match(captions, known, "train", subset=True)


def test_subsets_are_compared_on_the_images_of_both(known: list[Reference]) -> None:
    first = match(of({"1": "a", "2": "b"}), known, subset=True)
    second = match(of({"3": "C", "2": "B"}), known, subset=True)
    assert in_both(first, second) == (
        Captioned([known[1]], ["b"], "test", 3),
        Captioned([known[1]], ["B"], "test", 3),
    )
    with pytest.raises(UserError, match="no image has a caption in both files"):
        in_both(first, match(of({"3": "c"}), known, subset=True))
