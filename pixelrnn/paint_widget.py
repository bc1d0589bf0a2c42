"""An image in a page on which a region is painted, with the mouse, a finger or the keyboard."""

import numpy as np
from PIL import Image
from torch import Tensor

from vision_rnn.page import Element, element, picture

STYLE = """
.paint { position: relative; width: min(100%, 20rem); line-height: 0; touch-action: none; }
.paint img, .paint canvas { width: 100%; image-rendering: pixelated; }
.paint canvas { position: absolute; inset: 0; height: 100%; cursor: crosshair; }
"""
# The mask is kept with the canvas, so a new image brings its own.
SCRIPT = """
(() => {
  const cells = canvas => canvas.mask ??= [...canvas.dataset.mask].map(Number);
  const draw = canvas => {
    const context = canvas.getContext('2d'), mask = cells(canvas);
    context.clearRect(0, 0, canvas.width, canvas.height);
    context.fillStyle = 'rgba(120, 180, 240, .8)';
    mask.forEach((painted, cell) => {
      if (painted) context.fillRect(cell % canvas.width, Math.floor(cell / canvas.width), 1, 1);
    });
    if (canvas.at && document.activeElement === canvas) {
      context.fillStyle = '#e0002b';
      context.fillRect(canvas.at[0], canvas.at[1], 1, 1);
    }
  };
  const paint = (canvas, x, y, radius, value) => {
    const mask = cells(canvas);
    for (let row = 0; row < canvas.height; row++)
      for (let column = 0; column < canvas.width; column++)
        if (Math.hypot(column - x, row - y) <= radius) mask[row * canvas.width + column] = value;
    draw(canvas);
  };
  const place = (canvas, event) => {
    const box = canvas.getBoundingClientRect();
    return [
      Math.floor((event.clientX - box.left) / box.width * canvas.width),
      Math.floor((event.clientY - box.top) / box.height * canvas.height),
    ];
  };
  const canvasOf = event => event.target instanceof Element ? event.target.closest('.paint canvas') : null;
  let stroke = null;
  document.addEventListener('pointerdown', event => {
    const canvas = canvasOf(event);
    if (!canvas) return;
    const [x, y] = place(canvas, event);
    stroke = {canvas, x, y, value: cells(canvas)[y * canvas.width + x] ? 0 : 1};
    paint(canvas, x, y, 1.5, stroke.value);
  });
  document.addEventListener('pointermove', event => {
    if (!stroke) return;
    const [x, y] = place(stroke.canvas, event), steps = Math.max(1, Math.abs(x - stroke.x), Math.abs(y - stroke.y));
    for (let step = 1; step <= steps; step++) {
      const share = step / steps;
      paint(stroke.canvas, stroke.x + share * (x - stroke.x), stroke.y + share * (y - stroke.y), 1.5, stroke.value);
    }
    [stroke.x, stroke.y] = [x, y];
  });
  document.addEventListener('pointerup', () => stroke = null);
  document.addEventListener('pointercancel', () => stroke = null);
  document.addEventListener('keydown', event => {
    const canvas = canvasOf(event);
    if (!canvas) return;
    canvas.at ??= [canvas.width >> 1, canvas.height >> 1];
    const [x, y] = canvas.at;
    const step = {ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1]}[event.key];
    if (step) canvas.at = [
      Math.min(canvas.width - 1, Math.max(0, x + step[0])), Math.min(canvas.height - 1, Math.max(0, y + step[1])),
    ];
    else if (event.key === ' ' || event.key === 'Enter')
      paint(canvas, x, y, 0, cells(canvas)[y * canvas.width + x] ? 0 : 1);
    else return;
    event.preventDefault();
    draw(canvas);
  });
  for (const name of ['focusin', 'focusout'])
    document.addEventListener(name, event => { const canvas = canvasOf(event); if (canvas) draw(canvas); });
  const drawNew = () => document.querySelectorAll('.paint canvas').forEach(canvas => canvas.mask || draw(canvas));
  new MutationObserver(drawNew).observe(document, {childList: true, subtree: true});
  window.paintedMask = () => cells(document.querySelector('.paint canvas')).join('');
})();
"""
READ_MASK = "window.paintedMask()"


def painted_image(image: Image.Image, mask: Tensor) -> Element:
    """Return the image under its mask.

    Args:
        image: The image, a pixel of the model for each pixel.
        mask: (H, W) bool, True where pixels are painted at first.
    """
    rows, columns = mask.shape
    canvas = element(
        "canvas",
        width=columns,
        height=rows,
        tabindex=0,
        role="application",
        aria_label="Region to draw. Arrow keys move, the space bar paints or erases a pixel.",
        data_mask="".join(np.where(mask.flatten().numpy(), "1", "0")),
    )
    return element("div", picture(image, "image to complete", class_="pixels"), canvas, class_="paint")
