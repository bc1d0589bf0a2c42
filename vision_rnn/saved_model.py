"""Models that are saved as a folder and loaded from one, without executing code; see `vision_rnn.model_folder`."""

import contextlib
import copy
import json
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, ClassVar, Self, TypeVar

import torch
from huggingface_hub import ModelHubMixin, hf_hub_download
from huggingface_hub.errors import EntryNotFoundError
from safetensors import SafetensorError
from safetensors.torch import load_file, save
from torch import nn
from torch.nn.modules.module import (
    register_module_buffer_registration_hook,
    register_module_parameter_registration_hook,
)
from torch.overrides import TorchFunctionMode

from vision_rnn.console import note
from vision_rnn.errors import UserError
from vision_rnn.files import atomic_path, read_json
from vision_rnn.model_folder import (
    CARD,
    CHECKSUMS,
    CONFIG,
    WEIGHTS,
    check_files,
    find_folder,
    first_changed,
    write_checksums,
)

# Raised for a configuration or weights that are intact, but belong to another class.
_UNSUITABLE = (SafetensorError, RuntimeError, TypeError, ValueError, KeyError, AttributeError)
# What a model may have in memory beside the values of its weights file, such as layers that are replaced when it is
# built.
_FREE_VALUES = 2**26


class SavedModel(nn.Module, ModelHubMixin, ABC):
    """A model that `save_pretrained` writes as a folder, and that `from_pretrained` builds from one or from the hub.

    Attributes:
        kind: The kind of model, as stored in the configuration; messages show spaces for its hyphens.
        program: Name of the program that trains and exports such models, for messages.
        bundled: The folder that contains the model folders installed with the package.
        card: The model card in Markdown, read from the folder that the model was loaded from; empty if there is none.
    """

    kind: ClassVar[str]
    program: ClassVar[str]
    bundled: ClassVar[Path]
    card: str = ""

    @abstractmethod
    def describe(self) -> dict[str, Any]:
        """Return everything except the weights in JSON types: the arguments that build an identical model."""

    @classmethod
    @abstractmethod
    def from_description(cls, description: dict[str, Any]) -> Self:
        """Build the model of a description from `describe`, with untrained weights.

        Raises:
            TypeError: A key is missing or unknown.
        """

    def _save_pretrained(self, save_directory: Path) -> None:
        """Write the configuration, the weights in half precision and their checksums (for `save_pretrained`)."""
        config = json.dumps({"kind": self.kind, **self.describe()}, indent=1, ensure_ascii=False)
        (save_directory / CONFIG).write_text(config + "\n", encoding="utf-8")
        halves = {
            name: (tensor.half() if tensor.is_floating_point() else tensor).contiguous()
            for name, tensor in self.state_dict().items()
        }
        # Not `save_file`, whose error for a full disk is no OSError.
        (save_directory / WEIGHTS).write_bytes(save(halves))
        if self.card:
            (save_directory / CARD).write_text(self.card, encoding="utf-8")
        write_checksums(save_directory, [CONFIG, WEIGHTS, *self._save_more(save_directory)])

    def _save_more(self, folder: Path) -> list[str]:
        """Write further files that belong to the configuration and the weights in `folder`; return their names."""
        return []

    @classmethod
    def _from_pretrained(
        cls,
        *,
        model_id: str,
        revision: str | None,
        cache_dir: str | Path | None,
        force_download: bool,
        local_files_only: bool,
        token: str | bool | None,
        **_: Any,
    ) -> Self:
        """Build the model and load its weights (for `from_pretrained`), from a folder or a hub name.

        The hub's library passes the configuration too, but without unknown keys; it is read again here, so that an
        unknown key is an error.
        """

        def find(name: str) -> Path:
            if Path(model_id).is_dir():
                return Path(model_id) / name
            return Path(
                hf_hub_download(
                    model_id,
                    name,
                    revision=revision,
                    cache_dir=cache_dir,
                    force_download=force_download,
                    local_files_only=local_files_only,
                    token=token,
                )
            )

        if not Path(model_id).is_dir():
            try:
                checksums = find(CHECKSUMS)
            except EntryNotFoundError:
                note(f"hub:{model_id}: has no {CHECKSUMS}, and is not checked for damage")
            else:
                if path := first_changed(checksums, [find(CONFIG), find(WEIGHTS)]):
                    raise UserError(
                        f"hub:{model_id}: {path.name} differs from the file that was saved (SHA-256); remove {path} "
                        "to download it again, or choose another model"
                    )
        description = read_json(find(CONFIG))
        # The first release wrote no kind: such a folder is assumed to be of this class, whose arguments must match.
        kind = str(description.pop("kind", cls.kind))
        if kind != cls.kind:
            found, wanted = (name.replace("-", " ") for name in (kind, cls.kind))
            raise UserError(f"{model_id}: a {found}, not a {wanted}; choose another model")
        most = _FREE_VALUES + find(WEIGHTS).stat().st_size
        # First without memory, on torch's device `meta`, where not every network can be built: some read a value.
        with contextlib.suppress(RuntimeError), _at_most(most, model_id), torch.device("meta"), _WithoutDraws():
            cls.from_description(copy.deepcopy(description))
        with _at_most(most, model_id):
            model = cls.from_description(description)
        model.load_state_dict(load_file(find(WEIGHTS)), strict=True)
        with contextlib.suppress(FileNotFoundError, EntryNotFoundError):  # A model may have no card.
            model.card = find(CARD).read_text(encoding="utf-8", errors="replace")
        return model.eval()


