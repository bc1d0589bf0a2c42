"""The command `pixelrnn`: results go to standard output, progress and notes to standard error.

Exit status: 0 done, 1 some images could not be read or a model leaks, 2 wrong usage or input, 130 interrupted.
"""

import contextlib
import json
import math
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jsonargparse import ArgumentError, ArgumentParser, Namespace
from jsonargparse.typing import PositiveInt, restricted_number_type
from tqdm import tqdm

from data_prep.command import add_ladder_arguments, run_command
from data_prep.errors import UserError
from data_prep.files import write_json
from data_prep.images import ImageError, find_images
from data_prep.version import tool_version

if TYPE_CHECKING:
    from torch import Tensor

    from pixelrnn.causality import Certificate
    from pixelrnn.model import ImageShape, PixelModel

# What torch takes as a seed.
Seed = restricted_number_type("Seed", int, [(">=", 0), ("<", 2**63)])
_LEAKS_SHOWN = 10
_MODEL_HELP = "model folder, bundled:NAME (diagonal-bilstm, digits), or hub:OWNER/NAME; unset: bundled:row-lstm"
_WRITER = "bundled:digits"


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command with `argv`, by default the arguments of the process, and return its exit status."""
    given = sys.argv[1:] if argv is None else list(argv)

    def action() -> int:
        parser = _parser(given)
        options = parser.instantiate(parser.parse_args(given))
        return _COMMANDS[options.command](options[options.command])

    return run_command("pixelrnn", action, ArgumentError)


def _parser(argv: Sequence[str]) -> ArgumentParser:
    parser = _new_parser(
        "Draw and complete images, and train, measure and verify models that do.",
        prog="pixelrnn",
        version=tool_version(),
    )
    commands = parser.add_subcommands(dest="command", metavar="COMMAND")
    # The options of `train` are the signatures of classes that need torch: read only when they are asked for.
    train = _train_parser() if argv[:1] == ["train"] else _new_parser()
    ladder = _ladder_parser() if argv[:1] == ["ladder"] else _new_parser()
    commands.add_subcommand("complete", _complete_parser(), help="draw the missing part of images")
    commands.add_subcommand("sample", _sample_parser(), help="draw whole images")
    commands.add_subcommand("write", _write_parser(), help="draw digits in a row, in several hands")
    commands.add_subcommand("compress", _compress_parser(), help="code images without loss, by a model's likelihoods")
    commands.add_subcommand("decompress", _decompress_parser(), help="decode what compress coded")
    commands.add_subcommand("evaluate", _evaluate_parser(), help="measure the likelihood of a split of a data set")
    commands.add_subcommand("verify", _verify_parser(), help="prove that a model predicts from the past alone")
    commands.add_subcommand("train", train, help="train a model on a prepared data set")
    commands.add_subcommand("export", _export_parser(), help="make a model folder of a training run")
    commands.add_subcommand("ladder", ladder, help="train and compare models of several depths")
    return parser


def _new_parser(description: str | None = None, **options: Any) -> ArgumentParser:
    return ArgumentParser(description=description, exit_on_error=False, allow_abbrev=False, **options)


def _complete_parser() -> ArgumentParser:
    parser = _new_parser(
        "Draw a part of images anew, given the rest, and print how likely the model finds their own pixels there. "
        "An image that cannot be read is named and passed over."
    )
    parser.add_argument("images", nargs="+", metavar="IMAGE", help="image or folder")
    parser.add_argument(
        "--mask",
        required=True,
        metavar="MASK",
        help="what is drawn: lower-half, upper-half, left-half, right-half, center, or a picture of the images' size, "
        "white where pixels are drawn and black where they are known",
    )
    _add_model(parser)
    parser.add_argument("--samples", type=PositiveInt, default=8, metavar="N", help="completions of each image")
    parser.add_argument("-o", "--output", default="completions.png", metavar="PNG", help="picture, a row an image")
    parser.add_argument("--resize", action="store_true", help="cut and scale images of another size than the model's")
    _add_randomness(parser)
    parser.add_argument("--json", action="store_true", help="print one JSON document")
    return parser


def _sample_parser() -> ArgumentParser:
    parser = _new_parser("Draw whole images.")
    _add_model(parser)
    parser.add_argument("-n", "--number", type=PositiveInt, default=64, metavar="N", help="how many")
    parser.add_argument("-o", "--output", default="samples.png", metavar="PNG", help="picture of them all")
    _add_randomness(parser)
    return parser


def _write_parser() -> ArgumentParser:
    parser = _new_parser("Draw the digits of a text in a row, dark on white, by a model that was told classes.")
    parser.add_argument("text", type=str, metavar="TEXT", help="digits")
    parser.add_argument(
        "--model", default=_WRITER, metavar="MODEL", help=f"model folder, or hub:OWNER/NAME; unset: {_WRITER}"
    )
    parser.add_argument("--hands", type=PositiveInt, default=4, metavar="N", help="rows, each in another hand")
    parser.add_argument("-o", "--output", default="written.png", metavar="PNG", help="picture of them all")
    parser.add_argument("--seed", type=Seed, default=0, help="of the first hand; each further one's is one higher")
    return parser


def _compress_parser() -> ArgumentParser:
    parser = _new_parser(
        "Code images without loss, at the size that the model's likelihood promises. What is coded is the image as the "
        "model takes it: grey for a grey model, black and white for a binary one."
    )
    parser.add_argument("images", nargs="+", metavar="IMAGE", help="image or folder")
    _add_model(parser)
    parser.add_argument("--label", type=int, metavar="K", help="class of all images, for models that were told classes")
    parser.add_argument("-o", "--output", required=True, metavar="FILE", help="the file to write")
    parser.add_argument("--resize", action="store_true", help="cut and scale images of another size than the model's")
    return parser


def _decompress_parser() -> ArgumentParser:
    parser = _new_parser("Decode the images of a file that compress wrote, with the model that coded them.")
    parser.add_argument("file", metavar="FILE", help="what compress wrote")
    _add_model(parser)
    parser.add_argument("-o", "--output", required=True, metavar="FOLDER", help="where the images go, as PNG files")
    return parser


def _evaluate_parser() -> ArgumentParser:
    parser = _new_parser("Measure the exact likelihood of every image of a split.")
    _add_model(parser)
    parser.add_argument("--data", required=True, metavar="DIR", help="prepared data set")
    parser.add_argument("--split", type=str, default="test", help="split of it")
    parser.add_argument("--batch-size", type=PositiveInt, default=100, metavar="N", help="images at once")
    parser.add_argument("--proof", action="store_true", help="code all images without loss, too, and decode them again")
    parser.add_argument("-o", "--output", metavar="FILE", help="write results, counts and protocol as JSON")
    parser.add_argument("--json", action="store_true", help="print the same document in place of a table")
    return parser


def _verify_parser() -> ArgumentParser:
    parser = _new_parser(
        "Take the gradient of every output with respect to every input: none may reach an output from its own pixel "
        "or from later ones. Exit status 1 if one does."
    )
    parser.add_argument("model", nargs="?", metavar="MODEL", help=_MODEL_HELP)
    parser.add_argument("-o", "--output", metavar="PNG", help="write a picture of what the model sees")
    parser.add_argument("--json", action="store_true", help="print one JSON document")
    return parser


def _train_parser() -> ArgumentParser:
    from pixelrnn.run import train

    parser = _new_parser("Train a pixel model; the model of its best epoch is written to OUTPUT/model.")
    parser.add_argument("--config", action="config", help="YAML file of the options below")
    parser.add_function_arguments(train)
    return parser


def _export_parser() -> ArgumentParser:
    parser = _new_parser("Write the model folder of a training run's best epoch.")
    parser.add_argument("run", metavar="RUN", help="run folder, the output of pixelrnn train")
    parser.add_argument("-o", "--output", required=True, metavar="FOLDER", help="model folder to write")
    parser.add_argument("--evaluation", metavar="FILE", help="what evaluate -o wrote, to be quoted in the model card")
    return parser


def _ladder_parser() -> ArgumentParser:
    parser = _new_parser(
        "Train every configuration of a folder with every seed, measure each on the splits validation and test, and "
        "write OUTPUT/ladder.json, .md and .png. What is done is passed over, and what was interrupted goes on."
    )
    add_ladder_arguments(parser, "configs/pixelrnn/ladder", "runs/pixel-ladder")
    return parser


def _add_model(parser: ArgumentParser) -> None:
    parser.add_argument("--model", metavar="MODEL", help=_MODEL_HELP)


def _add_randomness(parser: ArgumentParser) -> None:
    parser.add_argument("--seed", type=Seed, default=0, help="the same seed draws the same")
    parser.add_argument("--label", type=int, metavar="K", help="class to draw, for models that were told classes")


def _complete(options: Namespace) -> int:
    import torch

    from pixelrnn.completion import complete, conditioning, conditioning_note, nats_in_hole
    from pixelrnn.holes import hole
    from pixelrnn.pictures import CompletionRow, completion_picture

    paths = _find(options.images)
    _check_picture(options.output, [*paths, Path(options.mask)])
    model = _load(options.model)
    _check_label(model, options.label)
    mask = hole(options.mask, model.shape.height, model.shape.width)
    images = _read(paths, model.shape, options.resize)
    if not images:
        return 1
    order = model.config.order
    if note := conditioning_note(order, mask):
        _note(note)
    pixels = torch.stack(list(images.values()))
    with _rows(model, "completing") as progress:
        drawn = complete(model, pixels, mask, options.samples, options.seed, options.label, progress.update)
    rows = [CompletionRow(original, samples) for original, samples in zip(pixels, drawn, strict=True)]
    completion_picture(rows, mask, model.shape.levels, options.output)
    measured = []
    for path, nats in zip(images, nats_in_hole(model, pixels, mask, options.label).tolist(), strict=True):
        bits = nats / (math.log(2) * int(mask.sum()))
        measured.append({"image": str(path), "nats": nats, "bits_per_pixel": bits})
    if options.json:
        document = {
            "picture": str(options.output),
            "mask": str(options.mask),
            "drawn_pixels": int(mask.sum()),
            "known_pixels_conditioned_on": vars(conditioning(order, mask)),
            "images": measured,
        }
        print(json.dumps(document, indent=2, ensure_ascii=False))
    else:
        for result in measured:
            print(f"{result['image']}\t{result['nats']:.2f} nats\t{result['bits_per_pixel']:.4f} bits/pixel")
        _note(f"the completions are in {options.output}; printed is -ln p of each image's own pixels in the hole")
    return 0 if len(images) == len(paths) else 1


def _find(sources: Sequence[str]) -> list[Path]:
    """Return the images that the sources name, each once."""
    paths: dict[Path, None] = {}
    for source in sources:
        paths |= dict.fromkeys(find_images(source) if Path(source).is_dir() else [Path(source)])
    return list(paths)


def _read(paths: Sequence[Path], shape: "ImageShape", resize: bool) -> "dict[Path, Tensor]":
    """Read what can be read as pixels of the model's images, and name the rest."""
    from pixelrnn.completion import is_binary, load_levels, quantized

    images = {}
    for path in paths:
        try:
            levels = load_levels(path, shape, resize)
        except ImageError as error:
            _note(str(error))
            continue
        if shape.levels == 2 and not is_binary(levels):
            _note(f"{path}: has other levels than black and white, and the model has not; 128 and above become white")
        images[path] = quantized(levels, shape)
    return images


