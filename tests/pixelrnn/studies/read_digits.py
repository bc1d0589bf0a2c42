"""Are the digits that a model draws readable? A small classifier, trained on real digits, reads a hundred of each.

    python tests/pixelrnn/studies/read_digits.py --model runs/digits/model --data data/mnist

The data set must have labels and the image shape of the model, such as the one that it was trained on. The script takes
a minute or two on one core.
"""

import argparse
import math
import sys

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.data import DataLoader

from data_prep.prepared_pixels import PreparedPixels
from pixelrnn.model import load_pixel_model
from pixelrnn.pixel_config import ImageShape
from pixelrnn.studies.writing import classes_of, write
from pixelrnn.training.batches import batches, check_fit, pixels_and_labels
from vision_rnn.cli import exit_status
from vision_rnn.console import Progress

EPOCHS, BATCH_SIZE, LEARNING_RATE = 3, 100, 2e-3
HANDS = 100


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", required=True, help="folder of a class-conditional model")
    parser.add_argument("--data", required=True, help="prepared data set with labels")
    parser.add_argument("--seed", type=int, default=0, help="random seed of the first digit of each class")
    options = parser.parse_args()
    return exit_status("read_digits", lambda: measure(options.model, options.data, options.seed))


def measure(model_folder: str, data_folder: str, seed: int) -> int:
    """Print the accuracy of the classifier on real digits and on drawn ones."""
    model, data = load_pixel_model(model_folder), PreparedPixels.open(data_folder)
    shape = model.shape
    check_fit(data, shape)
    digits = classes_of("0123456789"[: max(1, shape.num_classes)], shape)
    classifier = train_classifier(data, shape)
    real, truth = zip(*batches(data, "test", shape, BATCH_SIZE), strict=True)
    print(f"real digits of the test split: {score(read(classifier, torch.cat(real)) == torch.cat(truth))}")
    with Progress(shape.height, "drawing", "row") as progress:
        drawn = write(model, digits, HANDS, seed, progress.update)
    right = read(classifier, drawn.flatten(0, 1)).view(HANDS, -1) == torch.tensor(digits)
    print(f"drawn digits: {score(right)}")
    print("of each:", ", ".join(f"{digit}: {int(of_digit.sum())}" for digit, of_digit in enumerate(right.t())))
    return 0


def train_classifier(data: PreparedPixels, shape: ImageShape) -> nn.Module:
    """Train a small convolutional network to classify the images of the split `train`."""
    torch.manual_seed(0)
    loaded = DataLoader(pixels_and_labels(data, "train", shape), BATCH_SIZE, shuffle=True)
    classifier = nn.Sequential(
        nn.BatchNorm2d(shape.channels),  # Normalises any number of levels.
        nn.Conv2d(shape.channels, 16, 3, padding=1),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Conv2d(16, 32, 3, padding=1),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Flatten(),
        nn.Linear(32 * (shape.height // 4) * (shape.width // 4), 128),
        nn.ReLU(),
        nn.Dropout(0.3),
        nn.Linear(128, shape.num_classes),
    )
    optimizer = torch.optim.AdamW(classifier.parameters(), LEARNING_RATE)
    steps = EPOCHS * len(loaded)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 1 - step / steps)
    with Progress(steps, "training the classifier", "step") as progress:
        for _ in range(EPOCHS):
            for pixels, labels in loaded:
                F.cross_entropy(classifier(pixels.float()), labels).backward()
                optimizer.step()
                optimizer.zero_grad()
                schedule.step()
                progress.update()
    return classifier.eval()


@torch.inference_mode()
def read(classifier: nn.Module, pixels: Tensor) -> Tensor:
    """Return the most probable classes (N,) of images (N, C, H, W)."""
    return torch.cat([classifier(part.float()).argmax(1) for part in pixels.split(1000)])


def score(right: Tensor) -> str:
    """Return the percentage that is right, with the standard error for independent trials, as text."""
    share = right.float().mean().item()
    error = math.sqrt(share * (1 - share) / right.numel())
    return f"{100 * share:.2f} +- {100 * error:.2f} % of {right.numel():,} are read correctly"


if __name__ == "__main__":
    sys.exit(main())
