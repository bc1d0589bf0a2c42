"""A training run: from a configuration to a run folder, and from a run folder to a model folder.

Both functions are commands too. They import what they compute with when they run, not when their options are read.
"""

import itertools
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from captioning.captioner_config import DecoderConfig, EncoderConfig, SearchConfig, TrainingConfig
from vision_rnn.alone import alone_in_output
from vision_rnn.devices import Device
from vision_rnn.errors import UserError
from vision_rnn.option_types import NonNegativeFloat, Share
from vision_rnn.precision import multiplies_bf16, resolved_precision, training_precision
from vision_rnn.shard import Shard
from vision_rnn.trainer_config import TrainerConfig

if TYPE_CHECKING:
    from captioning.captioner import Captioner
    from data_prep.prepared_captions import PreparedCaptions


@alone_in_output
def train(
    *,
    data: str | Path,
    output: str | Path,
    encoder: EncoderConfig = EncoderConfig(),
    decoder: DecoderConfig = DecoderConfig(),
    search: SearchConfig = SearchConfig(),
    training: TrainingConfig = TrainingConfig(),
    init_from: str | None = None,
    ckpt_path: str | None = None,
    device: Device = "auto",
    trainer: TrainerConfig = TrainerConfig(),
) -> Path:
    """Train a captioner on a prepared data set; the model of its best epoch is written to OUTPUT/model.

    Args:
        data: prepared data set with splits train and validation
        output: run folder to write
        encoder: Encoder settings
        decoder: Decoder settings
        search: Search settings
        training: Training settings
        init_from: model to start from; its encoder and decoder replace the settings, and words that it does not know
            are added to its vocabulary
        ckpt_path: checkpoint to resume from; last is the run folder's own
        device: where to train
        trainer: Devices and machines

    Returns:
        The model folder.

    Raises:
        UserError: Something named does not exist, or the run folder holds a run already.
    """
    import lightning
    import torch
    from lightning.pytorch.callbacks import EarlyStopping, EMAWeightAveraging

    from captioning.model_card import model_card
    from captioning.training.batches import CaptionedImages, collate
    from captioning.training.task import CaptioningTask
    from captioning.training.views import PLAIN, training_views
    from captioning.training.word_task import WordTask
    from data_prep.prepared_captions import PreparedCaptions
    from vision_rnn.console import note
    from vision_rnn.devices import resolve_device
    from vision_rnn.processes import Batches, is_first_process, leave_speaking_to_the_first
    from vision_rnn.run_folder import (
        check_data,
        check_settings,
        checkpoint_to_resume,
        read_checkpoint,
        write_settings,
    )
    from vision_rnn.saved_model import save_model
    from vision_rnn.trainer import fit

    leave_speaking_to_the_first()
    folder = Path(output)
    checkpoint = checkpoint_to_resume(folder, ckpt_path)
    begun = read_checkpoint(checkpoint, "captioner", "a captioner")["captioner"] if checkpoint else None
    prepared = PreparedCaptions.open(data)
    check_data(prepared, folder)
    lightning.seed_everything(training.seed, verbose=False)
    # A run of an earlier version that started from a model did not extend its vocabulary.
    words = begun["vocabulary"] if begun else prepared.vocabulary.words
    captioner, new = _initial_captioner(words, encoder, decoder, search, init_from)
    kind = resolve_device(device).type
    precision = training_precision(training.precision, kind)
    if precision == "bf16-mixed" and not multiplies_bf16(kind):
        note(
            f"training.precision: this {kind} does not multiply bf16, and emulates it slowly; 32 avoids it in a new run"
        )
    training = replace(training, precision=precision)
    settings = {
        "encoder": captioner.encoder.config,
        "decoder": captioner.decoder_config,
        "search": search,
        "training": training,
    }
    check_settings(folder, settings)
    if init_from and not begun:
        tokens = itertools.chain.from_iterable(prepared.tokens("train"))
        note(
            f"{data}: {new} of its {len(words)} words are new to {init_from}, and are added to its vocabulary; "
            f"{1 - captioner.vocabulary.coverage(tokens):.2%} of the running words of the training captions stay "
            f"unknown (words that occur fewer than {prepared.manifest['vocabulary']['min_count']} times)"
        )
    if not checkpoint and is_first_process():
        places = {"data": str(data), "output": str(output), "init_from": init_from}
        write_settings(folder, prepared, {**places, **settings})
    cached = training.encoder_learning_rate == 0
    train_images, validation_images = (
        CaptionedImages(
            prepared,
            split,
            captioner.encoder,
            captioner.vocabulary,
            cached=cached,
            views=views,
            bf16=precision == "bf16-mixed",
            bits=training.feature_bits,
            max_words=most,
        )
        for split, views, most in (
            ("train", training_views(training.mirror, training.crops), training.max_words),
            ("validation", [PLAIN], None),
        )
    )
    captions = train_images.captions
    if captions.cut:
        note(
            f"{captions.cut} of {captions.count} training captions have more than {training.max_words} words, and are "
            "cut there (training.max_words)"
        )
    mode = "min" if training.monitor == "perplexity" else "max"
    callbacks: list[lightning.Callback] = [
        EarlyStopping(training.monitor, mode=mode, patience=training.patience, check_on_train_epoch_end=True)
    ]
    if training.average_decay:
        callbacks.append(EMAWeightAveraging(decay=training.average_decay))

    def prepare(device: torch.device) -> None:
        captioner.to(device)
        train_images.prepare()
        validation_images.prepare()

    task = WordTask if training.objective == "words" else CaptioningTask
    fit(
        task(captioner, training, train_images, validation_images),
        Batches(
            train_images,
            validation_images,
            training.batch_size,
            seed=training.seed,
            collate=collate,
            prepare=prepare,
            workers=int(not cached) if trainer.workers is None else trainer.workers,
        ),
        folder,
        epochs=training.epochs,
        monitor=training.monitor,
        mode=mode,
        callbacks=callbacks,
        gradient_clip=training.gradient_clip,
        precision=precision,
        checkpoint=checkpoint,
        device=device,
        spread=trainer,
    )
    model = folder / "model"
    if not is_first_process():
        return model
    trained = _trained_captioner(folder)
    save_model(trained, model, model_card(trained))
    if training.objective != "words" and not captioner.blind:
        _calibrate(model, prepared, device)
    return model


