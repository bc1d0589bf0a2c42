"""The whole captioner: encoder, decoder, vocabulary and search settings, saved and loaded as one folder.

See `data_prep.model_folder`. The weights are the encoder's too, and the configuration holds the preprocessing, the
vocabulary and the search settings.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from torch import Tensor

from captioning.decoder import Decoder, DecoderConfig, Memory
from captioning.encoder import EncoderConfig, GridEncoder
from captioning.search import Decoded, beam_search, sample
from data_prep.errors import UserError
from data_prep.model_folder import SavedModel, load_model
from data_prep.vocabulary import Vocabulary

_CLITICS = frozenset({"'s", "n't", "'re", "'ve", "'ll", "'m", "'d"})
BUNDLED = Path(__file__).parent / "pretrained" / "flickr8k"


@dataclass(frozen=True, kw_only=True)
class SearchConfig:
    """How captions are sought.

    Attributes:
        beam_size: Captions kept at every step; 1 is greedy search.
        length_exponent: Captions are ranked by log-probability / words ** length_exponent.
        max_words: Captions are cut after this many words.
    """

    beam_size: int = 5
    length_exponent: float = 0.7
    max_words: int = 30

    def __post_init__(self) -> None:
        """Refuse numbers that no search can use, by their name."""
        for name, least in (("beam_size", 1), ("length_exponent", 0), ("max_words", 1)):
            if getattr(self, name) < least:
                raise UserError(f"search.{name}: {getattr(self, name)} is too small; give at least {least}")


@dataclass(frozen=True)
class Caption:
    """One caption of one image.

    Attributes:
        words: The words, in lower case, without the end token.
        log_probability: Natural log-probability of the words and the end token under the model.
        attention: Where the model looked when it chose each word, (words, h, w); each word's weights sum to 1.
    """

    words: list[str]
    log_probability: float
    attention: Tensor

    @property
    def text(self) -> str:
        """The words as a sentence, clitics joined to the words they belong to."""
        return "".join(word if word in _CLITICS else f" {word}" for word in self.words).strip()


class Captioner(SavedModel):
    """A CNN encoder and an attention LSTM decoder with their vocabulary.

    Args:
        encoder: The encoder's architecture and preprocessing.
        decoder: The decoder's architecture.
        vocabulary: The known words without the special tokens, in the order of their ids.
        search: How `caption` seeks captions unless told otherwise.
        history: For each training that made the model, in order, its data and its settings.
    """

    kind = "captioner"

    def __init__(
        self,
        encoder: EncoderConfig,
        decoder: DecoderConfig,
        vocabulary: list[str],
        search: SearchConfig = SearchConfig(),  # frozen, so one default serves all
        history: Sequence[dict[str, Any]] = (),
    ):
        super().__init__()
        self.vocabulary = Vocabulary(vocabulary)
        self.search = search
        self.history = list(history)
        self.decoder_config = decoder
        self.encoder = GridEncoder(encoder)
        self.decoder = Decoder(decoder, self.encoder.channels, len(self.vocabulary))

    @torch.inference_mode()
    def caption(
        self,
        images: Sequence[Image.Image],
        *,
        search: SearchConfig | None = None,
        prefix: Sequence[str] = (),
        samples: int = 0,
        temperature: float = 1.0,
        generator: torch.Generator | None = None,
    ) -> list[list[Caption]]:
        """Caption RGB images; return for each its captions, the best first.

        Args:
            images: RGB images of any size.
            search: Beam search settings; by default the model's own.
            prefix: Words that every caption starts with.
            samples: Draw this many captions of each image instead of searching for the best.
            temperature: Of the sampling.
            generator: Source of the sampling's randomness.

        Raises:
            UserError: The model does not know a word of the prefix, or the prefix leaves no room for more.
        """
        self.eval()
        search = search or self.search
        for word in prefix:
            if word not in self.vocabulary:
                raise UserError(f"prefix: the model does not know the word '{word}'; choose another")
        if len(prefix) >= search.max_words:
            raise UserError(f"prefix: {len(prefix)} words, and captions end at {search.max_words}; shorten it")
        forced = self.vocabulary.encode(prefix)
        memory = self.remember(images)
        if samples:
            decoded = sample(self.decoder, memory, samples, temperature, search.max_words, forced, generator)
        else:
            decoded = beam_search(
                self.decoder, memory, search.beam_size, search.length_exponent, search.max_words, forced
            )
        return self.read(decoded)

    def remember(self, images: Sequence[Image.Image]) -> Memory:
        """Return what the decoder reads of RGB images of any size."""
        pixels = torch.stack([self.encoder.preprocess(image) for image in images])
        return self.decoder.remember(self.encoder(pixels.to(self.device)))

    def read(self, decoded: Decoded) -> list[list[Caption]]:
        """Turn decoded ids into captions, leaving out empty beams."""
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
        """Where the weights are."""
        return self.decoder.output_bias.device

    def describe(self) -> dict[str, Any]:
        """Return all but the weights, as JSON can hold it: the arguments from which an equal model can be built."""
        return {
            "encoder": asdict(self.encoder.config),
            "decoder": asdict(self.decoder_config),
            "search": asdict(self.search),
            "history": self.history,
            "vocabulary": self.vocabulary.words,
        }

    @classmethod
    def from_description(cls, description: dict[str, Any]) -> "Captioner":
        """Build the model that `describe` described, with untrained weights.

        Raises:
            TypeError: A key is missing or unknown.
        """
        parts = {"encoder": EncoderConfig, "decoder": DecoderConfig, "search": SearchConfig}
        if missing := parts.keys() - description.keys():
            raise TypeError(f"the description lacks {', '.join(sorted(missing))}")
        configs = {name: part(**description[name]) for name, part in parts.items()}
        return cls(**(description | configs))


def load_captioner(model: str | Path = BUNDLED) -> Captioner:
    """Load a captioner for use: a model folder, or `hub:OWNER/NAME` from the Hugging Face hub.

    Raises:
        UserError: As `data_prep.model_folder.load_model` does.
    """
    return load_model(Captioner, model)
