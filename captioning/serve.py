"""A page that captions photos, with the attention of the word under the mouse."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from PIL import Image

from captioning.attention_widget import HELP, SCRIPT, STYLE, attended_photo
from captioning.caption_generator import CaptionGenerator
from data_prep.images import ImageError, load_image
from vision_rnn.demo import MAX_BYTES, MAX_FILES, cards, problems, serve, take_uploads
from vision_rnn.errors import UserError
from vision_rnn.page import element

_PHOTO_PIXELS = 640
_NUM_CAPTIONS = 5


def caption_uploads(captioner: CaptionGenerator, paths: Sequence[str] | None) -> str:
    """Caption uploaded photos and delete them; return the captions, and what could not be read, as HTML.

    Args:
        captioner: The model.
        paths: The uploaded files.
    """
    try:
        uploads = take_uploads(paths)
    except UserError as error:
        return problems([str(error)])
    failed: list[str] = []
    photos: dict[str, Image.Image] = {}
    for name, encoded in uploads.items():
        try:
            photos[name] = load_image(encoded, name)
        except ImageError as error:
            failed.append(str(error))
    search = replace(captioner.search, beam_size=max(captioner.search.beam_size, _NUM_CAPTIONS))
    parts = []
    for name, photo in photos.items():
        captions = captioner.caption(photo, search=search)[:_NUM_CAPTIONS]
        photo.thumbnail((_PHOTO_PIXELS, _PHOTO_PIXELS))
        widget = attended_photo(photo, captions, name, captioner.decoder_config.attends)
        parts.append(element("article", element("h3", name), widget, class_="card"))
    return problems(failed) + cards(parts)


def serve_captioner(captioner: CaptionGenerator, host: str, port: int) -> None:
    """Serve the page until the process is interrupted.

    Args:
        captioner: The model; it must take photos.
        host: Address to listen on.
        port: Port to listen on.

    Raises:
        UserError: The address cannot be listened on.
    """

    def build(gradio: Any) -> None:
        limits = f"Drop photos, at most {MAX_FILES} at once of {MAX_BYTES // 2**20} MB each. They are not stored."
        gradio.Markdown(f"# Captions\n\n{limits} {HELP if captioner.decoder_config.attends else ''}")
        photos = gradio.File(label="Photos", file_count="multiple", elem_id="photos")
        captions = gradio.HTML(elem_id="captions")

        def show(paths: Sequence[str] | None) -> tuple[None, str]:
            return None, caption_uploads(captioner, paths)

        photos.upload(show, photos, [photos, captions], api_visibility="private")

    serve(build, "Captions", host, port, STYLE, SCRIPT)
