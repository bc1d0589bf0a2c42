"""What a configuration of `captioning train` costs on a large data set, by rates measured on a small generated one.

    python tests/benchmarks/training_cost.py flickr30k --images 29000 --validation 1014 --words 7414 --photo 500 375
    python tests/benchmarks/training_cost.py coco --images 118287 --validation 5000 --words 10000 --photo 640 480

Measured are: preparing a photo, encoding it, one training step, and captioning a validation photo by beam search, which
writes 12 words. The photos are noise and the weights are random, which changes none of these; nothing is downloaded.
With --memory, it measures instead the memory for all the captions, with photos of one pixel.
"""

import argparse
import json
import math
import random
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import lightning
import numpy as np
import torch
from lightning.pytorch.callbacks import EMAWeightAveraging
from PIL import Image
from torch import nn

from captioning.captioner import Captioner
from captioning.cli import COMMANDS, CONFIGS
from captioning.training.batches import CaptionedImages, collate
from captioning.training.task import CaptioningTask
from captioning.training.views import PLAIN, View, training_views
from data_prep import PreparedCaptions, prepare_captions
from data_prep.vocabulary import EOS
from vision_rnn.cli import command_parser
from vision_rnn.precision import resolved_precision
from vision_rnn.processes import Batches
from vision_rnn.trainer import fit

CAPTIONS, CAPTION_WORDS = 5, 12  # Flickr30k's and COCO's captions have 5 per photo, and 10 to 13 words.
STEPS, VALIDATION_IMAGES = 8, 32


