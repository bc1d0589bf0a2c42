"""The command `captioning`: results go to standard output, progress and notes to standard error.

Exit status: 0 done, 1 some photos could not be captioned, 2 wrong usage or input, 130 interrupted.
"""

import contextlib
import json
import os
import sys
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jsonargparse import ArgumentError, ArgumentParser, Namespace
from jsonargparse.typing import ClosedUnitInterval, NonNegativeFloat, NonNegativeInt, PositiveFloat, PositiveInt
from PIL import Image
from tqdm import tqdm

from captioning.outputs import Document, Lines, Output, RecordFile, Sidecars
from captioning.pictures import attention_picture, picture_paths
from data_prep.command import add_ladder_arguments, run_command
from data_prep.errors import UserError
from data_prep.files import write_json
from data_prep.images import ImageError, find_images, load_image
from data_prep.version import tool_version

if TYPE_CHECKING:
    from captioning.captioner import Captioner, SearchConfig

# Fewer alike captions may be chance.
_SUSPICIOUS = 10
_PICTURES = (".png", ".svg", ".pdf")


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command with `argv`, by default the arguments of the process, and return its exit status."""
    given = sys.argv[1:] if argv is None else list(argv)

    def action() -> int:
        parser = _parser(given)
        options = parser.instantiate(parser.parse_args(given))
        return _COMMANDS[options.command](options[options.command])

    return run_command("captioning", action, ArgumentError)


def _parser(argv: Sequence[str]) -> ArgumentParser:
    parser = _new_parser(
        "Caption photos, and train and measure models that do.", prog="captioning", version=tool_version()
    )
    commands = parser.add_subcommands(dest="command", metavar="COMMAND")
    # The options of `train` are the signatures of classes that need torch: read only when they are asked for.
    train = _train_parser() if argv[:1] == ["train"] else _new_parser()
    ladder = _ladder_parser() if argv[:1] == ["ladder"] else _new_parser()
    commands.add_subcommand("caption", _caption_parser(), help="caption photos")
    commands.add_subcommand("write", _write_parser(), help="draw sentences from a model that sees no image")
    commands.add_subcommand("evaluate", _evaluate_parser(), help="score a model on a split of a data set")
    commands.add_subcommand("score", _score_parser(), help="score the captions of a file against references")
    commands.add_subcommand("train", train, help="train a model on a prepared data set")
    commands.add_subcommand("export", _export_parser(), help="make a model folder of a training run")
    commands.add_subcommand("gradients", _gradients_parser(), help="measure how far back losses reach, and draw it")
    commands.add_subcommand("gap", _gap_parser(), help="measure what networks remember across a gap of words")
    commands.add_subcommand("ladder", ladder, help="train and compare decoders, from a window of words to attention")
    return parser


def _new_parser(description: str | None = None, **options: Any) -> ArgumentParser:
    return ArgumentParser(description=description, exit_on_error=False, allow_abbrev=False, **options)


def _caption_parser() -> ArgumentParser:
    parser = _new_parser("Caption photos, each in a sentence. A photo that cannot be read is named and passed over.")
    parser.add_argument("images", nargs="+", metavar="IMAGE", help="photo or folder; - reads a path a line from stdin")
    parser.add_argument("--recursive", action="store_true", help="take the photos of subfolders too")
    _add_model(parser)
    parser.add_argument("--beam-size", type=PositiveInt, metavar="K", help="of the search; unset: the model's own")
    number: Any = parser.add_mutually_exclusive_group()
    number.add_argument("--num-captions", type=PositiveInt, default=1, metavar="N", help="the N best captions")
    number.add_argument("--samples", type=PositiveInt, metavar="N", help="N random captions in place of the best")
    parser.add_argument("--temperature", type=PositiveFloat, default=1.0, help="of --samples: low is careful")
    parser.add_argument("--seed", type=int, default=0, help="of --samples")
    parser.add_argument("--prefix", type=str, default="", metavar="TEXT", help="how every caption starts")
    parser.add_argument("--attention", metavar="FOLDER", help="write a picture a photo of where the model looked")
    parser.add_argument(
        "--gates", metavar="FOLDER", help="write a picture a photo of what the LSTM's gates let through"
    )
    place = parser.add_mutually_exclusive_group()
    place.add_argument(
        "-o",
        "--output",
        metavar="FILE",
        help="write a .jsonl, .csv or .txt file; FILE.part holds what is done until all is, then FILE is replaced",
    )
    place.add_argument("--sidecar", action="store_true", help="write photo.txt beside photo.jpg, replacing it")
    place.add_argument("--json", action="store_true", help="print one JSON document")
    parser.add_argument(
        "--skip-existing",
        action="store_true",
        help="go on with FILE and FILE.part, or the sidecars: only photos not yet in them are captioned",
    )
    parser.add_argument("--batch-size", type=PositiveInt, default=16, metavar="N", help="photos captioned at once")
    return parser


def _write_parser() -> ArgumentParser:
    parser = _new_parser(
        "Draw sentences, each on a line, from a language model: one trained with --encoder.backbone=none."
    )
    parser.add_argument("--model", required=True, metavar="MODEL", help="model folder, or hub:OWNER/NAME")
    parser.add_argument("--prefix", type=str, default="", metavar="TEXT", help="how every sentence starts")
    parser.add_argument("-n", "--number", type=PositiveInt, default=5, metavar="N", help="how many sentences")
    parser.add_argument("--temperature", type=PositiveFloat, default=1.0, help="low is careful")
    parser.add_argument("--seed", type=int, default=0, help="the same seed draws the same")
    return parser


def _evaluate_parser() -> ArgumentParser:
    parser = _new_parser("Caption every image of a split and score the captions by the COCO caption protocol.")
    _add_model(parser)
    parser.add_argument("--data", required=True, metavar="DIR", help="prepared data set")
    parser.add_argument("--split", type=str, default="test", help="split of it")
    parser.add_argument("--beam-size", type=PositiveInt, metavar="K", help="of the search; unset: the model's own")
    parser.add_argument(
        "--length-exponent", type=NonNegativeFloat, metavar="X", help="of the search; unset: the model's own"
    )
    parser.add_argument("-o", "--output", metavar="FILE", help="write scores, counts, protocol and captions as JSON")
    parser.add_argument("--json", action="store_true", help="print the same document in place of a table")
    return parser


def _score_parser() -> ArgumentParser:
    parser = _new_parser(
        "Score captions, whoever made them, by the COCO caption protocol, with intervals. PREDICTIONS: COCO results, "
        "what caption or evaluate wrote, JSON lines or CSV. REFERENCES: any source of data-prep captions, whose images "
        "need not be there, or a prepared data set."
    )
    parser.add_argument("predictions", metavar="PREDICTIONS", help="file with a caption an image")
    parser.add_argument("references", metavar="REFERENCES", help="file or folder with what people wrote")
    parser.add_argument("--split", type=str, help="of the references; unset: that of the captioned images")
    parser.add_argument("--against", metavar="FILE", help="other captions of the same images, to compare with in pairs")
    parser.add_argument(
        "--document-frequencies", metavar="SOURCE", help="count CIDEr's in these captions; unset: in the references"
    )
    parser.add_argument("--audit", action="store_true", help="score by the usual wrong protocols too; name oddities")
    parser.add_argument("--claimed", type=str, metavar="X", help="find the protocol that gives this number")
    parser.add_argument("--json", action="store_true", help="print one JSON document in place of tables")
    return parser


def _train_parser() -> ArgumentParser:
    from captioning.run import train

    parser = _new_parser("Train a captioner; the model of its best epoch is written to OUTPUT/model.")
    parser.add_argument("--config", action="config", help="YAML file of the options below")
    parser.add_function_arguments(train)
    return parser


def _export_parser() -> ArgumentParser:
    parser = _new_parser("Write the model folder of a training run's best epoch.")
    parser.add_argument("run", metavar="RUN", help="run folder, the output of captioning train")
    parser.add_argument("-o", "--output", required=True, metavar="FOLDER", help="model folder to write")
    parser.add_argument("--evaluation", metavar="FILE", help="what evaluate -o wrote, to be quoted in the model card")
    parser.add_argument(
        "--initial-share",
        type=ClosedUnitInterval,
        default=0.0,
        metavar="X",
        help="share of the weights that the run began with (init_from), in a mean with the trained ones",
    )
    parser.add_argument(
        "--length-exponent", type=NonNegativeFloat, metavar="X", help="of the model's search; unset: the run's own"
    )
    return parser


def _gradients_parser() -> ArgumentParser:
    parser = _new_parser(
        "Measure and draw the norm of a loss's gradient with respect to the states before: explosion, vanishing, "
        "mended by clipping, mended by gates. It takes about a minute."
    )
    parser.add_argument("--data", required=True, metavar="DIR", help="prepared data set")
    parser.add_argument("--split", type=str, default="validation", help="split of it")
    parser.add_argument(
        "--model", nargs="+", default=[], metavar="MODEL", help="trained models to measure: folders, or hub:OWNER/NAME"
    )
    parser.add_argument("--seed", type=NonNegativeInt, default=0, help="of the fresh networks and the words' order")
    parser.add_argument("-o", "--output", required=True, metavar="FILE", help="the picture: .png, .svg or .pdf")
    parser.add_argument("--json", action="store_true", help="print all numbers as JSON in place of tables")
    return parser


def _gap_parser() -> ArgumentParser:
    parser = _new_parser(
        "Train small networks on made-up sentences whose last word hangs on two others, and measure how it depends on "
        "the words between these; write OUTPUT, and the numbers beside it as .json. It takes some minutes."
    )
    parser.add_argument("--seeds", type=NonNegativeInt, nargs="+", default=[0, 1, 2], metavar="S", help="of trainings")
    parser.add_argument("-o", "--output", default="gap.png", metavar="FILE", help="the picture: .png, .svg or .pdf")
    return parser


def _ladder_parser() -> ArgumentParser:
    parser = _new_parser(
        "Train every configuration of a folder with every seed, measure each on the splits validation and test, and "
        "write OUTPUT/ladder.json, .md and .png. What is done is passed over, and what was interrupted goes on."
    )
    add_ladder_arguments(parser, "configs/captioning/ladder", "runs/caption-ladder")
    return parser


def _add_model(parser: ArgumentParser) -> None:
    parser.add_argument("--model", metavar="MODEL", help="model folder, or hub:OWNER/NAME; unset: the bundled model")


def _caption(options: Namespace) -> int:
    if options.skip_existing and not (options.output or options.sidecar):
        raise UserError("--skip-existing: nothing is kept to compare with; add -o FILE or --sidecar")
    images, failures = _find(options.images, options.recursive)
    output = _output(options, images)
    pending = [image for image in images if not (options.skip_existing and output.holds(image))]
    if len(pending) < len(images):
        _note(f"{len(images) - len(pending)} of {len(images)} photos have captions and are skipped")
    try:
        if pending:
            failures += _caption_photos(pending, output, options, _drawings(options, images))
    except KeyboardInterrupt:
        raise KeyboardInterrupt(*["add --skip-existing to go on"] * bool(options.output or options.sidecar)) from None
    output.finish()
    return 1 if failures else 0


def _drawings(options: Namespace, images: Sequence[Path]) -> dict[str, dict[Path, Path]]:
    """Return, for each kind of picture that is wanted, the path of each photo's; refuse those that overwrite."""
    drawings = {kind: picture_paths(images, options[kind]) for kind in ("attention", "gates") if options[kind]}
    taken = {path.resolve() for path in images}
    for kind, pictures in drawings.items():
        paths = {path.resolve() for path in pictures.values()}
        if overwritten := paths & taken:
            raise UserError(f"--{kind}: would overwrite {min(overwritten)}; name another folder")
        taken |= paths
    return drawings


