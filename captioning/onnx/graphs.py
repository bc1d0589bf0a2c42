"""Writing of a captioner's graphs for onnxruntime: one encodes images, another takes a decoding step.

Of an encoder of several networks each has a graph, so that they are read at once.

The graphs contain no weights. They refer to those in `model.safetensors` by position, in half precision, so that the
weights of a model folder are stored once. Names of inputs and outputs are those of `captioning.onnx.engine`.
"""

import contextlib
import io
import json
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from captioning.network.decoder import Memory, State
from captioning.network.recurrent import LSTMCell, recorded_gates
from captioning.onnx.names import (
    DECODER,
    DISTANCE,
    ENCODER,
    ENCODER_OUTPUTS,
    GATES,
    PIXELS,
    STEP_INPUTS,
    STEP_OUTPUTS,
    network_graphs,
)
from captioning.rows import Rows
from vision_rnn.model_folder import WEIGHTS

if TYPE_CHECKING:
    from captioning.captioner import Captioner

# Supported by onnxruntime since 1.14; later versions read it too.
_OPSET = 17
_CAPTIONER = "captioner."


class _Network(nn.Module):
    """From pixels to the grid of one network of the encoder."""

    def __init__(self, captioner: "Captioner", index: int):
        super().__init__()
        self.captioner, self.index = captioner, index

    def forward(self, pixels: Tensor) -> Tensor:
        return self.captioner.encoder.compute(self.index, pixels)


class _Encode(nn.Module):
    """To the decoder's memory, the initial state of one caption per image, and any distances.

    From the grids of several networks, or from the pixels.
    """

    def __init__(self, captioner: "Captioner"):
        super().__init__()
        self.captioner = captioner

    def forward(self, *inputs: Tensor) -> tuple[Tensor, ...]:
        encoder = self.captioner.encoder
        grid = encoder.join(inputs) if len(inputs) > 1 else encoder(*inputs)
        memory = self.captioner.decoder.remember(grid)
        distances = [self.captioner.familiarity(grid)] if self.captioner.familiarity else []
        return memory.values, memory.keys, *self.captioner.decoder.initial_state(memory, 1), *distances


class _Step(nn.Module):
    """From captions in rows to the log-probabilities of their next words, attention, next states, and any gates."""

    def __init__(self, captioner: "Captioner"):
        super().__init__()
        self.captioner = captioner

    def forward(self, *inputs: Tensor) -> Any:
        decoder, fields = self.captioner.decoder, len(Rows._fields)
        rows, state, (values, keys) = Rows(*inputs[:fields]), State(*inputs[fields:-2]), inputs[-2:]
        # The detected words serve the initial state alone.
        memory = Memory(values, keys, values[:, 0, :0])
        with recorded_gates(decoder.top_cell) as gates:
            logits, state, weights = decoder.step_rows(rows, state, memory)
        opened = [torch.stack([*gates[0], state.cell_state[:, -1]], dim=1)] if gates else []
        return logits.log_softmax(-1), weights, *state, *opened


@torch.no_grad()
def write_graphs(captioner: "Captioner", folder: Path) -> list[str]:
    """Write the graphs into a model folder that holds the weights; return the names of the files.

    A language model has none.
    """
    if captioner.blind:
        return []
    captioner.eval()
    size, device = captioner.encoder.config.image_size, captioner.device
    # Two of each, since a size of 1 would be taken for a constant.
    pixels = torch.zeros(2, 3, size, size, dtype=torch.uint8, device=device)
    memory = captioner.remember_pixels(pixels)
    state = captioner.decoder.initial_state(memory, 2)
    rows = Rows(*(torch.zeros(size, dtype=torch.long, device=device) for size in (3, 5, 5, (2, 2), 4)))
    has_gates = isinstance(captioner.decoder.top_cell, LSTMCell)
    encoded = [*ENCODER_OUTPUTS, *[DISTANCE] * bool(captioner.calibration)]
    images, states, captions = {0: "images"}, {0: "states"}, {0: "captions"}
    networks = network_graphs(len(captioner.encoder.config.networks))
    with _fixed_padding(captioner.encoder, pixels):
        for index, (grid, name) in enumerate(networks.items()):
            exported = _export(_Network(captioner, index), (pixels,), {PIXELS: images}, {grid: images})
            _write(folder / name, exported)
        grids = [captioner.encoder.compute(index, pixels) for index in range(len(networks))]
        inputs = dict.fromkeys(networks or [PIXELS], images)
        exported = _export(_Encode(captioner), (*grids,) or (pixels,), inputs, dict.fromkeys(encoded, images))
    _write(folder / ENCODER, exported)
    sizes = ({0: "words"}, captions, captions, {0: "images", 1: "slots"}, states, states, states, images, images)
    step_inputs: dict[str, dict[int, str]] = dict(zip(STEP_INPUTS, sizes, strict=True))
    outputs = dict.fromkeys([*STEP_OUTPUTS, *[GATES] * has_gates], captions)
    arguments = (*rows, *(part.flatten(0, 1) for part in state), memory.values, memory.keys)
    _write(folder / DECODER, _export(_Step(captioner), arguments, step_inputs, outputs))
    return [*networks.values(), ENCODER, DECODER]


