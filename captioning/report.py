"""The report on a captioner: what it learned, how good it is, and what it says and looks at, as one HTML file.

Scores are those of `captioning score`. The cases are chosen by the CIDEr-D of each image, the random ones by the seed;
only they are captioned again, for the other captions of the beam and the attention.
"""

import random
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from captioning.attention_widget import HELP, SCRIPT, STYLE, attended_photo
from captioning.captioner import Captioner, load_torch_captioner
from captioning.captioner_config import SearchConfig
from captioning.confidence import Calibration
from captioning.scoring.captioned import match
from captioning.scoring.file import Scored, describe, tokens_of
from captioning.scoring.model import evaluate
from captioning.scoring.table import diversity_line
from captioning.training.run import export
from data_prep.images import load_image
from data_prep.predictions import Predictions
from data_prep.prepared_captions import PreparedCaptions
from data_prep.references import Reference, read_references
from evaluation.caption_scores import SCORES
from vision_rnn.charts import histogram, line_chart
from vision_rnn.console import note
from vision_rnn.devices import Device
from vision_rnn.errors import UserError
from vision_rnn.files import read_json
from vision_rnn.page import Element, element, figure, page, section, table
from vision_rnn.report_parts import facts, training_curves
from vision_rnn.run_folder import CONFIG, data_folder, default_split, load_best, settings_of_run

# Cases of each kind, and the side of their photos in pixels: together about two megabytes.
_CASES = 6
_PHOTO_PIXELS = 480
_WORDS = 24
# Captions of this many words or more share a bar.
_LONGEST = 25
_KEYS = {"captions", "content_hash", "split", "protocol", "perplexity"}


@dataclass(frozen=True)
class Subject:
    """What a report is about.

    Attributes:
        name: The run folder or the evaluation file.
        run: The run folder; None if only an evaluation is known.
        captioner: The model.
        data: The prepared data set.
        evaluation: Result of `captioning.scoring.model.evaluate`.
        search: Search settings of the captions.
    """

    name: str
    run: Path | None
    captioner: Captioner
    data: PreparedCaptions
    evaluation: dict[str, Any]
    search: SearchConfig


def open_subject(source: str, data: str | None, model: str | None, split: str | None, device: Device) -> Subject:
    """Open a run folder, whose model then captions a split, or an evaluation file.

    Args:
        source: Run folder, or file that `captioning evaluate -o` wrote.
        data: Prepared data set (default: the one that `source` names).
        model: Model (default: the one that `source` names, or the run's best).
        split: Split to caption, for a run folder (default: `test` if the data set has it, otherwise `validation`).
        device: Device to compute on.

    Raises:
        UserError: It is neither, its data set or model is not found or does not fit, or the split does not exist.
    """
    path = Path(source)
    if path.is_dir():
        return _open_run(path, data, model, split, device)
    document = read_json(path)
    if not _is_evaluation(document):
        raise UserError(f"{source}: not an evaluation; write one with: captioning evaluate -o FILE")
    if split not in (None, document["split"]):
        raise UserError(f"--split {split}: {source} is of the split {document['split']}; omit --split")
    prepared = PreparedCaptions.open(data_folder(source, data, document.get("data")))
    if prepared.content_hash != document["content_hash"]:
        raise UserError(f"{prepared.folder}: not the data that {source} is of; name them with --data FOLDER")
    model = model or document.get("model")
    if not model:
        raise UserError(f"{source}: does not name its model; add --model FOLDER")
    if not isinstance(model, str):
        raise UserError(f"{source}: is of several models, and a report shows one; evaluate it alone")
    captioner = load_torch_captioner(model, device)
    search = SearchConfig(**document["search"]) if "search" in document else captioner.search
    run = Path(model).parent if (Path(model).parent / CONFIG).is_file() else None
    return Subject(source, run, captioner, prepared, document, search)


def _is_evaluation(document: Any) -> bool:
    """Return whether a JSON document has what the report reads."""
    if not (isinstance(document, dict) and document.keys() >= _KEYS):
        return False
    captions, search = document["captions"], document.get("search", {})
    settings = {field.name for field in fields(SearchConfig)}
    return (
        isinstance(captions, dict)
        and all(isinstance(text, str) for text in captions.values())
        and isinstance(document["perplexity"], int | float)
        and isinstance(search, dict)
        and search.keys() <= settings
        and all(isinstance(value, int | float) for value in search.values())
    )


