"""Which photos are captioned, and where their pictures go; the rest is tested with the command."""

from pathlib import Path

from captioning.photos import picture_paths


def test_photos_of_one_name_keep_a_picture_each() -> None:
    images = [Path("a/x.jpg"), Path("b/x.jpg"), Path("c/x-2.jpg"), Path("c/x.png"), Path("y.jpg")]
    paths = picture_paths(images, {"attention": "out", "gates": None})["attention"]
    assert len(set(paths.values())) == len(images)
    assert paths[images[0]] == Path("out/x.png")
    assert paths[images[1]] == Path("out/x-2.png")
    assert paths[images[4]] == Path("out/y.png")
