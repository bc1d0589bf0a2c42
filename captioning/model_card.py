"""The model card: training data, settings, scores and limits of a captioner."""

from typing import Any

import yaml

from captioning.captioner import Captioner
from data_prep.prepared_captions import BETWEEN_SOURCES, images_by_source
from vision_rnn.tables import markdown_name, markdown_table

_CARD = """\
---
license: apache-2.0
library_name: vision-rnn
pipeline_tag: {task}
---
# {title} trained on {source}

{what} {parameters:.1f} million parameters, {words} words.
{use}

## Training

{history}
## Results

{results}

{confidence}
## Limits

The model knows {words} words, those of its training captions, and the kinds of photos that they describe. It states
wrong colours, counts and actions as confidently as correct ones. It guesses the sex and age of people from their
appearance, with the biases of its captions and of its encoder's training set. Do not use it for decisions about people.
"""

_NETWORKS = {
    "window": "a feed-forward network over the last {window} words",
    "rnn": "a {layers}-layer vanilla RNN",
    "lstm": "a {layers}-layer LSTM",
}

_CAPTIONER = {
    "task": "image-to-text",
    "title": "An image captioner",
    "what": "The encoder is `{backbone}` with a grid of {side}x{side} features. The decoder is {network} with\n"
    'attention `{attention}` (Xu et al., "Show, Attend and Tell", arXiv 1502.03044).',
    "use": "Caption a photo with:\n\n    captioning caption PHOTO.jpg --model FOLDER",
}

_LANGUAGE_MODEL = {
    "task": "text-generation",
    "title": "A language model",
    "what": "The model is {network} and takes no image.",
    "use": "Draw sentences with:\n\n    captioning sample --model FOLDER",
}

_TRAINING = """\
Trained on {source} ({counts}; content hash `{content_hash}`) by `captioning train`{vocabulary} with these settings:

```yaml
{settings}```
{validation}"""

_FLICKR8K = """
## Data

Flickr8k: M. Hodosh, P. Young, J. Hockenmaier, "Framing Image Description as a Ranking Task: Data, Models and Evaluation
Metrics", Journal of Artificial Intelligence Research 47 (2013), 853-899. This folder does not contain its photos.
"""

_RESULTS = """\
| split | images | BLEU-1 | BLEU-2 | BLEU-3 | BLEU-4 | ROUGE-L | CIDEr-D |
| --- | --- | --- | --- | --- | --- | --- | --- |
| {split} | {images} | {BLEU-1:.4f} | {BLEU-2:.4f} | {BLEU-3:.4f} | {BLEU-4:.4f} | {ROUGE-L:.4f} | {CIDEr-D:.4f} |

{protocol}
Measured with `captioning evaluate --model FOLDER --data DIR --split {split}`."""


_CONFIDENCE = """
## Confidence

Each caption has a confidence: the estimated probability that its CIDEr-D is at least {good:g}, from the probabilities
of its words and from how far the photo's features lie from those of the training photos. On the {images} validation
images, each rated by a fit without it, its rank correlation with CIDEr-D is {correlation:.2f}, and of parts of equal
size:

{table}
A photo farther away than 95 % of these images has a lower confidence, whatever its caption.
"""


def model_card(captioner: Captioner, evaluation: dict[str, Any] | None = None) -> str:
    """Return the card in Markdown.

    Args:
        captioner: The model.
        evaluation: Output file of `captioning evaluate`; without it, the card states that nothing was measured.
    """
    kind = _LANGUAGE_MODEL if captioner.encoder.blind else _CAPTIONER
    decoder = captioner.decoder_config
    card = _CARD.format(
        **{
            name: text.format(
                backbone=captioner.encoder.config.backbone,
                side=captioner.encoder.grid_size,
                network=_NETWORKS[decoder.cell].format(window=decoder.window, layers=decoder.num_layers),
                attention=f"hard {decoder.attention}" if decoder.hard else decoder.attention,
            )
            for name, text in kind.items()
        },
        source=markdown_name(captioner.history[-1]["data"]["source"])
        if captioner.history
        else "data that it does not name",
        parameters=sum(parameter.numel() for parameter in captioner.parameters()) / 1e6,
        words=len(captioner.vocabulary.words),
        history="\n".join(map(_training, captioner.history)) or "Not recorded.\n",
        confidence=_confidence(captioner),
        results=_RESULTS.format(**evaluation) if evaluation else "Not yet measured on a test split.",
    )
    formats = {each for training in captioner.history for each in training["data"]["format"].split(BETWEEN_SOURCES)}
    return card + (_FLICKR8K if "flickr8k" in formats else "")


def _confidence(captioner: Captioner) -> str:
    calibration = captioner.calibration
    if not calibration:
        return ""
    rows = [[f"{confidence:.2f}", f"{share:.2f}"] for confidence, share, _ in calibration.reliability]
    return _CONFIDENCE.format(
        good=calibration.good,
        images=calibration.images,
        correlation=calibration.correlation,
        table=markdown_table(["mean confidence", "share of good captions"], rows),
    )


def _training(training: dict[str, Any]) -> str:
    data = training["data"]
    settings = {name: value for name, value in training.items() if name not in ("data", "words", "validation")}
    counts = ", ".join(
        f"{count['images']} images and {count['captions']} captions in {split}{_shares(data, split)}"
        for split, count in data["splits"].items()
    )
    # Neither a mean of several runs nor a model of the first release has a score here.
    scores = ", ".join(f"{name} {score:.4f}" for name, score in training.get("validation", {}).items())
    # The first release did not record the vocabulary of each training.
    vocabulary = f", with a vocabulary of {training['words']} words," if "words" in training else ""
    return _TRAINING.format(
        **data | {"source": markdown_name(data["source"])},
        counts=counts,
        vocabulary=vocabulary,
        validation=f"\nOn the validation split, this training's best epoch reached: {scores}.\n" if scores else "",
        settings=yaml.safe_dump(settings, sort_keys=False),
    )


def _shares(data: dict[str, Any], split: str) -> str:
    """Return the images that each of several sources gave to a split, in parentheses; nothing if there is one."""
    shares = images_by_source(data, split)
    return f" ({markdown_name(shares)})" if shares else ""
