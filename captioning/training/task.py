"""Training of the captioner with Lightning.

There are two objectives. `cross_entropy` is teacher forcing: equation 14 of Show, Attend and Tell (arXiv 1502.03044)
with label smoothing. `self_critical` continues the training of a captioner by REINFORCE on CIDEr-D (Rennie et al.,
arXiv 1612.00563, section 3). The baseline of a sampled caption is the mean reward of the image's other samples (Luo,
arXiv 2003.09971). The reward includes the end token, and its document frequencies are those of the training split.

Hard attention adds the gradient of its looks to teacher forcing (Show, Attend and Tell, equation 12), with three
deviations. The reward of a look is the log-likelihood of the words from its own on, because it does not influence
earlier words. From this reward, the log-likelihood of the same words with the expectation of every look is subtracted;
no look influences it. The moving average that serves as baseline is kept separately for each number of such words. All
three only reduce the variance; without them the weights stay nearly uniform. In the first part of the training every
look is replaced by its expectation, as in soft attention (`look_warmup`); in the rest the weights become sharper step
by step.

Validation captions the images by beam search, without the reference words as input. The scores of these captions (for a
language model, the perplexity) select the best epoch.
"""

import itertools
import math
from collections.abc import Sequence
from typing import Any

import lightning
import numpy as np
import torch
from lightning.pytorch.loggers import TensorBoardLogger
from torch import Tensor
from torch.nn import functional as F

from captioning.captioner import Captioner
from captioning.captioner_config import TrainingConfig
from captioning.network.attention import (
    EXPECTED_SHARE,
    SHARPNESS,
    attention_entropy,
    doubly_stochastic_penalty,
    reinforce_loss,
)
from captioning.network.decoder import Reading
from captioning.network.gradient_flow import geometric_mean, gradient_flow
from captioning.network.torch_decoding import TorchDecoding
from captioning.search import NEVER_EMITTED, beam_search, sample
from captioning.training.batches import CaptionBatch, CaptionedImages
from captioning.training.encoded_captions import EncodedCaptions
from data_prep.vocabulary import EOS, PAD
from evaluation.caption_scores import score_captions
from evaluation.cider import CiderDScorer
from vision_rnn.console import note
from vision_rnn.errors import UserError
from vision_rnn.processes import gathered, rank, summed, weight_of
from vision_rnn.trainer import check_finite

_LOGGED_WORDS_BACK = (1, 5, 10)


