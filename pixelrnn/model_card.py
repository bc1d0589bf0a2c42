"""The model card of a pixel model: its architecture, training data, settings, results and limits."""

from pathlib import Path
from typing import Any

import yaml

from pixelrnn.model import Mixture, PixelModel, PixelNetwork
from vision_rnn.errors import UserError
from vision_rnn.files import read_json
from vision_rnn.tables import markdown_name, markdown_table

_CARD = """\
---
license: apache-2.0
library_name: vision-rnn
pipeline_tag: unconditional-image-generation
---
# {name} trained on {source}

This model gives each image of {height}x{width}x{channels} pixels with {levels} levels an exact probability: the product
of the probabilities of its pixels, each given the pixels before it (van den Oord, Kalchbrenner, Kavukcuoglu, "Pixel
Recurrent Neural Networks", arXiv 1601.06759). {structure}

Draw images, complete an image, and verify that no pixel depends on itself or on a later one:

    pixelrnn sample --model FOLDER{label} -n 64 -o samples.png
    pixelrnn complete IMAGE.png --model FOLDER{label} --mask lower-half -o completions.png
    pixelrnn verify --model FOLDER

{training}
## Results

{results}

## Limits

The model takes only images of the size and number of levels of its training data, and gives a low probability to images
of other kinds. Samples are random, and some are not recognisable. {conditioning}
"""

_ORDERED = """\
Each pixel is predicted from the pixels before it in
{order} order, so a drawn pixel does not depend on known pixels that come after it in that order."""
_CONTEXT = """\
A region of any form is
drawn pixel by pixel in {order} order, each pixel given those before it and all known pixels, on every side."""

_NAMES = {
    "row_lstm": "A Row LSTM",
    "diagonal_bilstm": "A Diagonal BiLSTM",
    "gated_pixel_cnn": "A Gated PixelCNN",
    "pixel_cnn": "A PixelCNN",
}

_STRUCTURE = "It has {num_layers} layers, h = {hidden_channels}, and {parameters:.0f}\nthousand parameters."
_MIXED = """\
It is a
mixture of {number} models in {order} order, with {parameters:.0f} thousand parameters: the logits of a pixel are the
weighted means of theirs. The weights were chosen by `pixelrnn mix`: under them, {images} images of the split {split} of
{source} (content hash `{content_hash}`) are the most likely. The nats are those of these images.

{table}"""
_OF_NETWORK = """\
{heading} Deviations from the paper

{deviations}

{heading} Training

{history}"""

_TRAINING = """\
Data: {source} ({counts}; binarization: {binarization}; content hash `{content_hash}`). Trained by `pixelrnn train` with
these settings:

```yaml
{settings}```
"""

_RESULTS = """\
| split | images | nats per image | bits per dimension |
| --- | --- | --- | --- |
| {split} | {images} | {nats} | {bits} |

{protocol} Content hash of the data: `{content_hash}`.
Measured with the weights in this folder by `pixelrnn evaluate --model FOLDER --data DIR --split {split}`."""

_MNIST = """\
MNIST: Y. LeCun, L. Bottou, Y. Bengio, P. Haffner, "Gradient-Based Learning Applied to Document Recognition", Proc. IEEE
86 (1998), 2278-2324. The images are not included in this folder.
"""
_BINARIZED = """\
The fixed binarization of MNIST: H. Larochelle, I. Murray, "The Neural Autoregressive Distribution Estimator", AISTATS
2011, after R. Salakhutdinov, I. Murray, "On the Quantitative Analysis of Deep Belief Networks", ICML 2008.
"""


def model_card(model: PixelModel, evaluation: dict[str, Any] | None = None) -> str:
    """Return the model card in Markdown.

    Args:
        model: Pixel model.
        evaluation: Result of `pixelrnn evaluate`; without it, the card states that there is no measurement.
    """
    parameters = sum(parameter.numel() for parameter in model.parameters()) / 1e3
    if isinstance(model, PixelNetwork):
        name = _NAMES[model.config.architecture]
        structure = _STRUCTURE.format(**vars(model.config), parameters=parameters)
        training = _of_network(model, "##")
    else:
        assert isinstance(model, Mixture)
        name = "A mixture of pixel models"
        structure, training = _mixed(model, parameters), _of_members(model)
    card = _CARD.format(
        name=name,
        source=markdown_name(model.history[-1]["data"]["source"]),
        structure=structure,
        training=training,
        results=_results(evaluation) if evaluation else "Not yet measured on a test split.",
        label=" --label K" if model.shape.num_classes else "",
        conditioning=(_CONTEXT if model.config.context_layers else _ORDERED).format(order=model.config.order),
        **vars(model.shape),
    )
    sources = " ".join(training["data"]["source"] for network in model.networks for training in network.history)
    if "mnist" not in sources:
        return card
    return f"{card}\n## Data\n\n{_BINARIZED if 'binarized_mnist' in sources else ''}{_MNIST}"


