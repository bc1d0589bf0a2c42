"""The captioner by onnxruntime: the same captions as torch's, with a fraction of its start-up time and memory.

A photo that comes alone is computed by one thread per core, which takes half of the time on two cores. If several come,
each is computed by one thread, as many at once as there are cores: the activations of more photos exceed the cache, and
threads that share a photo wait for each other. They are encoded ahead, while other photos are captioned.
"""

import contextlib
import os
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from captioning.caption_generator import CaptionGenerator, OpenGates
from captioning.captioner_config import DecoderConfig, EncoderConfig, SearchConfig
from captioning.confidence import Calibration
from captioning.onnx.names import DECODER, DISTANCE, ENCODER, ENCODER_OUTPUTS, PIXELS, STEP_INPUTS, network_graphs
from captioning.rows import RowDecoding, Rows
from data_prep.vocabulary import BOS, Vocabulary
from vision_rnn.errors import UserError
from vision_rnn.files import read_json
from vision_rnn.model_folder import CONFIG, WEIGHTS, check_files


class OnnxCaptioner(CaptionGenerator):
    """A captioner whose graphs onnxruntime runs on the processor.

    Photos are searched in larger batches than by torch, as a larger product costs less per caption.

    Args:
        folder: Model folder with graphs.

    Raises:
        UserError: A file is missing, differs from the file that was saved, or cannot be read; or onnxruntime is not
            installed.
    """

    batch_size = 48

    def __init__(self, folder: Path) -> None:
        check_files(folder, [CONFIG])
        description = read_json(folder / CONFIG)
        try:
            self.vocabulary = Vocabulary(description["vocabulary"])
            self.encoder_config = EncoderConfig(**description["encoder"])
            self.decoder_config = DecoderConfig(**description["decoder"])
            self.search = SearchConfig(**description["search"])
            calibration = description.get("calibration")
            self.calibration = Calibration(**calibration) if calibration else None
        except (KeyError, TypeError, ValueError) as error:
            raise UserError(f"{folder}: written by another version of this program ({error})") from error
        self._folder, self._share_photos = folder, True
        networks = len(self.encoder_config.networks)
        check_files(folder, [*network_graphs(networks).values(), ENCODER, DECODER])
        with ThreadPoolExecutor(1) as pool:
            # Wrong weights cannot mislead onnxruntime as a wrong graph could, so that they are checked meanwhile.
            checked = pool.submit(check_files, folder, [WEIGHTS])
            try:
                self._graphs = Graphs.read(folder, networks)
            finally:
                checked.result()  # Its error explains one of onnxruntime.
        self._encoding = ThreadPoolExecutor(os.cpu_count())
        self._latest: Future[list[np.ndarray]] | None = None

    def prepare(self, image: Image.Image) -> "Future[list[np.ndarray]]":
        """Begin to encode an RGB image."""
        pixels = self.preprocess(image)[np.newaxis]
        outputs = [*ENCODER_OUTPUTS, *[DISTANCE] * bool(self.calibration)]
        if self._share_photos and self._latest and not self._latest.done():
            self._share_photos = False
            self._graphs = Graphs.read(self._folder, len(self.encoder_config.networks), threads=1)
        self._latest = self._encoding.submit(self._graphs.encode, pixels, outputs)
        return self._latest

    def decoding(self, prepared: "Sequence[Future[list[np.ndarray]]]") -> "OnnxDecoding":
        """Collect encoded images for a search."""
        encoded = [future.result() for future in prepared]
        values, keys, hidden, cell_state, *distance = map(np.concatenate, zip(*encoded, strict=True))
        return OnnxDecoding(self._graphs.decoder, (values, keys), (hidden, cell_state), *distance)

    def open_gates(self, image: Image.Image, words: Sequence[str]) -> OpenGates:
        """Return the gates of the decoder's LSTM at every word of a caption of an RGB image."""
        decoding = self.decoding([self.prepare(image)])
        steps = []
        for word in [BOS, *self.vocabulary.encode(words)[:-1]]:
            decoding.step(np.array([0]), np.array([word]))
            steps.append(decoding.gates[0])
        return OpenGates(*np.stack(steps, axis=1))


class OnnxDecoding(RowDecoding):
    """A batch of images that the decoder's graph captions.

    Args:
        decoder: Graph of the decoding step.
        memory: Values and keys of the images.
        initial_state: State of one caption per image before its first word.
        distances: Distance of each image from the training photos; None if the model was not calibrated.

    Attributes:
        gates: Gates and cell of the top layer at the last step, (R, 5, H); only of an LSTM.
    """

    gates: np.ndarray

    def __init__(
        self,
        decoder: "Graph",
        memory: Sequence[np.ndarray],
        initial_state: Sequence[np.ndarray],
        distances: np.ndarray | None = None,
    ) -> None:
        self._decoder = decoder
        super().__init__(memory, initial_state, distances)

    def _advance(
        self, rows: Rows, state: tuple[Any, ...], memory: tuple[Any, ...]
    ) -> tuple[np.ndarray, np.ndarray, tuple[Any, ...]]:
        inputs = dict(zip(STEP_INPUTS, (*rows, *state, *memory), strict=True))
        # A graph has no inputs that it does not use, such as the keys of a decoder without attention.
        used = {name: array for name, array in inputs.items() if name in self._decoder.inputs}
        log_probabilities, weights, hidden, cell_state, *gates = self._decoder.run(None, used)
        if gates:
            self.gates = gates[0]
        return log_probabilities, weights, (hidden, cell_state)