def compute_features(
    *,
    shard: Shard,
    data: str | Path,
    encoder: EncoderConfig = EncoderConfig(),
    decoder: DecoderConfig = DecoderConfig(),
    search: SearchConfig = SearchConfig(),
    training: TrainingConfig = TrainingConfig(),
    init_from: str | None = None,
    device: Device = "auto",
) -> int:
    """Compute one part of the features that a training with these arguments needs, and keep it in the prepared data.

    Args:
        shard: which part
        data: as of train
        encoder: as of train
        decoder: as of train
        search: as of train
        training: as of train
        init_from: as of train
        device: where to compute

    Returns:
        How many images were encoded, in all views; those whose features are kept already are not.

    Raises:
        UserError: The training keeps no features, or something named does not exist.
    """
    import lightning

    from captioning.training.features import compute_part
    from captioning.training.views import PLAIN, training_views
    from data_prep.prepared_captions import PreparedCaptions
    from vision_rnn.devices import resolve_device

    if training.encoder_learning_rate:
        raise UserError("training.encoder_learning_rate: where the encoder is trained, features are not kept; give 0")
    prepared, to_use = PreparedCaptions.open(data), resolve_device(device)
    lightning.seed_everything(training.seed, verbose=False)  # As `train` does, for an encoder of random weights.
    captioner, _ = _initial_captioner(prepared.vocabulary.words, encoder, decoder, search, init_from)
    if captioner.blind:
        raise UserError("encoder.backbone: a language model has no features")
    on_device = captioner.encoder.to(to_use)
    bf16 = resolved_precision(training.precision, to_use.type) == "bf16-mixed"
    views = [("train", view) for view in training_views(training.mirror, training.crops)]
    return sum(
        compute_part(on_device, prepared, split, shard, view, bf16, training.feature_bits)
        for split, view in [*views, ("validation", PLAIN)]
    )


