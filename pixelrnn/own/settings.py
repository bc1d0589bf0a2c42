"""The settings of a pixel model of one's own, chosen by the pictures."""

from dataclasses import dataclass, replace
from pathlib import Path

from pixelrnn.own.picture_source import Survey
from pixelrnn.pixel_config import BUNDLED, ImageShape, ModelConfig, TrainingConfig
from vision_rnn.chosen_settings import ChosenSettings
from vision_rnn.errors import UserError

# Pictures whose longer side has more pixels are not learned as they are, unless asked for: it would take hours.
LARGEST_SIDE = 64
# What the bundled model is for.
_BUNDLED_SHAPE = ImageShape(height=28, width=28, channels=1, levels=2)
# Epochs after which 800 digits were learned, how many digits were read in them, and the limit for fewer pictures.
_EPOCHS, _READ, _MOST_EPOCHS = 10, 8_000, 40
# A model that was trained before needs a fifth of that.
_SHARE_OF_TRAINED = 5
# Pixels that are read in all epochs together, at most: minutes on two cores.
_PIXELS = 16_000_000


@dataclass(frozen=True, kw_only=True)
class Settings(ChosenSettings):
    """Everything besides the pictures that determines the model.

    Attributes:
        size: Side to which the pictures are brought; None keeps their size.
        shape: Shape of the images of the model, without classes.
        model: Model settings.
        training: Training settings.
    """

    size: int | None
    shape: ImageShape
    model: ModelConfig
    training: TrainingConfig

    @classmethod
    def choose(
        cls, shape: ImageShape, number: int, size: int | None, start: str | None, given: ModelConfig
    ) -> "Settings":
        """Choose the settings by the shape and the number of the training pictures.

        Args:
            shape: Result of `choose_shape`.
            number: Number of training pictures.
            size: Side to which the pictures are brought; None keeps their size.
            start: Result of `choose_start`.
            given: Model settings given by the user; those that have their defaults do not count.

        Raises:
            UserError: The model to start from is for other images, or has other settings than those given.
        """
        model = _model_of(start, shape, given) if start else choose_model(shape)
        training = choose_training(number, shape, start is None)
        return cls(init_from=start, size=size, shape=shape, model=model, training=training)

    @property
    def prepared_size(self) -> tuple[int, int] | None:
        """Height and width to which preparation brings the pictures; None keeps their size."""
        return None if self.size is None else (self.size, self.size)


def choose_shape(survey: Survey, source: Path, size: int | None) -> ImageShape:
    """Choose the shape of the images: colours if a picture has any, two levels if all pixels are black or white.

    Args:
        survey: What the pictures are like.
        source: Name of the source in messages.
        size: Side to which the pictures are to be brought; None keeps their size.

    Raises:
        UserError: The pictures have several sizes or are too large, and `size` is not given; or they cannot be resized.
    """
    height, width = next(iter(survey.sizes)) if size is None else (size, size)
    if size is None:
        if len(survey.sizes) > 1:
            smallest, largest = (_describe(choose(survey.sizes, key=_area)) for choose in (min, max))
            raise UserError(
                f"{source}: pictures of {len(survey.sizes)} sizes, from {smallest} to {largest} pixels; bring all to "
                "one with --size, such as --size 32"
            )
        if max(height, width) > LARGEST_SIDE:
            raise UserError(
                f"{source}: pictures of {_describe((height, width))} pixels are too large to be learned pixel by pixel "
                f"in minutes; scale them with --size, such as --size 32 (--size {LARGEST_SIDE + 1} and more take long)"
            )
    elif survey.is_fixed and survey.sizes.keys() != {(size, size)}:
        raise UserError(f"{source}: images of the numbers 0 and 1 cannot be resized; omit --size")
    return ImageShape(
        height=height, width=width, channels=3 if survey.in_colour else 1, levels=2 if survey.is_binary else 256
    )


def check_splits(survey: Survey, source: Path) -> None:
    """Check that there are pictures to train on, and to choose the best epoch by.

    Raises:
        UserError: A split has none.
    """
    for split in ("train", "validation"):
        if not survey.splits[split]:
            raise UserError(
                f"{source}: no picture in the split {split}; add some, or name no split at all, to have the pictures "
                "split"
            )


def choose_start(shape: ImageShape, init_from: str | None, from_scratch: bool, given: ModelConfig) -> str | None:
    """Return the model to start from: the one named, else the bundled one if it is for such images and settings."""
    if init_from or from_scratch:
        return init_from
    return BUNDLED if shape == _BUNDLED_SHAPE and given == ModelConfig() else None


def choose_model(shape: ImageShape) -> ModelConfig:
    """Return a Row LSTM in the configuration of the bundled one, with wider output layers for more than two levels."""
    return ModelConfig(
        num_layers=4,
        hidden_channels=32,
        output_channels=32 if shape.levels == 2 else 64,
        skip=True,
        dilations=(1, 2, 4, 8),
        extra_column=True,
    )


def choose_training(number: int, shape: ImageShape, from_scratch: bool) -> TrainingConfig:
    """Choose the training settings by the number and the shape of the training pictures.

    As many epochs as 800 digits need until others become less likely (measured, see RESULTS.md), more for fewer
    pictures, fewer if that would take long, at least one. The learning rates of a model that was trained before are a
    third, as for the fine-tuned bundled one.

    Args:
        number: Number of training pictures.
        shape: Shape of the images.
        from_scratch: Whether the training starts from no model.
    """
    share = 1 if from_scratch else _SHARE_OF_TRAINED
    useful = min(_MOST_EPOCHS, max(_EPOCHS, round(_READ / number))) // share
    affordable = round(_PIXELS / (number * shape.height * shape.width))
    training = TrainingConfig(epochs=max(1, min(useful, affordable)), batch_size=16)
    return training if from_scratch else replace(training, matrix_learning_rate=0.007, learning_rate=1.4e-3)


def _model_of(start: str, shape: ImageShape, given: ModelConfig) -> ModelConfig:
    """Return the settings of the model to start from, after checking that it fits."""
    from pixelrnn.training.start import trained_model

    trained = trained_model(start, given)
    if (found := replace(trained.shape, num_classes=0)) != shape:
        raise UserError(
            f"{start}: is for {found.describe()}, but the pictures give {shape.describe()}; omit --init_from, or "
            "prepare them alike with data-prep pixels, and train with --data"
        )
    return trained.config


def _describe(size: tuple[int, int]) -> str:
    return f"{size[0]}x{size[1]}"


def _area(size: tuple[int, int]) -> int:
    return size[0] * size[1]
