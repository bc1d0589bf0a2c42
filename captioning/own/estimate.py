"""How long the remaining steps take, and how much space, estimated from a short measurement before anything is done."""

import time
from dataclasses import dataclass

import torch
from torch import Tensor

from captioning.captioner import Captioner, load_torch_captioner
from captioning.network.decoder import Decoder
from captioning.network.torch_decoding import TorchDecoding
from captioning.own.captioned_photos import CaptionedPhotos
from captioning.own.settings import Settings
from captioning.search import beam_search
from captioning.training.views import training_views
from data_prep.images import ImageError, load_image
from data_prep.tokenizer import tokenize
from vision_rnn.announcement import Estimate
from vision_rnn.devices import Device, resolve_device
from vision_rnn.errors import UserError
from vision_rnn.output_folder import OutputFolder
from vision_rnn.precision import resolved_precision

# Photos that are read, encoded and captioned.
_MEASURED = 8
_WORDS = 12


@dataclass(frozen=True)
class _Speed:
    """Seconds for one of each; `photo_size` is the size of the features of one photo in bytes."""

    reading: float
    encoding: float
    captioning: float
    training_step: float
    photo_size: int


def estimate(folder: OutputFolder, photos: CaptionedPhotos, settings: Settings, device: Device) -> Estimate:
    """Estimate what the steps take that are not done yet.

    Raises:
        UserError: No photo can be read.
    """
    captioner = (
        load_torch_captioner(settings.init_from, device)
        if settings.init_from
        else Captioner(settings.encoder, settings.decoder, [str(word) for word in range(1000)]).eval()
    ).to(resolve_device(device))
    speed = _measure(captioner, photos, settings)
    training = settings.training
    is_tuned = training.encoder_learning_rate > 0
    views = photos.count("train") * len(training_views(training.mirror, training.crops))
    validation, test = photos.count("validation"), photos.count("test")
    epochs = 0 if folder.is_trained else training.epochs - folder.completed_epochs("captioner", "a captioner")
    # Of an encoder that is trained too, only the features of the held-out photos are stored.
    stored = test if is_tuned else views + validation + test
    cached = sum(file.stat().st_size for file in (folder.data / "features").rglob("*.npy")) // speed.photo_size
    features = max(0, stored - cached)
    evaluations = 1 + bool(settings.init_from and not folder.before.is_file())
    # A step back through an encoder takes about twice the time of a step forward.
    of_encoder = 3 * speed.encoding * views if is_tuned else 0
    seconds = (
        (0 if folder.is_prepared else len(photos.records) * speed.reading)
        + features * (speed.reading + speed.encoding)
        + epochs * (views / training.batch_size * speed.training_step + validation * speed.captioning + of_encoder)
        + evaluations * (test or validation) * speed.captioning
    )
    size = (0 if folder.is_prepared else photos.size) + features * speed.photo_size + _checkpoints(captioner, is_tuned)
    return Estimate(seconds, size)


def _checkpoints(captioner: Captioner, is_tuned: bool) -> int:
    """Return the bytes of two checkpoints and a third that replaces one: weights, and two moments of the trained."""
    weights, decoder = (
        sum(parameter.numel() * 4 for parameter in part.parameters()) for part in (captioner, captioner.decoder)
    )
    return 3 * (weights + 2 * (weights if is_tuned else decoder))


def _measure(captioner: Captioner, photos: CaptionedPhotos, settings: Settings) -> _Speed:
    decoder, start, pixels = captioner.decoder, time.perf_counter(), []
    for record in photos.records:
        try:
            pixels.append(captioner.encoder.preprocess(load_image(record.image.read_bytes())))
        except ImageError:
            continue
        if len(pixels) == _MEASURED:
            break
    if not pixels:
        raise UserError("none of the photos can be read; check the files")
    reading = (time.perf_counter() - start) / len(pixels)
    batch = torch.stack(pixels).to(captioner.device)
    with torch.no_grad():
        captioner.encoder(batch)  # The first call is slower.
        start = time.perf_counter()
        grid = captioner.encoder(batch)
        encoding = (time.perf_counter() - start) / len(pixels)
        start = time.perf_counter()
        beam_search(TorchDecoding(decoder, decoder.remember(grid)), settings.search.beam_size, max_words=_WORDS)
        captioning = (time.perf_counter() - start) / len(pixels)
    training_step = _seconds_per_step(decoder, grid, photos, settings)
    return _Speed(reading, encoding, captioning, training_step, grid[0].numel() * 2)


def _seconds_per_step(decoder: Decoder, grid: Tensor, photos: CaptionedPhotos, settings: Settings) -> float:
    """Measure a training step, on grids (B, L, C) and on captions of the mean number and length."""
    training = settings.training
    trained = [record.captions for record in photos.records if record.split == "train"]
    number = max(1, round(photos.training_captions / max(1, len(trained))))
    lengths = [len(tokenize(captions[0])) for captions in trained[:100]]
    length = min(training.max_words, round(sum(lengths) / max(1, len(lengths)))) + 1
    batch = grid[torch.arange(training.batch_size, device=grid.device) % len(grid)]
    words = torch.randint(len(decoder.output_bias), (training.batch_size, number, length), device=grid.device)
    half = resolved_precision(training.precision, grid.device.type) == "bf16-mixed"
    seconds = 0.0
    for _ in range(2):  # The first one is slower.
        start = time.perf_counter()
        with torch.autocast(grid.device.type, torch.bfloat16, enabled=half):
            logits = decoder.logits(decoder(decoder.remember(batch), words).outputs).float()
            loss = torch.nn.functional.cross_entropy(logits.flatten(0, -2), words.flatten())
        loss.backward()
        seconds = time.perf_counter() - start
    return seconds
