"""Inputs with changed, cut and inserted bytes, for every reader: a right result, or one line that says what is wrong.

Not part of `make test`: `make test-faults` names this file.
"""

import csv
import gzip
import hashlib
import json
import shutil
import signal
import struct
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from captioning.captioner import load_torch_captioner
from captioning.training.features import grid_features
from data_prep.prepared_captions import PreparedCaptions
from tests.faults.forks import BYTES, FAILED, SECONDS, Ended, programs, run_on_each
from vision_rnn import checksums, model_folder
from vision_rnn.cli import exit_status

# Text that has a meaning to one reader or the other.
TOKENS = [
    *(b"0", b"-1", b"1e999", b"NaN", b"null", b"true", b"9" * 20, b"2147483648", b'"', b"'", b"[", b"{", b"}", b","),
    *(b"\0", b"\n", b"\t", b"\xff\xfe", b"\xed\xa0\xbd", b"../../", b"%s", b"\\", b"\\ud800", b":", b"- ", b"&a *a"),
]


@dataclass(frozen=True)
class Reader:
    """A command that reads files.

    Attributes:
        command: The program and its arguments; it writes into `out`, if anywhere.
        files: The files to change, as a pattern in the folder of inputs.
        inputs: What it reads: names in `world`, or functions that write something into a folder, given `world`.
        is_checked: Whether damage is noticed: every result must be that of the unchanged input. Otherwise a changed
            input may be another input, with a result of its own.
        before: Called with the folder after a file was changed.
    """

    command: Sequence[str]
    files: str
    inputs: Sequence[str | Callable[[Path, Path], object]]
    is_checked: bool = False
    before: Callable[[Path], object] = lambda folder: None


def photos(world: Path, folder: Path) -> None:
    """Write six photos in six formats, with captions beside them."""
    (folder / "photos").mkdir()
    paths = sorted((world / "captioned/images").iterdir())
    for path, suffix in zip(paths, ("png", "jpg", "gif", "webp", "tiff", "bmp"), strict=False):
        with Image.open(path) as image:
            image.convert("RGB").save(folder / f"photos/{path.stem}.{suffix}")
        words = path.stem.replace("_", " ")
        (folder / f"photos/{path.stem}.txt").write_text(f"A {words}\nThere is a {words}.\n")


def rows(folder: Path) -> list[dict[str, str]]:
    paths = [path for path in sorted((folder / "photos").glob("*_on_*")) if path.suffix != ".txt"]
    splits = ["train", "train", "train", "val", "val", "test"]
    texts = [path.with_suffix(".txt").read_text().splitlines()[0] for path in paths]
    return [
        {"image": path.name, "caption": text, "split": split}
        for path, text, split in zip(paths, texts, splits, strict=True)
    ]


def table(world: Path, folder: Path) -> None:
    with open(folder / "photos/a.csv", "w", newline="") as file:
        writer = csv.DictWriter(file, ["image", "caption", "split"])
        writer.writeheader()
        writer.writerows(rows(folder))


