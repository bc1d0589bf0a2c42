"""A training run: from a configuration to a run folder, and from a run folder to a model folder.

A run folder holds `config.yaml` (the resolved configuration), `manifest.json` (the data set's), `checkpoints/`
(`last.ckpt` and `best.ckpt`), `logs/` (CSV and TensorBoard) and, when training has ended, `model/`.
"""

import json
import warnings
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import lightning
import torch
import yaml
from lightning.pytorch.callbacks import EarlyStopping, EMAWeightAveraging
from lightning.pytorch.loggers import CSVLogger, TensorBoardLogger

from captioning.batches import CaptionedImages, batches
from captioning.captioner import Captioner, SearchConfig, load_captioner
from captioning.decoder import DecoderConfig
from captioning.encoder import EncoderConfig, GridEncoder
from captioning.model_card import model_card
from captioning.training import CaptioningTask, TrainingConfig
from data_prep.errors import UserError
from data_prep.files import atomic_path, read_json, write_json
from data_prep.model_folder import save_model
from data_prep.prepared import PreparedCaptions
from data_prep.run_folder import check_data, checkpoint_callbacks, checkpoint_to_resume, read_checkpoint, resumable


def train(
    data: str,
    output: str,
    encoder: EncoderConfig = EncoderConfig(),  # noqa: B008  # frozen, so one default serves all
    decoder: DecoderConfig = DecoderConfig(),  # noqa: B008
    search: SearchConfig = SearchConfig(),  # noqa: B008
    training: TrainingConfig = TrainingConfig(),  # noqa: B008
    init_from: str | None = None,
    ckpt_path: str | None = None,
) -> Path:
    """Train a captioner; return the folder of the model of its best epoch.

    Args:
        data: Folder of a prepared data set, with splits `train` and `validation`.
        output: The run folder.
        encoder: The encoder's architecture and preprocessing.
        decoder: The decoder's architecture.
        search: How captions are sought, in validation and by the finished model.
        training: How to train.
        init_from: Start from the weights of this model folder, whose encoder, decoder and vocabulary are then used.
        ckpt_path: Resume from this checkpoint; `last` is the run folder's own last one.

    Raises:
        UserError: Something named does not exist, or the run folder holds a run already.
    """
    folder = Path(output)
    checkpoint = checkpoint_to_resume(folder, ckpt_path)
    if checkpoint:
        read_checkpoint(checkpoint, "captioner", "a captioner")
    prepared = PreparedCaptions.open(data)
    check_data(prepared, folder)
    lightning.seed_everything(training.seed, verbose=False)
    captioner = _initial_captioner(prepared, encoder, decoder, search, init_from)
    captioner.to("cuda" if torch.cuda.is_available() else "cpu")
    configs = {
        "encoder": captioner.encoder.config,
        "decoder": captioner.decoder_config,
        "search": search,
        "training": training,
    }
    resolved = {"data": data, "output": output, "init_from": init_from}
    resolved |= {name: asdict(config) for name, config in configs.items()}
    write_json(folder / "manifest.json", prepared.manifest)
    with atomic_path(folder / "config.yaml") as staged:
        # By way of JSON, which turns tuples into the lists that safe YAML knows.
        staged.write_text(yaml.safe_dump(json.loads(json.dumps(resolved)), sort_keys=False))
    cached = training.encoder_learning_rate == 0
    train_images, validation_images = (
        CaptionedImages(prepared, split, captioner.encoder, captioner.vocabulary, cached=cached, mirrored=mirrored)
        for split, mirrored in (("train", training.mirror), ("validation", False))
    )
    mode = "min" if training.monitor == "perplexity" else "max"
    callbacks: list[Any] = [
        *checkpoint_callbacks(folder, training.monitor, mode),
        EarlyStopping(training.monitor, mode=mode, patience=training.patience, check_on_train_epoch_end=True),
    ]
    if training.average_decay:
        callbacks.append(EMAWeightAveraging(decay=training.average_decay))
    trainer = lightning.Trainer(
        max_epochs=training.epochs,
        gradient_clip_val=training.gradient_clip,
        precision="bf16-mixed" if _wants_bf16(training.precision) else "32-true",
        callbacks=callbacks,
        logger=[CSVLogger(folder / "logs", name="csv"), TensorBoardLogger(folder / "logs", name="tensorboard")],
        devices=1,
        num_sanity_val_steps=0,
        log_every_n_steps=1,
        enable_model_summary=False,
    )
    with warnings.catch_warnings():
        # Intended here: one process loads the data, the encoder stays in evaluation mode, a resumed run finds its own
        # checkpoints. The last is Lightning's own affair with torch.
        intended = ("does not have many workers", "in eval mode at the start", "exists and is not empty")
        for expected in (*intended, "isinstance.treespec, LeafSpec"):
            warnings.filterwarnings("ignore", f".*{expected}")
        with resumable(folder):
            trainer.fit(
                CaptioningTask(captioner, training, train_images, validation_images),
                batches(train_images, training.batch_size, shuffle_seed=training.seed),
                batches(validation_images, training.batch_size),
                ckpt_path=checkpoint,
                weights_only=True,
            )
    export(folder, folder / "model")
    return folder / "model"