def read_evaluation(path: str | Path) -> dict[str, Any]:
    """Read what `pixelrnn evaluate -o` wrote.

    Raises:
        UserError: The file cannot be read, or is something else.
    """
    measured = read_json(path)
    if not (isinstance(measured, dict) and {"protocol", "nats_per_image"} <= measured.keys()):
        raise UserError(f"{path}: not an evaluation; write one with: pixelrnn evaluate -o FILE")
    return measured


def _mixed(model: Mixture, parameters: float) -> str:
    record = model.history[-1]
    rows = [
        [
            markdown_name(member["name"]),
            _NAMES[network.config.architecture].partition(" ")[2],
            str(network.config.num_layers),
            str(network.config.hidden_channels),
            f"{member['weight']:.4f}",
            f"{member['nats']:.3f}",
        ]
        for network, member in zip(model.networks, record["members"], strict=True)
    ]
    rows.append(["the mixture", "", "", "", "", f"{record['nats']:.3f}"])
    return _MIXED.format(
        number=len(model.networks),
        order=model.config.order,
        parameters=parameters,
        images=record["images"],
        split=record["split"],
        source=markdown_name(record["data"]["source"]),
        content_hash=record["data"]["content_hash"],
        table=markdown_table(("model", "layers of", "number", "h", "weight", "nats per image"), rows),
    ).rstrip()


def _of_members(model: Mixture) -> str:
    members = zip(model.networks, model.history[-1]["members"], strict=True)
    return "\n".join(f"## {markdown_name(member['name'])}\n\n{_of_network(each, '###')}" for each, member in members)


def _of_network(model: PixelNetwork, heading: str) -> str:
    return _OF_NETWORK.format(
        heading=heading,
        deviations="\n".join(f"- {deviation}" for deviation in _deviations(model)),
        history="\n".join(map(_training, model.history)),
    )


def _deviations(model: PixelNetwork) -> list[str]:
    """List the deviations from the paper in model and training; skip connections are an option in the paper too."""
    config = model.config
    possible = {
        "Depth and width differ from the paper's configuration for MNIST (7 layers, h = 16).": (
            (config.num_layers, config.hidden_channels) != (7, 16)
        ),
        "No residual connections: the output of a layer is not added to its input.": not config.residual,
        "The layers are those of a later paper (van den Oord et al., arXiv 1606.05328, section 2).": (
            config.architecture == "gated_pixel_cnn"
        ),
        f"The taps of the layers are {', '.join(map(str, config.dilations))} columns apart, in turn (1 in the paper), "
        "which widens the view of a layer at the same cost.": (
            config.architecture in ("row_lstm", "gated_pixel_cnn") and config.dilations != (1,)
        ),
        "The feature map is one column wider than the image, so that mask A hides no past pixel.": (
            config.extra_column
        ),
        f"Pixels are predicted in {config.order} order instead of raster order.": config.order != "raster",
        f"A context of {config.context_layers} layers: Row LSTMs without masks, from the last row up, which read the "
        "known pixels on every side of a region; trained on random regions.": config.context_layers > 0,
        "The model is class-conditional: a learned vector per class is added to the features of the first layer.": (
            config.conditional
        ),
        f"The levels of a pixel follow a mixture of {config.components} discretised logistics (PixelCNN++, arXiv "
        "1701.05517) instead of a softmax, for all channels at once, so that features are not divided into groups by "
        "channel.": config.output == "logistic_mixture",
        "Trained with Muon and AdamW instead of RMSProp; `average_decay` below sets the averaging of the weights, "
        "which the paper does not mention. The weights are rounded to half precision.": True,
    }
    return [deviation for deviation, holds in possible.items() if holds]


def _results(evaluation: dict[str, Any]) -> str:
    nats = _with_error(evaluation["nats_per_image"], evaluation["standard_error"], 2)
    bits = _with_error(evaluation["bits_per_dimension"], evaluation["bits_standard_error"], 4)
    results = _RESULTS.format(**evaluation, nats=nats, bits=bits)
    if "regions" not in evaluation:
        return results
    rows = [
        f"| {name} | {_with_error(region['nats'], region['standard_error'], 2)} |"
        for name, region in evaluation["regions"].items()
    ]
    given = f"Mean -ln p of the true pixels of a region, given {evaluation['regions_given']}, of the same images:"
    return "\n".join([f"{results}\n\n{given}\n", "| region | nats |", "| --- | --- |", *rows])


def _with_error(value: float, error: float | None, digits: int) -> str:
    return f"{value:.{digits}f}" + ("" if error is None else f" ± {error:.{digits}f}")


def _training(training: dict[str, Any]) -> str:
    data, settings = training["data"], {name: value for name, value in training.items() if name != "data"}
    counts = ", ".join(f"{count['images']} images in {split}" for split, count in data["splits"].items())
    data = data | {"source": markdown_name(data["source"])}
    return _TRAINING.format(**data, counts=counts, settings=yaml.safe_dump(settings, sort_keys=False))
