"""The captioner by onnxruntime: the same captions as torch's, with a fraction of its start-up time and memory."""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from captioning.caption_generator import CaptionGenerator, OpenGates
from captioning.captioner_config import DecoderConfig, EncoderConfig, SearchConfig
from captioning.onnx.names import DECODER, ENCODER, ENCODER_OUTPUTS, GATES, STEP_INPUTS, STEP_OUTPUTS
from data_prep.vocabulary import BOS, Vocabulary
from vision_rnn.errors import UserError
from vision_rnn.files import read_json
from vision_rnn.model_folder import CONFIG, WEIGHTS, check_files


class OnnxCaptioner(CaptionGenerator):
    """A captioner whose graphs onnxruntime runs on the processor.

    Args:
        folder: Model folder with graphs.

    Raises:
        UserError: A file is missing, differs from the file that was saved, or cannot be read; or onnxruntime is not
            installed.
    """

    def __init__(self, folder: Path) -> None:
        check_files(folder, (CONFIG, WEIGHTS, ENCODER, DECODER))
        description = read_json(folder / CONFIG)
        try:
            self.vocabulary = Vocabulary(description["vocabulary"])
            self.encoder_config = EncoderConfig(**description["encoder"])
            self.decoder_config = DecoderConfig(**description["decoder"])
            self.search = SearchConfig(**description["search"])
        except (KeyError, TypeError) as error:
            raise UserError(f"{folder}: written by another version of this program ({error})") from error
        # At once: reading and optimising the graphs is a third of the time to the first caption.
        with ThreadPoolExecutor(2) as pool:
            self._encoder, self._decoder = pool.map(_session, (folder / ENCODER, folder / DECODER))

    def decoding(self, pixels: np.ndarray) -> "OnnxDecoding":
        """Encode images, (B, 3, S, S) uint8, for a search."""
        values, keys, hidden, cell_state = self._encoder.run(ENCODER_OUTPUTS, {"pixels": pixels})
        return OnnxDecoding(self._decoder, (values, keys), (hidden, cell_state))

    def open_gates(self, image: Image.Image, words: Sequence[str]) -> OpenGates:
        """Return the gates of the decoder's LSTM at every word of a caption of an RGB image."""
        decoding = self.decoding(self.preprocess(image)[np.newaxis])
        decoding.start(1)
        known = [BOS, *self.vocabulary.encode(words)[:-1]]
        steps = [decoding.gates(np.array([[word]])) for word in known]
        return OpenGates(*np.stack(steps, axis=1))


class OnnxDecoding:
    """A batch of images that the decoder's graph captions.

    Args:
        decoder: Session of the decoding step.
        memory: Values and keys of the images.
        initial_state: State of one caption per image before its first word.
    """

    def __init__(self, decoder: Any, memory: Sequence[np.ndarray], initial_state: Sequence[np.ndarray]) -> None:
        self.num_images = len(memory[0])
        self._decoder, self._memory, self._initial_state = decoder, memory, initial_state
        self._state: list[np.ndarray] = []

    def start(self, captions: int) -> None:
        """Start `captions` captions of every image."""
        self._state = [np.repeat(array, captions, axis=1) for array in self._initial_state]

    def step(self, words: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return the log-probabilities of the next word, (B, K, V), and the attention weights, (B, K, L)."""
        log_probabilities, weights, *self._state = self._run(STEP_OUTPUTS, words)
        return log_probabilities, weights

    def follow(self, parents: np.ndarray) -> None:
        """Reorder the states of the captions."""
        images = np.arange(self.num_images)[:, np.newaxis]
        self._state = [array[images, parents] for array in self._state]

    def gates(self, words: np.ndarray) -> np.ndarray:
        """Take a step of a single caption, and return the gates and the cell of the top layer, (5, H)."""
        *_, hidden, cell_state, gates = self._run((*STEP_OUTPUTS, GATES), words)
        self._state = [hidden, cell_state]
        return gates[0, 0]

    def _run(self, outputs: Sequence[str], words: np.ndarray) -> list[np.ndarray]:
        inputs = dict(zip(STEP_INPUTS, (words, *self._state, *self._memory), strict=True))
        # A graph has no inputs that it does not use, such as the keys of a decoder without attention.
        used = [entry.name for entry in self._decoder.get_inputs()]
        return self._decoder.run(outputs, {name: inputs[name] for name in used})


def _session(path: Path) -> Any:
    try:
        import onnxruntime
    except ImportError:
        raise UserError(
            "onnxruntime is not installed; run: pip install onnxruntime, or choose --engine torch"
        ) from None
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    # A thread that spins while it waits would take a core from the thread that reads photos, and from other programs.
    for pool in ("intra_op", "inter_op"):
        options.add_session_config_entry(f"session.{pool}.allow_spinning", "0")
    try:
        return onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    # onnxruntime's errors have no closer common base class.
    except Exception as error:
        reason = " ".join(str(error).split())
        raise UserError(f"{path}: onnxruntime cannot read the graph ({reason}); export the model again") from error
