"""The steps from pictures to a pixel model, each done once, however often they are interrupted.

They are: prepare the data set, measure the model to start from on held-out pictures (or independent pixels, if there is
none), train, draw samples, measure the trained model.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from datasets import disable_progress_bars

from data_prep.pixel_shape import THRESHOLD
from data_prep.pixels import prepare_source
from data_prep.prepared_pixels import PreparedPixels
from pixelrnn.exact_likelihood import evaluate
from pixelrnn.model import load_pixel_model
from pixelrnn.own.baseline import NAME, evaluate_independent
from pixelrnn.own.estimate import FINAL_SIDE, estimate
from pixelrnn.own.picture_source import PictureSource, Survey
from pixelrnn.own.settings import Settings, check_splits, choose_shape, choose_start
from pixelrnn.pictures import save_picture
from pixelrnn.pixel_config import ModelConfig, TrainingConfig
from pixelrnn.training.run import train
from pixelrnn.training.sample_grids import sample_grid
from vision_rnn.alone import alone_in
from vision_rnn.announcement import announce
from vision_rnn.console import Progress, note, problem
from vision_rnn.devices import Device
from vision_rnn.files import MANIFEST, read_json, write_json
from vision_rnn.output_folder import OutputFolder
from vision_rnn.own_inputs import check_enough, check_unchanged

# With fewer, the likelihood of the held-out tenth says nothing.
FEWEST_PICTURES = 100
_SAMPLES = "samples.png"


def train_own(
    source: str | Path,
    output: str | Path | None = None,
    *,
    size: int | None = None,
    init_from: str | None = None,
    from_scratch: bool = False,
    model: ModelConfig = ModelConfig(),
    training: TrainingConfig = TrainingConfig(),
    force: bool = False,
    device: Device = "auto",
) -> dict[str, Any]:
    """Prepare pictures, train a pixel model on them, and compare it on held-out pictures with what was there before.

    Called again with the same arguments, it continues where it was interrupted; finished steps are not repeated.

    Args:
        source: Folder or file in any format of `data_prep.pixels.prepare_pixels`, except the hub.
        output: Folder to write (default: beside the folder of the pictures, its name with `-pixel-model`).
        size: Side to which the pictures are cropped and scaled (default: their size, if all have the same).
        init_from: Model to start from (default: the bundled one if it is for such images, otherwise none).
        from_scratch: Start from no model.
        model: Model settings. In all settings, a value that is not the default replaces the chosen one.
        training: Training settings.
        force: Train on fewer than `FEWEST_PICTURES` pictures too.
        device: Device to compute on.

    Returns:
        The paths of the `run`, the `model` and its `samples`; the evaluations of the held-out pictures `before` (by
        `compared_with`) and `after`; whether pictures were `resized`; the number of `classes` of a class-conditional
        model and of `skipped` inputs.

    Raises:
        UserError: There are too few pictures or too little space on the disk, pictures differ in size or are too large
            without `size`, `output` lies within the pictures or holds something else, pictures or settings differ from
            those that `output` was started with, or another process is working there.
        KeyboardInterrupt: The user stopped it; the message says how to continue.
    """
    disable_progress_bars()  # One bar for the pictures is enough; datasets draws others for every split.
    source = Path(source)
    given = {"model": model, "training": training}
    try:
        folder = OutputFolder.choose(source, output, "pixel model")
        pictures = PictureSource.read(source)
        digests = pictures.digests()
        survey = None
        if folder.is_prepared or folder.is_finished:
            started = read_json(folder.started)
            check_unchanged(started["pictures"], digests, "pictures", folder.path)
            settings = Settings.from_document(started["settings"])
            start = choose_start(settings.shape, init_from, from_scratch, model)
            settings.check_same(given, folder.path, size=size, init_from=start)
        else:
            survey = pictures.survey()
            check_enough(source, survey.number, "pictures", FEWEST_PICTURES, force)
            check_splits(survey, source)
            shape = choose_shape(survey, source, size)
            start = choose_start(shape, init_from, from_scratch, model)
            settings = Settings.choose(shape, survey.splits["train"], size, start, model).override(given)
        if not folder.is_finished:
            _announce(folder, source, survey, settings, device)
            with alone_in(folder.path):
                started = {"source": str(source.resolve()), "settings": settings.document(), "pictures": digests}
                write_json(folder.started, started)
                _work(folder, pictures, settings, device)
    except KeyboardInterrupt:
        raise KeyboardInterrupt("give the same command again to continue") from None
    manifest = read_json(folder.path / MANIFEST)
    return {
        "run": str(folder.path),
        "model": str(folder.model),
        "samples": str(folder.path / _SAMPLES),
        "compared_with": settings.init_from or NAME,
        "before": read_json(folder.before),
        "after": read_json(folder.after),
        "resized": settings.size is not None,
        "classes": manifest["num_classes"] if settings.model.conditional else 0,
        "skipped": len(manifest["left_out"]),
    }


def _announce(folder: OutputFolder, source: Path, survey: Survey | None, settings: Settings, device: Device) -> None:
    """Say what will be done, how long it will take and how much space it needs, before anything is written.

    Raises:
        UserError: There is not enough space on the disk.
    """
    splits = survey.splits if survey else _prepared_splits(folder)
    test = f"{splits['test']} held out to measure" if splits.get("test") else "none held out to measure"
    note(
        f"{source}: {sum(splits.values())} pictures: {splits['train']} to learn from, {splits['validation']} to choose "
        f"the best epoch, {test}"
    )
    if survey:
        for text in _decisions(survey, settings):
            note(text)
    model, training = settings.model, settings.training
    start = f"starts from {settings.init_from}" if settings.init_from else "starts from no model"
    note(
        f"{start}; {model.architecture} with {model.num_layers} layers of {model.hidden_channels}, {training.epochs} "
        f"epochs with batch size {training.batch_size} and learning rates {training.matrix_learning_rate:g} and "
        f"{training.learning_rate:g}"
    )
    before = "measures the model to start from" if settings.init_from else f"measures {NAME}, to compare"
    steps = {
        "prepares the pictures": not folder.is_prepared,
        before: not folder.before.is_file(),
        "trains": not folder.is_trained,
        "draws samples": not (folder.path / _SAMPLES).is_file(),
        "measures the trained model": True,
    }
    announce(folder.path, steps, estimate(folder, splits, survey.seconds if survey else 0.0, settings, device))


def _decisions(survey: Survey, settings: Settings) -> list[str]:
    """Say what is decided by the pictures, and what is changed in how many of them."""
    shape, number = settings.shape, survey.number
    if survey.in_colour:
        why = f"{survey.in_colour} of {number} pictures are in colour"
    elif survey.is_binary:
        why = "all pictures are black and white"
    else:
        why = "no picture is in colour"
    texts = [f"the model is of {shape.describe()}, as {why}"]
    side = settings.size
    if side and (others := {size: count for size, count in survey.sizes.items() if size != (side, side)}):
        text = f"{sum(others.values())} of {number} pictures are resized to {side}x{side} pixels"
        if cropped := sum(count for (height, width), count in others.items() if height != width):
            text += f", {cropped} of them cropped before to the square around their centre"
        if enlarged := sum(count for size, count in others.items() if min(size) < side):
            text += f", {enlarged} enlarged"
        if survey.is_binary:
            text += f"; then levels from {THRESHOLD} up become white, others black"
        texts.append(text)
    if settings.init_from:
        texts.append(f"{settings.init_from} is for such images, so training starts from it; --from-scratch does not")
    if survey.has_labels and not settings.model.conditional:
        texts.append(
            "the classes of the pictures are not used; --model.conditional=true makes the model class-conditional"
        )
    return texts


def _prepared_splits(folder: OutputFolder) -> Mapping[str, int]:
    # A run keeps the manifest of its data, which may have been deleted since.
    place = folder.data if folder.is_prepared else folder.path
    return {split: count["images"] for split, count in read_json(place / MANIFEST)["splits"].items()}


def _work(folder: OutputFolder, pictures: PictureSource, settings: Settings, device: Device) -> None:
    """Do the steps that are not done."""
    if not folder.is_prepared:
        _prepare(folder, pictures, settings)
    data = PreparedPixels.open(folder.data)
    split = "test" if "test" in data.manifest["splits"] else "validation"
    if split == "validation":
        note(f"{pictures.path}: has no test split; the likelihoods are of the split that chooses the best epoch")
    batch_size = settings.training.batch_size
    if not folder.before.is_file():
        start = load_pixel_model(settings.init_from, device) if settings.init_from else None
        measured = evaluate(start, data, split, batch_size) if start else evaluate_independent(data, split)
        write_json(folder.before, measured)
    if not folder.is_trained:
        train(
            data=folder.data,
            output=folder.path,
            model=settings.model,
            training=settings.training,
            init_from=settings.init_from,
            ckpt_path="last" if folder.has_checkpoint else None,
            device=device,
        )
    trained = load_pixel_model(folder.model, device)
    samples = folder.path / _SAMPLES
    if not samples.is_file():
        with Progress(trained.rows, "drawing samples", "row") as progress:
            picture = sample_grid(trained, FINAL_SIDE, progress.update)
        save_picture(picture, samples)
    write_json(folder.after, evaluate(trained, data, split, batch_size))


def _prepare(folder: OutputFolder, pictures: PictureSource, settings: Settings) -> None:
    shape = settings.shape
    binarize = "threshold" if shape.levels == 2 and pictures.data.levels != 2 else "none"
    manifest = prepare_source(
        pictures.data,
        str(pictures.path),
        pictures.format,
        folder.data,
        settings.prepared_size,
        shape.channels,
        binarize,
    )
    for entry in manifest["left_out"]:
        problem(f"skipped {entry['name']}: {entry['reason']}")
    if repeated := manifest["in_several_splits"]:
        note(f"{repeated} pictures are in several splits, which makes likelihoods look better than they are")