def export(
    run: str | Path,
    output: str | Path,
    evaluation: str | Path | None = None,
    initial_share: float = 0.0,
    length_exponent: float | None = None,
) -> None:
    """Write the model folder of a run's best epoch.

    Args:
        run: The run folder.
        output: The model folder, replaced if it exists.
        evaluation: What `captioning evaluate -o` wrote, to be quoted in the model card.
        initial_share: Share, 0..1, of the weights that the run began with in a weighted mean with the trained ones
            (Wortsman et al., arXiv 2109.01903, equation 1): what training took away comes back, what it gave stays.
        length_exponent: That of the model's search; by default the run's own.

    Raises:
        UserError: The run has no checkpoint yet, `output` holds something else, `evaluation` is none, or the run did
            not begin with a trained model while `initial_share` is not 0.
    """
    run = Path(run)
    path = run / "checkpoints" / "best.ckpt"
    if not path.is_file():
        raise UserError(f"{run}: holds no checkpoints/best.ckpt; train it first with: captioning train")
    measured = read_json(evaluation) if evaluation else None
    if evaluation and not (isinstance(measured, dict) and {"protocol", "CIDEr-D", "content_hash"} <= measured.keys()):
        raise UserError(f"{evaluation}: not an evaluation; write one with: captioning evaluate -o FILE")
    checkpoint = read_checkpoint(path, "captioner", "a captioner")
    captioner = Captioner.from_description(checkpoint["captioner"])
    prefix = "captioner."
    states = checkpoint["state_dict"].items()
    weights = {name.removeprefix(prefix): tensor for name, tensor in states if name.startswith(prefix)}
    captioner.load_state_dict(weights, strict=True)
    manifest, settings = read_json(run / "manifest.json"), yaml.safe_load((run / "config.yaml").read_text())
    # Without the places on this machine, which say nothing to others.
    kept = {name: settings[name] for name in ("encoder", "decoder", "search", "training")}
    if initial_share:
        if not settings["init_from"]:
            raise UserError(f"{run}: began with no trained model; leave out the initial share")
        _mix_in(captioner, load_captioner(settings["init_from"]), initial_share)
        kept["initial_share"] = initial_share
    if length_exponent is not None:
        captioner.search = replace(captioner.search, length_exponent=length_exponent)
    data = {name: manifest[name] for name in ("source", "format", "splits", "content_hash")}
    captioner.history.append({"data": data, **kept})
    save_model(captioner, output, model_card(captioner, measured))


def _mix_in(captioner: Captioner, initial: Captioner, share: float) -> None:
    """Replace the weights by their mean with those of `initial`, which count for `share`."""
    others = initial.state_dict()
    mean = {
        name: tensor.lerp(others[name], share) if tensor.is_floating_point() else tensor
        for name, tensor in captioner.state_dict().items()
    }
    captioner.load_state_dict(mean)


def _initial_captioner(
    prepared: PreparedCaptions,
    encoder: EncoderConfig,
    decoder: DecoderConfig,
    search: SearchConfig,
    init_from: str | None,
) -> Captioner:
    if init_from:
        trained = load_captioner(init_from)
        trained.search = search
        return trained
    pretrained = GridEncoder(encoder, pretrained=True)
    captioner = Captioner(pretrained.config, decoder, prepared.vocabulary.words, search)
    # A model folder keeps weights in half precision. Rounded at once, a frozen encoder's cached grids are those of the
    # finished model, and serve whatever is trained from it.
    rounded = {
        name: tensor.half().float() if tensor.is_floating_point() else tensor
        for name, tensor in pretrained.state_dict().items()
    }
    captioner.encoder.load_state_dict(rounded)
    return captioner


def _wants_bf16(precision: str) -> bool:
    """Whether to multiply in bf16; `auto` asks the hardware, as it is slower than float32 where it is emulated."""
    if precision != "auto":
        return precision == "bf16"
    if torch.cuda.is_available():
        return torch.cuda.is_bf16_supported(including_emulation=False)
    return torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()