class _PaddedConvolution(torch.autograd.Function):
    """A convolution with other padding on each side, which torch has as two operations and ONNX as one."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, convolution: nn.Conv2d, padding: list[int]) -> Tensor:
        """Convolve an input padded by (left, right, top, bottom)."""
        padded = nn.functional.pad(x, padding)
        return nn.functional.conv2d(
            padded, weight, None, convolution.stride, 0, convolution.dilation, convolution.groups
        )

    @staticmethod
    def symbolic(graph: Any, x: Any, weight: Any, convolution: nn.Conv2d, padding: list[int]) -> Any:
        """Write the operation."""
        left, right, top, bottom = padding
        return graph.op(
            "Conv",
            x,
            weight,
            kernel_shape_i=convolution.kernel_size,
            strides_i=convolution.stride,
            dilations_i=convolution.dilation,
            group_i=convolution.groups,
            pads_i=(top, left, bottom, right),
        )


@contextlib.contextmanager
def _fixed_padding(encoder: nn.Module, pixels: Tensor) -> Iterator[None]:
    """Let timm's convolutions that pad by the size of their input pad by numbers, as an encoder has one image size.

    A trace would compute the numbers in some forty nodes per convolution, and pad in a node of its own.
    """
    from timm.layers.conv2d_same import Conv2dSame
    from timm.layers.padding import pad_same_arg

    def fix(convolution: nn.Conv2d, arguments: tuple[Tensor]) -> None:
        kernel, stride, dilation = convolution.kernel_size, convolution.stride, convolution.dilation
        padding = pad_same_arg(list(arguments[0].shape[-2:]), list(kernel), list(stride), list(dilation))

        def padded(input: Tensor) -> Tensor:
            return _PaddedConvolution.apply(input, convolution.weight, convolution, padding)  # pyright: ignore[reportReturnType]

        convolution.forward = padded

    convolutions = [module for module in encoder.modules() if isinstance(module, Conv2dSame) and module.bias is None]
    hooks = [convolution.register_forward_pre_hook(fix) for convolution in convolutions]
    encoder(pixels)
    for hook in hooks:
        hook.remove()
    try:
        yield
    finally:
        for convolution in convolutions:
            del convolution.forward


def _export(
    module: nn.Module, arguments: tuple[Tensor, ...], inputs: dict[str, dict[int, str]], outputs: dict[str, Any]
) -> bytes:
    """Trace a module; the values of `inputs` and `outputs` are their dimensions of any size."""
    buffer = io.BytesIO()
    with warnings.catch_warnings():
        # Warnings of the tracer about sizes that are constant here, and that there is a newer exporter: it takes twenty
        # times as long.
        warnings.simplefilter("ignore")
        torch.onnx.export(
            module.eval(),
            arguments,
            buffer,  # pyright: ignore[reportArgumentType]  # the tracer writes to any file
            dynamo=False,
            input_names=list(inputs),
            output_names=list(outputs),
            dynamic_axes=inputs | outputs,
            # Folded constants would be copies of weights.
            do_constant_folding=False,
            opset_version=_OPSET,
        )
    return buffer.getvalue()


def _write(path: Path, exported: bytes) -> None:
    """Write a graph with its weights replaced by references to the file of weights beside it."""
    import onnx
    from onnx import TensorProto, helper

    positions = _positions(path.with_name(WEIGHTS))
    model = onnx.load_model_from_string(exported)
    kept, casts = [], []
    for tensor in model.graph.initializer:
        name = tensor.name.removeprefix(_CAPTIONER)
        if name not in positions:
            kept.append(tensor)
            continue
        kind, offset, length = positions[name]
        is_half = kind == "F16"
        stored = TensorProto(name=f"{name}.half" if is_half else tensor.name, dims=tensor.dims)
        stored.data_type = TensorProto.FLOAT16 if is_half else tensor.data_type
        stored.data_location = TensorProto.EXTERNAL
        for key, value in (("location", WEIGHTS), ("offset", offset), ("length", length)):
            stored.external_data.add(key=key, value=str(value))
        kept.append(stored)
        if is_half:
            casts.append(helper.make_node("Cast", [stored.name], [tensor.name], to=TensorProto.FLOAT))
    nodes = [*casts, *model.graph.node]
    del model.graph.initializer[:], model.graph.node[:]
    model.graph.initializer.extend(kept)
    model.graph.node.extend(nodes)
    path.write_bytes(model.SerializeToString(deterministic=True))


def _positions(weights: Path) -> dict[str, tuple[str, int, int]]:
    """Return the number type, the offset in the file and the length in bytes of each tensor of a safetensors file."""
    with weights.open("rb") as file:
        size = int.from_bytes(file.read(8), "little")
        header = json.loads(file.read(size))
    header.pop("__metadata__", None)
    return {
        name: (entry["dtype"], 8 + size + entry["data_offsets"][0], entry["data_offsets"][1] - entry["data_offsets"][0])
        for name, entry in header.items()
    }
