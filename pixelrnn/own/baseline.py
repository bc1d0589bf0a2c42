"""What a model of pictures is compared with if there is none to start from: pixels that depend on no other pixel."""

from typing import Any

from data_prep.prepared_pixels import PreparedPixels
from evaluation.independent_pixels import IndependentPixels
from pixelrnn.exact_likelihood import likelihood_document

NAME = "independent pixels"
_PROTOCOL = (
    "Every pixel and channel is predicted from its place alone: from the frequencies of the levels there in the "
    "{number} training images, smoothed by the frequencies in all places."
)


def evaluate_independent(data: PreparedPixels, split: str) -> dict[str, Any]:
    """Measure the likelihood of a split under independent pixels, fitted to the split `train`.

    Returns:
        See `pixelrnn.exact_likelihood.evaluate`.
    """
    trained = data.split("train").pixels
    model = IndependentPixels.fit(trained, data.levels)
    protocol = _PROTOCOL.format(number=len(trained))
    return likelihood_document(model.nats(data.split(split).pixels), data, split, protocol)