def json_lines(world: Path, folder: Path) -> None:
    (folder / "photos/a.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows(folder)))


def json_list(world: Path, folder: Path) -> None:
    (folder / "photos/a.json").write_text(json.dumps(rows(folder)))


def coco(world: Path, folder: Path) -> None:
    images = [{"id": number, "file_name": row["image"]} for number, row in enumerate(rows(folder))]
    annotations = [{"id": n, "image_id": n, "caption": row["caption"]} for n, row in enumerate(rows(folder))]
    document = {"images": images, "annotations": annotations}
    (folder / "photos/captions_train.json").write_text(json.dumps(document))


def karpathy(world: Path, folder: Path) -> None:
    images = [
        {"filename": row["image"], "split": row["split"], "sentences": [{"raw": row["caption"]}]}
        for row in rows(folder)
    ]
    (folder / "photos/a.json").write_text(json.dumps({"images": images}))


def flickr8k(world: Path, folder: Path) -> None:
    lines = [f"{row['image']}#0\t{row['caption']}\n" for row in rows(folder)]
    (folder / "photos/Flickr8k.token.txt").write_text("".join(lines))
    for split, name in (("train", "train"), ("val", "dev"), ("test", "test")):
        names = [row["image"] for row in rows(folder) if row["split"] == split]
        (folder / f"photos/Flickr_8k.{name}Images.txt").write_text("\n".join(names))


def parquet(world: Path, folder: Path) -> None:
    import pyarrow
    import pyarrow.parquet

    of_columns = {
        "image": [{"bytes": (folder / "photos" / row["image"]).read_bytes(), "path": None} for row in rows(folder)],
        "caption": [row["caption"] for row in rows(folder)],
        "split": [row["split"] for row in rows(folder)],
    }
    pyarrow.parquet.write_table(pyarrow.table(of_columns), folder / "a.parquet")


def idx(folder: Path, world: Path, open_: Callable[..., object], suffix: str) -> None:
    bits = np.load(world / "pixels.npz")
    (folder / "idx").mkdir()
    for name, split in (("train", "train"), ("t10k", "test")):
        number, height, width = bits[split].shape
        with open_(folder / f"idx/{name}-images-idx3-ubyte{suffix}", "wb") as file:  # type: ignore[attr-defined]
            file.write(struct.pack(">IIII", 0x803, number, height, width) + (255 * bits[split]).tobytes())
        with open_(folder / f"idx/{name}-labels-idx1-ubyte{suffix}", "wb") as file:  # type: ignore[attr-defined]
            file.write(struct.pack(">II", 0x801, number) + (np.arange(number) % 10).astype(np.uint8).tobytes())


def plain_idx(world: Path, folder: Path) -> None:
    idx(folder, world, open, "")


def packed_idx(world: Path, folder: Path) -> None:
    idx(folder, world, gzip.open, ".gz")


def predictions(world: Path, folder: Path) -> None:
    """Write captions of the test images in the formats that `score` reads."""
    lines = (json.loads(line) for line in (world / "captioned/captions.jsonl").read_text().splitlines())
    captions = {line["image"]: line["captions"][0] for line in lines if line["split"] == "test"}
    rows = [{"image": image, "caption": caption} for image, caption in captions.items()]
    (folder / "coco.json").write_text(json.dumps([{"image_id": row["image"], **row} for row in rows]))
    (folder / "mapping.json").write_text(json.dumps(captions))
    (folder / "lines.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (folder / "tabs.txt").write_text("".join(f"{row['image']}\t{row['caption']}\n" for row in rows))
    (folder / "table.csv").write_text("image,caption\n" + "".join(f"{row['image']},{row['caption']}\n" for row in rows))


def one_photo(world: Path, folder: Path) -> None:
    shutil.copy(next((world / "captioned/images").iterdir()), folder / "photo.png")


def model(world: Path, folder: Path) -> None:
    shutil.copytree(world / "captions-run/model", folder / "model")


def pixel_model(world: Path, folder: Path) -> None:
    shutil.copytree(world / "pixels-run/model", folder / "model")


def sign(folder: Path) -> None:
    """Write the checksums of the model folder as they are now: those that someone who changes it on purpose writes."""
    names = {path.name for path in (folder / "model").iterdir()} - {"SHA256SUMS", "README.md"}
    model_folder.write_checksums(folder / "model", sorted(names))


def unfinished(world: Path, folder: Path) -> None:
    """Write what a `caption -o` leaves that was killed: the captions of half of the photos, and a journal."""
    lines = (world / "predictions.jsonl").read_text().splitlines(keepends=True)
    (folder / "captions.jsonl").write_text("".join(lines[:4]))
    (folder / "captions.jsonl.part").write_text("".join(lines[4:6]))


def caption_config(world: Path, folder: Path) -> None:
    shutil.copy(world / "sentences-run/config.yaml", folder / "config.yaml")


def pixel_config(world: Path, folder: Path) -> None:
    shutil.copy(world / "pixels-run/config.yaml", folder / "config.yaml")


def features(arguments: Sequence[str]) -> int:
    """Print a digest of the features of a data set's training images, which are computed where they are damaged."""

    def digest() -> int:
        (data,) = arguments
        encoder = load_torch_captioner("captioner").encoder
        found = np.array(grid_features(encoder, PreparedCaptions.open(data), "train"))
        print(hashlib.sha256(found.tobytes()).hexdigest())
        return 0

    return exit_status("features", digest)


PREPARE = ["data-prep", "captions", "-o", "out", "--min-count=1"]
TO_PIXELS = ["data-prep", "pixels", "-o", "out"]
CAPTION = ["captioning", "caption", "photo.png", "--model=model"]
READERS = {
    "captions: csv": Reader([*PREPARE, "photos/a.csv"], "photos/a.csv", [photos, table]),
    "captions: jsonl": Reader([*PREPARE, "photos/a.jsonl"], "photos/a.jsonl", [photos, json_lines]),
    "captions: json": Reader([*PREPARE, "photos/a.json"], "photos/a.json", [photos, json_list]),
    "captions: coco": Reader([*PREPARE, "photos/captions_train.json"], "photos/*.json", [photos, coco]),
    "captions: karpathy": Reader([*PREPARE, "photos/a.json"], "photos/a.json", [photos, karpathy]),
    "captions: flickr8k": Reader([*PREPARE, "photos"], "photos/Flickr*", [photos, flickr8k]),
    "captions: parquet": Reader([*PREPARE, "a.parquet"], "a.parquet", [photos, parquet]),
    "captions: photos and texts": Reader([*PREPARE, "photos"], "photos/*", [photos]),
    "pixels: idx": Reader([*TO_PIXELS, "idx"], "idx/*", [plain_idx]),
    "pixels: idx.gz": Reader([*TO_PIXELS, "idx"], "idx/*", [packed_idx]),
    "pixels: npz": Reader([*TO_PIXELS, "pixels.npz"], "pixels.npz", ["pixels.npz"]),
    "pixels: pictures": Reader([*TO_PIXELS, "pictures"], "pictures/*", ["pictures"]),
    "pixels: parquet": Reader([*TO_PIXELS, "a.parquet", "--size=8"], "a.parquet", [photos, parquet]),
    "prepared captions": Reader(
        ["data-prep", "inspect", "captions", "-o", "out/sheet.png"], "captions/**/*", ["captions"], is_checked=True
    ),
    "prepared pixels": Reader(
        ["data-prep", "inspect", "pixels", "-o", "out/sheet.png"], "pixels/**/*", ["pixels"], is_checked=True
    ),
    "parts of captions": Reader(
        ["data-prep", "merge", "parts/1", "parts/2", "-o", "out/data"], "parts/**/*", ["parts"], is_checked=True
    ),
    "parts of pixels": Reader(
        ["data-prep", "merge", "pixel-parts/1", "pixel-parts/2", "-o", "out/data"],
        "pixel-parts/**/*",
        ["pixel-parts"],
        is_checked=True,
    ),
    "features": Reader(["features", "captions"], "captions/features/*/*", ["captions", "captioner"], is_checked=True),
    "captioner": Reader(CAPTION, "model/*", [one_photo, model], is_checked=True),
    "captioner, by torch": Reader([*CAPTION, "--engine=torch"], "model/*", [one_photo, model], is_checked=True),
    "captioner, new checksums": Reader(CAPTION, "model/[!S]*", [one_photo, model], before=sign),
    "captioner, new checksums, by torch": Reader(
        [*CAPTION, "--engine=torch"], "model/[cm]*", [one_photo, model], before=sign
    ),
    "pixel model": Reader(
        ["pixelrnn", "evaluate", "--data=pixels", "--model=model"], "model/*", ["pixels", pixel_model], is_checked=True
    ),
    "pixel model, new checksums": Reader(
        ["pixelrnn", "evaluate", "--data=pixels", "--model=model"], "model/[cm]*", ["pixels", pixel_model], before=sign
    ),
    "captioning checkpoints": Reader(
        ["captioning", "export", "sentences-run", "-o", "out"],
        "sentences-run/checkpoints/*",
        ["sentences-run"],
        is_checked=True,
    ),
    "pixelrnn checkpoints": Reader(
        ["pixelrnn", "export", "pixels-run", "-o", "out"], "pixels-run/checkpoints/*", ["pixels-run"], is_checked=True
    ),
    "settings, manifest and logs of a run": Reader(
        ["pixelrnn", "report", "pixels-run", "-o", "out/report.html", "--without-coverage"],
        "pixels-run/**/*.[jyc]*",
        ["pixels-run", "pixels"],
    ),
    "captioning config": Reader(
        ["captioning", "train", "--config=config.yaml", "--data=absent", "--output=out"],
        "config.yaml",
        [caption_config],
    ),
    "pixelrnn config": Reader(
        ["pixelrnn", "train", "--config=config.yaml", "--data=absent", "--output=out"], "config.yaml", [pixel_config]
    ),
    "unfinished captions": Reader(
        ["captioning", "caption", "captioned/images", "--model=captioner", "-o", "captions.jsonl", "--skip-existing"],
        "captions.jsonl*",
        ["captioned", "captioner", unfinished],
    ),
    "photos to caption": Reader(
        ["captioning", "caption", "photos", "--model=model"], "photos/*.[!t]*", [photos, model]
    ),
    "pictures and mask": Reader(
        [
            *("pixelrnn", "complete", "pictures", "--mask=mask.png", "--model=model", "--samples=1"),
            *("-o", "out/completions.png", "--resize"),
        ],
        "*/*.png",
        ["pictures", "mask.png", pixel_model],
    ),
    "coded images": Reader(
        ["pixelrnn", "decompress", "images.vrnn", "--model=model", "-o", "out"],
        "images.vrnn",
        ["images.vrnn", pixel_model],
        is_checked=True,
    ),
    **{
        f"score: {name}": Reader(["captioning", "score", name, "captioned"], name, ["captioned", predictions])
        for name in ("coco.json", "mapping.json", "lines.jsonl", "tabs.txt", "table.csv")
    },
}


def mutated(content: bytes, random: np.random.Generator) -> bytes:
    """Change one to three places of a file: flipped bits, cut ends, and deleted, repeated and inserted parts."""
    for _ in range(random.integers(1, 4)):
        place, end = sorted(random.integers(len(content) + 1, size=2).tolist())
        short = min(end, place + int(random.integers(1, 17)))
        match random.integers(8):
            case 0 | 1:
                changed = bytearray(content)
                if place < len(changed):
                    changed[place] ^= 1 << int(random.integers(8))
                content = bytes(changed)
            case 2:
                content = content[:place]
            case 3:
                content = content[:place] + content[short:]
            case 4:
                content = content[:end] + content[place:end] + content[end:]
            case 5:
                content = content[:place] + random.bytes(int(random.integers(1, 17))) + content[place:]
            case 6:
                content = content[:place] + TOKENS[random.integers(len(TOKENS))] + content[place:]
            case 7 if len(digits := np.flatnonzero(np.isin(np.frombuffer(content, np.uint8), list(b"0123456789")))):
                place = digits[random.integers(len(digits))]
                content = content[:place] + TOKENS[random.integers(8)] + content[place + 1 :]
    return content


def outcome(folder: Path) -> str:
    """Return a digest of what a command wrote."""
    digest = hashlib.sha256()
    for path in sorted((folder / "out").rglob("*")):
        if path.is_file():
            digest.update(path.relative_to(folder).as_posix().encode() + path.read_bytes())
    return digest.hexdigest()


def verdict(ended: Ended, program: str, unchanged: Ended | None) -> str:
    """Return `right`, `clear`, or what is wrong.

    Args:
        ended: How the command ended.
        program: The name that all its lines begin with.
        unchanged: How it ended for the unchanged input, if the result must be the same.
    """
    lines = ended.error.splitlines()
    if ended.status == -signal.SIGALRM:
        return f"took more than {SECONDS} seconds"
    if ended.status < 0:
        return f"was killed by signal {-ended.status}: {ended.error}"
    if ended.status == FAILED or "Traceback" in ended.error:
        frames = [line.strip() for line in lines if line.lstrip().startswith("File") and "/site-packages/" not in line]
        return f"traceback: {lines[-1]} ({'; '.join(frames[-2:])})"
    if ended.peak > BYTES:
        return f"took {ended.peak / 1e9:.1f} GB: {ended.error}"
    if "out of memory" in ended.error:
        return f"ran out of memory: {ended.error}"
    if strangers := [line for line in lines if not line.startswith(f"{program}: ")]:
        return f"a line of no command of ours: {strangers[0]}"
    errors = [line for line in lines if line.startswith(f"{program}: error: ")]
    if ended.status == 2:
        return "clear" if len(errors) == 1 and errors[0] == lines[-1] else f"not one line: {ended.error}"
    if ended.status not in (0, 1) or errors:
        return f"status {ended.status}: {ended.error}"
    if ended.status == 1:
        return "clear" if lines else "status 1, without a line"
    if unchanged and (ended.output, ended.found) != (unchanged.output, unchanged.found):
        return f"another result, in silence: {ended.output}"
    return "right"


@pytest.mark.parametrize("name", READERS)
def test_a_changed_input_gives_a_right_result_or_one_clear_line(
    name: str, world: Path, tmp_path: Path, figures: Callable[..., None], request: pytest.FixtureRequest
):
    reader, folder = READERS[name], tmp_path / "inputs"
    folder.mkdir()
    for each in reader.inputs:
        if callable(each):
            each(world, folder)
        else:
            (shutil.copytree if (world / each).is_dir() else shutil.copy)(world / each, folder / each)
    programs()["features"] = features
    files = [path for path in sorted(folder.glob(reader.files)) if path.is_file()]
    assert files
    contents = {path: path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}
    seed = [request.config.getoption("--faults-seed"), list(READERS).index(name)]

    def before(time: int) -> None:
        shutil.rmtree(folder / "out", ignore_errors=True)
        for path, content in contents.items():
            # Not in place: the last command may still have it mapped.
            if not path.is_file() or path.read_bytes() != content:
                path.unlink(missing_ok=True)
                path.write_bytes(content)
        if time:
            random = np.random.default_rng([*seed, time])
            path = files[random.integers(len(files))]
            path.unlink()
            path.write_bytes(mutated(contents[path], random))
            reader.before(folder)
        checksums._digest.cache_clear()  # Times of files are coarse.

    number = 1 + request.config.getoption("--mutations")
    first, counts, wrong = None, {"right": 0, "clear": 0}, []
    for time, ended in enumerate(run_on_each(number, reader.command, folder, before, lambda time: outcome(folder))):
        judged = verdict(ended, reader.command[0], first if reader.is_checked else None)
        if first is None:
            # The configurations name data that do not exist.
            assert judged == ("clear" if "config" in name else "right"), ended
            first = ended
        elif judged in counts:
            counts[judged] += 1
        else:
            wrong.append(f"mutation {time}: {judged}")
    figures(f"mutations: {name}", **counts, wrong=len(wrong))
    assert not wrong, "\n".join(wrong)