def _find(sources: Sequence[str], recursive: bool) -> tuple[list[Path], int]:
    """Return the photos that the sources name, each once, and the number of sources that hold none."""
    images: dict[Path, None] = {}
    problems = []
    for source in _lines_of_stdin(sources):
        try:
            images |= dict.fromkeys(find_images(source, recursive) if Path(source).is_dir() else [Path(source)])
        except UserError as error:
            problems.append(str(error))
    if not images:
        raise UserError(problems[0] if problems else "nothing to caption; name a photo or a folder")
    for problem in problems:
        _note(problem)
    return list(images), len(problems)


def _lines_of_stdin(sources: Sequence[str]) -> Iterator[str]:
    for source in sources:
        if source == "-":
            yield from (os.fsdecode(line) for line in sys.stdin.buffer.read().splitlines() if line.strip())
        else:
            yield source


def _output(options: Namespace, images: Sequence[Path]) -> Output:
    if options.output:
        return RecordFile(Path(options.output), options.skip_existing)
    if options.sidecar:
        return Sidecars(images)
    return Document() if options.json else Lines(named=len(images) > 1)


def _caption_photos(
    images: Sequence[Path], output: Output, options: Namespace, drawings: dict[str, dict[Path, Path]]
) -> int:
    """Caption photos, batch by batch, into `output`; return how many could not be read."""
    from captioning.gates import gates_picture, open_gates

    captioner = _load(options.model)
    if captioner.encoder.blind:
        raise UserError("--model: this one is a language model and sees no photo; use it with: captioning write")
    if "attention" in drawings and captioner.decoder_config.attention == "none":
        raise UserError("--attention: this model has no attention; choose another model, or leave out --attention")
    if "gates" in drawings and captioner.decoder_config.cell != "lstm":
        raise UserError("--gates: this model is no LSTM and has no gates; choose another model, or leave out --gates")
    how = _how(captioner, options)
    texts: list[str] = []
    # None: on a terminal alone, so that a log has nothing but what went wrong.
    with tqdm(
        total=len(images), desc="captioning", unit="photo", disable=True if len(images) == 1 else None
    ) as progress:
        for start in range(0, len(images), options.batch_size):
            batch = images[start : start + options.batch_size]
            photos = dict(_readable(batch))
            captions = captioner.caption(list(photos.values()), **how) if photos else []
            for (path, photo), best in zip(photos.items(), captions, strict=True):
                if "attention" in drawings:
                    attention_picture(photo, best[0], drawings["attention"][path])
                if "gates" in drawings and best[0].words:
                    gates_picture(photo, best[0], open_gates(captioner, photo, best[0].words), drawings["gates"][path])
                output.add(path, best[: options.samples or options.num_captions])
                texts.append(best[0].text)
            progress.update(len(batch))
    _note_if_alike(texts)
    return len(images) - len(texts)


