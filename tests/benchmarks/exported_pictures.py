"""Pictures of a data set as PNG files in a folder, to try `pixelrnn train FOLDER`.

python tests/benchmarks/exported_pictures.py DATA/mnist digits [--number 1000] [--black-and-white]
pixelrnn train digits
"""

import argparse
from pathlib import Path

import numpy as np
from PIL import Image

from data_prep.pixel_shape import THRESHOLD
from data_prep.pixel_sources.pixel_formats import read_pixels, resolve_format


def main() -> None:
    """Write the folder."""
    parser = argparse.ArgumentParser(description="Write the first test images of a data set as PNG files.")
    parser.add_argument("source", help="folder or file of any format that data-prep pixels reads")
    parser.add_argument("folder", type=Path, help="folder to write")
    parser.add_argument("--number", type=int, default=1000, help="number of images")
    parser.add_argument("--black-and-white", action="store_true", help=f"make levels from {THRESHOLD} up white")
    options = parser.parse_args()
    images = read_pixels(options.source, resolve_format(options.source, "auto")).splits["test"].images
    options.folder.mkdir(parents=True)
    for index in range(options.number):
        image = np.where(images[index] >= THRESHOLD, 255, 0) if options.black_and_white else images[index]
        plane = image[..., 0] if image.shape[2] == 1 else image
        Image.fromarray(plane.astype(np.uint8)).save(options.folder / f"{index:04}.png")


if __name__ == "__main__":
    main()
