"""Batches of images with their captions, for training and validation.

All captions of an image are in the same batch, so that its grid is encoded and projected only once.

Shapes: B images, K captions of the image with most captions, T words of the longest caption with its end token.
"""

from collections.abc import Sequence
from functools import cached_property
from typing import NamedTuple, Self

import numpy as np
import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence
from torch.utils.data import Dataset

from captioning.captioner_config import FeatureBits
from captioning.network.encoder import GridEncoder
from captioning.training.encoded_captions import EncodedCaptions
from captioning.training.features import as_tensor, grid_features
from captioning.training.views import PLAIN, View
from data_prep.images import load_image
from data_prep.prepared_captions import PreparedCaptions
from data_prep.vocabulary import PAD, Vocabulary


class CaptionBatch(NamedTuple):
    """Images with all their captions."""

    images: Tensor  # grids (B, L, C) float32 of a frozen encoder, or pixels (B, 3, S, S) uint8
    words: Tensor  # (B, K, T + 1), from the begin token to the end token, then padding
    indices: Tensor  # (B,), positions of the images in the split

    @property
    def inputs(self) -> Tensor:
        """The input words, (B, K, T)."""
        return self.words[..., :-1]

    @property
    def targets(self) -> Tensor:
        """The words that follow the input words, (B, K, T)."""
        return self.words[..., 1:]


class CaptionedImages(Dataset):
    """One split of a prepared data set; every image occurs once for each of the views.

    Args:
        data: The prepared data set.
        split: Name of the split.
        encoder: Encoder for the cached grids or for the preprocessing.
        vocabulary: Vocabulary for the ids of the words.
        cached: Read grids from the cache, which is filled before the first is read; otherwise return pixels, for an
            encoder that is trained too.
        views: How the images are seen.
        bf16: Precision of the cached grids (see `grid_features`).
        bits: Their bits on disk.
        max_words: Number of words after which captions are cut; None for no limit.

    Attributes:
        captions: The captions of each image as ids.
        epoch: Number of the epoch; crops that are not cached are other ones in every epoch.
    """

    def __init__(
        self,
        data: PreparedCaptions,
        split: str,
        encoder: GridEncoder,
        vocabulary: Vocabulary,
        *,
        cached: bool,
        views: Sequence[View] = (PLAIN,),
        bf16: bool = False,
        bits: FeatureBits = 16,
        max_words: int | None = None,
    ):
        self.captions = EncodedCaptions(data.tokens(split), vocabulary, max_words)
        self.epoch = 0
        self._data, self._split, self._cached, self._bf16 = data, split, cached, bf16
        self._bits: FeatureBits = bits
        self._encoder, self._views = encoder, views
        rows = data.split(split)
        self._images, self._tokens = rows["image"], rows.select_columns("tokens")

    def references(self, indices: Sequence[int]) -> list[list[list[str]]]:
        """Return the words of the captions of images by their positions in the split."""
        return self._tokens[indices]["tokens"]

    def prepare(self) -> None:
        """Fill the cache; of several processes, each computes a share of it."""
        if self._cached:
            _ = self._grids

    @cached_property
    def _grids(self) -> list[np.ndarray]:
        return [
            grid_features(self._encoder, self._data, self._split, view, self._bf16, self._bits) for view in self._views
        ]

    def __deepcopy__(self, memo: object) -> Self:
        """Return the images themselves: the average of the weights is a copy of the task, but not of the grids."""
        return self

    def __len__(self) -> int:
        """Number of images, in all views."""
        return len(self._views) * len(self.captions)

    def __getitem__(self, item: int) -> tuple[Tensor, list[Tensor], int]:
        """Return the grid or the pixels, the captions as ids, and the position of the image in the split."""
        view, index = divmod(item, len(self.captions))
        if self._cached:
            image = as_tensor(self._grids[view][index])
        else:
            image = load_image(self._images[index]["bytes"])
            image = self._encoder.preprocess(self._views[view].of(image, index, self.epoch))
        return image, self.captions[index], index


def collate(items: list[tuple[Tensor, list[Tensor], int]]) -> CaptionBatch:
    """Stack the images and pad their captions."""
    images, captions, indices = zip(*items, strict=True)
    return CaptionBatch(torch.stack(images), pad_captions(captions), torch.tensor(indices))


def pad_captions(captions: Sequence[Sequence[Tensor]]) -> Tensor:
    """Pad the captions of B images to equal length and number, (B, K, T); a missing caption is all padding."""
    most = max(map(len, captions))
    nothing = torch.empty(0, dtype=torch.long)
    padded = pad_sequence(
        [caption for several in captions for caption in (*several, *[nothing] * (most - len(several)))],
        batch_first=True,
        padding_value=PAD,
    )
    return padded.unflatten(0, (len(captions), most))
