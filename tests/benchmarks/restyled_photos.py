"""Photos of Flickr8k's validation split with captions in another style, to choose settings of `captioning train`.

    python tests/benchmarks/restyled_photos.py DATA FOLDER --photos 240 [--captions 1] [--plain]
    captioning train FOLDER

FOLDER has subfolders train (as many photos as asked for), validation (at most an eighth of that) and test (always the
same 200 photos, with all captions). The style: some frequent words are replaced, and every caption ends with "on a
sunny day". The bundled model was not trained on these photos.
"""

import argparse
import random
import re
import shutil
from collections import defaultdict
from pathlib import Path

WORDS = {
    **{"dog": "hound", "dogs": "hounds", "man": "gentleman", "men": "gentlemen", "woman": "lady", "women": "ladies"},
    **{"boy": "lad", "boys": "lads", "girl": "lass", "girls": "lasses", "child": "youngster", "kid": "youngster"},
    **{"children": "youngsters", "kids": "youngsters", "water": "aqua", "grass": "turf", "snow": "powder"},
    **{"ball": "sphere", "running": "sprinting", "runs": "sprints"},
}
TEST_PHOTOS = 200


def restyle(caption: str) -> str:
    """Replace words, and add an ending."""
    replaced = re.sub("[A-Za-z]+", lambda word: WORDS.get(word[0].lower(), word[0]), caption)
    return f"{replaced.rstrip(' .!')} on a sunny day ."


def main() -> None:
    """Write the folder."""
    parser = argparse.ArgumentParser(description="Write photos of Flickr8k with captions in another style.")
    parser.add_argument("data", type=Path, help="folder of Flickr8k in its official layout")
    parser.add_argument("folder", type=Path, help="folder to write")
    parser.add_argument("--photos", type=int, default=240, help="number of training photos, at most 720")
    parser.add_argument("--captions", type=int, default=5, help="captions per photo to learn from")
    parser.add_argument("--plain", action="store_true", help="keep the captions' style")
    options = parser.parse_args()
    texts = options.data / "Flickr8k_text"
    captions = defaultdict(list)
    for line in (texts / "Flickr8k.token.txt").read_text(encoding="utf-8").splitlines():
        name, caption = line.split("\t")
        captions[name.partition("#")[0]].append(caption if options.plain else restyle(caption))
    names = (texts / "Flickr_8k.devImages.txt").read_text().split()
    random.Random(1).shuffle(names)
    test, rest = names[:TEST_PHOTOS], names[TEST_PHOTOS:]
    held_out = min(options.photos // 8, len(rest) - options.photos)
    splits = {"train": rest[: options.photos], "validation": rest[-held_out:]}
    for split, chosen in {**splits, "test": test}.items():
        (options.folder / split).mkdir(parents=True)
        for name in chosen:
            shutil.copy(options.data / "Flicker8k_Dataset" / name, options.folder / split)
            learned = captions[name] if split == "test" else captions[name][: options.captions]
            text = "".join(f"{caption}\n" for caption in learned)
            (options.folder / split / name).with_suffix(".txt").write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
