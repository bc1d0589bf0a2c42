"""The released captioner: it loads from the package, captions photos, and reaches the stated scores."""

import re
from pathlib import Path

import pytest

from captioning import load_captioner
from captioning.captioner import Captioner, load_torch_captioner
from data_prep.captions import prepare_captions
from data_prep.image_files import find_images
from data_prep.images import load_image
from data_prep.prepared_captions import PreparedCaptions
from evaluation.caption_scores import score_captions

BUNDLED = Captioner.bundled / "flickr8k"
EXAMPLES = Path(__file__).parents[2] / "examples" / "photos"


def test_it_names_what_the_example_photos_show():
    paths = find_images(EXAMPLES)
    captions = load_torch_captioner().caption([load_image(path) for path in paths])
    texts = {path.stem: best.text for path, (best, *_) in zip(paths, captions, strict=True)}
    assert "dog" in texts["dog-in-the-woods"]
    assert re.search(r"\b(people|men|hikers|group)\b", texts["hikers-on-a-sand-dune"])
    assert re.search(r"\b(man|woman|person|boy|girl)\b", texts["tourist-taking-a-picture"])


def test_it_fits_the_size_kept_for_it():
    assert sum(path.stat().st_size for path in BUNDLED.iterdir()) < 52e6


@pytest.mark.slow
@pytest.mark.data
def test_its_scores_on_the_test_split_are_those_released(flickr8k: Path, tmp_path: Path):
    prepare_captions(flickr8k, tmp_path / "data")
    rows = PreparedCaptions.open(tmp_path / "data").split("test")
    photos = [load_image(image["bytes"]) for image in rows["image"]]
    texts = [list(best.words) for best, *_ in load_captioner().stream(photos)]
    assert len(texts) == 1000
    scores = score_captions(texts, rows["tokens"][:]).as_dict()
    assert scores["BLEU-4"] >= 0.255
    assert scores["CIDEr-D"] >= 0.66
    stated = re.search(r"^\| test \|.* ([\d.]+) \| [\d.]+ \| ([\d.]+) \|$", (BUNDLED / "README.md").read_text(), re.M)
    assert stated
    # Rounding differs between processors, which may change single words.
    assert (scores["BLEU-4"], scores["CIDEr-D"]) == pytest.approx(tuple(map(float, stated.groups())), abs=0.005)
