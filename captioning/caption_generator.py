"""What every engine of the captioner shares: photos in any form become captions with scores and attention.

An engine encodes pixels and takes decoding steps; the preprocessing, the search and the reading of its result are the
same for all, so that they give the same captions.
"""

import itertools
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, TypedDict, Unpack, cast, overload

import numpy as np
from PIL import Image

from captioning.captioner_config import DecoderConfig, EncoderConfig, SearchConfig
from captioning.confidence import Calibration
from captioning.preprocessing import squashed
from captioning.read_ahead import read_ahead
from captioning.search import Decoded, Decoding, beam_search, sample
from data_prep.images import ImageSource, to_image
from data_prep.vocabulary import Vocabulary
from vision_rnn.errors import UserError

_CLITICS = frozenset({"'s", "n't", "'re", "'ve", "'ll", "'m", "'d"})


@dataclass(frozen=True)
class Caption:
    """One caption of one image.

    Attributes:
        words: The words, in lower case, without the end token.
        log_probability: Natural log-probability of the words and the end token under the model.
        attention: Attention weights of each word, (words, h, w) float32; the weights of a word sum to 1.
        confidence: Probability, 0 to 1, that the caption is a good one (see `captioning.confidence`); None if the model
            was not calibrated.
    """

    words: list[str]
    log_probability: float
    attention: np.ndarray
    confidence: float | None = None

    @property
    def text(self) -> str:
        """The words as a sentence, with clitics joined to the word before."""
        return "".join(word if word in _CLITICS else f" {word}" for word in self.words).strip()


class OpenGates(NamedTuple):
    """The gates of equation 1 and the cell of equation 2 in the top layer at every word, each (words, H) float32.

    Show, Attend and Tell (arXiv 1502.03044), section 3.1.2.
    """

    input: np.ndarray
    forget: np.ndarray
    output: np.ndarray
    candidate: np.ndarray
    cell: np.ndarray


class CaptionOptions(TypedDict, total=False):
    """How images are captioned.

    Attributes:
        search: Beam search settings (default: the model's).
        prefix: Text that every caption starts with.
        samples: Number of random captions per image; 0 searches for the best captions instead.
        temperature: Sampling temperature; lower is more conservative.
        generator: Random generator for sampling (default: a new one with a random seed).
        batch_size: Number of images captioned at once (default: the engine's).
    """

    search: SearchConfig | None
    prefix: str
    samples: int
    temperature: float
    generator: np.random.Generator | None
    batch_size: int | None