def _open_run(run: Path, data: str | None, model: str | None, split: str | None, device: Device) -> Subject:
    settings = settings_of_run(run, ("data", "encoder", "decoder"), "captioning train")
    prepared = PreparedCaptions.open(data_folder(run, data, settings["data"]))
    split = split or default_split(prepared.manifest["splits"])
    prepared.split(split)

    def load(folder: str | Path) -> Captioner:
        return load_torch_captioner(folder, device)

    captioner = load(model) if model else load_best(run, load, export)
    return Subject(str(run), run, captioner, prepared, evaluate(captioner, prepared, split), captioner.search)


def caption_report(subject: Subject, seed: int = 0) -> str:
    """Return the report as HTML.

    Args:
        subject: From `open_subject`.
        seed: Random seed that chooses the random cases.

    Raises:
        UserError: The captions do not belong to the images, or the log of the run cannot be read.
    """
    evaluation = subject.evaluation
    known = read_references(subject.data.folder)
    scored = Scored.of(match(Predictions(subject.name, evaluation["captions"], evaluation["split"]), known))
    training = [text for image in known if image.split == "train" for text in image.captions]
    document = describe(scored, [] if evaluation["split"] == "train" else training)
    sections = [_about(subject, document)]
    if subject.run:
        sections.append(training_curves(subject.run, "loss"))
    sections.append(_scores(document, evaluation))
    if subject.captioner.calibration:
        sections.append(_confidence(subject.captioner.calibration))
    sections += _cases(subject, scored, seed)
    sections += [_lengths(scored), _words(scored, subject.captioner)]
    introduction = (
        f"What the captioner says about the {document['images']:,} images of the split {evaluation['split']}, "
        "how good that is, and where it looked."
    )
    return page(f"Captions: {subject.name}", introduction, sections, STYLE, SCRIPT)


def _about(subject: Subject, document: dict[str, Any]) -> Element:
    captioner, manifest = subject.captioner, subject.data.manifest
    parameters = sum(parameter.numel() for parameter in captioner.parameters())
    decoder, search = captioner.decoder_config, subject.search
    return section(
        "About",
        facts(
            {
                "Model": f"{captioner.encoder.config.backbone}, {decoder.cell} of {decoder.hidden_size} units, "
                f"attention: {decoder.attention}, {len(captioner.vocabulary):,} tokens, {parameters:,} parameters",
                "Data": f"{manifest['source']} ({manifest['format']})",
                "Split": f"{document['split']}: {document['images']:,} images, {document['references']:,} references",
                "Search": f"beam size {search.beam_size}, length exponent {search.length_exponent}, at most "
                f"{search.max_words} words",
            }
        ),
    )


def _scores(document: dict[str, Any], evaluation: dict[str, Any]) -> Element:
    rows = [
        [name, f"{score['score']:.4f}", f"{score['low']:.4f} to {score['high']:.4f}"]
        for name, score in document["scores"].items()
    ]
    signatures = [element("li", score["signature"]) for score in document["scores"].values()]
    return section(
        "Scores",
        table(["Score", "Value", "95 % interval"], rows, "Scores"),
        element("details", element("summary", "Signatures"), element("ul", *signatures)),
        element("p", document["protocol"], class_="muted"),
        element("p", f"Perplexity of the references: {evaluation['perplexity']:.2f} per word."),
        element("p", diversity_line(document["captions"])),
    )


def _confidence(calibration: Calibration) -> Element:
    points = [(confidence, share) for confidence, share, _ in calibration.reliability]
    text = (
        f"Share of good captions (CIDEr-D of at least {calibration.good:g}) among captions of similar confidence, on "
        f"the {calibration.images:,} images that the confidence was fitted to, each rated by a fit without it"
    )
    chart = line_chart({"found": points, "as predicted": [(0.0, 0.0), (1.0, 1.0)]}, text, "mean confidence")
    rows = [[f"{confidence:.2f}", f"{share:.2f}", str(count)] for confidence, share, count in calibration.reliability]
    return section(
        "Confidence",
        figure(chart, f"{text}."),
        table(["Mean confidence", "Share of good captions", "Captions"], rows, "Reliability"),
        element("p", f"Rank correlation of confidence and CIDEr-D: {calibration.correlation:.2f}."),
    )


