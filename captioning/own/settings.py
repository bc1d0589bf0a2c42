"""The settings of a captioner of one's own, chosen by the amount of data."""

from dataclasses import dataclass, replace

from captioning.captioner_config import DecoderConfig, EncoderConfig, SearchConfig, TrainingConfig
from vision_rnn.chosen_settings import ChosenSettings


@dataclass(frozen=True, kw_only=True)
class Settings(ChosenSettings):
    """Everything besides the photos that determines the model.

    Attributes:
        min_count: Occurrences in the training captions that a word needs to enter the vocabulary.
        encoder: Encoder settings.
        decoder: Decoder settings.
        search: Search settings.
        training: Training settings.
    """

    min_count: int
    encoder: EncoderConfig = EncoderConfig()
    decoder: DecoderConfig = DecoderConfig()
    search: SearchConfig = SearchConfig()
    training: TrainingConfig = TrainingConfig()

    @classmethod
    def choose(cls, captions: int, init_from: str | None) -> "Settings":
        """Choose the settings by the number of training captions.

        Args:
            captions: Number of captions of the training photos.
            init_from: Model to start from; None for none.
        """
        min_count, training = choose_training(captions, init_from is None)
        if init_from is None:
            return cls(init_from=None, min_count=min_count, training=training)
        from captioning.captioner import load_torch_captioner

        search = load_torch_captioner(init_from).search
        return cls(init_from=init_from, min_count=min_count, search=search, training=training)


def choose_training(captions: int, from_scratch: bool) -> tuple[int, TrainingConfig]:
    """Choose `min_count` and the training settings by the number of training captions.

    A trained captioner learns a style from about 4,800 captions, those read again included; more epochs on few photos
    make the captions of others worse (measured, see RESULTS.md). Without one, as many are read as by the first stage of
    the bundled model, 180,000, in at most 40 epochs; this is not measured.

    Args:
        captions: Number of captions of the training photos.
        from_scratch: Whether the training starts from no captioner.
    """
    min_count = 2 if captions < 5_000 else 3 if captions < 20_000 else 5
    if from_scratch:
        epochs = min(40, max(6, round(180_000 / max(1, captions))))
        training = TrainingConfig(epochs=epochs, batch_size=16 if captions < 20_000 else 32, max_words=30)
    else:
        epochs = min(12, max(3, round(4_800 / max(1, captions))))
        training = TrainingConfig(epochs=epochs, batch_size=16, learning_rate=5e-4, warmup_steps=50, max_words=30)
    # The learning rate falls to 0 in the last epoch; to stop before would break that off.
    return min_count, replace(training, patience=training.epochs)