def _sample(options: Namespace) -> int:
    from pixelrnn.completion import sample
    from pixelrnn.pictures import cell_scale, grid_image, save_picture

    _check_picture(options.output)
    model = _load(options.model)
    _check_label(model, options.label)
    with _rows(model, "sampling") as progress:
        drawn = sample(model, options.number, options.seed, options.label, progress.update)
    shape = model.shape
    columns = math.ceil(math.sqrt(options.number))
    save_picture(grid_image(drawn, shape.levels, columns, cell_scale(shape.height, shape.width)), options.output)
    print(options.output)
    return 0


def _write(options: Namespace) -> int:
    from pixelrnn.pictures import save_picture
    from pixelrnn.writing import classes_of, page, write

    _check_picture(options.output)
    model = _load(options.model)
    classes = classes_of(options.text, model.shape)
    with _rows(model, "writing") as progress:
        drawn = write(model, classes, options.hands, options.seed, progress.update)
    save_picture(page(drawn, model.shape.levels), options.output)
    print(options.output)
    return 0


def _compress(options: Namespace) -> int:
    import torch

    from pixelrnn.codec import BATCH_SIZE
    from pixelrnn.coded_file import compress, write_coded

    paths = _find(options.images)
    if Path(options.output).is_dir():
        raise UserError(f"{options.output}: is a folder; name a file")
    if Path(options.output).resolve() in {source.resolve() for source in paths}:
        raise UserError(f"{options.output}: would overwrite an image that is read; choose another --output")
    model = _load(options.model)
    _check_label(model, options.label)
    images = _read(paths, model.shape, options.resize)
    if not images:
        return 1
    names = [path.stem for path in images]
    with _rows(model, "coding", math.ceil(len(images) / BATCH_SIZE)) as progress:
        coded = compress(model, torch.stack(list(images.values())), names, options.label, progress.update)
    write_coded(options.output, coded)
    size, dimensions = Path(options.output).stat().st_size, len(images) * math.prod(images[next(iter(images))].shape)
    print(f"{options.output}: {len(images)} images, {size} bytes, {8 * size / dimensions:.4f} bits/dim")
    return 0 if len(images) == len(paths) else 1


