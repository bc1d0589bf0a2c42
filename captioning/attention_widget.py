"""A photo in a page that shows where the captioner looked for the word under the mouse or with the keyboard's focus."""

import base64
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

from vision_rnn.page import Element, element, picture

if TYPE_CHECKING:
    from captioning.caption_generator import Caption

STYLE = """
.attended-photo { position: relative; line-height: 0; }
.attended-photo img { width: 100%; }
.attended-photo canvas { position: absolute; inset: 0; width: 100%; height: 100%; pointer-events: none; }
.attended-captions { padding-left: 1.4rem; margin: .25rem 0; }
.attended-where { min-height: 3em; margin: .25rem 0; color: var(--muted); font-size: .875rem; }
.attended button { font: inherit; color: inherit; background: none; border: 0; border-radius: 0;
  border-bottom: 2px dotted var(--accent); margin: 0; padding: .1em 0; cursor: pointer; }
.attended button.shown { background: var(--accent); color: var(--page); border-bottom-style: solid; }
"""

# Events are handled by the document, so that the script also serves photos that are put into the page later.
SCRIPT = """
(() => {
  const word = event => event.target instanceof Element ? event.target.closest('.attended button') : null;
  const clear = () => document.querySelectorAll('.attended button.shown').forEach(shown => {
    const box = shown.closest('.attended'), canvas = box.querySelector('canvas');
    canvas.getContext('2d').clearRect(0, 0, canvas.width, canvas.height);
    box.querySelector('.attended-where').textContent = '';
    shown.classList.remove('shown');
  });
  const show = button => {
    if (button && button.classList.contains('shown')) return;
    clear();
    if (!button) return;
    const box = button.closest('.attended'), canvas = box.querySelector('canvas');
    const weights = atob(button.dataset.weights);
    canvas.width = button.dataset.columns;
    canvas.height = weights.length / canvas.width;
    const context = canvas.getContext('2d'), shade = context.createImageData(canvas.width, canvas.height);
    for (let cell = 0; cell < weights.length; cell++)
      shade.data[4 * cell + 3] = 0.8 * (255 - weights.charCodeAt(cell));
    context.putImageData(shade, 0, 0);
    box.querySelector('.attended-where').textContent = `${button.textContent}: ${button.dataset.where}`;
    button.classList.add('shown');
  };
  const focused = () => document.activeElement ? document.activeElement.closest('.attended button') : null;
  document.addEventListener('pointerover', event => show(word(event) || focused()));
  document.addEventListener('focusin', event => show(word(event)));
  document.addEventListener('focusout', () => show(null));
  document.addEventListener('keydown', event => {
    const button = word(event);
    if (!button) return;
    const words = [...button.parentElement.querySelectorAll('button')], at = words.indexOf(button);
    const next = {ArrowLeft: at - 1, ArrowRight: at + 1, Home: 0, End: words.length - 1}[event.key];
    if (next === undefined) return;
    event.preventDefault();
    if (!words[next]) return;
    words.forEach(each => each.tabIndex = each === words[next] ? 0 : -1);
    words[next].focus();
  });
})();
"""
HELP = (
    "Point at a word, or go to a caption with the Tab key and from word to word with the arrow keys: the photo is lit "
    "where the model looked when it chose the word."
)


def attended_photo(photo: Image.Image, captions: Sequence["Caption"], name: str, attends: bool = True) -> Element:
    """Return the photo with its captions, best first, each with its log-probability and any confidence.

    Args:
        photo: The photo, RGB, as large as it is stored in the page.
        captions: Its captions.
        name: Name of the photo, for those who do not see it.
        attends: Whether the model has attention to show.
    """
    lines = [
        element(
            "li",
            _words(caption, number) if attends else caption.text,
            element("span", f" ({_certainty(caption)})", class_="muted"),
        )
        for number, caption in enumerate(captions, start=1)
    ]
    overlay = [element("canvas", aria_hidden="true")] if attends else []
    where = [element("p", class_="attended-where", role="status")] if attends else []
    return element(
        "div",
        element("div", picture(photo, f"photo {name}", photo=True), *overlay, class_="attended-photo"),
        *where,
        element("ol", *lines, class_="attended-captions"),
        class_="attended",
    )


def _certainty(caption: "Caption") -> str:
    nats = f"{caption.log_probability:.2f} nats"
    return nats if caption.confidence is None else f"confidence {caption.confidence:.0%}, {nats}"


def _words(caption: "Caption", number: int) -> Element:
    buttons = [
        _word(word, weights, first=index == 0)
        for index, (word, weights) in enumerate(zip(caption.words, np.asarray(caption.attention), strict=True))
    ]
    # With spaces, so that a copied caption has them.
    parts = [part for button in buttons for part in (button, " ")]
    return element("span", *parts, role="group", aria_label=f"words of caption {number}")


def _word(word: str, weights: np.ndarray, first: bool) -> Element:
    """Return the button of a word; one of a caption's takes the focus, and arrow keys reach the others."""
    scaled = np.rint(255 * weights / max(float(weights.max()), 1e-12)).astype(np.uint8)
    row, column = np.unravel_index(int(weights.argmax()), weights.shape)
    rows, columns = weights.shape
    where = f"{100 * weights.max():.0f} % of the weight in row {row + 1} of {rows}, column {column + 1} of {columns}"
    return element(
        "button",
        word,
        type="button",
        tabindex=0 if first else -1,
        data_weights=base64.b64encode(scaled.tobytes()).decode(),
        data_columns=columns,
        data_where=where,
    )
