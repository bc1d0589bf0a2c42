"""The command `pixelrnn`. Each command imports what it computes with, so that no help imports torch."""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from data_prep.image_files import images_of
from pixelrnn.pixel_config import BUNDLED, COMPLETER, WRITER, ModelConfig, TrainingConfig
from pixelrnn.training import run as training_run
from pixelrnn.training.run import export
from vision_rnn.cli import LOCAL_HOST, PORT, Outcome, configs_of, run
from vision_rnn.console import Progress, note
from vision_rnn.devices import Device
from vision_rnn.errors import UserError
from vision_rnn.files import check_not_existing, check_output_file, write_json
from vision_rnn.option_types import NumDraws, PositiveInt, Seed
from vision_rnn.train_options import check_prepared, check_source
from vision_rnn.trainer_config import TrainerConfig

if TYPE_CHECKING:
    from pixelrnn.model import PixelModel

CONFIGS = configs_of("pixelrnn")
_PICTURE = (".png",)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command with `argv`, by default the arguments of the process, and return its exit status."""
    return run("pixelrnn", COMMANDS, argv, CONFIGS)


def complete(
    images: list[str],
    *,
    mask: str,
    model: str = COMPLETER,
    samples: NumDraws = 8,
    output: str = "completions.png",
    resize: bool = False,
    invert: bool = False,
    seed: Seed = 0,
    label: int | None = None,
    device: Device = "auto",
) -> Outcome | int:
    """Complete the masked region of images, and print the likelihood of the true pixels there.

    An image that cannot be read is reported and skipped.

    Args:
        images: images or folders
        mask: region to draw: lower-half, upper-half, left-half, right-half, center, or a picture of the images' size,
            white where pixels are drawn and black where they are known
        model: model folder, bundled:NAME or hub:OWNER/NAME
        samples: number of completions per image
        output: .png file to write, one row per image
        resize: crop and scale images of another size than the model's
        invert: exchange dark and light for the model, and back in the picture, such as for dark digits on white paper
        label: class of the images, for class-conditional models
    """
    import torch

    from pixelrnn.completion import (
        BATCH_SIZE,
        complete,
        conditioning,
        conditioning_note,
        inverted,
        is_likelier_inverted,
        masked_nats,
        nats_by_pixel,
        read_images,
    )
    from pixelrnn.mask import read_mask
    from pixelrnn.pictures import CompletionRow, completion_picture

    paths = images_of(images)
    check_output_file(output, _PICTURE, [*paths, Path(mask)])
    pixel_model = _load(model, label, device)
    shape, config = pixel_model.shape, pixel_model.config
    region = read_mask(mask, shape.height, shape.width)
    readable = read_images(paths, shape, resize)
    if not readable:
        return 1
    if text := conditioning_note(config, region):
        note(text)
    originals = torch.stack(list(readable.values()))
    pixels = inverted(originals, shape.levels) if invert else originals
    nats, nats_of_inverted = (
        nats_by_pixel(pixel_model, each, label) for each in (pixels, inverted(pixels, shape.levels))
    )
    likelier = is_likelier_inverted(nats, nats_of_inverted, region)
    if other := [path for path, is_likelier in zip(readable, likelier, strict=True) if is_likelier]:
        note(
            "images that the model finds far more likely with dark and light exchanged: "
            f"{len(other)} of {len(pixels)}, such as {other[0]}; "
            f"complete them {'without' if invert else 'with'} --invert"
        )
    batches = math.ceil(len(pixels) * samples / BATCH_SIZE)
    with Progress(pixel_model.rows * batches, "completing", "row") as progress:
        drawn = complete(pixel_model, pixels, region, samples, seed, label, progress.update)
    drawn = inverted(drawn, shape.levels) if invert else drawn
    rows = [CompletionRow(original, completions) for original, completions in zip(originals, drawn, strict=True)]
    completion_picture(rows, region, shape.levels, output)
    lines, measured = [], []
    for path, of_masked in zip(readable, masked_nats(pixel_model, pixels, region, label).tolist(), strict=True):
        bits = of_masked / (math.log(2) * int(region.sum()) * shape.channels)
        lines.append(f"{path}\t{of_masked:.2f} nats\t{bits:.4f} bits/dim")
        measured.append({"image": str(path), "nats": of_masked, "bits_per_dimension": bits})
    given = " given all its known pixels" if config.context_layers else ""
    note(f"the completions are in {output}; the numbers are -ln p of the true masked pixels of each image{given}")
    document = {
        "picture": output,
        "mask": mask,
        "inverted": invert,
        "drawn_pixels": int(region.sum()),
        "known_pixels_conditioned_on": vars(conditioning(config, region)),
        "images": measured,
    }
    return Outcome("\n".join(lines), document, int(len(readable) < len(paths)))


def sample(
    *,
    model: str = BUNDLED,
    number: NumDraws = 64,
    output: str = "samples.png",
    seed: Seed = 0,
    label: int | None = None,
    device: Device = "auto",
) -> Path:
    """Draw whole images.

    Args:
        model: model folder, bundled:NAME or hub:OWNER/NAME
        number: number of images
        output: .png file to write
        label: class to draw, for class-conditional models
    """
    from pixelrnn.completion import BATCH_SIZE, sample
    from pixelrnn.pictures import cell_scale, grid_image, save_picture

    check_output_file(output, _PICTURE)
    pixel_model = _load(model, label, device)
    with Progress(pixel_model.rows * math.ceil(number / BATCH_SIZE), "sampling", "row") as progress:
        drawn = sample(pixel_model, number, seed, label, progress.update)
    shape, columns = pixel_model.shape, math.ceil(math.sqrt(number))
    save_picture(grid_image(drawn, shape.levels, columns, cell_scale(shape.height, shape.width)), output)
    return Path(output)


def write(
    text: str,
    *,
    model: str = WRITER,
    hands: NumDraws = 4,
    output: str = "written.png",
    seed: Seed = 0,
    device: Device = "auto",
) -> Path:
    """Draw the digits of a text in a row, in several hands.

    Args:
        text: digits
        model: class-conditional model: model folder, bundled:NAME or hub:OWNER/NAME
        hands: number of rows, each in a different hand: row i, counted from 0, uses the seed --seed + i
        output: .png file to write
    """
    from pixelrnn.model import load_pixel_model
    from pixelrnn.pictures import save_picture
    from pixelrnn.studies.writing import classes_of, page, write

    check_output_file(output, _PICTURE)
    pixel_model = load_pixel_model(model, device)
    classes = classes_of(text, pixel_model.shape)
    with Progress(pixel_model.rows, "writing", "row") as progress:
        drawn = write(pixel_model, classes, hands, seed, progress.update)
    save_picture(page(drawn, pixel_model.shape.levels), output)
    return Path(output)


def compress(
    images: list[str],
    *,
    output: str,
    model: str = BUNDLED,
    label: int | None = None,
    resize: bool = False,
    convert: bool = False,
    device: Device = "auto",
) -> Outcome | int:
    """Code images without loss, at the size that the model's likelihood promises.

    An image that the model cannot represent exactly is reported and skipped.

    Args:
        images: images or folders
        output: file to write
        model: model folder, bundled:NAME or hub:OWNER/NAME
        label: class of all images, for class-conditional models
        resize: crop and scale images of another size than the model's
        convert: convert images to what the model takes, instead of skipping them: grey, black and white, 8 bits, opaque
    """
    import torch

    from pixelrnn.coding.codec import BATCH_SIZE
    from pixelrnn.coding.coded_file import compress, write_coded
    from pixelrnn.coding.exactness import exact_or_converted
    from pixelrnn.completion import read_images

    paths = images_of(images)
    target = check_output_file(output, inputs=paths)
    pixel_model = _load(model, label, device)
    shape = pixel_model.shape
    # What is converted is reported already, and a grey image loses nothing as RGB.
    readable = read_images(exact_or_converted(paths, shape, convert), shape, resize, name_channels=False)
    if not readable:
        return 1
    pixels = torch.stack(list(readable.values()))
    with Progress(pixel_model.rows * math.ceil(len(pixels) / BATCH_SIZE), "coding", "row") as progress:
        coded = compress(pixel_model, pixels, [path.stem for path in readable], label, progress.update)
    write_coded(target, coded)
    size = target.stat().st_size
    document = {"file": output, "images": len(pixels), "bytes": size, "bits_per_dimension": 8 * size / pixels.numel()}
    text = f"{output}: {len(pixels)} images, {size} bytes, {8 * size / pixels.numel():.4f} bits/dim"
    return Outcome(text, document, int(len(readable) < len(paths)))


def decompress(
    file: str, *, output: str, model: str = BUNDLED, overwrite: bool = False, device: Device = "auto"
) -> Outcome:
    """Decode the images of a file that compress wrote, with the model that coded them.

    Args:
        file: file that compress wrote
        output: folder for the images, which are written as PNG files
        model: model folder, bundled:NAME or hub:OWNER/NAME
        overwrite: overwrite images that exist in the folder
    """
    from pixelrnn.coding.coded_file import decompress, read_coded
    from pixelrnn.model import load_pixel_model
    from pixelrnn.pictures import image_of, save_picture

    coded = read_coded(file)
    targets = [Path(output, f"{name}.png") for name in coded.names]
    check_not_existing(targets, "images", "" if overwrite else "--overwrite to replace them")
    pixel_model = load_pixel_model(model, device)
    try:
        with Progress(pixel_model.rows * len(coded.streams), "decoding", "row") as progress:
            pixels = decompress(pixel_model, coded, progress.update)
    except UserError as error:
        raise UserError(f"{file}: {error}") from error
    for target, image in zip(targets, pixels, strict=True):
        save_picture(image_of(image, pixel_model.shape.levels), target)
    return Outcome(f"{output}: {len(pixels)} images", {"folder": output, "images": len(pixels)})


def evaluate(
    *,
    data: str,
    split: str = "test",
    model: str = BUNDLED,
    batch_size: PositiveInt = 100,
    compare: str | None = None,
    proof: bool = False,
    output: str | None = None,
    device: Device = "auto",
) -> Outcome:
    """Measure the exact likelihood of every image of a split.

    For a model with a context, this includes the mean likelihood of the named regions of an image, given its other
    pixels.

    Args:
        data: prepared pixel data set
        split: split of the data set
        model: model folder, bundled:NAME or hub:OWNER/NAME
        batch_size: images per batch
        compare: another model, whose likelihoods of whole images and of the named regions are printed beside
        proof: code all images without loss, decode them again, and compare the size with other formats
        output: JSON file for results, counts and protocol
    """
    from data_prep.prepared_pixels import PreparedPixels
    from pixelrnn.exact_likelihood import evaluate, likelihood_table
    from pixelrnn.model import load_pixel_model
    from pixelrnn.training.batches import check_fit

    if output:
        check_output_file(output)
    prepared = PreparedPixels.open(data)
    pixel_model = load_pixel_model(model, device)
    other = load_pixel_model(compare, device) if compare else None
    if other is not None:
        check_fit(prepared, other.shape)
    with_regions = other is not None or pixel_model.config.context_layers > 0
    document = evaluate(pixel_model, prepared, split, batch_size, with_regions)
    if other is not None:
        document["compared"] = {"model": compare, **evaluate(other, prepared, split, batch_size, regions=True)}
    if proof:
        from pixelrnn.coding.image_formats import format_sizes
        from pixelrnn.coding.proof import prove

        document["proof"] = prove(pixel_model, prepared, split)
        document["proof"]["format_bytes"] = format_sizes(prepared.split(split).pixels, pixel_model.shape.levels)
    if output:
        write_json(output, document)
    failed = proof and document["proof"]["decoded"] < document["images"]
    return Outcome(likelihood_table(document), document, int(failed))


def report(
    run: str,
    *,
    output: str,
    data: str | None = None,
    split: str | None = None,
    without_coverage: bool = False,
    seed: Seed = 0,
    device: Device = "auto",
) -> Path:
    """Write one HTML file about a training run, to be opened in any browser, without a network.

    It shows training curves, samples through training, the likelihood with its 95 % interval, maps of surprise and
    entropy by pixel, completions, samples with their nearest training images, and the coverage.

    Args:
        run: run folder, the output of train
        output: .html file to write
        data: prepared data set that the run was trained on (default: the folder that the run names)
        split: split of the data set (default: test, or validation if there is no test)
        without_coverage: omit the coverage, which takes a backward pass for every pixel and channel
    """
    from pixelrnn.report import open_subject, pixel_report
    from vision_rnn.page import write_page

    target = check_output_file(output, (".html", ".htm"))
    write_page(target, pixel_report(open_subject(Path(run), data, split, seed, device), seed, not without_coverage))
    return target


def serve(
    *,
    model: str = COMPLETER,
    host: str = LOCAL_HOST,
    port: PositiveInt = PORT,
    device: Device = "auto",
) -> int:
    """Serve a page on which the model completes painted regions, for a browser on this machine.

    Needs gradio: pip install 'vision-rnn[demo]'. Pictures are not stored.

    Args:
        model: model folder, bundled:NAME or hub:OWNER/NAME
    """
    from pixelrnn.model import load_pixel_model
    from pixelrnn.serve import serve_pixel_model
    from vision_rnn.demo import check_gradio

    check_gradio()
    serve_pixel_model(load_pixel_model(model, device), host, port)
    return 0


def verify(*, model: str = BUNDLED, output: str | None = None, device: Device = "auto") -> Outcome:
    """Prove that a model predicts every pixel from earlier ones alone; exit status 1 if it does not.

    The proof takes the gradient of every output with respect to every input. For a model with a context, this is done
    twice: with nothing known, and with half of the pixels known, on which an output may depend wherever they are.

    Args:
        model: model folder, bundled:NAME or hub:OWNER/NAME
        output: .png file for a picture of the coverage
    """
    from pixelrnn.model import load_pixel_model
    from pixelrnn.pictures import coverage_picture
    from pixelrnn.studies.causality import certify, half_known

    if output:
        check_output_file(output, _PICTURE)
    pixel_model = load_pixel_model(model, device)
    height, width, context = pixel_model.shape.height, pixel_model.shape.width, pixel_model.config.context_layers > 0
    with Progress(height * (1 + context), "verifying", "row") as progress:
        certificate = certify(pixel_model, progress.update)
        given = certify(pixel_model, progress.update, half_known(height, width)) if context else None
    if output:
        coverage_picture(certificate, output)
    text, document, leaks = certificate.describe(), certificate.document(), certificate.num_leaks
    if given is not None:
        text = f"nothing known:\n{text}\n\nhalf of the pixels known, at random:\n{given.describe()}"
        document, leaks = {**document, "half_known": given.document()}, leaks + given.num_leaks
    return Outcome(text, document, int(leaks > 0))


def train(
    source: str | None = None,
    *,
    data: str | None = None,
    output: str | None = None,
    size: PositiveInt | None = None,
    model: ModelConfig = ModelConfig(),
    training: TrainingConfig = TrainingConfig(),
    init_from: str | None = None,
    ckpt_path: str | None = None,
    from_scratch: bool = False,
    force: bool = False,
    device: Device = "auto",
    trainer: TrainerConfig = TrainerConfig(),
) -> Outcome | Path | int:
    """Train a pixel model: on a folder of pictures, all steps at once, or on a prepared data set, step by step.

    With SOURCE, the pictures are prepared, colours, levels and settings are chosen by them, and the likelihood of
    pictures held out is measured before and after. If interrupted, the same command continues. With --data, the
    settings are those given, and the model of the best epoch is written to OUTPUT/model.

    Args:
        source: folder of pictures, or file, in any format that data-prep pixels reads
        data: prepared data set with splits train and validation, in place of SOURCE
        output: run folder to write (with SOURCE: SOURCE-pixel-model by default)
        size: side in pixels to which pictures are cropped and scaled, with SOURCE (default: their size, if all have
            the same)
        model: Model settings; with SOURCE, one that differs from its default replaces the chosen one
        training: Training settings; with SOURCE, one that differs from its default replaces the chosen one
        init_from: model to start from; its architecture replaces the model settings, except for a context to add
            (default: with SOURCE the bundled model if it is for such images, with --data none)
        ckpt_path: checkpoint to resume from, with --data; last is the run folder's own
        from_scratch: start from no model, with SOURCE
        force: train on few pictures too, with SOURCE
        device: where to train
        trainer: Devices and machines, with --data
    """
    if source is None:
        data, output = check_prepared(
            "a folder of pictures", data, output, {"from-scratch": from_scratch, "force": force, "size": size}
        )
        written = training_run.train(
            data=data,
            output=output,
            model=model,
            training=training,
            init_from=init_from,
            ckpt_path=ckpt_path,
            device=device,
            trainer=trainer,
        )
        from vision_rnn.processes import is_first_process

        return written if is_first_process() else 0
    check_source(source, data, ckpt_path, trainer, init_from, from_scratch)
    from pixelrnn.own.steps import train_own
    from pixelrnn.own.summary import summary

    document = train_own(
        source,
        output,
        size=size,
        init_from=init_from,
        from_scratch=from_scratch,
        model=model,
        training=training,
        force=force,
        device=device,
    )
    return Outcome(summary(document), document, int(document["skipped"] > 0))


def mix(
    models: list[str],
    *,
    data: str,
    output: str,
    split: str = "validation",
    evaluation: str | None = None,
    device: Device = "auto",
) -> Outcome:
    """Make one model of several in the same order, and print the nats per image of each and of the mixture.

    The logits of the mixture are the weighted means of those of the models, which may have other layers and sizes, but
    must be for the same images, and their output a softmax (for two levels a sigmoid). The weights are those under
    which the images of the split are the most likely, with nothing known.

    Args:
        models: model folders, bundled:NAME or hub:OWNER/NAME
        data: prepared pixel data set
        output: model folder to write; an existing one is replaced
        split: split of the data set by which the weights are chosen
        evaluation: file that evaluate -o wrote, to be quoted in the model card
    """
    from data_prep.prepared_pixels import PreparedPixels
    from pixelrnn.mixing import mix, short_names
    from pixelrnn.model import load_pixel_model
    from pixelrnn.model_card import model_card, read_evaluation
    from vision_rnn.saved_model import check_model_output, save_model

    if check_model_output(output).resolve() in {Path(model).resolve() for model in models}:
        raise UserError(f"{output}: would replace a model that is read; choose another --output")
    measured = read_evaluation(evaluation) if evaluation else None
    prepared = PreparedPixels.open(data)
    named = zip(short_names(models), models, strict=True)
    mixture = mix({name: load_pixel_model(model, device) for name, model in named}, prepared, split)
    save_model(mixture, output, model_card(mixture, measured))
    record = mixture.history[-1]
    lines = [f"{'model':<32}{'weight':>8}{'nats per image':>16}"]
    lines += [f"{each['name']:<32}{each['weight']:8.4f}{each['nats']:16.3f}" for each in record["members"]]
    lines.append(f"{'mixture':<40}{record['nats']:16.3f}")
    note(f"the mixture is in {output}; nats are of {record['images']} images of {split}, by which it was chosen")
    return Outcome("\n".join(lines), {"model": output, **record})


def ladder(
    configs: str | None = None,
    *,
    quick: bool = False,
    seeds: list[Seed] = [0],  # noqa: B006  # never changed
    output: str | None = None,
    device: Device = "auto",
) -> Outcome:
    """Train and compare models of several depths; finished runs are skipped, others continued.

    Every configuration of a folder is trained with every seed and measured on the splits validation and test. The
    result is OUTPUT/ladder.json, .md and .png.

    Args:
        configs: folder of YAML files, as of train --config (default: the bundled ladder)
        quick: minutes in place of hours: fewer rungs, and data/binarized_mnist-quick, for which data-prep pixels took
            --max-images 4000
        seeds: random seeds, in place of training.seed
        output: folder for the table, the figure and the run folders NAME-seedS (default: runs/pixel-ladder, or
            runs/pixel-ladder-quick)
    """
    from data_prep.prepared_pixels import PreparedPixels
    from pixelrnn.studies.ladder import PIXEL_MODELS, ladder_picture, ladder_table
    from vision_rnn.sweep import ladder_folder, quick_note, read_rungs, run_sweep, write_report

    folder = ladder_folder(configs, quick, CONFIGS)
    rungs = read_rungs(folder, training_run.train)
    data = Path(rungs[0].data)
    if quick and not data.is_dir():
        raise UserError(f"{data}: no such folder; make it with: data-prep pixels SOURCE -o {data} --max-images 4000")
    runs = Path(output or f"runs/pixel-{'ladder' if configs else folder.name}")
    measurements = run_sweep(PIXEL_MODELS, rungs, seeds, runs, device)
    table = ladder_table(measurements)
    if quick:
        table = f"{quick_note(measurements, CONFIGS, PreparedPixels.open(data))}\n{table}"
    write_report(measurements, runs, table, ladder_picture)
    return Outcome(table.rstrip(), [measurement.document() for measurement in measurements])


def _load(model: str, label: int | None, device: Device) -> "PixelModel":
    from pixelrnn.model import load_pixel_model

    pixel_model = load_pixel_model(model, device)
    pixel_model.check_label(label)
    return pixel_model


COMMANDS = {
    "complete": complete,
    "sample": sample,
    "write": write,
    "compress": compress,
    "decompress": decompress,
    "evaluate": evaluate,
    "verify": verify,
    "report": report,
    "serve": serve,
    "train": train,
    "export": export,
    "mix": mix,
    "ladder": ladder,
}
