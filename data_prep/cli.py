"""The command `data-prep`: results go to standard output, progress and notes to standard error.

Exit status: 0 done, 1 some inputs were left out, 2 wrong usage or input, 130 interrupted.
"""

import argparse
import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from data_prep.caption_sources.formats import FORMATS
from data_prep.captions import prepare_captions
from data_prep.errors import UserError
from data_prep.inspect import describe, summarize, write_contact_sheet
from data_prep.prepared import PreparedCaptions
from data_prep.version import tool_version


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command with `argv`, by default the arguments of the process, and return its exit status."""
    arguments = _parser().parse_args(argv)
    try:
        status = arguments.run(arguments)
        sys.stdout.flush()  # So that what cannot be written fails here, not at the exit of the interpreter.
        return status
    except UserError as error:
        return _fail(" ".join(f"error: {error}".split()), 2)
    except KeyboardInterrupt:
        return _fail("interrupted", 130)
    except OSError as error:
        # What has a better explanation is a UserError: left is a pipe whose reader has gone, or a full disk behind it.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return _fail(f"error: {error}", 2)


def _fail(message: str, status: int) -> int:
    print(f"data-prep: {message}", file=sys.stderr)
    return status


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="data-prep", description="Make and inspect prepared data sets.")
    parser.add_argument("--version", action="version", version=f"data-prep {tool_version()}")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    captions = commands.add_parser("captions", help="prepare captioned images", description=_captions.__doc__)
    captions.add_argument("source", metavar="SOURCE", help="caption file, folder, or hub:owner/name")
    captions.add_argument("-o", "--output", metavar="DIR", type=Path, required=True, help="folder to write")
    captions.add_argument("--format", choices=FORMATS, default="auto", help="layout of SOURCE (default: recognise it)")
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


def _captions(arguments: argparse.Namespace) -> int:
    """Read images with captions, check every one, and write a self-contained prepared data set."""
    from datasets import disable_progress_bars

    disable_progress_bars()  # One bar for the images is enough; datasets draws another for every split it saves.
    manifest = prepare_captions(
        arguments.source,
        arguments.output,
        format=arguments.format,
        image_root=arguments.image_root,
        min_count=arguments.min_count,
        seed=arguments.seed,
    )
    for entry in manifest["left_out"]:
        print(f"data-prep: left out {entry['name']}: {entry['reason']}", file=sys.stderr)
    if manifest["left_out"]:
        print(f"data-prep: {len(manifest['left_out'])} inputs left out", file=sys.stderr)
    if manifest["without_split"]:
        print(f"data-prep: {manifest['without_split']} images are in no split and were not used", file=sys.stderr)
    if manifest["in_several_splits"]:
        print(
            f"data-prep: {manifest['in_several_splits']} images are in several splits, which flatters what is measured;"
            " keep each in one",
            file=sys.stderr,
        )
    print(f"data-prep: split by {manifest['options']['split_by']}", file=sys.stderr)
    for split, count in manifest["splits"].items():
        print(f"{split}: {count['images']} images, {count['captions']} captions")
    print(f"vocabulary: {manifest['vocabulary']['size']} tokens")
    print(f"written to {arguments.output} (read as {manifest['format']})")
    return 1 if manifest["left_out"] else 0


def _inspect(arguments: argparse.Namespace) -> int:
    """Print counts, caption lengths and vocabulary coverage, and draw a contact sheet."""
    prepared = PreparedCaptions.open(arguments.folder)
    summary = summarize(prepared)
    sheet = arguments.output or arguments.folder / "contact-sheet.png"
    write_contact_sheet(prepared, sheet)
    print(json.dumps(summary, indent=2, ensure_ascii=False) if arguments.json else describe(summary))
    print(f"data-prep: contact sheet written to {sheet}", file=sys.stderr)
    return 0


if __name__ == "__main__":
    sys.exit(main())
