"""Decoding of images that readers of image files and tables keep encoded until they are requested."""

import numpy as np

from data_prep.images import load_image


def decode(encoded: bytes, name: str) -> np.ndarray:
    """Decode an image file to (H, W, 3) uint8, or to (H, W, 1) if it has no colour.

    Raises:
        ImageError: The image cannot be decoded.
    """
    image = np.asarray(load_image(encoded, name))
    is_grey = (image[..., :1] == image[..., 1:]).all()
    return image[..., :1] if is_grey else image
