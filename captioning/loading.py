"""Loading of a captioner for use, on the engine that suits it."""

from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Literal, overload

from captioning.caption_generator import CaptionGenerator
from captioning.captioner_config import BUNDLED, PRETRAINED, Engine
from captioning.ensemble import Ensemble
from captioning.onnx.names import DECODER, ENCODER
from vision_rnn.console import note
from vision_rnn.devices import Device
from vision_rnn.errors import UserError
from vision_rnn.model_folder import find_folder

if TYPE_CHECKING:
    from captioning.captioner import Captioner


@overload
def load_captioner(model: str | Path = ..., device: Device = ..., *, engine: Literal["torch"]) -> "Captioner": ...
@overload
def load_captioner(model: str | Path = ..., device: Device = ..., engine: Engine = ...) -> CaptionGenerator: ...


def load_captioner(model: str | Path = BUNDLED, device: Device = "auto", engine: Engine = "auto") -> CaptionGenerator:
    """Load a captioner for use.

    Args:
        model: Model folder, `bundled:NAME`, or `hub:OWNER/NAME` on the Hugging Face hub.
        device: Device to compute on; onnxruntime computes on the processor.
        engine: `onnx` (onnxruntime) starts in a fraction of torch's time and gives the same captions; `torch` gives a
            `Captioner`, which can also be trained, evaluated and pushed to the hub, and computes on any device. `auto`
            chooses onnxruntime for a model folder with graphs, unless a device other than the processor is named.

    Raises:
        UserError: There is no such model, it is damaged, or it does not suit the engine or the device.
    """
    on_processor = device in ("auto", "cpu")
    if engine == "torch" or (engine == "auto" and not on_processor):
        return _load_with_torch(model, device)
    if not on_processor:
        raise UserError(f"--engine onnx: computes on the processor, not on {device}; omit --device, or use torch")
    if str(model).startswith("hub:"):
        if engine == "onnx":
            raise UserError("--engine onnx: needs a model folder on this machine; download it, or omit --engine")
        captioner = _load_with_torch(model, device)
        _note_on_torch(captioner, model, f"for a folder with graphs, use: captioning export {model} -o FOLDER")
        return captioner
    folder = find_folder(model, PRETRAINED, "captioning")
    has_graphs = (folder / ENCODER).is_file() and (folder / DECODER).is_file()
    fix = f"add its graphs with: captioning export {model} -o {folder}"
    if engine == "onnx" and not has_graphs:
        if _load_with_torch(model, device).blind:
            raise UserError(f"--engine onnx: {folder} is a language model, which runs on torch alone; omit --engine")
        raise UserError(f"{folder}: has no graphs for onnxruntime; {fix}")
    if engine == "auto" and not (has_graphs and find_spec("onnxruntime")):
        captioner = _load_with_torch(model, device)
        _note_on_torch(captioner, folder, "install it with: pip install onnxruntime" if has_graphs else fix)
        return captioner
    from captioning.onnx.engine import OnnxCaptioner

    return OnnxCaptioner(folder)


def load_ensemble(models: Sequence[str], device: Device = "auto", engine: Engine = "auto") -> CaptionGenerator:
    """Load a captioner for use, or several whose probabilities are averaged.

    Args:
        models: Names as for `load_captioner`.
        device: Device to compute on.
        engine: Engine, as for `load_captioner`.

    Raises:
        UserError: As for `load_captioner` and `captioning.ensemble.Ensemble`.
    """
    captioners = [load_captioner(model, device, engine) for model in models]
    return captioners[0] if len(captioners) == 1 else Ensemble(models, captioners)


def _note_on_torch(captioner: "Captioner", model: str | Path, fix: str) -> None:
    """Say why a model is slow to start and what to do; nothing of a language model, which has no graphs."""
    if not captioner.blind:
        note(f"{model}: runs on torch, which starts slower than onnxruntime; {fix}")


def _load_with_torch(model: str | Path, device: Device) -> "Captioner":
    from captioning.captioner import load_torch_captioner

    return load_torch_captioner(model, device)