@dataclass(frozen=True)
class Graphs:
    """All graphs of a model folder.

    Attributes:
        networks: Those of several networks of the encoder, by the names of their grids.
        encoder: That of the rest of the encoder.
        decoder: That of the decoding step.
    """

    networks: dict[str, "Graph"]
    encoder: "Graph"
    decoder: "Graph"

    @classmethod
    def read(cls, folder: Path, networks: int, threads: int = 0) -> "Graphs":
        """Read the graphs of a model folder whose encoder has so many networks."""
        files = network_graphs(networks)
        names = [*files.values(), ENCODER, DECODER]
        _onnxruntime()  # Before there are several threads, which would each prepare it.
        # At once: reading and optimising the graphs is a third of the time to the first caption. The largest first, so
        # that no thread waits for a long last one.
        with ThreadPoolExecutor(2) as pool:
            largest_first = sorted(names, key=lambda name: -(folder / name).stat().st_size)
            read = {name: pool.submit(Graph, folder / name, threads) for name in largest_first}
        of_networks = {grid: read[name].result() for grid, name in files.items()}
        return cls(of_networks, read[ENCODER].result(), read[DECODER].result())

    def encode(self, pixels: np.ndarray, outputs: list[str]) -> list[np.ndarray]:
        """Return what the encoder computes of images, (B, 3, S, S) uint8."""
        grids = {grid: network.run(None, {PIXELS: pixels})[0] for grid, network in self.networks.items()}
        return self.encoder.run(outputs, grids or {PIXELS: pixels})


class Graph:
    """A graph that onnxruntime computes.

    Args:
        path: File of the graph.
        threads: Number of threads that compute a product; 0 for one per core.

    Attributes:
        inputs: The names of its inputs.

    Raises:
        UserError: onnxruntime cannot read the graph, or is not installed.
    """

    def __init__(self, path: Path, threads: int = 0) -> None:
        runtime = _onnxruntime()
        options = runtime.SessionOptions()
        options.add_session_config_entry("session.use_env_allocators", "1")
        options.log_severity_level = 4  # Errors are raised too.
        # One plan for every shape of inputs that ever came: more memory with every batch, for 3 % of the time.
        options.enable_mem_pattern = False
        options.intra_op_num_threads = threads
        # A thread that spins while it waits would take a core from the thread that reads photos, and from other
        # programs.
        for pool in ("intra_op", "inter_op"):
            options.add_session_config_entry(f"session.{pool}.allow_spinning", "0")
        self._path = path
        with self._in_one_line("read"):
            self._session = runtime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
        self.inputs = {entry.name for entry in self._session.get_inputs()}

    def run(self, outputs: list[str] | None, inputs: Mapping[str, np.ndarray]) -> list[np.ndarray]:
        """Return some outputs, or all.

        Raises:
            UserError: The graph does not fit the inputs or the weights.
        """
        with self._in_one_line("compute"):
            return self._session.run(outputs, inputs)

    @contextlib.contextmanager
    def _in_one_line(self, what: str) -> Iterator[None]:
        try:
            yield
        # onnxruntime's errors have no closer common base class.
        except Exception as error:
            reason = " ".join(str(error).split())
            # A graph is read whatever the inputs: what takes too much memory then is the graph.
            if what == "compute" and "alloc" in reason:
                raise MemoryError(reason) from error
            raise UserError(
                f"{self._path}: onnxruntime cannot {what} the graph ({reason}); export the model again"
            ) from error


def _onnxruntime() -> Any:
    """Return the module, prepared; its type hints leave out much."""
    try:
        import onnxruntime
    except ImportError:
        raise UserError(
            "onnxruntime is not installed; run: pip install onnxruntime, or choose --engine torch"
        ) from None
    runtime: Any = onnxruntime
    _share_memory(runtime)
    return runtime


@cache
def _share_memory(runtime: Any) -> None:
    """Let all sessions of the process share one pool of memory, which grows by what they need.

    Each would have its own, which grows by powers of two: together half as much again as the weights.
    """
    by_need, default = 1, -1
    memory = runtime.OrtMemoryInfo("Cpu", runtime.OrtAllocatorType.ORT_ARENA_ALLOCATOR, 0, runtime.OrtMemType.DEFAULT)
    runtime.create_and_register_allocator(memory, runtime.OrtArenaCfg(0, by_need, default, default))