def export(
    run: str | Path,
    *,
    output: str | Path,
    evaluation: str | Path | None = None,
    average_with: list[str] = [],  # noqa: B006  # never changed
    initial_share: Share = 0.0,
    initial: str | None = None,
    length_exponent: NonNegativeFloat | None = None,
) -> Path:
    """Write the model folder of a training run's best epoch, with the graphs that onnxruntime needs.

    Args:
        run: run folder, the output of captioning train; or a model, to write it again
        output: model folder to write; an existing one is replaced
        evaluation: file that evaluate -o wrote, to be quoted in the model card
        average_with: other runs that started from the same model (init_from), such as those of other seeds; the mean of
            all runs' weights is written (Wortsman et al., arXiv 2203.05482)
        initial_share: share, 0 to 1, of the initial weights in a mean with the trained ones (Wortsman et al., arXiv
            2109.01903, equation 1)
        initial: model that has the initial weights, of an earlier stage of the run (default: the one that the run
            started from, init_from)
        length_exponent: length exponent of the model's search (default: the run's)

    Returns:
        The model folder.

    Raises:
        UserError: The run has no checkpoint yet, `output` holds something else, `evaluation` is not an evaluation file,
            the run did not start from a trained model while `initial_share` is not 0, `initial` is no earlier stage of
            the run, or those of `average_with` did not start from the same model.
    """
    from captioning.captioner import load_torch_captioner
    from captioning.model_card import model_card
    from vision_rnn.console import note
    from vision_rnn.files import read_json
    from vision_rnn.model_folder import is_model
    from vision_rnn.saved_model import save_model

    measured = read_json(evaluation) if evaluation else None
    if evaluation and not (isinstance(measured, dict) and {"protocol", "CIDEr-D", "content_hash"} <= measured.keys()):
        raise UserError(f"{evaluation}: not an evaluation; write one with: captioning evaluate -o FILE")
    if not is_model(run):
        captioner = _trained_captioner(Path(run), [Path(other) for other in average_with], initial_share, initial)
    elif initial_share or average_with:
        option = "initial-share" if initial_share else "average-with"
        raise UserError(f"{run}: a model, and not the run that trained it; omit --{option}")
    else:
        captioner = load_torch_captioner(run)
    if length_exponent is not None:
        captioner.search = replace(captioner.search, length_exponent=length_exponent)
        captioner.card = ""
        captioner.forget_calibration()
    card = captioner.card if captioner.card and not measured else model_card(captioner, measured)
    save_model(captioner, output, card)
    if not captioner.calibration and not captioner.blind:
        note(
            f"{output}: its captions will have no confidence; run: captioning calibrate {output} "
            f"--data DATA --output {output}"
        )
    return Path(output)


def _calibrate(model: Path, prepared: "PreparedCaptions", device: Device) -> None:
    """Calibrate a model folder where there are enough validation images."""
    from captioning.captioner import load_torch_captioner
    from captioning.model_card import model_card
    from captioning.training.calibrate import calibrate
    from vision_rnn.console import note
    from vision_rnn.saved_model import save_model

    captioner = load_torch_captioner(model, device)
    try:
        calibrate(captioner, prepared)
    except UserError as error:
        note(f"captions will have no confidence: {error}")
    else:
        save_model(captioner, model, model_card(captioner))


