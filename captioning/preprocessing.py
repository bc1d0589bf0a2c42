"""How photos become the pixels that an encoder reads; the encoder itself normalises their colours."""

import numpy as np
from PIL import Image


def squashed(image: Image.Image, size: int) -> np.ndarray:
    """Return an RGB image as (3, size, size) uint8; nothing is cropped, and the aspect ratio is not kept."""
    return np.array(image.resize((size, size), Image.Resampling.BICUBIC)).transpose(2, 0, 1)
