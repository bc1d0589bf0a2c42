"""The complete captioner: encoder, decoder, vocabulary and search settings, saved and loaded as one folder.

See `vision_rnn.model_folder`. The weights include those of the encoder, and the configuration contains the
preprocessing, the vocabulary and the search settings.
"""

import itertools
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, cast, overload

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from captioning.captioner_config import BUNDLED, DecoderConfig, EncoderConfig, SearchConfig
from captioning.network.decoder import Decoder, Memory
from captioning.network.encoder import GridEncoder
from captioning.search import Decoded, beam_search, sample
from data_prep.images import ImageSource, to_image
from data_prep.tokenizer import tokenize
from data_prep.vocabulary import Vocabulary
from vision_rnn.devices import Device, resolve_device
from vision_rnn.errors import UserError
from vision_rnn.model_folder import SavedModel, load_model

_CLITICS = frozenset({"'s", "n't", "'re", "'ve", "'ll", "'m", "'d"})


@dataclass(frozen=True)
class Caption:
    """One caption of one image.

    Attributes:
        words: The words, in lower case, without the end token.
        log_probability: Natural log-probability of the words and the end token under the model.
        attention: Attention weights of each word, (words, h, w); the weights of a word sum to 1.
    """

    words: list[str]
    log_probability: float
    attention: Tensor

    @property
    def text(self) -> str:
        """The words as a sentence, with clitics joined to the word before."""
        return "".join(word if word in _CLITICS else f" {word}" for word in self.words).strip()


