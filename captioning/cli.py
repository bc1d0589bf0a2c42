"""The command `captioning`. Each command imports what it computes with, so that no help imports torch."""

from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING

from captioning.captioner_config import BUNDLED, DecoderConfig, EncoderConfig, Engine, SearchConfig, TrainingConfig
from captioning.training import run as training_run
from captioning.training.run import export
from vision_rnn.cli import LOCAL_HOST, PORT, Outcome, configs_of, run
from vision_rnn.console import counted
from vision_rnn.devices import Device
from vision_rnn.errors import UserError
from vision_rnn.files import check_output_file, write_json
from vision_rnn.option_types import BeamSize, NonNegativeFloat, NumDraws, PositiveInt, Seed, Share, Temperature
from vision_rnn.shard import Shard
from vision_rnn.train_options import check_prepared, check_source
from vision_rnn.trainer_config import TrainerConfig

if TYPE_CHECKING:
    from captioning.caption_generator import CaptionGenerator
    from captioning.captioner import Captioner


CONFIGS = configs_of("captioning")
_PICTURES = (".png", ".svg", ".pdf")


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command with `argv`, by default the arguments of the process, and return its exit status."""
    return run("captioning", COMMANDS, argv, CONFIGS)


def caption(
    images: list[str],
    *,
    recursive: bool = False,
    shard: str | None = None,
    model: str = BUNDLED,
    ensemble: list[str] = [],  # noqa: B006  # never changed
    beam_size: BeamSize | None = None,
    length_exponent: NonNegativeFloat | None = None,
    max_words: PositiveInt | None = None,
    num_captions: BeamSize | None = None,
    samples: NumDraws | None = None,
    temperature: Temperature = 1.0,
    seed: Seed = 0,
    prefix: str = "",
    prepend: str = "",
    append: str = "",
    min_confidence: Share = 0.0,
    attention: str | None = None,
    gates: str | None = None,
    output: str | None = None,
    sidecar: bool = False,
    extension: str | None = None,
    json: bool = False,
    skip_existing: bool = False,
    overwrite: bool = False,
    batch_size: PositiveInt | None = None,
    engine: Engine = "auto",
    device: Device = "auto",
) -> int:
    """Caption photos, each in one sentence; a photo that cannot be read is reported and skipped.

    Args:
        images: photos or folders; - reads one path per line from standard input, as they come
        recursive: include the photos of subfolders
        shard: caption one part of the photos alone, such as 2/8 for the second of eight
        model: model folder, bundled:NAME or hub:OWNER/NAME
        ensemble: further models, whose probabilities are averaged with those of --model; name them last
        beam_size: beam size (default: the model's)
        length_exponent: exponent of the length by which log-probabilities are divided (default: the model's)
        max_words: maximum number of words of a caption (default: the model's)
        num_captions: number of captions per photo, the best first (default: 1)
        samples: number of random captions per photo, instead of the best
        temperature: sampling temperature of --samples; lower is more conservative
        prefix: text that every caption starts with, and that the model continues
        prepend: text to write before every caption, such as a trigger word; the model does not see it
        append: text to write after every caption
        min_confidence: leave a photo without a caption if the model's confidence is less, 0 to 1
        attention: folder for a picture per photo of where the model looked
        gates: folder for a picture per photo of the LSTM's gates
        output: .jsonl, .csv or .txt file to write; FILE.part holds finished photos until all are done
        sidecar: write photo.txt beside each photo.jpg
        extension: suffix of the text files of --sidecar, such as .caption (default: .txt)
        skip_existing: continue FILE and FILE.part, or the sidecars, with photos that are not yet in them
        overwrite: overwrite text files that exist, with --sidecar
        batch_size: photos captioned at once (default: 48, or 8 by torch)
        engine: onnx starts faster, torch computes on any device; auto is onnx unless --device names an accelerator
    """
    import numpy as np

    from captioning.loading import load_ensemble
    from captioning.outputs import choose_output
    from captioning.photos import Photos, caption_photos, check_photo_model, picture_paths

    if samples and num_captions:
        raise UserError("--samples: cannot be combined with --num-captions; choose one of them")
    photos = Photos(images, recursive, Shard.parse(shard) if shard else None, keep=bool(attention or gates))
    named = len(images) > 1 or images[0] == "-" or Path(images[0]).is_dir()
    place = choose_output(named, output, sidecar, extension, json, skip_existing, overwrite)
    unread = 0
    try:
        photos.select(place, skip_existing)
        # A picture must not overwrite a photo that is listed later, and draws must not depend on when a line comes.
        if attention or gates or (samples and "-" in images):
            photos.complete()
        if not photos.is_empty():
            pictures = picture_paths(photos.found, {"attention": attention, "gates": gates})
            captioner = load_ensemble([model, *ensemble], device, engine)
            check_photo_model(captioner, pictures, min_confidence)
            unread = caption_photos(
                captioner,
                photos,
                place,
                keep=samples or num_captions or 1,
                prepend=prepend,
                append=append,
                min_confidence=min_confidence,
                pictures=pictures,
                batch_size=batch_size,
                search=_search(
                    captioner,
                    max(beam_size or captioner.search.beam_size, num_captions or 1),
                    length_exponent,
                    max_words,
                ),
                prefix=prefix,
                samples=samples or 0,
                temperature=temperature,
                generator=np.random.default_rng(seed),
            )
    except KeyboardInterrupt:
        raise KeyboardInterrupt(*["add --skip-existing to continue"] * bool(output or sidecar)) from None
    else:
        place.finish()
    finally:
        place.close()
    photos.note_skipped()
    return 1 if photos.failures or unread else 0


def sample(
    *,
    model: str,
    number: NumDraws = 5,
    prefix: str = "",
    temperature: Temperature = 1.0,
    seed: Seed = 0,
    device: Device = "auto",
) -> Outcome:
    """Draw sentences from a language model: one trained with --encoder.backbone=none.

    Args:
        model: model folder or hub:OWNER/NAME
        number: number of sentences
        prefix: text that every sentence starts with
        temperature: sampling temperature; lower is more conservative
    """
    import numpy as np
    from PIL import Image

    captioner = _load(model, device)
    if not captioner.blind:
        raise UserError("--model: this model captions photos; choose one trained with --encoder.backbone=none")
    sentences = captioner.caption(
        Image.new("RGB", (1, 1)),
        prefix=prefix,
        samples=number,
        temperature=temperature,
        generator=np.random.default_rng(seed),
    )
    texts = [sentence.text for sentence in sentences]
    return Outcome("\n".join(texts), texts)


def evaluate(
    *,
    data: str,
    split: str = "test",
    model: str = BUNDLED,
    ensemble: list[str] = [],  # noqa: B006  # never changed
    beam_size: BeamSize | None = None,
    length_exponent: NonNegativeFloat | None = None,
    output: str | None = None,
    device: Device = "auto",
) -> Outcome:
    """Caption every image of a split, and score the captions by the COCO caption protocol.

    Args:
        data: prepared data set
        split: split of the data set
        model: model folder, bundled:NAME or hub:OWNER/NAME
        ensemble: further models, whose probabilities are averaged with those of --model; name them last
        beam_size: beam size (default: the model's)
        length_exponent: exponent of the length by which log-probabilities are divided (default: the model's)
        output: JSON file for scores, counts, protocol and captions
    """
    from captioning.ensemble import Ensemble
    from captioning.photos import EqualCaptions
    from captioning.scoring.model import evaluate
    from captioning.scoring.table import evaluation_table
    from data_prep.prepared_captions import PreparedCaptions

    if output:
        check_output_file(output)
    prepared = PreparedCaptions.open(data)
    models = [model, *ensemble]
    captioners = [_load(name, device) for name in models]
    if ensemble:
        Ensemble(models, captioners)  # Checks that they fit together.
    search = _search(captioners[0], beam_size, length_exponent)
    document = evaluate(captioners, prepared, split, search)
    # What `report` needs to caption some of the images again.
    document |= {"model": models if ensemble else model, "data": data, "search": asdict(search)}
    equal = EqualCaptions()
    for text in document["captions"].values():
        equal.add(text)
    equal.note()
    if output:
        write_json(output, document)
    return Outcome(evaluation_table(document), document)


def calibrate(
    model: str,
    *,
    data: str,
    output: str,
    split: str = "validation",
    device: Device = "auto",
) -> Outcome:
    """Give a model the confidence of its captions: the probability that a caption is a good one.

    It is fitted to the captions of validation images, from the probabilities of their words and the distance of the
    photo from the training photos. train does this at its end.

    Args:
        model: model folder, bundled:NAME or hub:OWNER/NAME
        data: prepared data set that the model was trained on
        output: model folder to write; an existing one is replaced
        split: split of the data set whose captions are scored
    """
    from captioning.model_card import model_card
    from captioning.scoring.table import calibration_table
    from captioning.training.calibrate import calibrate
    from data_prep.prepared_captions import PreparedCaptions
    from vision_rnn.saved_model import save_model

    captioner = _load(model, device)
    document = asdict(calibrate(captioner, PreparedCaptions.open(data), split))
    save_model(captioner, output, model_card(captioner))
    return Outcome(calibration_table(document), document)


def score(
    predictions: str,
    references: str,
    *,
    split: str | None = None,
    subset: bool = False,
    against: str | None = None,
    document_frequencies: str | None = None,
    audit: bool = False,
    claimed: str | None = None,
) -> Outcome:
    """Score the captions of a file, whoever made them, by the COCO caption protocol, with confidence intervals.

    Args:
        predictions: COCO results, the output of caption or evaluate, JSON, JSON lines, CSV or text
        references: any source of data-prep captions, its images not needed, or a prepared data set
        split: split of the references (default: that of the captioned images)
        subset: score only the images with a caption, which may be a part of the split
        against: file with other captions of the same images, for a paired comparison
        document_frequencies: source whose captions give CIDEr's document frequencies (default: the references)
        audit: score by the usual wrong protocols too, and name oddities
        claimed: published score whose protocol is looked for
    """
    from captioning.scoring.audit import audit_document, check_claim
    from captioning.scoring.captioned import in_both, match
    from captioning.scoring.file import Corpus, Scored, compare, describe
    from captioning.scoring.table import score_table
    from data_prep.predictions import read_predictions
    from data_prep.references import read_references

    if claimed is not None:
        check_claim(claimed)
    known = read_references(references)
    captioned = match(read_predictions(predictions), known, split, subset)
    other = match(read_predictions(against), known, captioned.split, subset) if against else None
    if other and subset:
        captioned, other = in_both(captioned, other)
    training = [] if captioned.split == "train" else [image for image in known if image.split == "train"]
    corpus = Corpus.of(document_frequencies, read_references(document_frequencies)) if document_frequencies else None
    scored = Scored.of(captioned, corpus)
    document = describe(scored, [text for image in training for text in image.captions])
    if other:
        document["against"] = {"file": against, "scores": compare(scored, Scored.of(other, corpus))}
    if audit or claimed:
        document["audit"] = audit_document(captioned, training, claimed)
    return Outcome(score_table(document), document)


def report(
    source: str,
    *,
    output: str,
    data: str | None = None,
    model: str | None = None,
    split: str | None = None,
    seed: Seed = 0,
    device: Device = "auto",
) -> Path:
    """Write one HTML file about a training run or an evaluation, to be opened in any browser, without a network.

    It shows training curves, scores with 95 % intervals, the best, median, worst and random captions with their photos
    and the attention of each word, and the lengths and words of the captions. A run's model first captions the split.

    Args:
        source: run folder, or file that evaluate -o wrote
        output: .html file to write
        data: prepared data set (default: the one that the run or evaluation names)
        model: model folder, bundled:NAME or hub:OWNER/NAME (default: the run's, or the one that the evaluation names)
        split: split of the data set, for a run (default: test, or validation if there is no test)
    """
    from captioning.report import caption_report, open_subject
    from vision_rnn.page import write_page

    target = check_output_file(output, (".html", ".htm"))
    write_page(target, caption_report(open_subject(source, data, model, split, device), seed))
    return target


def serve(
    *,
    model: str = BUNDLED,
    host: str = LOCAL_HOST,
    port: PositiveInt = PORT,
    device: Device = "auto",
) -> int:
    """Serve a page that captions photos, for a browser on this machine; photos are not stored.

    Needs gradio: pip install 'vision-rnn[demo]'.

    Args:
        model: model folder, bundled:NAME or hub:OWNER/NAME
    """
    from captioning.loading import load_captioner
    from captioning.photos import check_photo_model
    from captioning.serve import serve_captioner
    from vision_rnn.demo import check_gradio

    check_gradio()
    captioner = load_captioner(model, device)
    check_photo_model(captioner, {})
    serve_captioner(captioner, host, port)
    return 0


def train(
    source: str | None = None,
    *,
    data: str | None = None,
    output: str | None = None,
    encoder: EncoderConfig = EncoderConfig(),
    decoder: DecoderConfig = DecoderConfig(),
    search: SearchConfig = SearchConfig(),
    training: TrainingConfig = TrainingConfig(),
    init_from: str | None = None,
    ckpt_path: str | None = None,
    from_scratch: bool = False,
    force: bool = False,
    feature_shard: str | None = None,
    device: Device = "auto",
    trainer: TrainerConfig = TrainerConfig(),
) -> Outcome | Path | int:
    """Train a captioner: on a folder of captioned photos, all steps at once, or on a prepared data set, step by step.

    With SOURCE, the photos are prepared, settings are chosen by their number, the training starts from the bundled
    model, and photos held out are captioned before and after. If interrupted, the same command continues. With --data,
    the settings are those given, and the model of the best epoch is written to OUTPUT/model.

    Args:
        source: folder of photos with captions, or caption file, in any format that data-prep captions reads
        data: prepared data set with splits train and validation, in place of SOURCE
        output: run folder to write (with SOURCE: SOURCE-captioner by default)
        encoder: Encoder settings
        decoder: Decoder settings
        search: Search settings
        training: Training settings; with SOURCE, one that differs from its default replaces the chosen one
        init_from: model to start from; its encoder and decoder replace the settings, and words that it does not know
            are added to its vocabulary (default: with SOURCE the bundled model, with --data none)
        ckpt_path: checkpoint to resume from, with --data; last is the run folder's own
        from_scratch: start from no model, with SOURCE
        force: train on few photos too, with SOURCE
        feature_shard: with --data, compute one part of the images' features, such as 2/8 for the second of eight, and
            do not train; a training with the same settings finds them in DATA
        device: where to train
        trainer: Devices and machines, with --data
    """
    if feature_shard:
        shard = Shard.parse(feature_shard, "--feature_shard")
        if source is not None or data is None or ckpt_path is not None or from_scratch or force:
            raise UserError(
                "--feature_shard: goes with --data, and neither with a folder of photos nor with --ckpt_path, "
                "--from-scratch or --force"
            )
        number = training_run.compute_features(
            shard=shard,
            data=data,
            encoder=encoder,
            decoder=decoder,
            search=search,
            training=training,
            init_from=init_from,
            device=device,
        )
        text = f"part {shard} of the features in {data}: {counted(number, 'image')} encoded"
        return Outcome(text, {"shard": str(shard), "encoded": number})
    if source is None:
        data, output = check_prepared(
            "a folder of photos", data, output, {"from-scratch": from_scratch, "force": force}
        )
        written = training_run.train(
            data=data,
            output=output,
            encoder=encoder,
            decoder=decoder,
            search=search,
            training=training,
            init_from=init_from,
            ckpt_path=ckpt_path,
            device=device,
            trainer=trainer,
        )
        from vision_rnn.processes import is_first_process

        return written if is_first_process() else 0
    check_source(source, data, ckpt_path, trainer, init_from, from_scratch)
    from captioning.own.steps import train_own
    from captioning.scoring.table import before_and_after

    document = train_own(
        source,
        output,
        init_from=None if from_scratch else init_from or BUNDLED,
        encoder=encoder,
        decoder=decoder,
        search=search,
        training=training,
        force=force,
        device=device,
    )
    return Outcome(before_and_after(document), document, int(document["skipped"] > 0))


def gradients(
    *,
    data: str,
    split: str = "validation",
    model: list[str] = [],  # noqa: B006  # never changed
    seed: Seed = 0,
    output: str,
) -> Outcome:
    """Measure and draw how far back losses reach: exploding and vanishing gradients, clipping, gates; about a minute.

    Args:
        data: prepared data set
        split: split of the data set
        model: trained models to measure: folders or hub:OWNER/NAME
        output: .png, .svg or .pdf file for the picture
    """
    from captioning.studies.gradient_picture import gradient_picture, gradient_table
    from captioning.studies.gradients import study_gradients
    from data_prep.prepared_captions import PreparedCaptions

    picture = check_output_file(output, _PICTURES)
    study = study_gradients(PreparedCaptions.open(data), split, model, seed)
    gradient_picture(study, picture)
    return Outcome(gradient_table(study).rstrip(), study.document())


def gap(*, seeds: list[Seed] = [0, 1, 2], output: str = "gap.png") -> Outcome:  # noqa: B006  # never changed
    """Train small networks on sentences whose last word depends on two earlier ones, and measure how far they remember.

    It takes some minutes. The numbers are written beside the picture as .json.

    Args:
        seeds: random seeds, one training each
        output: .png, .svg or .pdf file for the picture
    """
    from captioning.studies.gap import LEARNERS, STEPS, gap_picture, gap_table, measure
    from vision_rnn.console import Progress

    picture = check_output_file(output, _PICTURES)
    different = list(dict.fromkeys(seeds))
    with Progress(len(LEARNERS) * len(different) * STEPS, "learning", "batch", "batches") as progress:
        curves = measure(different, progress=progress.update)
    document = [curve.document() for curve in curves]
    write_json(picture.with_suffix(".json"), document)
    gap_picture(curves, picture)
    return Outcome(gap_table(curves).rstrip(), document)


def ladder(
    configs: str | None = None,
    *,
    quick: bool = False,
    seeds: list[Seed] = [0],  # noqa: B006  # never changed
    output: str | None = None,
    device: Device = "auto",
) -> Outcome:
    """Train and compare decoders, from a window of words to attention; finished runs are skipped, others continued.

    Every configuration of a folder is trained with every seed and measured on the splits validation and test. The
    result is OUTPUT/ladder.json, .md and .png.

    Args:
        configs: folder of YAML files, as of train --config (default: the bundled ladder)
        quick: minutes in place of hours: fewer rungs, and data/flickr8k-quick, for which data-prep captions took
            --max-images 750
        seeds: random seeds, in place of training.seed
        output: folder for the table, the figure and the run folders NAME-seedS (default: runs/caption-ladder, or
            runs/caption-ladder-quick)
    """
    from captioning.studies.ladder import CAPTIONERS, ladder_picture, ladder_table
    from data_prep.prepared_captions import PreparedCaptions
    from vision_rnn.sweep import ladder_folder, quick_note, read_rungs, run_sweep, write_report

    folder = ladder_folder(configs, quick, CONFIGS)
    rungs = read_rungs(folder, training_run.train)
    data = Path(rungs[0].data)
    if quick and not data.is_dir():
        raise UserError(f"{data}: no such folder; make it with: data-prep captions SOURCE -o {data} --max-images 750")
    runs = Path(output or f"runs/caption-{'ladder' if configs else folder.name}")
    measurements = run_sweep(CAPTIONERS, rungs, seeds, runs, device)
    table = ladder_table(measurements)
    if quick:
        table = f"{quick_note(measurements, CONFIGS, PreparedCaptions.open(data))}\n{table}"
    write_report(measurements, runs, table, ladder_picture)
    return Outcome(table.rstrip(), [measurement.document() for measurement in measurements])


def _load(model: str, device: Device) -> "Captioner":
    from captioning.captioner import load_torch_captioner

    return load_torch_captioner(model, device)


def _search(
    captioner: "CaptionGenerator",
    beam_size: int | None,
    length_exponent: float | None = None,
    max_words: int | None = None,
) -> "SearchConfig":
    """Return the model's search settings, except for those given."""
    given = {"beam_size": beam_size, "length_exponent": length_exponent, "max_words": max_words}
    return replace(captioner.search, **{name: value for name, value in given.items() if value is not None})


COMMANDS = {
    "caption": caption,
    "sample": sample,
    "evaluate": evaluate,
    "calibrate": calibrate,
    "score": score,
    "report": report,
    "serve": serve,
    "train": train,
    "export": export,
    "gradients": gradients,
    "gap": gap,
    "ladder": ladder,
}