Model = TypeVar("Model", bound=SavedModel)


def load_model(cls: type[Model], model: str | Path) -> Model:
    """Load a model for use: a model folder, `bundled:NAME`, or `hub:OWNER/NAME` from the Hugging Face hub.

    `hub:OWNER/NAME@REVISION` is a branch, a tag or a commit of the hub's repository.

    Raises:
        UserError: No such folder or name, a folder or file that is something else (such as a run folder), a missing
            file, a file that differs from what was saved, or another kind of model.
    """
    if str(model).startswith("hub:"):
        name, _, revision = str(model).removeprefix("hub:").partition("@")
        try:
            return cls.from_pretrained(name, revision=revision or None)
        except (OSError, *_UNSUITABLE) as error:
            reason = _first_line(error)
            raise UserError(
                f"{model}: cannot be loaded from the hub ({reason}); check the name, the network and the disk space"
            ) from error
    folder = find_folder(model, cls.bundled, cls.program)
    check_files(folder, (CONFIG, WEIGHTS))
    try:
        return cls.from_pretrained(folder)
    except _UNSUITABLE as error:
        reason = _first_line(error)
        raise UserError(
            f"{folder}: written by another version of this program, or another kind of model ({reason})"
        ) from error


def check_model_output(output: str | Path) -> Path:
    """Refuse a place for a model folder before anything is computed.

    Raises:
        UserError: It holds something other than a model.
    """
    output = Path(output)
    if output.is_file() or (output.is_dir() and any(output.iterdir()) and not (output / CONFIG).is_file()):
        raise UserError(f"{output}: holds something other than a model; choose another folder")
    return output


def save_model(model: SavedModel, output: str | Path, card: str) -> None:
    """Write a model folder, complete or not at all.

    Args:
        model: The model.
        output: The folder, replaced if it is a model folder.
        card: The model card, in Markdown.

    Raises:
        UserError: `output` holds something else, or cannot be written.
    """
    output = check_model_output(output)
    with atomic_path(output) as staged:
        staged.mkdir()
        model.card = card
        model.save_pretrained(staged)


class _WithoutDraws(TorchFunctionMode):
    """Leave out draws of initial values, for which torch would import its compiler on the device `meta`."""

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        return kwargs["tensor"] if func is nn.init.normal_ else func(*args, **kwargs)


@contextlib.contextmanager
def _at_most(number: int, model: str) -> Iterator[None]:
    """Refuse models of more values than this within the block, while they are built.

    The sizes in the configuration of a folder that someone else made may be any.
    """
    left = number

    def count(module: nn.Module, name: str, value: torch.Tensor | None) -> None:
        nonlocal left
        left -= 0 if value is None else value.numel()
        if left < 0:
            raise UserError(f"{model}: the sizes in {CONFIG} are not those of {WEIGHTS}; copy the model again")

    parameters, buffers = (
        register(count)
        for register in (register_module_parameter_registration_hook, register_module_buffer_registration_hook)
    )
    try:
        yield
    finally:
        parameters.remove()
        buffers.remove()


def _first_line(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]