def _readable(images: Sequence[Path]) -> Iterator[tuple[Path, Image.Image]]:
    for path in images:
        try:
            yield path, load_image(path)
        except ImageError as error:
            _note(str(error))


def _how(captioner: "Captioner", options: Namespace) -> dict[str, Any]:
    """The arguments of `Captioner.caption` that the options ask for."""
    import torch

    from data_prep.tokenizer import tokenize

    search = _search(captioner, options.beam_size)
    return {
        "search": replace(search, beam_size=max(search.beam_size, options.num_captions)),
        "prefix": tokenize(options.prefix),
        "samples": options.samples or 0,
        "temperature": options.temperature,
        "generator": torch.Generator(captioner.device).manual_seed(options.seed),
    }


def _write(options: Namespace) -> int:
    import torch

    from data_prep.tokenizer import tokenize

    captioner = _load(options.model)
    if not captioner.encoder.blind:
        raise UserError("--model: this one captions photos; give a model trained with --encoder.backbone=none")
    [sentences] = captioner.caption(
        [Image.new("RGB", (1, 1))],
        prefix=tokenize(options.prefix),
        samples=options.number,
        temperature=options.temperature,
        generator=torch.Generator(captioner.device).manual_seed(options.seed),
    )
    for sentence in sentences:
        print(sentence.text)
    return 0


