"""The steps from captioned photos to a captioner, each done once, however often they are interrupted.

They are: prepare the data set, measure the model to start from on held-out photos, compute features and train, measure
the trained model.
"""

from pathlib import Path
from typing import Any

from datasets import disable_progress_bars

from captioning.captioner import load_torch_captioner
from captioning.captioner_config import BUNDLED, DecoderConfig, EncoderConfig, SearchConfig, TrainingConfig
from captioning.own.captioned_photos import FEWEST_PHOTOS, CaptionedPhotos
from captioning.own.estimate import estimate
from captioning.own.settings import Settings
from captioning.scoring.model import evaluate
from captioning.training.run import train
from data_prep.captions import prepare_captions
from data_prep.prepared_captions import PreparedCaptions
from vision_rnn.alone import alone_in
from vision_rnn.announcement import announce
from vision_rnn.console import note, problem, without_notes
from vision_rnn.devices import Device
from vision_rnn.files import MANIFEST, read_json, write_json
from vision_rnn.output_folder import OutputFolder
from vision_rnn.own_inputs import check_enough, check_unchanged


def train_own(
    source: str | Path,
    output: str | Path | None = None,
    *,
    init_from: str | None = BUNDLED,
    encoder: EncoderConfig = EncoderConfig(),
    decoder: DecoderConfig = DecoderConfig(),
    search: SearchConfig = SearchConfig(),
    training: TrainingConfig = TrainingConfig(),
    force: bool = False,
    device: Device = "auto",
) -> dict[str, Any]:
    """Prepare captioned photos, train a captioner on them, and measure it before and after on held-out photos.

    Called again with the same arguments, it continues where it was interrupted; finished steps are not repeated.

    Args:
        source: Folder or file with captions in any format of `data_prep.captions.prepare_captions`, except the hub.
        output: Folder to write (default: beside the folder of the photos, its name with `-captioner`).
        init_from: Model to start from, whose vocabulary is extended; None starts from no captioner.
        encoder: Encoder settings. In all settings, a value that is not the default replaces the chosen one.
        decoder: Decoder settings.
        search: Search settings.
        training: Training settings.
        force: Train on fewer than `captioned_photos.FEWEST_PHOTOS` photos too.
        device: Device to compute on.

    Returns:
        The path of the `model`; the evaluations `before` (None without `init_from`) and `after` of the held-out
        photos; the number of `skipped` inputs.

    Raises:
        UserError: There are too few captioned photos or too little space on the disk, `output` lies within the photos
            or holds something else, photos or settings differ from those that `output` was started with, or another
            process is working there.
        KeyboardInterrupt: The user stopped it; the message says how to continue.
    """
    source = Path(source)
    given = {"encoder": encoder, "decoder": decoder, "search": search, "training": training}
    try:
        folder = OutputFolder.choose(source, output, "captioner")
        photos = CaptionedPhotos.read(source)
        if folder.is_prepared or folder.is_finished:
            started = read_json(folder.started)
            check_unchanged(started["photos"], photos.digests, "photos or captions", folder.path)
            settings = Settings.from_document(started["settings"])
            settings.check_same(given, folder.path, init_from=init_from)
        else:
            check_enough(source, len(photos.records), "photos with captions", FEWEST_PHOTOS, force)
            settings = Settings.choose(photos.training_captions, init_from).override(given)
        if not folder.is_finished:
            _announce(folder, source, photos, settings, device)
            with alone_in(folder.path):
                started = {"source": str(source.resolve()), "settings": settings.document(), "photos": photos.digests}
                write_json(folder.started, started)
                _work(folder, source, settings, device)
    except KeyboardInterrupt:
        raise KeyboardInterrupt("give the same command again to continue") from None
    return {
        "model": str(folder.model),
        "before": read_json(folder.before) if init_from else None,
        "after": read_json(folder.after),
        "skipped": len(read_json(folder.path / MANIFEST)["left_out"]),
    }


def _announce(folder: OutputFolder, source: Path, photos: CaptionedPhotos, settings: Settings, device: Device) -> None:
    """Say what will be done, how long it will take and how much space it needs, before anything is written.

    Raises:
        UserError: There is not enough space on the disk.
    """
    training = settings.training
    note(
        f"{source}: {len(photos.records)} photos with captions: {photos.count('train')} to learn from, with "
        f"{photos.training_captions} captions, {photos.count('validation')} to choose the best epoch, "
        f"{photos.count('test')} held out to measure"
    )
    note(
        f"starts from {settings.init_from or 'no captioner'}; {training.epochs} epochs with batch size "
        f"{training.batch_size} and learning rate {training.learning_rate:g}; words that occur at least "
        f"{settings.min_count} times are learned"
    )
    steps = {
        "prepares the photos": not folder.is_prepared,
        "measures the model to start from": bool(settings.init_from) and not folder.before.is_file(),
        "trains": not folder.is_trained,
        "measures the trained model": True,
    }
    announce(folder.path, steps, estimate(folder, photos, settings, device))


def _work(folder: OutputFolder, source: Path, settings: Settings, device: Device) -> None:
    """Do the steps that are not done."""
    disable_progress_bars()  # One bar for the photos is enough; datasets draws another for every split it saves.
    if not folder.is_prepared:
        with without_notes():  # The source was read before.
            manifest = prepare_captions(source, folder.data, min_count=settings.min_count)
        for entry in manifest["left_out"]:
            problem(f"skipped {entry['name']}: {entry['reason']}")
    data = PreparedCaptions.open(folder.data)
    split = "test" if "test" in data.manifest["splits"] else "validation"
    if split == "validation":
        note(f"{source}: has no test split; the scores are those of the split that chooses the best epoch")
    if settings.init_from and not folder.before.is_file():
        start = load_torch_captioner(settings.init_from, device)
        write_json(folder.before, evaluate(start, data, split, settings.search, cached=True))
    if not folder.is_trained:
        train(
            data=folder.data,
            output=folder.path,
            encoder=settings.encoder,
            decoder=settings.decoder,
            search=settings.search,
            training=settings.training,
            init_from=settings.init_from,
            ckpt_path="last" if folder.has_checkpoint else None,
            device=device,
        )
    is_frozen = settings.training.encoder_learning_rate == 0
    trained = load_torch_captioner(folder.model, device)
    write_json(folder.after, evaluate(trained, data, split, settings.search, cached=is_frozen))
