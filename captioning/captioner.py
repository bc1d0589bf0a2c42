"""The complete captioner: encoder, decoder, vocabulary and search settings, saved and loaded as one folder.

See `vision_rnn.model_folder`. The weights include those of the encoder, and the configuration contains the
preprocessing, the vocabulary and the search settings.
"""

from collections.abc import Iterable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from captioning.caption_generator import CaptionGenerator, OpenGates
from captioning.captioner_config import BUNDLED, PRETRAINED, DecoderConfig, EncoderConfig, SearchConfig
from captioning.confidence import Calibration
from captioning.network.decoder import Decoder, Memory
from captioning.network.encoder import GridEncoder
from captioning.network.familiarity import Familiarity
from captioning.network.recurrent import recorded_gates
from captioning.network.torch_decoding import TorchDecoding
from data_prep.vocabulary import BOS, Vocabulary
from vision_rnn.devices import Device, resolve_device
from vision_rnn.saved_model import SavedModel, load_model


class Captioner(CaptionGenerator, SavedModel):
    """A CNN encoder and an attention LSTM decoder with their vocabulary.

    Args:
        encoder: Architecture and preprocessing of the encoder.
        decoder: Architecture of the decoder.
        vocabulary: Known words without the special tokens, in the order of their ids.
        search: Default search settings of `caption`.
        history: Data and settings of each training of the model, in order.
        calibration: What gives captions a confidence; None if the model was not calibrated.
    """

    kind = "captioner"
    program = "captioning"
    bundled = PRETRAINED

    def __init__(
        self,
        encoder: EncoderConfig,
        decoder: DecoderConfig,
        vocabulary: list[str],
        search: SearchConfig = SearchConfig(),  # frozen, so all calls can share it
        history: Sequence[dict[str, Any]] = (),
        calibration: Calibration | None = None,
    ):
        super().__init__()
        self.vocabulary = Vocabulary(vocabulary)
        self.search = search
        self.history = list(history)
        self.decoder_config = decoder
        self.encoder = GridEncoder(encoder)
        self.encoder_config = self.encoder.config
        self.decoder = Decoder(decoder, self.encoder.channels, len(self.vocabulary))
        self.calibration = calibration
        self.familiarity = Familiarity(self.encoder.channels, calibration.directions) if calibration else None

    def prepare(self, image: Image.Image) -> np.ndarray:
        """Return the pixels of an RGB image."""
        return self.preprocess(image)

    @torch.inference_mode()
    def decoding(self, prepared: Sequence[np.ndarray]) -> TorchDecoding:
        """Encode images for a search."""
        self.eval()
        grid = self.encoder(torch.from_numpy(np.stack(prepared)).to(self.device))
        distances = self.familiarity(grid).cpu().numpy() if self.familiarity else None
        return TorchDecoding(self.decoder, self.decoder.remember(grid), distances)

    def remember(self, images: Iterable[Image.Image]) -> Memory:
        """Return the decoder's memory of RGB images of any size."""
        return self.remember_pixels(torch.stack([self.encoder.preprocess(image) for image in images]))

    def remember_pixels(self, pixels: Tensor) -> Memory:
        """Return the decoder's memory of images, (B, 3, S, S) uint8."""
        return self.decoder.remember(self.encoder(pixels.to(self.device)))

    def forget_calibration(self) -> None:
        """Give captions no confidence, since the model changes."""
        self.calibration = self.familiarity = None

    @torch.inference_mode()
    def open_gates(self, image: Image.Image, words: Sequence[str]) -> OpenGates:
        """Return the gates of the decoder's LSTM at every word of a caption of an RGB image."""
        decoder = self.eval().decoder
        memory = self.remember([image])
        state = decoder.initial_state(memory, 1)
        cells: list[Tensor] = []
        with recorded_gates(decoder.top_cell) as gates:
            for word in [BOS, *self.vocabulary.encode(words)[:-1]]:
                _, state, _ = decoder.step(torch.tensor([[word]], device=self.device), state, memory)
                cells.append(state.cell_state[0, 0, -1])
        opened = [torch.stack(tensors)[:, 0, 0] for tensors in zip(*gates, strict=True)]
        return OpenGates(*(tensor.cpu().numpy() for tensor in (*opened, torch.stack(cells))))

    def _save_more(self, folder: Path) -> list[str]:
        """Write the graphs for onnxruntime."""
        from captioning.onnx.graphs import write_graphs

        return write_graphs(self, folder)

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
            **({"calibration": asdict(self.calibration)} if self.calibration else {}),
        }

    @classmethod
    def from_description(cls, description: dict[str, Any]) -> "Captioner":
        """Build a model from the result of `describe`, with untrained weights.

        Raises:
            TypeError: A key is missing or unknown.
        """
        parts: dict[str, Any] = {"encoder": EncoderConfig, "decoder": DecoderConfig, "search": SearchConfig}
        if missing := parts.keys() - description.keys():
            raise TypeError(f"{', '.join(sorted(missing))} missing in the description")
        if description.get("calibration"):
            parts["calibration"] = Calibration
        configs = {name: part(**description[name]) for name, part in parts.items()}
        return cls(**(description | configs))


def load_torch_captioner(model: str | Path = BUNDLED, device: Device = "cpu") -> Captioner:
    """Load a captioner with torch, for any use.

    Args:
        model: Model folder, `bundled:NAME`, or `hub:OWNER/NAME` on the Hugging Face hub.
        device: Device to compute on.

    Raises:
        UserError: As for `vision_rnn.model_folder.load_model` and `vision_rnn.devices.resolve_device`.
    """
    return load_model(Captioner, model).to(resolve_device(device))
