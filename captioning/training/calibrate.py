"""Calibration: gives a trained captioner the confidence of its captions, from training and validation images."""

from typing import Any

import numpy as np
import torch

from captioning.captioner import Captioner
from captioning.confidence import FEWEST_IMAGES, GOOD, Calibration, fit_calibration
from captioning.network.familiarity import DIRECTIONS, Familiarity
from captioning.search import beam_search
from data_prep.images import load_image
from data_prep.prepared_captions import PreparedCaptions
from evaluation.caption_scores import SCORES, score_captions
from vision_rnn.console import Progress
from vision_rnn.errors import UserError

# A sample of the training photos is enough for the main directions of their features.
_MOST_PHOTOS = 2000
_BATCH_SIZE = 16


@torch.inference_mode()
def calibrate(captioner: Captioner, data: PreparedCaptions, split: str = "validation") -> Calibration:
    """Fit the distribution of the training photos and the calibration of the captions, and set both.

    Args:
        captioner: The model, changed in place.
        data: The prepared data set that the model was trained on.
        split: Split whose captions are scored; not one that the model was trained on.

    Raises:
        UserError: The model takes no photos, there are too few images, or the scores of all captions are equal.
    """
    if captioner.blind:
        raise UserError("a language model takes no photo, so it has no confidence in captions of photos")
    rows = data.split(split)
    if len(rows) < FEWEST_IMAGES:
        raise UserError(f"{data.folder}: {split} has {len(rows)} images, and a calibration needs {FEWEST_IMAGES}")
    captioner.eval()
    captioner.familiarity = _familiarity(captioner, data)
    log_probabilities: list[Any] = []
    distances: list[Any] = []
    texts: list[list[str]] = []
    search = captioner.search
    with Progress(len(rows), f"captioning {split}", "image") as progress:
        for start in range(0, len(rows), _BATCH_SIZE):
            decoding = captioner.decoding(_pixels(captioner, rows[start : start + _BATCH_SIZE]["image"]))
            decoded = beam_search(decoding, search.beam_size, search.length_exponent, search.max_words)
            texts += [captioner.vocabulary.decode(words[0].tolist()) for words in decoded.words]
            log_probabilities.append(decoded.mean_log_probabilities[:, 0])
            distances.append(decoding.distances)
            progress.update(decoding.num_images)
    scores = SCORES["CIDEr-D"](score_captions(texts, rows["tokens"][:]).statistics, 1)
    if not 0 < (scores >= GOOD).sum() < len(scores):
        raise UserError(
            f"{data.folder}: of the captions of {split}, {'all' if scores.min() >= GOOD else 'none'} have a CIDEr-D of "
            f"at least {GOOD}, so nothing tells good ones from others"
        )
    captioner.calibration = fit_calibration(
        np.concatenate(log_probabilities), np.concatenate(distances), scores, len(captioner.familiarity.directions)
    )
    return captioner.calibration


def _familiarity(captioner: Captioner, data: PreparedCaptions) -> Familiarity:
    images = data.split("train")
    chosen = np.unique(np.linspace(0, len(images) - 1, min(len(images), _MOST_PHOTOS)).astype(int)).tolist()
    features = []
    with Progress(len(chosen), "features of training photos", "image") as progress:
        for start in range(0, len(chosen), _BATCH_SIZE):
            batch = images[chosen[start : start + _BATCH_SIZE]]["image"]
            pixels = torch.from_numpy(np.stack(_pixels(captioner, batch))).to(captioner.device)
            features.append(captioner.encoder(pixels).mean(dim=1).cpu())
            progress.update(len(batch))
    directions = min(DIRECTIONS, (len(chosen) - 1) // 2, captioner.encoder.channels // 2)
    return Familiarity.fitted(torch.cat(features), directions).to(captioner.device)


def _pixels(captioner: Captioner, images: list[dict[str, bytes]]) -> list[np.ndarray]:
    return [captioner.prepare(load_image(image["bytes"])) for image in images]
