"""The views of an image that training shows: as it is, mirrored, and random crops."""

from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageOps

# A crop keeps this share of the area, and changes the aspect ratio by at most this factor.
_AREA = (0.6, 1.0)
_ASPECT = 4 / 3


@dataclass(frozen=True)
class View:
    """One way of seeing every image.

    Attributes:
        mirrored: Left and right are exchanged.
        crop: Number of a random crop, from 1; 0 shows the whole image. A crop is mirrored at random.
    """

    mirrored: bool = False
    crop: int = 0

    @property
    def suffix(self) -> str:
        """The view as a part of a file name."""
        return f"-crop-{self.crop}" if self.crop else "-mirrored" if self.mirrored else ""

    def of(self, image: Image.Image, index: int, epoch: int = 0) -> Image.Image:
        """Return an image as this view shows it; a crop depends on the view, the image's position and the epoch."""
        if not self.crop:
            return ImageOps.mirror(image) if self.mirrored else image
        generator = np.random.default_rng([self.crop, index, epoch])
        area, aspect = generator.uniform(*_AREA), _ASPECT ** generator.uniform(-1, 1)
        width, height = (
            min(side, max(1, round(side * (area * ratio) ** 0.5)))
            for side, ratio in zip(image.size, (aspect, 1 / aspect), strict=True)
        )
        left, top = generator.integers(image.width - width + 1), generator.integers(image.height - height + 1)
        cropped = image.crop((int(left), int(top), int(left) + width, int(top) + height))
        return ImageOps.mirror(cropped) if generator.random() < 0.5 else cropped


PLAIN = View()


def training_views(mirror: bool, crops: int) -> list[View]:
    """Return the views of the training images: the plain one, the mirrored one if wanted, and the crops."""
    return [PLAIN, *[View(mirrored=True)] * mirror, *(View(crop=number) for number in range(1, crops + 1))]
