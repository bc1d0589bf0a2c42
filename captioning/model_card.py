"""The model card: what a captioner was trained on, how, how well it does, and where it fails."""

from typing import Any

from captioning.captioner import Captioner

_CARD = """\
---
license: apache-2.0
library_name: vision-rnn
pipeline_tag: image-to-text
---
# An image captioner trained on {source}

A {backbone} encoder's {side}x{side} grid of features and an LSTM decoder with attention `{attention}`
(Xu et al., "Show, Attend and Tell", arXiv 1502.03044): {parameters:.1f} million parameters, {words} words.
Caption a photo with

    captioning caption PHOTO.jpg --model FOLDER

## Training

Data: {source}, {counts}, prepared by `data-prep captions`; content hash `{content_hash}`.
Made by `captioning train --config FILE`, where FILE was, with every default written out:

```yaml
{configuration}```

## Results

{results}

## Limits

It knows {words} words, those of its training captions, and the kinds of photo they describe. It states wrong colours,
counts and actions as surely as right ones. It guesses people's sex and age from their looks, with the biases of its
captions and of its encoder's training set. Do not let decisions about people rest on it.
"""

_FLICKR8K = """
## Data

Flickr8k: M. Hodosh, P. Young, J. Hockenmaier, "Framing Image Description as a Ranking Task: Data, Models and Evaluation
Metrics", Journal of Artificial Intelligence Research 47 (2013), 853-899. Its photos are not part of this folder.
"""

_RESULTS = """\
| split | images | BLEU-1 | BLEU-2 | BLEU-3 | BLEU-4 | ROUGE-L | CIDEr-D |
| --- | --- | --- | --- | --- | --- | --- | --- |
| {split} | {images} | {BLEU-1:.4f} | {BLEU-2:.4f} | {BLEU-3:.4f} | {BLEU-4:.4f} | {ROUGE-L:.4f} | {CIDEr-D:.4f} |

{protocol}
Measured by `captioning evaluate --model FOLDER --data DIR --split {split}`."""


def model_card(
    captioner: Captioner, manifest: dict[str, Any], configuration: str, evaluation: dict[str, Any] | None = None
) -> str:
    """Return the card in Markdown.

    Args:
        captioner: The model.
        manifest: The manifest of the prepared data set it was trained on.
        configuration: The run's resolved configuration, in YAML.
        evaluation: What `captioning evaluate` wrote of it; without it the card says that nothing was measured.
    """
    results = _RESULTS.format(**evaluation) if evaluation else "Not yet measured on a test split."
    card = _CARD.format(
        source=manifest["source"],
        counts=", ".join(
            f"{count['images']} images and {count['captions']} captions in {split}"
            for split, count in manifest["splits"].items()
        ),
        content_hash=manifest["content_hash"],
        backbone=captioner.encoder.config.backbone,
        side=captioner.encoder.grid_size,
        attention=captioner.decoder_config.attention,
        parameters=sum(parameter.numel() for parameter in captioner.parameters()) / 1e6,
        words=len(captioner.vocabulary.words),
        configuration=configuration,
        results=results,
    )
    return card + (_FLICKR8K if manifest["format"] == "flickr8k" else "")
