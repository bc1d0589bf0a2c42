"""Several captioners as one: at every word, the mean of their probabilities.

Models that were trained alike from other random numbers err differently, and their mean errs less than each of them
(Vinyals et al., arXiv 1609.06647, section 5.1).
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from PIL import Image

from captioning.caption_generator import CaptionGenerator, OpenGates
from captioning.search import Decoding
from vision_rnn.errors import UserError


class Ensemble(CaptionGenerator):
    """A captioner that averages the probabilities of several; attention and gates are those of the first.

    Args:
        names: Names of the models in messages.
        members: The models, at least one; the search settings of the first are the default.

    Raises:
        UserError: A model is a language model, or the vocabularies differ.
    """

    def __init__(self, names: Sequence[str], members: Sequence[CaptionGenerator]) -> None:
        self.members, first = list(members), members[0]
        for name, member in zip(names, members, strict=True):
            if member.blind:
                raise UserError(f"{name}: a language model, which takes no photo; omit it")
            if member.vocabulary.words != first.vocabulary.words:
                raise UserError(
                    f"{name}: knows other words than {names[0]}; models whose probabilities are averaged need the same "
                    "vocabulary in the same order"
                )
        self.vocabulary, self.search = first.vocabulary, first.search
        self.encoder_config, self.decoder_config = first.encoder_config, first.decoder_config
        self.calibration = None
        self.batch_size = min(member.batch_size for member in members)

    def prepare(self, image: Image.Image) -> list[Any]:
        """Begin with an RGB image what each model does ahead of its batch."""
        return [member.prepare(image) for member in self.members]

    def decoding(self, prepared: Sequence[list[Any]]) -> "EnsembleDecoding":
        """Encode images by all models for a search."""
        of_members = zip(self.members, zip(*prepared, strict=True), strict=True)
        return EnsembleDecoding([member.decoding(images) for member, images in of_members])

    @property
    def is_calibrated(self) -> bool:
        """Whether captions have a confidence: those of all models."""
        return all(member.is_calibrated for member in self.members)

    def confidence(self, log_probability: float, distance: Sequence[float]) -> float:
        """Return the mean of the models' confidences, each by the common log-probability and its own distance."""
        pairs = zip(self.members, distance, strict=True)
        return float(np.mean([member.confidence(log_probability, own) for member, own in pairs]))

    def open_gates(self, image: Image.Image, words: Sequence[str]) -> OpenGates:
        """Return the gates of the first model."""
        return self.members[0].open_gates(image, words)


class EnsembleDecoding:
    """A batch of images that several models caption together: a `captioning.search.Decoding`.

    Args:
        members: The same images as each model decodes them.
    """

    def __init__(self, members: Sequence[Decoding]) -> None:
        self._members, self.num_images = members, members[0].num_images
        distances = [member.distances for member in members if member.distances is not None]
        self.distances = np.stack(distances, axis=1) if len(distances) == len(members) else None

    def start(self) -> None:
        """Start one caption of every image."""
        for member in self._members:
            member.start()

    def step(self, parents: np.ndarray, words: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return the logarithm of the mean probability of the next word, (R, V), and the first model's attention."""
        (first, weights), *others = [member.step(parents, words) for member in self._members]
        return mean_probability(np.stack([first, *(scores for scores, _ in others)])), weights


def mean_probability(log_probabilities: np.ndarray) -> np.ndarray:
    """Return the logarithm of the mean over the first axis of probabilities given by their logarithms."""
    highest = log_probabilities.max(axis=0)
    return np.log(np.exp(log_probabilities - highest).mean(axis=0)) + highest