class CaptionGenerator(ABC):
    """A captioner in use.

    Attributes:
        vocabulary: Words that the model knows.
        search: Default search settings of `caption`.
        encoder_config: Architecture and preprocessing of the encoder.
        decoder_config: Architecture of the decoder.
        calibration: What gives captions a confidence; None if the model was not calibrated.
        batch_size: Default number of images that `caption` captions at once.
    """

    batch_size = 8
    vocabulary: Vocabulary
    search: SearchConfig
    encoder_config: EncoderConfig
    decoder_config: DecoderConfig
    calibration: Calibration | None

    @abstractmethod
    def prepare(self, image: Image.Image) -> Any:
        """Begin with an RGB image what is done ahead of its batch; this is called in another thread."""

    @abstractmethod
    def decoding(self, prepared: Sequence[Any]) -> Decoding:
        """Encode images, each the result of `prepare`, for a search."""

    @abstractmethod
    def open_gates(self, image: Image.Image, words: Sequence[str]) -> OpenGates:
        """Return the gates of the decoder's LSTM at every word of a caption, given the words before it.

        Args:
            image: The photo, RGB.
            words: Words of the caption, without the end token.
        """

    @property
    def blind(self) -> bool:
        """Whether there is no image input, and the model is a language model."""
        return self.encoder_config.backbone == "none"

    @overload
    def caption(self, images: ImageSource, **options: Unpack[CaptionOptions]) -> list[Caption]: ...
    @overload
    def caption(self, images: Iterable[ImageSource], **options: Unpack[CaptionOptions]) -> list[list[Caption]]: ...

    def caption(
        self, images: ImageSource | Iterable[ImageSource], **options: Unpack[CaptionOptions]
    ) -> list[Caption] | list[list[Caption]]:
        """Caption one image, or several.

        Args:
            images: One image, or several in any iterable or in an array (B, H, W, C): paths, encoded bytes, Pillow
                images of any mode and size, or arrays, as accepted by `data_prep.images.to_image`.
            options: See `CaptionOptions`.

        Returns:
            For one image, the list of its captions, best first; for several images, one list per image.

        Raises:
            ImageError: An image cannot be read.
            UserError: The model does not know a word of the prefix, or the prefix leaves no room for more words.
        """
        is_array = isinstance(images, np.ndarray) and images.ndim < 4
        if is_array or isinstance(images, str | Path | bytes | Image.Image):
            return next(self.stream([cast("ImageSource", images)], **options))
        return list(self.stream(cast("Iterable[ImageSource]", images), **options))

    def stream(
        self,
        images: Iterable[ImageSource],
        *,
        search: SearchConfig | None = None,
        prefix: str = "",
        samples: int = 0,
        temperature: float = 1.0,
        generator: np.random.Generator | None = None,
        batch_size: int | None = None,
    ) -> Iterator[list[Caption]]:
        """Yield the captions of any number of images, in order; memory does not grow with their number.

        The next images are prepared in another thread while a batch is captioned. Only one image is in memory in full
        size at a time. The arguments are those of `caption`, and so are the errors.
        """
        search = search or self.search
        forced, number = self._forced(prefix, search), batch_size or self.batch_size
        prepared = (self.prepare(to_image(source)) for source in images)

        def captions() -> Iterator[list[Caption]]:
            ahead = read_ahead(prepared, number)
            while batch := list(itertools.islice(ahead, number)):
                decoding = self.decoding(batch)
                if samples:
                    decoded = sample(decoding, samples, temperature, search.max_words, forced, generator)
                else:
                    decoded = beam_search(decoding, search.beam_size, search.length_exponent, search.max_words, forced)
                yield from self.read(decoded, decoding.distances)

        return captions()

    @property
    def is_calibrated(self) -> bool:
        """Whether captions have a confidence."""
        return self.calibration is not None

    def confidence(self, log_probability: float, distance: Any) -> float:
        """Return the confidence of a caption of a calibrated model.

        Args:
            log_probability: Mean natural log-probability of its words and end token.
            distance: Distance of its image from the training photos.
        """
        assert self.calibration is not None
        return self.calibration.confidence(log_probability, distance)

    def preprocess(self, image: Image.Image) -> np.ndarray:
        """Return an RGB image as (3, S, S) uint8."""
        return squashed(image, self.encoder_config.image_size)

    def read(self, decoded: Decoded, distances: np.ndarray | None = None) -> list[list[Caption]]:
        """Convert decoded ids to captions, without empty beams.

        Args:
            decoded: Result of a search.
            distances: Distance of each image from the training photos, (B,) or (B, models), for the confidence.

        Raises:
            UserError: The model's probabilities are not numbers.
        """
        side = round(decoded.attention.shape[-1] ** 0.5)
        captions: list[list[Caption]] = [[] for _ in decoded.words]
        mean_log_probabilities = decoded.mean_log_probabilities
        for image, beam in np.argwhere(decoded.log_probabilities > -np.inf).tolist():
            words = self.vocabulary.decode(decoded.words[image, beam].tolist())
            attention = decoded.attention[image, beam, : len(words)].reshape(-1, side, side)
            confidence = (
                self.confidence(mean_log_probabilities[image, beam], distances[image])
                if self.is_calibrated and distances is not None
                else None
            )
            score = float(decoded.log_probabilities[image, beam])
            captions[image].append(Caption(words, score, attention, confidence))
        if not all(captions):
            raise UserError(
                "the model's probabilities are not numbers (NaN), as of damaged weights; choose another model"
            )
        return captions

    def _forced(self, prefix: str, search: SearchConfig) -> list[int]:
        if not prefix:
            return []
        from data_prep.tokenizer import tokenize  # Half of the time of importing this module, for few calls.

        words = tokenize(prefix)
        for word in words:
            if word not in self.vocabulary:
                raise UserError(f"prefix: the model does not know the word '{word}'; choose another")
        if len(words) >= search.max_words:
            raise UserError(f"prefix: has {len(words)} words, and captions at most {search.max_words}; shorten it")
        return self.vocabulary.encode(words)