def _trained_captioner(
    folder: Path, others: Sequence[Path] = (), initial_share: float = 0.0, initial: str | None = None
) -> "Captioner":
    """Return the captioner of a run's best epoch, with the run in its history; or a mean with other weights."""
    from captioning.captioner import load_torch_captioner
    from vision_rnn.files import MANIFEST, read_json
    from vision_rnn.run_folder import read_settings

    captioner, score = _best_epoch(folder)
    manifest, settings = read_json(folder / MANIFEST), read_settings(folder)
    # Without the paths on this machine, which say nothing to others.
    kept = {name: settings[name] for name in ("encoder", "decoder", "search", "training")}
    if (others or initial_share) and not settings["init_from"]:
        option = "initial-share" if initial_share else "average-with"
        raise UserError(f"{folder}: did not start from a trained model; omit --{option}")
    if others:
        of_others = [read_settings(other) for other in others]
        for other, its in zip(others, of_others, strict=True):
            if its["init_from"] != settings["init_from"]:
                raise UserError(
                    f"{other}: started from {its['init_from']}, and {folder} from {settings['init_from']}; "
                    "average runs that started from the same model"
                )
        for number, other in enumerate(others, start=2):
            member, _ = _best_epoch(other)
            if member.vocabulary.words != captioner.vocabulary.words:
                raise UserError(f"{other}: has another vocabulary than {folder}; average runs on the same data")
            _mix_in(captioner, member, 1 / number)
        kept["averaged_with"] = [its["training"] for its in of_others]
    if initial_share:
        began = load_torch_captioner(initial or settings["init_from"])
        if initial and captioner.history[: len(began.history)] != began.history:
            raise UserError(f"{initial}: no earlier stage of {folder}; omit --initial, or name the model of one")
        _mix_in(captioner, began, initial_share)
        kept["initial_share"] = initial_share
        if initial:
            kept["initial_stage"] = len(began.history)
    elif initial:
        raise UserError(f"--initial {initial}: goes with --initial-share; give that too, or omit it")
    if not others and not initial_share:
        kept["validation"] = {settings["training"]["monitor"]: score}
    named = ("source", "format", "splits", "content_hash", "sources")
    described = {name: manifest[name] for name in named if name in manifest}
    captioner.history.append({"data": described, "words": len(captioner.vocabulary.words), **kept})
    return captioner


def _best_epoch(folder: Path) -> tuple["Captioner", float]:
    """Return the captioner of a run's best epoch, and the score that made it the best."""
    from captioning.captioner import Captioner
    from vision_rnn.run_folder import best_checkpoint, best_score, read_checkpoint

    checkpoint = read_checkpoint(best_checkpoint(folder, "captioning train"), "captioner", "a captioner")
    captioner = Captioner.from_description(checkpoint["captioner"])
    prefix = "captioner."
    states = checkpoint["state_dict"].items()
    weights = {name.removeprefix(prefix): tensor for name, tensor in states if name.startswith(prefix)}
    captioner.load_state_dict(weights, strict=True)
    return captioner, best_score(checkpoint)


def _mix_in(captioner: "Captioner", other: "Captioner", share: float) -> None:
    """Replace the weights by their mean with those of `other`, weighted by `share`; those of new words stay."""
    others = other.state_dict()
    # Not the other way round: only an initial model may be calibrated, which adds tensors.
    for name, tensor in captioner.state_dict().items():
        if tensor.is_floating_point():
            tensor[: len(others[name])].lerp_(others[name], share)


def _initial_captioner(
    words: Sequence[str],
    encoder: EncoderConfig,
    decoder: DecoderConfig,
    search: SearchConfig,
    init_from: str | None,
) -> tuple["Captioner", int]:
    """Return the captioner that training starts with, which knows `words`, and how many are new to `init_from`."""
    from captioning.captioner import Captioner, load_torch_captioner
    from captioning.network.encoder import GridEncoder
    from captioning.training.new_words import add_words
    from vision_rnn.run_folder import check_same

    if init_from:
        try:
            trained = load_torch_captioner(init_from)
        except UserError as error:
            raise UserError(f"init_from: {error}") from error
        check_same("encoder", encoder, trained.encoder.config, init_from)
        check_same("decoder", decoder, trained.decoder_config, init_from)
        trained.search = search
        trained.forget_calibration()
        new = [word for word in words if word not in trained.vocabulary]
        add_words(trained, new)
        return trained, len(new)
    pretrained = GridEncoder(encoder, pretrained=True)
    captioner = Captioner(pretrained.config, decoder, list(words), search)
    # A model folder keeps weights in half precision. Rounded at once, a frozen encoder's cached grids are those of the
    # finished model, and serve whatever is trained from it.
    rounded: dict[str, Any] = {
        name: tensor.half().float() if tensor.is_floating_point() else tensor
        for name, tensor in pretrained.state_dict().items()
    }
    captioner.encoder.load_state_dict(rounded)
    return captioner, len(words)