def _decompress(options: Namespace) -> int:
    from pixelrnn.coded_file import decompress, read_coded
    from pixelrnn.pictures import image_of, save_picture

    coded = read_coded(options.file)
    model = _load(options.model)
    try:
        with _rows(model, "decoding", len(coded.streams)) as progress:
            pixels = decompress(model, coded, progress.update)
    except UserError as error:
        raise UserError(f"{options.file}: {error}") from error
    for name, image in zip(coded.names, pixels, strict=True):
        save_picture(image_of(image, model.shape.levels), Path(options.output) / f"{name}.png")
    print(f"{options.output}: {len(pixels)} images")
    return 0


def _evaluate(options: Namespace) -> int:
    from data_prep.prepared_pixels import PreparedPixels
    from pixelrnn.scoring import evaluate

    if options.output and Path(options.output).is_dir():
        raise UserError(f"{options.output}: is a folder; name a file")
    data = PreparedPixels.open(options.data)
    model = _load(options.model)
    total = data.manifest["splits"].get(options.split, {}).get("images")
    with tqdm(total=total, desc=f"measuring {options.split}", unit="image", disable=None) as progress:
        document = evaluate(model, data, options.split, options.batch_size, progress.update)
    if options.proof:
        from pixelrnn.image_formats import format_sizes
        from pixelrnn.proof import prove

        with tqdm(total=total, desc=f"coding {options.split}", unit="image", disable=None) as progress:
            document["proof"] = prove(model, data, options.split, progress.update)
        with tqdm(total=total, desc="coding by other formats", unit="image", disable=None) as progress:
            pictures = data.split(options.split).pixels
            document["proof"]["format_bytes"] = format_sizes(pictures, model.shape.levels, progress.update)
    if options.output:
        write_json(options.output, document)
    print(json.dumps(document, indent=2, ensure_ascii=False) if options.json else _table(document))
    return 1 if options.proof and document["proof"]["decoded"] < document["images"] else 0


