"""The model that a training starts from: a trained one, to which a context may be added."""

from dataclasses import replace

from pixelrnn.model import PixelNetwork, load_pixel_model
from pixelrnn.pixel_config import ModelConfig
from vision_rnn.errors import UserError
from vision_rnn.run_folder import check_same


def trained_model(init_from: str, given: ModelConfig) -> PixelNetwork:
    """Load a model to start from, and add the context that the settings have and it has not.

    Until the context has learned, the model predicts what it did without.

    Args:
        init_from: Model folder, `bundled:NAME`, or `hub:OWNER/NAME`.
        given: Model settings given; those that have their defaults count as not given.

    Raises:
        UserError: It cannot be loaded, it is a mixture, or a setting differs from its own.
    """
    try:
        model = load_pixel_model(init_from)
    except UserError as error:
        raise UserError(f"init_from: {error}") from error
    if not isinstance(model, PixelNetwork):
        raise UserError(f"init_from: {init_from}: a mixture, which is not trained as a whole; start from a member")
    config = model.config
    if given.context_layers and not config.context_layers:
        config = replace(config, context_layers=given.context_layers)
    check_same("model", given, config, init_from)
    if config == model.config:
        return model.train()
    extended = PixelNetwork(config, model.shape, model.history)
    extended.load_state_dict(extended.state_dict() | model.state_dict())
    return extended.train()