def _evaluate(options: Namespace) -> int:
    from captioning.scoring import evaluate
    from data_prep.prepared import PreparedCaptions

    if options.output and Path(options.output).is_dir():
        raise UserError(f"{options.output}: is a folder; name a file")
    data = PreparedCaptions.open(options.data)
    captioner = _load(options.model)
    document = evaluate(captioner, data, options.split, _search(captioner, options.beam_size, options.length_exponent))
    _note_if_alike(list(document["captions"].values()))
    if options.output:
        write_json(options.output, document)
    print(json.dumps(document, indent=2, ensure_ascii=False) if options.json else _table(document))
    return 0


def _table(document: dict[str, Any]) -> str:
    scores = ("BLEU-1", "BLEU-2", "BLEU-3", "BLEU-4", "ROUGE-L", "CIDEr-D")
    return "\n".join(
        [
            document["protocol"],
            "",
            f"{document['split']}: {document['images']} images, {document['references']} references; "
            f"{document['candidate_length']} words, against {document['reference_length']} of the closest references",
            "",
            "  ".join(f"{name:>7}" for name in scores),
            "  ".join(f"{document[name]:7.4f}" for name in scores),
            "",
            f"perplexity {document['perplexity']:.2f} a word, of {document['predicted_words']} words and end tokens",
        ]
    )


def _score(options: Namespace) -> int:
    from captioning.score_file import Corpus, Scored, compare, describe, match
    from captioning.score_table import score_table
    from data_prep.predictions import read_predictions
    from data_prep.references import read_references

    claimed = None if options.claimed is None else _checked_claim(options.claimed)
    references = read_references(options.references)
    captioned = match(read_predictions(options.predictions), references, options.split)
    training = [] if captioned.split == "train" else [image for image in references if image.split == "train"]
    source = options.document_frequencies
    corpus = Corpus.of(source, read_references(source)) if source else None
    scored = Scored.of(captioned, corpus)
    document = describe(scored, [text for image in training for text in image.captions])
    if options.against:
        other = match(read_predictions(options.against), references, captioned.split)
        document["against"] = {"file": options.against, "scores": compare(scored, Scored.of(other, corpus))}
    if options.audit or claimed:
        from captioning.audit import matching, recompute, suspicions

        protocols = recompute(captioned, training)
        document["audit"] = {
            "protocols": {protocol.name: protocol.scores for protocol in protocols},
            "suspicions": suspicions(captioned, training),
        }
        if claimed:
            document["audit"] |= {"claimed": claimed, "matching": matching(protocols, claimed)}
    print(json.dumps(document, indent=2, ensure_ascii=False) if options.json else score_table(document))
    return 0


