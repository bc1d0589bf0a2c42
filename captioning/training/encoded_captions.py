"""The captions of a split as numbers, in a small part of the memory of lists of words."""

import itertools
from array import array
from collections.abc import Iterable, Iterator, Sequence

import numpy as np
import torch
from torch import Tensor

from data_prep.vocabulary import BOS, EOS, Vocabulary


class EncodedCaptions:
    """The captions of each image as ids, from the begin token to the end token, each a 1-D int64 tensor.

    Args:
        captions: Words of each caption of each image; they are read once.
        vocabulary: Vocabulary for the ids.
        max_words: Number of words after which a caption is cut; it then has no end token. None for no limit.

    Attributes:
        cut: Number of captions that were cut.
        longest: Number of ids of the longest caption.
    """

    def __init__(
        self, captions: Iterable[Sequence[Sequence[str]]], vocabulary: Vocabulary, max_words: int | None = None
    ):
        ids, starts, first_of = array("i"), array("q", [0]), array("q", [0])
        self.cut = self.longest = 0
        for of_image in captions:
            for caption in of_image:
                encoded = encode_caption(vocabulary, caption, max_words).tolist()
                self.cut += encoded[-1] != EOS
                self.longest = max(self.longest, len(encoded))
                ids.extend(encoded)
                starts.append(len(ids))
            first_of.append(len(starts) - 1)
        # Tensors, which processes that read batches share, where copies of arrays would be made.
        self._ids, self._starts, self._first_of = (torch.from_numpy(np.array(each)) for each in (ids, starts, first_of))

    def __len__(self) -> int:
        """Number of images."""
        return len(self._first_of) - 1

    @property
    def count(self) -> int:
        """Number of captions."""
        return len(self._starts) - 1

    def __getitem__(self, image: int) -> list[Tensor]:
        """Return the captions of an image.

        Raises:
            IndexError: There are not so many images.
        """
        if not 0 <= image < len(self):
            raise IndexError(f"image {image} of {len(self)}")
        first, last = self._first_of[image : image + 2].tolist()
        starts = self._starts[first : last + 1].tolist()
        return [self._ids[start:end].long() for start, end in itertools.pairwise(starts)]

    def __iter__(self) -> Iterator[list[Tensor]]:
        """Yield the captions of each image."""
        return map(self.__getitem__, range(len(self)))


def encode_caption(vocabulary: Vocabulary, caption: Sequence[str], max_words: int | None = None) -> Tensor:
    """Return a caption as ids, from the begin token to the end token; a cut caption has no end token."""
    words = vocabulary.encode(caption[:max_words])
    return torch.tensor([BOS, *words, *([] if len(words) < len(caption) else [EOS])])