def _table(document: dict[str, Any]) -> str:
    def row(name: str, value: float, error: float | None, digits: int) -> str:
        return f"{name:<16}{value:10.{digits}f}" + ("" if error is None else f" +- {error:.{digits}f}")

    lines = [
        document["protocol"],
        "",
        f"{'images':<16}{document['images']:10}",
        row("nats an image", document["nats_per_image"], document["standard_error"], 3),
        row("bits/dim", document["bits_per_dimension"], document["bits_standard_error"], 5),
    ]
    if "proof" in document:
        proof, images = document["proof"], document["images"]
        nats = proof["coded_bits"] * math.log(2) / images
        lines += [
            "",
            "Proof: coded by these probabilities, decoded pixel by pixel, each from the decoded ones before it alone.",
            f"{row('coded, nats', nats, None, 3)}, {100 * (nats / document['nats_per_image'] - 1):+.4f} % of the above",
            f"{'decoded exactly':<16}{proof['decoded']:10} of {images}",
            "",
            f"{'bytes an image':<24}{'in a file each':>16}{'all on sheets':>16}",
            f"{'these probabilities':<24}{'':>16}{proof['coded_bits'] / 8 / images:16.2f}",
            *(
                f"{name:<24}{sizes['files'] / images:16.2f}{sizes['sheets'] / images:16.2f}"
                for name, sizes in proof["format_bytes"].items()
            ),
        ]
        if "JPEG XL" not in proof["format_bytes"]:
            lines.append("JPEG XL is not measured: pip install imagecodecs")
    return "\n".join(lines)


