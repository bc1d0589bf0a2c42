"""A page on which a region of an image is painted, and the model completes it."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from data_prep.images import load_image
from data_prep.pixel_shape import THRESHOLD, resized, with_channels
from pixelrnn.completion import complete, conditioning_note, is_binary, masked_nats, quantized, sample
from pixelrnn.mask import NAMES, read_mask
from pixelrnn.model import PixelModel
from pixelrnn.paint_widget import READ_MASK, SCRIPT, STYLE, painted_image
from pixelrnn.pictures import heat_image, image_of
from vision_rnn.demo import problems, serve, take_uploads
from vision_rnn.errors import UserError
from vision_rnn.page import element, fragment, small_figure

_COMPLETIONS = 8
_STYLE = """
.completions { display: grid; grid-template-columns: repeat(auto-fill, minmax(6rem, 1fr)); gap: .75rem; }
.completions img { width: 100%; }
"""


def mask_of_text(text: str, height: int, width: int) -> Tensor:
    """Return the mask (H, W) bool of a text of `0` and `1`, row by row.

    Raises:
        UserError: It is another text, or no pixel is painted.
    """
    if len(text) != height * width or set(text) - {"0", "1"}:
        raise UserError("the painted region does not fit the image; reload the page")
    mask = torch.tensor([character == "1" for character in text]).view(height, width)
    if not mask.any():
        raise UserError("nothing is painted; paint the region that the model is to draw")
    return mask


def read_upload(model: PixelModel, paths: str | Sequence[str] | None) -> tuple[Tensor, list[str]]:
    """Read an uploaded picture as pixels (C, H, W) uint8 and delete it; also return how it was converted.

    Raises:
        UserError: It is no picture.
    """
    shape = model.shape
    ((name, encoded),) = take_uploads(paths).items()
    image = np.asarray(load_image(encoded, name))
    notes = []
    if image.shape[:2] != (shape.height, shape.width):
        notes.append(
            f"cropped and scaled from {image.shape[1]}x{image.shape[0]} to {shape.width}x{shape.height} pixels"
        )
    levels = resized(with_channels(image, shape.channels), shape.height, shape.width)
    if shape.channels == 1 and (image != image[..., :1]).any():
        notes.append("converted to grey")
    if shape.levels == 2 and not is_binary(levels):
        notes.append(f"levels of {THRESHOLD} and above became white, the others black")
    return quantized(levels, shape), notes


def completions_of(model: PixelModel, pixels: Tensor, text: str, seed: int, label: int | None = None) -> str:
    """Complete an image several times; return the completions, their mean and spread and the likelihood, as HTML.

    Args:
        model: Pixel model.
        pixels: (C, H, W) uint8, the image.
        text: The painted mask, as for `mask_of_text`.
        seed: Random seed.
        label: Class of the image, for a class-conditional model.
    """
    shape = model.shape
    try:
        mask = mask_of_text(text, shape.height, shape.width)
    except UserError as error:
        return problems([str(error)])
    drawn = complete(model, pixels[None], mask, _COMPLETIONS, seed, label)[0]
    nats = float(masked_nats(model, pixels[None], mask, label))
    bits = nats / (np.log(2) * int(mask.sum()) * shape.channels)
    scaled = drawn.double() / (shape.levels - 1)
    mean = np.rint(255 * scaled.mean(0).permute(1, 2, 0).numpy()).astype(np.uint8)
    # Of values 0 to 1 the deviation is at most one half.
    deviation = scaled.std(0, correction=0).mean(0).numpy()
    images = [(f"completion {number}", image_of(each, shape.levels)) for number, each in enumerate(drawn, start=1)]
    images.append(("mean", Image.fromarray(mean[..., 0] if shape.channels == 1 else mean)))
    images.append(("uncertainty", heat_image(deviation, 0.5)))
    grid = element("div", *(small_figure(image, caption, caption) for caption, image in images), class_="completions")
    lines = [
        f"The true pixels of the region: -ln p = {nats:.2f} nats, {bits:.4f} bits/dim. Uncertainty is the standard "
        "deviation of the completions: dark is none, the brightest colour is one half of the range."
    ]
    if note := conditioning_note(model.config, mask):
        lines.append(f"Note: {note}.")
    return fragment(grid) + "".join(fragment(element("p", line)) for line in lines)


def serve_pixel_model(model: PixelModel, host: str, port: int) -> None:
    """Serve the page until the process is interrupted.

    Args:
        model: Pixel model.
        host: Address to listen on.
        port: Port to listen on.

    Raises:
        UserError: The address cannot be listened on.
    """
    shape = model.shape

    def painted(pixels: Tensor, region: str) -> str:
        return fragment(painted_image(image_of(pixels, shape.levels), read_mask(region, shape.height, shape.width)))

    def new_image(seed: int, region: str, label: int | None) -> tuple[int, Tensor, str, str]:
        pixels = sample(model, 1, seed, label)[0]
        return seed + 1, pixels, painted(pixels, region), ""

    def own_image(paths: str | None, pixels: Tensor, region: str) -> tuple[None, Tensor, str, str]:
        try:
            pixels, notes = read_upload(model, paths)
        except UserError as error:
            return None, pixels, painted(pixels, region), problems([str(error)])
        return (
            None,
            pixels,
            painted(pixels, region),
            problems([f"The picture was {'; '.join(notes)}."] if notes else []),
        )

    def finish(pixels: Tensor, seed: int, label: int | None, text: str) -> tuple[int, str]:
        return seed + 1, completions_of(model, pixels, text, seed, label)

    # Before the page is reachable, since the first use compiles the recurrence.
    first = sample(model, 1, 0, 0 if shape.num_classes else None)[0]

    def build(gradio: Any) -> None:
        gradio.Markdown(
            "# Completions\n\nPaint a region with the mouse or a finger, or go to the image with the Tab key, move "
            "with the arrow keys and paint with the space bar. Then let the model draw it. Pictures are not stored."
        )
        seed, pixels = gradio.State(1), gradio.State(first)
        with gradio.Row():
            with gradio.Column():
                image = gradio.HTML(painted(first, NAMES[0]), elem_id="image")
            with gradio.Column():
                region = gradio.Dropdown(list(NAMES), value=NAMES[0], label="Region to start from")
                label = gradio.State(None)
                if shape.num_classes:
                    label = gradio.Dropdown(list(range(shape.num_classes)), value=0, label="Class")
                draw = gradio.Button("New image from the model", elem_id="draw")
                upload = gradio.File(label="Own picture", file_count="single", elem_id="upload")
        go = gradio.Button("Complete the region", variant="primary", elem_id="complete")
        result = gradio.HTML(elem_id="completions")
        mask = gradio.Textbox(visible=False)
        private = {"api_visibility": "private"}
        draw.click(new_image, [seed, region, label], [seed, pixels, image, result], **private)
        upload.upload(own_image, [upload, pixels, region], [upload, pixels, image, result], **private)
        region.change(painted, [pixels, region], image, **private)
        go.click(
            finish,
            [pixels, seed, label, mask],
            [seed, result],
            js=f"(pixels, seed, label, mask) => [pixels, seed, label, {READ_MASK}]",
            **private,
        )

    serve(build, "Completions", host, port, STYLE + _STYLE, SCRIPT)
