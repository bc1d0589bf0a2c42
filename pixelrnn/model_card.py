"""The model card: what a pixel model was trained on, how, how well it does, and where it fails."""

from typing import Any

import yaml

from pixelrnn.model import PixelModel

_CARD = """\
---
license: apache-2.0
library_name: vision-rnn
pipeline_tag: unconditional-image-generation
---
# {name} trained on {source}

It gives every image of {height}x{width}x{channels} pixels of {levels} levels an exact probability, the product over its
pixels of the probability given those before it (van den Oord, Kalchbrenner, Kavukcuoglu, "Pixel Recurrent Neural
Networks", arXiv 1601.06759). {num_layers} layers, h = {hidden_channels}, {parameters:.0f} thousand parameters.
Draw images, complete one, and check that no pixel sees itself or a later one, with

    pixelrnn sample --model FOLDER{label} -n 64 -o samples.png
    pixelrnn complete IMAGE.png --model FOLDER{label} --mask lower-half -o completions.png
    pixelrnn verify FOLDER

## Deviations from the paper

{deviations}

## Training

{history}
## Results

{results}

## Limits

It knows images like those it was trained on, of their very size and levels; any other image gets a low probability, or
is refused. Samples are new images by chance alone: some are no likeness of anything. A pixel is predicted from those
before it in {order} order: what a completion is given after the mask in that order does not shape what is drawn.
"""

_NAMES = {
    "row_lstm": "A Row LSTM",
    "diagonal_bilstm": "A Diagonal BiLSTM",
    "pixel_cnn": "A PixelCNN",
}

_TRAINING = """\
On {source} ({counts}; binarization: {binarization}; content hash `{content_hash}`), by `pixelrnn train` with these
settings:

```yaml
{settings}```
"""

_RESULTS = """\
| split | images | nats per image | bits per dimension |
| --- | --- | --- | --- |
| {split} | {images} | {nats} | {bits} |

{protocol} Content hash of the data: `{content_hash}`.
Measured with the weights of this folder by `pixelrnn evaluate --model FOLDER --data DIR --split {split}`."""

_MNIST = """\
MNIST: Y. LeCun, L. Bottou, Y. Bengio, P. Haffner, "Gradient-Based Learning Applied to Document Recognition", Proc. IEEE
86 (1998), 2278-2324. The images are not part of this folder.
"""
_BINARIZED = """\
The fixed binarization of MNIST: H. Larochelle, I. Murray, "The Neural Autoregressive Distribution Estimator", AISTATS
2011, after R. Salakhutdinov, I. Murray, "On the Quantitative Analysis of Deep Belief Networks", ICML 2008.
"""


def model_card(model: PixelModel, evaluation: dict[str, Any] | None = None) -> str:
    """Return the card in Markdown.

    Args:
        model: The model.
        evaluation: What `pixelrnn evaluate` wrote of it; without it the card says that nothing was measured.
    """
    card = _CARD.format(
        name=_NAMES[model.config.architecture],
        source=model.history[-1]["data"]["source"],
        parameters=sum(parameter.numel() for parameter in model.parameters()) / 1e3,
        deviations="\n".join(f"- {deviation}" for deviation in _deviations(model)),
        history="\n".join(map(_training, model.history)),
        results=_results(evaluation) if evaluation else "Not yet measured on a test split.",
        label=" --label K" if model.shape.num_classes else "",
        **vars(model.config),
        **vars(model.shape),
    )
    sources = " ".join(training["data"]["source"] for training in model.history)
    if "mnist" not in sources:
        return card
    return f"{card}\n## Data\n\n{_BINARIZED if 'binarized_mnist' in sources else ''}{_MNIST}"


def _deviations(model: PixelModel) -> list[str]:
    """Say what makes model and training others than the paper's; its skip connections are an option there too."""
    config = model.config
    possible = {
        "Another depth and width than the paper's for MNIST, 7 layers of h = 16.": (
            (config.num_layers, config.hidden_channels) != (7, 16)
        ),
        "Layers' outputs are not added to their inputs (no residual connections).": not config.residual,
        f"The taps of the layers lie {', '.join(map(str, config.dilations))} columns apart, in turn; the paper's, 1. "
        "With that a layer's view is wider at the same cost.": config.architecture == "row_lstm"
        and config.dilations != (1,),
        "The map is one column wider than the image, so that no pixel of the past is hidden by mask A.": (
            config.extra_column
        ),
        f"Pixels are predicted in {config.order} order; the paper's is raster order.": config.order != "raster",
        "It is told the class of an image, by a vector that is added to the first layer's features.": (
            config.conditional
        ),
        "Trained by Muon and AdamW, the paper's by RMSProp; see `average_decay` below for the averaging of weights, "
        "which the paper does not mention. Weights are rounded to half precision.": True,
    }
    return [deviation for deviation, holds in possible.items() if holds]


def _results(evaluation: dict[str, Any]) -> str:
    nats = _with_error(evaluation["nats_per_image"], evaluation["standard_error"], 2)
    bits = _with_error(evaluation["bits_per_dimension"], evaluation["bits_standard_error"], 4)
    return _RESULTS.format(**evaluation, nats=nats, bits=bits)


def _with_error(value: float, error: float | None, digits: int) -> str:
    return f"{value:.{digits}f}" + ("" if error is None else f" ± {error:.{digits}f}")


def _training(training: dict[str, Any]) -> str:
    data, settings = training["data"], {name: value for name, value in training.items() if name != "data"}
    counts = ", ".join(f"{count['images']} images in {split}" for split, count in data["splits"].items())
    return _TRAINING.format(**data, counts=counts, settings=yaml.safe_dump(settings, sort_keys=False))