def _verify(options: Namespace) -> int:
    from pixelrnn.causality import certify
    from pixelrnn.pictures import coverage_picture

    if options.output:
        _check_picture(options.output)
    model = _load(options.model)
    with tqdm(total=model.shape.height, desc="verifying", unit="row", disable=None) as progress:
        certificate = certify(model, progress.update)
    if options.output:
        coverage_picture(certificate, options.output)
    leaks = certificate.leaks
    if options.json:
        document = {
            "leaks": [{"output": output, "input": source} for output, source in leaks],
            "past_pairs": certificate.past_pairs,
            "seen_pairs": certificate.seen_pairs,
            "coverage": certificate.coverage,
        }
        print(json.dumps(document, indent=2))
    else:
        print(_describe(certificate))
    return 1 if leaks else 0


def _describe(certificate: "Certificate") -> str:
    leaks = certificate.leaks
    lines = [f"leaks: {len(leaks):,}" if leaks else "no leaks: no output depends on its own pixel or on later ones"]
    lines += [f"  output {output} depends on input {source}" for output, source in leaks[:_LEAKS_SHOWN]]
    if leaks:
        more = [f"{len(leaks) - _LEAKS_SHOWN:,} more"] * (len(leaks) > _LEAKS_SHOWN)
        lines.append("  " + "; ".join([*more, "places are (row, column, channel), from 0"]))
    lines.append(
        f"coverage: {certificate.coverage:.2%}, {certificate.seen_pairs:,} of {certificate.past_pairs:,} pairs of an "
        "output and an input before it are seen"
    )
    return "\n".join(lines)


def _train(options: Namespace) -> int:
    from pixelrnn.run import train

    options.pop("config")
    # Lightning reports its progress on standard output, where only the result belongs.
    with contextlib.redirect_stdout(sys.stderr):
        model = train(**options.as_dict())
    print(model)
    return 0


def _export(options: Namespace) -> int:
    from pixelrnn.run import export

    export(options.run, options.output, options.evaluation)
    return 0


def _ladder(options: Namespace) -> int:
    from data_prep.ladder import climb, read_rungs, write_report
    from pixelrnn.ladder import PIXEL_MODELS, ladder_picture, ladder_table

    rungs, output = read_rungs(Path(options.configs), _train_parser()), Path(options.output)
    # As in `train`.
    with contextlib.redirect_stdout(sys.stderr):
        measurements = climb(PIXEL_MODELS, rungs, options.seeds, output, _note)
    table = ladder_table(measurements)
    write_report(measurements, output, table, ladder_picture)
    print(table, end="")
    return 0


def _load(model: str | None) -> "PixelModel":
    import torch

    from pixelrnn.model import load_pixel_model

    pixel_model = load_pixel_model(model) if model else load_pixel_model()
    return pixel_model.to("cuda" if torch.cuda.is_available() else "cpu")


def _check_label(model: "PixelModel", label: int | None) -> None:
    """Refuse a class that the model does not know, or the lack of one that it needs."""
    classes = model.shape.num_classes
    if label is None and not classes:
        return
    if not classes:
        raise UserError(f"--label {label}: this model was told no classes; leave out --label")
    if label is None or not 0 <= label < classes:
        given = "--label" if label is None else f"--label {label}"
        raise UserError(f"{given}: this model draws images of a class; choose one of 0 to {classes - 1}")


def _check_picture(path: str, inputs: Sequence[Path] = ()) -> None:
    """Refuse a path for a picture before anything is drawn."""
    if Path(path).suffix.lower() != ".png":
        raise UserError(f"{path}: the picture is a PNG file; end its name in .png")
    if Path(path).resolve() in {source.resolve() for source in inputs}:
        raise UserError(f"{path}: would overwrite an image that is read; choose another --output")


def _rows(model: "PixelModel", description: str, batches: int = 1) -> tqdm:
    shape = model.shape
    rows = shape.width if model.config.order == "transposed" else shape.height
    # None: on a terminal alone, so that a log has nothing but what went wrong.
    return tqdm(total=rows * batches, desc=description, unit="row", disable=None)


def _note(text: str) -> None:
    tqdm.write(f"pixelrnn: {text}", file=sys.stderr)


_COMMANDS = {
    "complete": _complete,
    "sample": _sample,
    "write": _write,
    "compress": _compress,
    "decompress": _decompress,
    "evaluate": _evaluate,
    "verify": _verify,
    "train": _train,
    "export": _export,
    "ladder": _ladder,
}

if __name__ == "__main__":
    sys.exit(main())
