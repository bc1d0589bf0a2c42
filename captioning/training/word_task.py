"""Teaching an encoder the words of captions before a decoder is trained on it.

An encoder that was trained to name one of a thousand objects separates what captions do not tell apart, and merges what
they do. Here its upper layers and a linear layer on the mean of its grid learn to predict in which share of an image's
captions each of the most frequent words occurs (Wu et al., arXiv 1506.01144, section 3; Fang et al., arXiv 1411.4952).
"""

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from captioning.captioner import Captioner
from captioning.captioner_config import TrainingConfig
from captioning.training.batches import CaptionBatch, CaptionedImages
from captioning.training.task import CaptioningTask
from data_prep.vocabulary import PAD, SPECIAL_TOKENS
from evaluation.word_detection import mean_average_precision
from vision_rnn.errors import UserError
from vision_rnn.processes import gathered, in_order
from vision_rnn.trainer import check_finite


class WordTask(CaptioningTask):
    """A captioner whose encoder and word detector are trained; the rest of its decoder stays untrained.

    Args:
        captioner: The model.
        config: Training settings.
        training: The training images.
        validation: The validation images.

    Raises:
        UserError: The decoder detects no words.
    """

    def __init__(
        self, captioner: Captioner, config: TrainingConfig, training: CaptionedImages, validation: CaptionedImages
    ):
        super().__init__(captioner, config, training, validation)
        if not captioner.decoder.word_detector:
            raise UserError("training.objective: words detects none; give decoder.detected_words, such as 1000")
        captioner.decoder.requires_grad_(False)
        captioner.decoder.word_detector.requires_grad_(True)
        self._found: list[np.ndarray] = []
        self._present: list[np.ndarray] = []

    def training_step(self, batch: CaptionBatch, batch_idx: int) -> Tensor:
        """Return the cross-entropy of the words' shares, in nats per image."""
        logits, shares = self._logits(batch), self._shares(batch)
        loss = F.binary_cross_entropy_with_logits(logits, shares, reduction="sum") / len(logits)
        check_finite(self, loss, "training.encoder_learning_rate")
        self.log("loss", loss, prog_bar=True, on_step=True, sync_dist=True, batch_size=len(logits))
        return loss

    def validation_step(self, batch: CaptionBatch, batch_idx: int) -> None:
        """Detect the words in the images."""
        self._found.extend(self._logits(batch).cpu().numpy())
        self._present.extend(self._shares(batch).cpu().numpy() > 0)

    def on_validation_epoch_end(self) -> None:
        """Score the words that all processes detected."""
        found, present = (np.stack(in_order(gathered(part))) for part in (self._found, self._present))
        check_finite(self, torch.from_numpy(found), "training.encoder_learning_rate")
        self.log("word-AP", mean_average_precision(found, present), prog_bar=True)
        self._found, self._present = [], []

    def _logits(self, batch: CaptionBatch) -> Tensor:
        return self.captioner.decoder.word_logits(self._grid(batch.images)).float()

    def _shares(self, batch: CaptionBatch) -> Tensor:
        return word_shares(batch.words, self.captioner.decoder_config.detected_words)


def word_shares(words: Tensor, count: int) -> Tensor:
    """Return in which share of an image's captions each of the `count` most frequent words occurs, (B, count).

    Args:
        words: Ids of the captions, then padding, (B, K, T); a missing caption is all padding.
        count: Number of words; ids are in descending order of frequency, after those of the special tokens.
    """
    first, last = len(SPECIAL_TOKENS), len(SPECIAL_TOKENS) + count
    # Other tokens go to the column 0, which is cut off.
    columns = torch.where((words >= first) & (words < last), words - first + 1, 0)
    occurs = torch.zeros(*words.shape[:2], count + 1, device=words.device).scatter_(-1, columns, 1.0)[..., 1:]
    captions = (words != PAD).any(-1).sum(1, keepdim=True)
    return occurs.sum(1) / captions