class CaptioningTask(lightning.LightningModule):
    """A captioner with its losses, its optimiser and its validation by beam search.

    Args:
        captioner: The model.
        config: Training settings.
        training: The training images.
        validation: The validation images.

    Raises:
        UserError: `log_gradients` is set, and the decoder is a window.
    """

    def __init__(
        self, captioner: Captioner, config: TrainingConfig, training: CaptionedImages, validation: CaptionedImages
    ):
        super().__init__()
        self.captioner = captioner
        self.config = config
        self._validation = validation
        self._candidates: dict[int, list[str]] = {}
        self._nats, self._words = 0.0, 0
        self.look_baseline: Tensor
        if config.log_gradients and captioner.decoder_config.cell == "window":
            raise UserError("training.log_gradients: a window has no recurrent path to measure; set it to 0")
        captioner.encoder.requires_grad_(False)
        if captioner.decoder.word_detector:
            captioner.decoder.word_detector.requires_grad_(False)
        if config.encoder_learning_rate:
            captioner.encoder.fine_tune()
        if captioner.decoder_config.hard:
            self.register_buffer("look_baseline", torch.zeros(training.captions.longest))
        if config.objective == "self_critical":
            self._rewards = CiderDScorer(_EndedReferences(training.captions))

    def on_train_batch_start(self, batch: CaptionBatch, batch_idx: int) -> None:
        """Seed dropout by the step number, so that a resumed run draws the same random numbers, and by the process.

        The step number also determines when hard attention starts to draw looks, and how sharp it is.
        """
        torch.manual_seed(hash((self.config.seed, self.global_step)) + rank())
        attention, warmup = self.captioner.decoder.attention, self.config.look_warmup
        if attention is not None:
            progress = self.global_step / self.trainer.estimated_stepping_batches
            attention.expected_share = 1.0 if progress < warmup else EXPECTED_SHARE
            risen = (progress - warmup) / (1 - warmup) if progress > warmup else 0.0
            first, last = SHARPNESS
            attention.sharpness = first * (last / first) ** risen

    def training_step(self, batch: CaptionBatch, batch_idx: int) -> Tensor:
        """Return the loss of a batch, in nats per word (`cross_entropy`) or in reward times nats (`self_critical`)."""
        grid = self._grid(batch.images)
        if self.config.objective == "cross_entropy":
            loss = self._cross_entropy(grid, batch)
        else:
            loss = self._self_critical(grid, batch)
        check_finite(self, loss, "training.learning_rate")
        self.log("loss", loss, prog_bar=True, on_step=True, sync_dist=True, batch_size=len(batch.indices))
        if self.config.log_gradients and self.global_step % self.config.log_gradients == 0:
            self._log_gradients(grid, batch)
        return loss

    def validation_step(self, batch: CaptionBatch, batch_idx: int) -> None:
        """Caption the images by beam search, and compute the likelihood of their reference captions."""
        decoder, search = self.captioner.decoder, self.captioner.search
        memory = decoder.remember(self._grid(batch.images))
        self._nats -= decoder.bounded_log_likelihoods(memory, batch.words).double().sum().item()
        self._words += int((batch.targets != PAD).sum())
        decoding = TorchDecoding(decoder, memory)
        decoded = beam_search(decoding, search.beam_size, search.length_exponent, search.max_words)
        for index, words in zip(batch.indices.tolist(), decoded.words[:, 0].tolist(), strict=True):
            self._candidates[index] = self.captioner.vocabulary.decode(words)

    def on_validation_epoch_end(self) -> None:
        """Score the captions of all processes, and log some of them."""
        self._candidates = dict(sorted(item for share in gathered(self._candidates) for item in share.items()))
        self._nats, self._words = sum(gathered(self._nats)), sum(gathered(self._words))
        check_finite(self, torch.tensor(self._nats), "training.learning_rate")
        references = self._validation.references(list(self._candidates))
        scores = score_captions(list(self._candidates.values()), references).as_dict()
        for name in ("BLEU-4", "ROUGE-L", "CIDEr-D"):
            self.log(name, scores[name], prog_bar=True)
        self.log("perplexity", torch.tensor(self._nats / self._words).exp(), prog_bar=True)
        self._nats, self._words = 0.0, 0
        shown = [" ".join(caption) for caption in itertools.islice(self._candidates.values(), 8)]
        for logger in self.loggers:
            if isinstance(logger, TensorBoardLogger):
                logger.experiment.add_text("captions", "  \n".join(shown), self.global_step)
        note(f"epoch {self.current_epoch}: {' | '.join(shown[:3])}")
        self._candidates.clear()

    def configure_optimizers(self) -> Any:
        """Return AdamW with warm-up and cosine decay, both per step."""
        config = self.config
        groups = []
        parts = ((self.captioner.decoder, config.learning_rate), (self.captioner.encoder, config.encoder_learning_rate))
        for part, rate in parts:
            trained = [parameter for parameter in part.parameters() if parameter.requires_grad]
            matrices = [parameter for parameter in trained if parameter.ndim > 1]
            vectors = [parameter for parameter in trained if parameter.ndim <= 1]
            groups += [
                {"params": matrices, "lr": rate, "weight_decay": config.weight_decay},
                {"params": vectors, "lr": rate, "weight_decay": 0.0},
            ]
        optimizer = torch.optim.AdamW([group for group in groups if group["params"]], betas=(0.9, 0.98))
        steps = int(self.trainer.estimated_stepping_batches)

        def share(step: int) -> float:
            warmth = min(1.0, (step + 1) / (min(config.warmup_steps, steps // 10) + 1))
            return warmth * 0.5 * (1 + math.cos(math.pi * min(1.0, step / steps)))

        schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, share)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Add the description of the captioner, so that a checkpoint can be exported without its data set."""
        checkpoint["captioner"] = self.captioner.describe()

    def _grid(self, images: Tensor) -> Tensor:
        """Return the grid of a batch that contains either grids or pixels."""
        return images if images.ndim == 3 else self.captioner.encoder(images)

    def _log_gradients(self, grid: Tensor, batch: CaptionBatch) -> None:
        """Log how far back the losses of the last words reach; without dropout, so that no random number is drawn."""
        decoder = self.captioner.decoder
        mode = decoder.training
        decoder.eval()
        words = batch.words.masked_fill(batch.words == EOS, PAD)
        norms = geometric_mean(gradient_flow(decoder, decoder.remember(grid), words).hidden)
        decoder.train(mode)
        reached = norms[~norms.isnan()].tolist()
        logged = {f"gradient_norm_{k}": reached[k - 1] for k in _LOGGED_WORDS_BACK if k <= len(reached)}
        # `self.log` would repeat the values at every step until the next measurement.
        for logger in self.loggers:
            logger.log_metrics(logged, self.global_step)

    def _cross_entropy(self, grid: Tensor, batch: CaptionBatch) -> Tensor:
        decoder, mask = self.captioner.decoder, batch.targets != PAD
        hard = self.captioner.decoder_config.hard
        looks = hard and decoder.attention is not None and decoder.attention.expected_share < 1
        expected = self._expected_log_likelihoods(grid, batch) if looks else None
        reading: Reading = decoder(decoder.remember(grid), batch.inputs)
        logits, targets = decoder.logits(reading.outputs[mask]).float(), batch.targets[mask]
        loss = F.cross_entropy(logits, targets, label_smoothing=self.config.label_smoothing)
        if expected is not None:
            gains = torch.zeros(mask.shape, device=mask.device)
            gains[mask] = -F.cross_entropy(logits.detach(), targets, reduction="none") - expected[mask]
            advantages = self._advantages(gains, mask)
            loss = loss + self.config.look_reward * reinforce_loss(reading.weights, reading.shares, advantages, mask)
        if hard:
            loss = loss - self.config.look_entropy * attention_entropy(reading.weights, mask)
        loss = loss * weight_of(mask.sum())
        if self.config.doubly_stochastic:
            penalty = doubly_stochastic_penalty(reading.weights, mask) * weight_of(mask.any(-1).sum())
            loss = loss + self.config.doubly_stochastic * penalty
        return loss

    @torch.no_grad()
    def _expected_log_likelihoods(self, grid: Tensor, batch: CaptionBatch) -> Tensor:
        """Return ln p of every word with the expectation of every look and the dropout of this step, (B, K, T)."""
        decoder = self.captioner.decoder
        assert decoder.attention is not None
        share, decoder.attention.expected_share = decoder.attention.expected_share, 1.0
        # This draws as many random numbers as with looks, so the same units are dropped.
        with torch.random.fork_rng():
            expected = decoder.log_likelihoods(decoder.remember(grid), batch.words)
        decoder.attention.expected_share = share
        return expected

    def _advantages(self, gains: Tensor, mask: Tensor) -> Tensor:
        """Return the reward of each look minus the baseline, (B, K, T), and update the baseline as in section 4.1.

        Args:
            gains: Log-likelihood of each word minus its value with expected looks, 0 for padding, (B, K, T).
            mask: True where a caption has a word, (B, K, T).
        """
        rewards = gains.flip(-1).cumsum(-1).flip(-1)
        remaining = mask.flip(-1).cumsum(-1).flip(-1)
        advantages = rewards - self.look_baseline[remaining]
        sums, counts = (torch.zeros_like(self.look_baseline) for _ in range(2))
        sums.index_add_(0, remaining[mask], rewards[mask])
        counts.index_add_(0, remaining[mask], torch.ones_like(rewards[mask]))
        sums, counts = summed(sums), summed(counts)
        means = torch.where(counts > 0, sums / counts.clamp_min(1), self.look_baseline)
        self.look_baseline.lerp_(means, 0.1)
        return advantages

    def _self_critical(self, grid: Tensor, batch: CaptionBatch) -> Tensor:
        """Return minus (reward - baseline) log p(caption), averaged over the sampled captions.

        Its expected gradient is minus the gradient of the expected reward: equation 7 of arXiv 1612.00563. For this, p
        must be the distribution from which the captions are drawn, without the tokens that are never emitted.
        """
        captioner, decoder = self.captioner, self.captioner.decoder
        # No dropout: the gradient must be that of the probabilities from which the captions are drawn.
        decoder.eval()
        memory = decoder.remember(grid)
        # A resumed training draws the same captions, whatever was drawn before it, and each process others.
        generator = np.random.default_rng([self.config.seed, self.global_step, *[rank()] * (rank() > 0)])
        drawn = sample(
            TorchDecoding(decoder, memory),
            self.config.samples,
            self.config.temperature,
            captioner.search.max_words,
            generator=generator,
        )
        rewards = torch.tensor(
            [
                self._rewards.scores(index, [_until_end(caption) for caption in captions])
                for index, captions in zip(batch.indices.tolist(), drawn.words.tolist(), strict=True)
            ],
            device=grid.device,
        )  # (B, K)
        baseline = (rewards.sum(dim=1, keepdim=True) - rewards) / (self.config.samples - 1)
        targets = torch.from_numpy(drawn.words).to(grid.device)
        inputs = torch.cat([batch.words[:, :1, :1].expand(-1, self.config.samples, -1), targets[..., :-1]], dim=-1)
        outputs, *_ = decoder(memory, inputs)
        mask = targets != PAD
        logits = decoder.logits(outputs[mask]).float() / self.config.temperature
        logits[:, NEVER_EMITTED] = -math.inf
        log_probabilities = -F.cross_entropy(logits, targets[mask], reduction="none")
        advantages = (rewards - baseline).unsqueeze(-1).expand(targets.shape)[mask]
        self.log("reward", rewards.mean(), prog_bar=True, on_step=True, sync_dist=True, batch_size=len(batch.indices))
        # Not a mean over words: their number depends on the samples, so a mean would give long captions less weight.
        return -(advantages * log_probabilities).sum() / rewards.numel()


class _EndedReferences(Sequence[list[list[int]]]):
    """The captions of each image as tokens of the reward.

    The end token counts as a word of it; otherwise ending with "in a" would cost nothing.
    """

    def __init__(self, captions: EncodedCaptions):
        self._captions = captions

    def __len__(self) -> int:
        return len(self._captions)

    def __getitem__(self, image: int) -> list[list[int]]:  # type: ignore[override]
        return [caption[1:].tolist() for caption in self._captions[image]]


def _until_end(words: list[int]) -> list[int]:
    """Return the words up to and including the end token, as tokens of the reward."""
    return words[: words.index(EOS) + 1] if EOS in words else words
