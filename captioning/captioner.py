"""The whole captioner: encoder, decoder, vocabulary and search settings, saved and loaded as one folder.

A model folder holds `config.json` (architecture, preprocessing, vocabulary, search), `model.safetensors` (all weights,
the encoder's too, in half precision), `README.md` (the model card) and `SHA256SUMS` of the first two. It needs nothing
else to caption, and loading it executes no code.
"""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from huggingface_hub import ModelHubMixin, hf_hub_download
from PIL import Image
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from captioning.decoder import Decoder, DecoderConfig
from captioning.encoder import EncoderConfig, GridEncoder
from captioning.search import Decoded, beam_search, sample
from data_prep.errors import UserError
from data_prep.files import read_json
from data_prep.vocabulary import Vocabulary

CONFIG, WEIGHTS, CHECKSUMS = "config.json", "model.safetensors", "SHA256SUMS"
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


class Captioner(nn.Module, ModelHubMixin):
    """A CNN encoder and an attention LSTM decoder with their vocabulary.

    Args:
        encoder: The encoder's architecture and preprocessing.
        decoder: The decoder's architecture.
        vocabulary: The known words without the special tokens, in the order of their ids.
        search: How `caption` seeks captions unless told otherwise.
        history: For each training that made the model, in order, its data and its settings.
    """

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
        pixels = torch.stack([self.encoder.preprocess(image) for image in images])
        memory = self.decoder.remember(self.encoder(pixels.to(self.device)))
        if samples:
            decoded = sample(self.decoder, memory, samples, temperature, search.max_words, forced, generator)
        else:
            decoded = beam_search(
                self.decoder, memory, search.beam_size, search.length_exponent, search.max_words, forced
            )
        return self.read(decoded)

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

    def _save_pretrained(self, save_directory: Path) -> None:
        """Write the configuration, the weights in half precision and their checksums (for `save_pretrained`)."""
        config = json.dumps(self.describe(), indent=1, ensure_ascii=False)
        (save_directory / CONFIG).write_text(config + "\n", encoding="utf-8")
        halves = {
            name: (tensor.half() if tensor.is_floating_point() else tensor).contiguous()
            for name, tensor in self.state_dict().items()
        }
        save_file(halves, save_directory / WEIGHTS)
        sums = (f"{_sha256(save_directory / name)}  {name}\n" for name in (CONFIG, WEIGHTS))
        (save_directory / CHECKSUMS).write_text("".join(sums))

    @classmethod
    def _from_pretrained(
        cls,
        *,
        model_id: str,
        revision: str | None,
        cache_dir: str | Path | None,
        force_download: bool,
        local_files_only: bool,
        token: str | bool | None,
        **_: Any,
    ) -> "Captioner":
        """Build the model and load its weights (for `from_pretrained`), from a folder or a hub name.

        The hub's library hands over the configuration too, but without the keys it does not know; we read it again, so
        that an unknown key is an error.
        """

        def find(name: str) -> Path:
            if Path(model_id).is_dir():
                return Path(model_id) / name
            return Path(
                hf_hub_download(
                    model_id,
                    name,
                    revision=revision,
                    cache_dir=cache_dir,
                    force_download=force_download,
                    local_files_only=local_files_only,
                    token=token,
                )
            )

        model = cls.from_description(read_json(find(CONFIG)))
        model.load_state_dict(load_file(find(WEIGHTS)), strict=True)
        return model.eval()


def load_captioner(model: str | Path = BUNDLED) -> Captioner:
    """Load a captioner for use: a model folder, or `hub:OWNER/NAME` from the Hugging Face hub.

    Raises:
        UserError: No such folder or hub name, a missing file, or a file that is not what was saved.
    """
    if str(model).startswith("hub:"):
        try:
            return Captioner.from_pretrained(str(model).removeprefix("hub:"))
        except (OSError, SafetensorError, RuntimeError, TypeError, ValueError) as error:
            reason = _first_line(error)
            raise UserError(
                f"{model}: cannot be loaded from the hub ({reason}); check the name and the network"
            ) from error
    folder = Path(model)
    if not folder.is_dir():
        raise UserError(f"{folder}: no such model folder; name one, or hub:OWNER/NAME for one on the Hugging Face hub")
    for name in (CHECKSUMS, CONFIG, WEIGHTS):
        if not (folder / name).is_file():
            raise UserError(f"{folder}: {name} is missing; copy the model folder again")
    checksums = (folder / CHECKSUMS).read_text(errors="replace").splitlines()
    for name in (CONFIG, WEIGHTS):
        if f"{_sha256(folder / name)}  {name}" not in checksums:
            raise UserError(f"{folder / name}: not the file that was saved (its SHA-256 differs); copy it again")
    try:
        return Captioner.from_pretrained(folder)
    except (SafetensorError, RuntimeError, TypeError, ValueError) as error:
        reason = _first_line(error)
        raise UserError(
            f"{folder}: made by another version of this program, or for another model ({reason})"
        ) from error


def _first_line(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]


def _sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()
