"""Small files that unpack to much: they are refused, or their limited content is used, within 20 seconds and 2 GB.

Not part of `make test`: `make test-faults` names this file.
"""

import json
import shutil
import struct
import zipfile
import zlib
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from tests.faults.forks import BYTES, SECONDS, do_apart, run
from tests.faults.test_untrusted_data import gz_bomb, npz_bomb, packed_parquet_bomb, parquet_bomb

GIGABYTE = 10**9


def picture(mode: str, size: tuple[int, int]) -> Callable[[Path], object]:
    """Return a function that writes `pictures/bomb.png`, of one colour."""

    def write(folder: Path) -> None:
        image = Image.new(mode, size)
        if mode == "P":
            image.info["transparency"] = 0
        image.save(folder / "pictures/bomb.png", **image.info)

    return write


def text_in_png(folder: Path) -> None:
    info = PngInfo()
    for number in range(40):
        info.add_text(f"comment {number}", "a" * 50_000_000, zip=True)
    Image.new("L", (5, 6)).save(folder / "pictures/bomb.png", pnginfo=info)


def many_frames(folder: Path) -> None:
    frames = [Image.new("L", (4000, 4000), level) for level in range(20)]
    frames[0].save(folder / "pictures/bomb.gif", save_all=True, append_images=frames[1:])


def checkpoint(folder: Path) -> None:
    with zipfile.ZipFile(folder / "pixels-run/checkpoints/best.ckpt") as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    largest = max(members, key=lambda name: len(members[name]))
    with zipfile.ZipFile(
        folder / "pixels-run/checkpoints/best.ckpt", "w", zipfile.ZIP_DEFLATED, compresslevel=1
    ) as archive:
        for name, content in members.items():
            with archive.open(name, "w", force_zip64=True) as member:
                member.write(content)
                for _ in range(4 * GIGABYTE // 10**7 if name == largest else 0):
                    member.write(bytes(10**7))


def coded_images(folder: Path) -> None:
    """Write a file that promises more images than any memory holds, with a checksum that is right."""
    header = bytearray((folder / "images.vrnn").read_bytes()[:-4])
    struct.pack_into("<I", header, 21, 2**32 - 1)  # The number of images.
    struct.pack_into("<H", header, 27, 1)  # Those of a batch.
    (folder / "images.vrnn").write_bytes(header + struct.pack("<I", zlib.crc32(header)))


def sizes_of_a_model(model: str, setting: str) -> Callable[[Path], object]:
    """Return a function that makes a setting of a model folder 100,000, with checksums that are right."""

    def write(folder: Path) -> None:
        from vision_rnn import model_folder

        path = folder / model / "config.json"
        description = json.loads(path.read_text())
        *parts, name = setting.split(".")
        place = description
        for part in parts:
            place = place[part]
        assert name in place
        place[name] = 100_000
        path.write_text(json.dumps(description))
        names = [line.partition("  ")[2] for line in (folder / model / "SHA256SUMS").read_text().splitlines()]
        model_folder.write_checksums(folder / model, names)

    return write


DATA_PREP = ["data-prep", "pixels", "-o", "out"]
DECOMPRESS = ["pixelrnn", "decompress", "images.vrnn", "--model=pixels-run/model", "-o", "out"]
CAPTION = ["captioning", "caption", "pictures", "--model=captions-run/model"]
BOMBS: dict[str, tuple[Callable[[Path], object], Sequence[str]]] = {
    "npz": (npz_bomb, [*DATA_PREP, "bomb.npz"]),
    "idx.gz": (gz_bomb, [*DATA_PREP, "train-images-idx3-ubyte.gz"]),
    "Parquet, a dictionary": (parquet_bomb, ["data-prep", "captions", "bomb.parquet", "-o", "out"]),
    "Parquet, compressed": (packed_parquet_bomb, ["data-prep", "captions", "bomb.parquet", "-o", "out"]),
    "picture of 100 million pixels": (picture("1", (10_000, 10_000)), CAPTION),
    "picture with colours": (picture("RGB", (9000, 9900)), CAPTION),
    "picture with transparency": (picture("RGBA", (9000, 9900)), CAPTION),
    "picture with a transparent colour": (picture("P", (9000, 9900)), CAPTION),
    "picture with 16 bits": (picture("I;16", (9000, 9900)), CAPTION),
    "picture for a pixel model": (picture("I;16", (9000, 9900)), [*DATA_PREP, "pictures", "--size=8"]),
    "mask": (
        picture("RGBA", (9000, 9900)),
        ["pixelrnn", "complete", "pictures/0.png", "--mask=pictures/bomb.png", "--model=pixels-run/model"],
    ),
    "text in a PNG file": (text_in_png, CAPTION),
    "many frames": (many_frames, CAPTION),
    "checkpoint": (checkpoint, ["pixelrnn", "export", "pixels-run", "-o", "out"]),
    "coded images": (coded_images, DECOMPRESS),
    **{
        f"model folder, {setting}": (sizes_of_a_model(model, setting), command)
        for model, settings, command in (
            (
                "captions-run/model",
                ("decoder.hidden_size", "decoder.attention_size", "encoder.image_size", "search.beam_size"),
                [*CAPTION, "--engine=torch"],
            ),
            (
                "pixels-run/model",
                ("config.hidden_channels", "config.output_channels", "config.num_layers", "shape.height"),
                ["pixelrnn", "sample", "--model=pixels-run/model", "-n", "1"],
            ),
        )
        for setting in settings
    },
}


@pytest.mark.parametrize("name", BOMBS)
def test_a_bomb_is_refused_or_its_content_limited(name: str, world: Path, tmp_path: Path, figures: Callable[..., None]):
    write, command = BOMBS[name]
    folder = shutil.copytree(world, tmp_path / "folder")
    do_apart(lambda: write(folder), folder)
    ended = run(command, folder, is_bounded=True)
    errors = [line for line in ended.error.splitlines() if ": error: " in line]
    is_harmless = ended.status in (0, 1, 2) and ended.peak <= BYTES and ended.seconds <= SECONDS
    is_clear = (len(errors) == 1 and "out of memory" not in errors[0]) if ended.status == 2 else not errors
    is_right = is_harmless and is_clear
    figures(f"bombs: {name}", **{"wrong" if not is_right else "clear" if ended.status else "right": 1})
    assert is_right, ended