class Stopwatch(lightning.Callback):
    """Measures the seconds of each training step, with loading its batch, and of each validation."""

    def __init__(self) -> None:
        self.steps: list[float] = []
        self.validations: list[float] = []
        self._since = 0.0

    def on_train_batch_end(self, trainer: Any, pl_module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        now = time.perf_counter()
        if batch_idx:
            self.steps.append(now - self._since)
        self._since = now

    def on_validation_start(self, trainer: Any, pl_module: Any) -> None:
        self._since = time.perf_counter()

    def on_validation_end(self, trainer: Any, pl_module: Any) -> None:
        self.validations.append(time.perf_counter() - self._since)


def write_source(folder: Path, counts: dict[str, int], vocabulary: Sequence[str], photo: tuple[int, int]) -> Path:
    """Write photos of noise with captions of random words, in COCO's layout."""
    draw, noise = random.Random(0), np.random.default_rng(0)
    # As smooth as a photo, which decides how long a JPEG file is and how long it takes to read.
    coarse = [max(1, side // 16) for side in reversed(photo)]
    (folder / "images").mkdir()
    for split, count in counts.items():
        images, annotations = [], []
        for number in range(count):
            name = f"{split}-{number:012}.jpg"
            pixels = noise.integers(0, 256, (*coarse, 3), dtype=np.uint8)
            Image.fromarray(pixels).resize(photo, Image.Resampling.BICUBIC).save(folder / "images" / name)
            # COCO's other fields take memory too.
            address = {key: f"http://images.cocodataset.org/train2017/{name}" for key in ("coco_url", "flickr_url")}
            size = {"license": 1, "width": photo[0], "height": photo[1], "date_captured": "2013-11-14 17:02:52"}
            images.append({"id": number, "file_name": name, **address, **size})
            for _ in range(CAPTIONS):
                caption = " ".join(draw.choices(vocabulary, k=CAPTION_WORDS))
                annotations.append({"image_id": number, "id": len(annotations), "caption": caption})
        (folder / f"captions_{split}.json").write_text(json.dumps({"images": images, "annotations": annotations}))
    return folder


def normalise(network: nn.Module, image_size: int) -> None:
    """Give a network of random weights the statistics of such photos; else its features overflow in half precision."""
    layers = [module for module in network.modules() if isinstance(module, nn.BatchNorm2d)]
    for layer in layers:
        layer.momentum = None
        layer.train()
    with torch.no_grad():
        network(nn.functional.interpolate(2 * torch.rand(8, 3, 16, 16) - 1, image_size, mode="bicubic"))
    for layer in layers:
        layer.eval()


def measure_rates(settings: Any, options: argparse.Namespace, folder: Path) -> None:
    """Measure on a small data set, and print what the large one costs."""
    vocabulary = [f"word{number}" for number in range(options.words)]
    training = replace(settings.training, precision=resolved_precision(options.precision, "cpu"))
    views = training_views(training.mirror, training.crops)
    num_images = 2 * training.batch_size // len(views) if training.batch_size > 64 else 2 * training.batch_size
    source = write_source(folder, {"train": num_images, "val": VALIDATION_IMAGES}, vocabulary, options.photo)
    prepare_captions(source, folder / "data", min_count=1)  # Once before, for what is imported on first use.
    start = time.perf_counter()
    prepare_captions(source, folder / "data", min_count=1)
    prepare = (time.perf_counter() - start) / (num_images + VALIDATION_IMAGES)
    data = PreparedCaptions.open(folder / "data")
    search = replace(settings.search, max_words=CAPTION_WORDS)
    captioner = Captioner(settings.encoder, settings.decoder, vocabulary, search)
    normalise(captioner.encoder.backbone, settings.encoder.image_size)
    captioner.decoder.output_bias.data[EOS] = -1e4  # No caption ends before it has all words.

    def images(split: str, views: list[View]) -> CaptionedImages:
        return CaptionedImages(data, split, captioner.encoder, captioner.vocabulary, cached=True, views=views)

    validation = images("validation", [PLAIN])  # Its features warm the encoder up.
    validation.prepare()
    train = images("train", views)
    start, worked = time.perf_counter(), time.process_time()
    train.prepare()
    elapsed, worked = time.perf_counter() - start, time.process_time() - worked
    encode = elapsed / len(train)
    watch = Stopwatch()
    fit(
        CaptioningTask(captioner, training, train, validation),
        Batches(train, validation, training.batch_size, seed=0, collate=collate),
        folder / "run",
        epochs=math.ceil(STEPS / (len(train) / training.batch_size - 1)),
        monitor="CIDEr-D",
        mode="max",
        callbacks=[watch, EMAWeightAveraging(decay=training.average_decay)],
        gradient_clip=training.gradient_clip,
        precision=training.precision,
    )
    step, caption = statistics.median(watch.steps), statistics.median(watch.validations) / VALIDATION_IMAGES
    location_bytes = captioner.encoder.channels * 2
    grid_bytes = captioner.encoder.grid_size**2 * location_bytes
    encoded = options.images * len(views) + options.validation
    steps = math.ceil(options.images * len(views) / training.batch_size)
    epoch = steps * step + options.validation * caption
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    for name, value in {
        "precision": training.precision,
        "threads, cores in use while encoding": f"{torch.get_num_threads()}, {worked / elapsed:.2f}",
        "photos prepared per second": f"{1 / prepare:.0f}",
        "photos encoded per second": f"{1 / encode:.1f}",
        "bytes of features per photo": f"{grid_bytes:,}",
        f"seconds per step of {training.batch_size} photos (of {len(watch.steps)} steps)": f"{step:.2f}",
        "validation photos per second": f"{1 / caption:.1f}",
        "steps per epoch": f"{steps}",
        "hours to prepare": f"{(options.images + options.validation) * prepare / 3600:.2f}",
        "features: photos, hours, GB": f"{encoded:,}, {encoded * encode / 3600:.1f}, {encoded * grid_bytes / 1e9:.1f}",
        "epoch: hours of training, of validation": f"{steps * step / 3600:.2f}, {(epoch - steps * step) / 3600:.2f}",
        f"hours in all, with {training.epochs} epochs": f"{(encoded * encode + training.epochs * epoch) / 3600:.1f}",
        "GB of memory at the most, without the captions": f"{peak / 1e9:.1f}",
    }.items():
        print(f"{name}: {value}")


def measure_memory(options: argparse.Namespace, folder: Path) -> None:
    """Measure the memory for the captions of the whole data set: while it is prepared, and while a model is trained."""
    vocabulary = [f"word{number}" for number in range(options.words)]
    counts = {"train": options.images, "val": options.validation}
    source = write_source(folder, counts, vocabulary, (1, 1))
    command = [sys.executable, "-m", "data_prep", "captions", str(source), "-o", str(folder / "data")]
    subprocess.run(command, check=True)
    prepared = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * 1024
    # The memory in use, not its maximum, which importing torch may have set.
    code = (
        "import sys; from captioning.training.batches import CaptionedImages; from data_prep import PreparedCaptions; "
        "data = PreparedCaptions.open(sys.argv[1]); "
        "used = lambda: 1024 * int(open('/proc/self/status').read().split('VmRSS:')[1].split()[0]); before = used(); "
        "images = [CaptionedImages(data, split, None, data.vocabulary, cached=False) for split in ('train', "
        "'validation')]; print(used() - before)"
    )
    trained = subprocess.run([sys.executable, "-c", code, str(folder / "data")], check=True, capture_output=True)
    print(f"GB of memory at the most, while the data set is prepared: {prepared / 1e9:.1f}")
    print(f"GB of memory for the captions, in training: {int(trained.stdout) / 1e9:.1f}")


def main() -> None:
    """Print the costs."""
    parser = argparse.ArgumentParser(description="Measure what a configuration costs on a large data set.")
    parser.add_argument("config", help="name of a configuration in configs/captioning")
    parser.add_argument("--images", type=int, required=True, help="training photos of the large data set")
    parser.add_argument("--validation", type=int, required=True, help="its validation photos")
    parser.add_argument("--words", type=int, required=True, help="words of its vocabulary")
    parser.add_argument("--photo", type=int, nargs=2, default=(640, 480), help="width and height of a photo")
    parser.add_argument("--precision", default="auto", help="training.precision (default: auto)")
    parser.add_argument("--memory", action="store_true", help="measure the memory for the captions instead")
    options = parser.parse_args()
    options.photo = tuple(options.photo)
    train = command_parser("captioning", "train", COMMANDS["train"])
    settings = train.instantiate(train.parse_args(["--config", str(CONFIGS / f"{options.config}.yaml")]))
    with tempfile.TemporaryDirectory() as folder:
        if options.memory:
            measure_memory(options, Path(folder))
        else:
            measure_rates(settings, options, Path(folder))


if __name__ == "__main__":
    main()