class Captioner(SavedModel):
    """A CNN encoder and an attention LSTM decoder with their vocabulary.

    Args:
        encoder: Architecture and preprocessing of the encoder.
        decoder: Architecture of the decoder.
        vocabulary: Known words without the special tokens, in the order of their ids.
        search: Default search settings of `caption`.
        history: Data and settings of each training of the model, in order.
    """

    kind = "captioner"
    program = "captioning"
    bundled = Path(__file__).parent / "pretrained"

    def __init__(
        self,
        encoder: EncoderConfig,
        decoder: DecoderConfig,
        vocabulary: list[str],
        search: SearchConfig = SearchConfig(),  # frozen, so all calls can share it
        history: Sequence[dict[str, Any]] = (),
    ):
        super().__init__()
        self.vocabulary = Vocabulary(vocabulary)
        self.search = search
        self.history = list(history)
        self.decoder_config = decoder
        self.encoder = GridEncoder(encoder)
        self.decoder = Decoder(decoder, self.encoder.channels, len(self.vocabulary))

    @overload
    def caption(
        self,
        images: ImageSource,
        *,
        search: SearchConfig | None = None,
        prefix: str = "",
        samples: int = 0,
        temperature: float = 1.0,
        generator: torch.Generator | None = None,
        batch_size: int = 16,
    ) -> list[Caption]: ...
    @overload
    def caption(
        self,
        images: Iterable[ImageSource],
        *,
        search: SearchConfig | None = None,
        prefix: str = "",
        samples: int = 0,
        temperature: float = 1.0,
        generator: torch.Generator | None = None,
        batch_size: int = 16,
    ) -> list[list[Caption]]: ...

    @torch.inference_mode()
    def caption(
        self,
        images: ImageSource | Iterable[ImageSource],
        *,
        search: SearchConfig | None = None,
        prefix: str = "",
        samples: int = 0,
        temperature: float = 1.0,
        generator: torch.Generator | None = None,
        batch_size: int = 16,
    ) -> list[Caption] | list[list[Caption]]:
        """Caption one image, or several.

        Args:
            images: One image, or several in any iterable or in an array (B, H, W, C): paths, encoded bytes, Pillow
                images of any mode and size, or arrays, as accepted by `data_prep.images.to_image`.
            search: Beam search settings (default: the model's).
            prefix: Text that every caption starts with.
            samples: Number of random captions per image; 0 searches for the best captions instead.
            temperature: Sampling temperature; lower is more conservative.
            generator: Random generator for sampling.
            batch_size: Number of images encoded and captioned at once.

        Returns:
            For one image, the list of its captions, best first; for several images, one list per image.

        Raises:
            ImageError: An image cannot be read.
            UserError: The model does not know a word of the prefix, or the prefix leaves no room for more words.
        """
        self.eval()
        search = search or self.search
        forced = self._forced(prefix, search)
        is_array = isinstance(images, np.ndarray) and images.ndim < 4
        if is_array or isinstance(images, str | Path | bytes | Image.Image):
            pixels = self.encoder.preprocess(to_image(cast("ImageSource", images)))
            return self._caption([pixels], search, forced, samples, temperature, generator)[0]
        captions: list[list[Caption]] = []
        # Each image is resized as soon as it is read, so that only one full-size photo is in memory at a time.
        reduced = (self.encoder.preprocess(to_image(source)) for source in cast("Iterable[ImageSource]", images))
        while batch := list(itertools.islice(reduced, batch_size)):
            captions += self._caption(batch, search, forced, samples, temperature, generator)
        return captions

    def _forced(self, prefix: str, search: SearchConfig) -> list[int]:
        words = tokenize(prefix)
        for word in words:
            if word not in self.vocabulary:
                raise UserError(f"prefix: the model does not know the word '{word}'; choose another")
        if len(words) >= search.max_words:
            raise UserError(f"prefix: has {len(words)} words, and captions at most {search.max_words}; shorten it")
        return self.vocabulary.encode(words)

    def _caption(
        self,
        pixels: Sequence[Tensor],
        search: SearchConfig,
        forced: list[int],
        samples: int,
        temperature: float,
        generator: torch.Generator | None,
    ) -> list[list[Caption]]:
        memory = self._remember(pixels)
        if samples:
            decoded = sample(self.decoder, memory, samples, temperature, search.max_words, forced, generator)
        else:
            decoded = beam_search(
                self.decoder, memory, search.beam_size, search.length_exponent, search.max_words, forced
            )
        return self.read(decoded)

    def remember(self, images: Iterable[Image.Image]) -> Memory:
        """Return the decoder's memory of RGB images of any size."""
        return self._remember([self.encoder.preprocess(image) for image in images])

    def _remember(self, pixels: Sequence[Tensor]) -> Memory:
        return self.decoder.remember(self.encoder(torch.stack(list(pixels)).to(self.device)))

    def read(self, decoded: Decoded) -> list[list[Caption]]:
        """Convert decoded ids to captions, without empty beams."""
        side = self.encoder.grid_size
        captions = []
        for words, scores, attention in zip(decoded.words, decoded.log_probabilities, decoded.attention, strict=True):
            captions.append([])
            for ids, score, weights in zip(words.tolist(), scores.tolist(), attention, strict=True):
                if score > -torch.inf:
                    text = self.vocabulary.decode(ids)
                    captions[-1].append(Caption(text, score, weights[: len(text)].unflatten(-1, (side, side)).cpu()))
        return captions

    @property
    def device(self) -> torch.device:
        """Device of the weights."""
        return self.decoder.output_bias.device

    def describe(self) -> dict[str, Any]:
        """Return everything except the weights, in JSON types: the arguments that build an equal model."""
        return {
            "encoder": asdict(self.encoder.config),
            "decoder": asdict(self.decoder_config),
            "search": asdict(self.search),
            "history": self.history,
            "vocabulary": self.vocabulary.words,
        }

    @classmethod
    def from_description(cls, description: dict[str, Any]) -> "Captioner":
        """Build a model from the result of `describe`, with untrained weights.

        Raises:
            TypeError: A key is missing or unknown.
        """
        parts = {"encoder": EncoderConfig, "decoder": DecoderConfig, "search": SearchConfig}
        if missing := parts.keys() - description.keys():
            raise TypeError(f"{', '.join(sorted(missing))} missing in the description")
        configs = {name: part(**description[name]) for name, part in parts.items()}
        return cls(**(description | configs))


def load_captioner(model: str | Path = BUNDLED, device: Device = "cpu") -> Captioner:
    """Load a captioner for use.

    Args:
        model: Model folder, `bundled:NAME`, or `hub:OWNER/NAME` on the Hugging Face hub.
        device: Device to compute on.

    Raises:
        UserError: As for `vision_rnn.model_folder.load_model` and `vision_rnn.devices.resolve_device`.
    """
    return load_model(Captioner, model).to(resolve_device(device))