def choose_cases(values: Sequence[float], seed: int, most: int = _CASES) -> dict[str, list[int]]:
    """Choose cases by their scores: the best, the median and the worst ones, and random ones of the others.

    Args:
        values: Score of each case; of equal ones the first counts as better.
        seed: Random seed of the random cases.
        most: Maximum number of cases of each kind.

    Returns:
        Indices for each kind; no case is in two kinds, and with fewer than four cases some kinds are empty.
    """
    ranked = sorted(range(len(values)), key=lambda index: (-values[index], index))
    number = min(most, -(-len(ranked) // 4))
    best, rest = ranked[:number], ranked[number:]
    worst, rest = rest[len(rest) - min(number, len(rest)) :], rest[: len(rest) - min(number, len(rest))]
    # The middle of all, as far as the best and the worst have not taken it.
    start = max(0, (len(rest) - number) // 2)
    median, rest = rest[start : start + number], rest[:start] + rest[start + number :]
    chosen = random.Random(seed).sample(rest, min(number, len(rest)))
    return {"Best": best, "Median": median, "Worst": worst, "Random": chosen}


def _cases(subject: Subject, scored: Scored, seed: int) -> list[Element]:
    rows = subject.data.split(subject.evaluation["split"])
    place = {name: index for index, name in enumerate(rows["name"])}
    values = SCORES["CIDEr-D"](scored.scores.statistics, 1).tolist()
    attends = subject.captioner.decoder_config.attends
    sections, differing, shown = [], 0, 0
    for kind, cases in choose_cases(values, seed).items():
        cards = []
        for index in cases:
            image, said = scored.captioned.images[index], scored.captioned.captions[index]
            photo = load_image(rows[place[image.name]]["image"]["bytes"], image.name)
            captions = subject.captioner.caption(photo, search=subject.search)
            differs = " ".join(captions[0].words) != said
            differing, shown = differing + differs, shown + 1
            photo.thumbnail((_PHOTO_PIXELS, _PHOTO_PIXELS))
            widget = attended_photo(photo, captions, image.name, attends)
            cards.append(_card(image, values[index], widget, said if differs else None))
        if cards:
            text = _explanation(kind, seed) + (f" {HELP}" if attends and not sections else "")
            sections.append(section(f"{kind} captions", element("p", text), element("div", *cards, class_="cards")))
    if differing:
        note(f"{differing} of {shown} captions differ from those of {subject.name}; is --model the one that it is of?")
    return sections


def _explanation(kind: str, seed: int) -> str:
    by = {
        "Best": "The highest CIDEr-D of all images",
        "Median": "The middle of all images, by CIDEr-D",
        "Worst": "The lowest CIDEr-D of all images",
        "Random": f"Other images, chosen at random (seed {seed})",
    }
    return f"{by[kind]}. Each photo has the captions of the beam as the search ranks them, with ln p in nats."


def _card(image: Reference, value: float, widget: Element, evaluated: str | None) -> Element:
    parts = [element("h3", image.name), element("p", f"CIDEr-D {value:.3f}", class_="muted"), widget]
    if evaluated is not None:
        parts.append(element("p", f"The evaluated caption was: {evaluated or '(empty)'}"))
    references = element("ul", *(element("li", text) for text in image.captions))
    parts.append(element("details", element("summary", f"{len(image.captions)} references"), references))
    return element("article", *parts, class_="card")


def _lengths(scored: Scored) -> Element:
    references = [tokens for of_image in tokens_of(scored.captioned.references) for tokens in of_image]
    counts = {
        name: Counter(min(len(tokens), _LONGEST) for tokens in captions)
        for name, captions in (("captions", scored.candidates), ("references", references))
    }
    last = max(max(count) for count in counts.values())
    labels = [f"{length}+" if length == _LONGEST else str(length) for length in range(last + 1)]
    series = {
        name: [100 * count[length] / count.total() for length in range(last + 1)] for name, count in counts.items()
    }
    means = " and ".join(
        f"{name} have {sum(map(len, captions)) / len(captions):.1f} words on average"
        for name, captions in (("Captions", scored.candidates), ("references", references))
    )
    chart = histogram(labels, series, f"Share of captions by their number of words. {means}.", "words per caption")
    return section("Lengths", figure(chart, f"Per cent of the captions by length. {means}."))


def _words(scored: Scored, captioner: Captioner) -> Element:
    said = Counter(word for tokens in scored.candidates for word in tokens)
    references = Counter(
        word for of_image in tokens_of(scored.captioned.references) for tokens in of_image for word in tokens
    )
    text = (
        f"The captions contain {len(said):,} different words, the references {len(references):,}; the model knows "
        f"{len(captioner.vocabulary):,} tokens."
    )
    if not said:
        return section("Words", element("p", text))
    frequent = [word for word, _ in said.most_common(_WORDS)]
    series = {
        name: [100 * count[word] / count.total() for word in frequent]
        for name, count in (("captions", said), ("references", references))
    }
    chart = histogram(frequent, series, f"The {len(frequent)} most frequent words of the captions. {text}", "")
    caption = f"The {len(frequent)} most frequent words of the captions, in per cent of all words. {text}"
    return section("Words", figure(chart, caption))
