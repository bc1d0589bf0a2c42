"""The command `data-prep`: results go to standard output, progress and notes to standard error.

Exit status: 0 done, 1 some inputs were left out, 2 wrong usage or input, 130 interrupted.
"""

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from data_prep import inspect_captions, inspect_pixels
from data_prep.caption_sources import formats as caption_formats
from data_prep.captions import prepare_captions
from data_prep.command import run_command
from data_prep.errors import UserError
from data_prep.pixel_shape import BINARIZATIONS
from data_prep.pixel_sources import formats as pixel_formats
from data_prep.pixels import prepare_pixels
from data_prep.prepared import PreparedCaptions
from data_prep.prepared_folder import kind_of
from data_prep.prepared_pixels import PreparedPixels
from data_prep.version import tool_version


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command with `argv`, by default the arguments of the process, and return its exit status."""
    arguments = _parser().parse_args(argv)
    return run_command("data-prep", lambda: arguments.run(arguments))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="data-prep", description="Make and inspect prepared data sets.")
    parser.add_argument("--version", action="version", version=f"data-prep {tool_version()}")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    captions = commands.add_parser("captions", help="prepare captioned images", description=_captions.__doc__)
    captions.add_argument("source", metavar="SOURCE", help="caption file, folder, or hub:owner/name")
    captions.add_argument("-o", "--output", metavar="DIR", type=Path, required=True, help="folder to write")
    captions.add_argument(
        "--format", choices=caption_formats.FORMATS, default="auto", help="layout of SOURCE (default: recognise it)"
    )
    captions.add_argument("--image-root", metavar="DIR", type=Path, help="folder of the images, if not beside SOURCE")
    captions.add_argument(
        "--min-count",
        metavar="N",
        type=_positive,
        default=5,
        help="keep words that occur this often in training captions (default: %(default)s)",
    )
    captions.add_argument(
        "--seed", type=int, default=0, help="seed of the splits that SOURCE lacks (default: %(default)s)"
    )
    captions.set_defaults(run=_captions)

    pixels = commands.add_parser("pixels", help="prepare images as pixels", description=_pixels.__doc__)
    pixels.add_argument("source", metavar="SOURCE", help="file, folder, or hub:owner/name")
    pixels.add_argument("-o", "--output", metavar="DIR", type=Path, required=True, help="folder to write")
    pixels.add_argument(
        "--format", choices=pixel_formats.FORMATS, default="auto", help="layout of SOURCE (default: recognise it)"
    )
    pixels.add_argument(
        "--size",
        metavar="N|HxW",
        type=_size,
        help="resize to N x N or H x W pixels: the largest region of that aspect ratio around the centre is cut out, "
        "then scaled by averaging over areas (default: keep the size)",
    )
    pixels.add_argument("--channels", type=int, choices=(1, 3), help="1: grey, 3: RGB (default: what SOURCE has)")
    pixels.add_argument(
        "--binarize",
        choices=BINARIZATIONS,
        default="none",
        help="make grey pixels 0 or 1: threshold gives 1 from grey level 128 on, stochastic draws each once with "
        "P(1) = level / 255 (default: %(default)s)",
    )
    pixels.add_argument(
        "--seed",
        type=_not_negative,
        default=0,
        help="seed of the drawing, and of the splits that SOURCE lacks (default: %(default)s)",
    )
    pixels.set_defaults(run=_pixels)

    inspect = commands.add_parser("inspect", help="look into a prepared data set", description=_inspect.__doc__)
    inspect.add_argument("folder", metavar="DIR", type=Path, help="prepared data set")
    inspect.add_argument(
        "-o", "--output", metavar="PNG", type=Path, help="contact sheet (default: DIR/contact-sheet.png)"
    )
    inspect.add_argument("--json", action="store_true", help="print one JSON document")
    inspect.set_defaults(run=_inspect)
    return parser


def _positive(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError("must be at least 1")
    return number


def _not_negative(text: str) -> int:
    number = int(text)
    if number < 0:
        raise argparse.ArgumentTypeError("must not be negative")
    return number


def _size(text: str) -> tuple[int, int]:
    sides = [_positive(side) for side in text.split("x")]
    if len(sides) > 2:
        raise argparse.ArgumentTypeError("must be one number of pixels, or HEIGHTxWIDTH")
    return sides[0], sides[-1]


def _captions(arguments: argparse.Namespace) -> int:
    """Read images with captions, check every one, and write a self-contained prepared data set."""
    _disable_further_bars()
    manifest = prepare_captions(
        arguments.source,
        arguments.output,
        format=arguments.format,
        image_root=arguments.image_root,
        min_count=arguments.min_count,
        seed=arguments.seed,
    )
    if manifest["without_split"]:
        print(f"data-prep: {manifest['without_split']} images are in no split and were not used", file=sys.stderr)
    for split, count in manifest["splits"].items():
        print(f"{split}: {count['images']} images, {count['captions']} captions")
    print(f"vocabulary: {manifest['vocabulary']['size']} tokens")
    return _finish(manifest, arguments.output)


def _pixels(arguments: argparse.Namespace) -> int:
    """Read images, make them alike, and write their pixels as numbers into a self-contained prepared data set.

    Images keep the order of SOURCE.
    """
    _disable_further_bars()
    manifest = prepare_pixels(
        arguments.source,
        arguments.output,
        format=arguments.format,
        size=arguments.size,
        channels=arguments.channels,
        binarize=arguments.binarize,
        seed=arguments.seed,
    )
    for split, count in manifest["splits"].items():
        print(f"{split}: {count['images']} images")
    print(f"images: {manifest['height']}x{manifest['width']}, channels: {manifest['channels']}")
    print(f"levels: {manifest['levels']}, binarization: {manifest['binarization']}")
    return _finish(manifest, arguments.output)


def _disable_further_bars() -> None:
    from datasets import disable_progress_bars

    disable_progress_bars()  # One bar for the images is enough; datasets draws another for every split it saves.


def _finish(manifest: dict[str, Any], output: Path) -> int:
    """Tell what was left out and where the data set lies; return the exit status."""
    for entry in manifest["left_out"]:
        print(f"data-prep: left out {entry['name']}: {entry['reason']}", file=sys.stderr)
    if manifest["left_out"]:
        print(f"data-prep: {len(manifest['left_out'])} inputs left out", file=sys.stderr)
    if manifest["in_several_splits"]:
        print(
            f"data-prep: {manifest['in_several_splits']} images are in several splits, which flatters what is measured;"
            " keep each in one",
            file=sys.stderr,
        )
    print(f"data-prep: split by {manifest['options']['split_by']}", file=sys.stderr)
    print(f"written to {output} (read as {manifest['format']})")
    return 1 if manifest["left_out"] else 0


def _inspect(arguments: argparse.Namespace) -> int:
    """Print what a prepared data set holds, in numbers, and draw a contact sheet of random images."""
    folder: Path = arguments.folder
    kind = kind_of(folder)
    if kind is None:
        raise UserError(f"{folder}: not a prepared data set; make one with: data-prep captions or data-prep pixels")
    if kind == "captions":
        prepared, inspect = PreparedCaptions.open(folder), inspect_captions
    else:
        prepared, inspect = PreparedPixels.open(folder), inspect_pixels
    summary = inspect.summarize(prepared)
    sheet = arguments.output or folder / "contact-sheet.png"
    inspect.write_contact_sheet(prepared, sheet)
    print(json.dumps(summary, indent=2, ensure_ascii=False) if arguments.json else inspect.describe(summary))
    print(f"data-prep: contact sheet written to {sheet}", file=sys.stderr)
    return 0


if __name__ == "__main__":
    sys.exit(main())