def _checked_claim(text: str) -> str:
    try:
        float(text)
    except ValueError:
        raise UserError(f"--claimed: {text} is no number; give a score as it was published") from None
    return text


def _train(options: Namespace) -> int:
    from captioning.run import train

    options.pop("config")
    # Lightning reports its progress on standard output, where only the result belongs.
    with contextlib.redirect_stdout(sys.stderr):
        model = train(**options.as_dict())
    print(model)
    return 0


def _export(options: Namespace) -> int:
    from captioning.run import export

    # Plain numbers: the parser's own kind of float is none that YAML can write.
    length_exponent = None if options.length_exponent is None else float(options.length_exponent)
    export(options.run, options.output, options.evaluation, float(options.initial_share), length_exponent)
    return 0


def _gradients(options: Namespace) -> int:
    from captioning.gradient_picture import gradient_picture, gradient_table
    from captioning.gradient_study import study_gradients
    from data_prep.prepared import PreparedCaptions

    picture = _checked_picture(options.output)
    study = study_gradients(PreparedCaptions.open(options.data), options.split, options.model, options.seed)
    gradient_picture(study, picture)
    print(json.dumps(study.document(), indent=2) + "\n" if options.json else gradient_table(study), end="")
    return 0


def _gap(options: Namespace) -> int:
    from captioning.gap_task import LEARNERS, STEPS, gap_picture, gap_table, measure

    picture = _checked_picture(options.output)
    seeds = list(dict.fromkeys(options.seeds))
    total = len(LEARNERS) * len(seeds) * STEPS
    with tqdm(total=total, desc="learning", unit="batch", disable=None) as progress:
        curves = measure(seeds, progress=progress.update)
    write_json(picture.with_suffix(".json"), [curve.document() for curve in curves])
    gap_picture(curves, picture)
    print(gap_table(curves), end="")
    return 0


def _checked_picture(path: str) -> Path:
    """Refuse a path for a picture before anything is measured."""
    if Path(path).is_dir():
        raise UserError(f"{path}: is a folder; name a file")
    if Path(path).suffix not in _PICTURES:
        raise UserError(f"{path}: not a picture's name; end it in one of {', '.join(_PICTURES)}")
    return Path(path)


def _ladder(options: Namespace) -> int:
    from captioning.ladder import CAPTIONERS, ladder_picture, ladder_table
    from data_prep.ladder import climb, read_rungs, write_report

    rungs, output = read_rungs(Path(options.configs), _train_parser()), Path(options.output)
    # As in `train`.
    with contextlib.redirect_stdout(sys.stderr):
        measurements = climb(CAPTIONERS, rungs, options.seeds, output, _note)
    table = ladder_table(measurements)
    write_report(measurements, output, table, ladder_picture)
    print(table, end="")
    return 0


def _load(model: str | None) -> "Captioner":
    import torch

    from captioning.captioner import load_captioner

    captioner = load_captioner(model) if model else load_captioner()
    return captioner.to("cuda" if torch.cuda.is_available() else "cpu")


def _search(captioner: "Captioner", beam_size: int | None, length_exponent: float | None = None) -> "SearchConfig":
    """The model's own search settings, but for those given."""
    given = {"beam_size": beam_size, "length_exponent": length_exponent}
    return replace(captioner.search, **{name: value for name, value in given.items() if value is not None})


def _note(text: str) -> None:
    tqdm.write(f"captioning: {text}", file=sys.stderr)


def _note_if_alike(texts: Sequence[str]) -> None:
    if len(texts) >= _SUSPICIOUS and len(set(texts)) == 1:
        _note(f"all {len(texts)} images got the same caption; is the model trained, and are the images sound?")


_COMMANDS = {
    "caption": _caption,
    "write": _write,
    "evaluate": _evaluate,
    "score": _score,
    "train": _train,
    "export": _export,
    "gradients": _gradients,
    "gap": _gap,
    "ladder": _ladder,
}

if __name__ == "__main__":
    sys.exit(main())
