"""Images found by the names of other programs: exact names first, then looser ones, all candidates if ambiguous."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from data_prep.image_names import BY_NUMBER, BY_PATH, BY_STEM, ImageNames
from data_prep.references import Reference


def names_of(*images: tuple[str, str | None] | str, split: str | None = None) -> ImageNames:
    """Return the names of images given by name, or by name and id."""
    pairs = [(image, None) if isinstance(image, str) else image for image in images]
    return ImageNames([Reference(name, key, split, ["a"]) for name, key in pairs])


COCO = names_of(("val2014/COCO_val2014_000000000073.jpg", "73"), ("val2014/COCO_val2014_000000000042.jpg", "42"))


@pytest.mark.parametrize(
    ("name", "by"),
    [
        ("42", None),
        ("val2014/COCO_val2014_000000000042.jpg", None),
        ("COCO_val2014_000000000042.jpg", BY_PATH),
        ("/data/coco/val2014/COCO_val2014_000000000042.jpg", BY_PATH),
        ("D:\\coco\\val2014\\COCO_val2014_000000000042.jpg", BY_PATH),
        ("COCO_val2014_000000000042", BY_STEM),
        ("COCO_val2014_000000000042.npy", BY_STEM),
        ("000000000042", BY_NUMBER),
        ("42.0", BY_NUMBER),
        ("000000000042.jpg", BY_NUMBER),
        ("val2017/000000000042.png", BY_NUMBER),
        ("COCO_train2014_000000000042.jpg", BY_NUMBER),
    ],
)
def test_an_image_of_coco_is_found_by_all_its_names(name: str, by: str | None) -> None:
    assert COCO.find(name) == ([1], by)


@pytest.mark.parametrize(
    "name", ["7", "4", "420", "2", "-42", "42.5", "x42", "COCO_42", "jpg", "", "COCO_val2014_42_1"]
)
def test_another_name_is_not_forced_to_fit(name: str) -> None:
    assert COCO.find(name) == ([], None)


# The last digits of a name in Flickr8k are not a number of the image.
def test_a_number_within_a_name_is_not_the_number_of_an_image() -> None:
    names = names_of("1000268201_693b08cb0e.jpg", "667626_18933d713e.jpg", "img_12.jpg")
    assert [names.find(name).indices for name in ("0", "12", "667626", "18933")] == [[], [], [], []]


@given(st.integers(0, 10**9), st.integers(0, 12), st.sampled_from(["", ".0", ".jpg"]))
def test_padded_numbers_are_the_same_number(number: int, zeros: int, suffix: str) -> None:
    names = names_of((f"{number + 1}.jpg", None), ("other.jpg", str(number)))
    assert names.find("0" * zeros + str(number) + suffix).indices == [1]


def test_exact_names_go_before_looser_ones() -> None:
    names = names_of(("p1.jpg", "7"), ("x/p1.jpg", "8"), ("p1", "9"), ("007.png", "p2.jpg"))
    assert names.find("p1.jpg") == ([0], None)
    assert names.find("x/p1.jpg") == ([1], None)
    assert names.find("p1") == ([2], None)
    assert names.find("7") == ([0], None)
    assert names.find("007") == ([3], BY_STEM)
    assert names.find("p2.jpg") == ([3], None)


def test_the_longest_common_end_of_the_paths_decides() -> None:
    names = names_of("x/a.jpg", "y/a.jpg", "a.jpg")
    assert names.find("images/y/a.jpg") == ([1], BY_PATH)
    assert names.find("C:\\images\\x\\a.jpg") == ([0], BY_PATH)
    assert names.find("images/y/a.png") == ([1], BY_STEM)
    assert names.find("z/a.jpg") == ([0, 1, 2], BY_PATH)


def test_several_images_are_all_named() -> None:
    assert names_of("x/a.jpg", "y/a.jpg").find("a.jpg") == ([0, 1], BY_PATH)
    assert names_of("a.jpg", "a.png").find("a") == ([0, 1], BY_STEM)
    assert names_of("a.jpg", "a.png").find("a.gif") == ([0, 1], BY_STEM)
    assert names_of(("a.jpg", "5"), ("005.jpg", "6")).find("05") == ([0, 1], BY_NUMBER)
    assert names_of(("5", "6"), ("a.jpg", "5")).find("5") == ([0, 1], None)


def test_a_split_is_a_folder_of_its_images() -> None:
    images = [Reference("1.jpg", None, split, ["a"]) for split in ("train", "validation", "test")]
    names = ImageNames(images)
    assert names.find("1.jpg").indices == [0, 1, 2]
    for folder, index in (("train", 0), ("val", 1), ("dev", 1), ("validation", 1), ("Test", 2)):
        assert names.find(f"photos/{folder}/1.jpg") == ([index], BY_PATH)


def test_paths_of_windows_in_the_references_are_paths() -> None:
    assert names_of("Images\\p1.jpg", "Images\\p2.jpg").find("p2.jpg") == ([1], BY_PATH)


def test_a_stem_with_dots_is_complete() -> None:
    names = names_of("dog.v2.jpg", "dog.jpg")
    assert names.find("dog.v2") == ([0], BY_STEM)
    assert names.find("dog.v2.png") == ([0], BY_STEM)
