"""A model as one folder: what training writes, and what every command that uses a model reads.

A model folder holds `config.json` (the kind of model, its architecture and all else that its class describes),
`model.safetensors` (all weights, in half precision), `README.md` (the model card) and `SHA256SUMS` of the first two. It
needs nothing else to be used, and loading it executes no code.
"""

import hashlib
import json
from abc import ABC, abstractmethod
from pathlib import Path
from typing import Any, ClassVar, Self, TypeVar

from huggingface_hub import ModelHubMixin, hf_hub_download
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import nn

from vision_rnn.errors import UserError
from vision_rnn.files import atomic_path, read_json

CONFIG, WEIGHTS, CHECKSUMS, CARD = "config.json", "model.safetensors", "SHA256SUMS", "README.md"
# What comes of a configuration or of weights that are whole, but not those of this class.
_UNSUITABLE = (SafetensorError, RuntimeError, TypeError, ValueError, KeyError, AttributeError)


class SavedModel(nn.Module, ModelHubMixin, ABC):
    """A model that `save_pretrained` writes as a folder, and that `from_pretrained` builds from one or from the hub.

    Attributes:
        kind: The kind of model, as the configuration has it; messages have spaces for its hyphens.
        bundled: The folder of the model folders that are installed with the package.
        card: The model card in Markdown, that of the folder the model was loaded from; empty for none.
    """

    kind: ClassVar[str]
    bundled: ClassVar[Path]
    card: str = ""

    @abstractmethod
    def describe(self) -> dict[str, Any]:
        """Return all but the weights, as JSON can hold it: the arguments from which an equal model can be built."""

    @classmethod
    @abstractmethod
    def from_description(cls, description: dict[str, Any]) -> Self:
        """Build the model that `describe` described, with untrained weights.

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
        save_file(halves, save_directory / WEIGHTS)
        if self.card:
            (save_directory / CARD).write_text(self.card, encoding="utf-8")
        sums = (f"{_sha256(save_directory / name)}  {name}\n" for name in (CONFIG, WEIGHTS))
        (save_directory / CHECKSUMS).write_text("".join(sums))

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

        The hub's library hands over the configuration too, but without the keys it does not know; we read it again, so
        that an unknown key is an error.
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

        description = read_json(find(CONFIG))
        # The first release wrote no kind: such a folder is taken for one of this class, whose arguments must fit.
        kind = str(description.pop("kind", cls.kind))
        if kind != cls.kind:
            found, wanted = (name.replace("-", " ") for name in (kind, cls.kind))
            raise UserError(f"{model_id}: a {found}, not a {wanted}; choose another model")
        model = cls.from_description(description)
        model.load_state_dict(load_file(find(WEIGHTS)), strict=True)
        if (Path(model_id) / CARD).is_file():
            model.card = (Path(model_id) / CARD).read_text(encoding="utf-8", errors="replace")
        return model.eval()


Model = TypeVar("Model", bound=SavedModel)


def load_model(cls: type[Model], model: str | Path) -> Model:
    """Load a model for use: a model folder, `bundled:NAME`, or `hub:OWNER/NAME` from the Hugging Face hub.

    Raises:
        UserError: No such folder or name, a missing file, a file that is not what was saved, or a model of another
            kind.
    """
    if str(model).startswith("bundled:"):
        known = {folder.name: folder for folder in sorted(cls.bundled.iterdir())}
        name = str(model).removeprefix("bundled:")
        if name not in known:
            raise UserError(f"{model}: no such bundled model; choose one of: {', '.join(known)}")
        model = known[name]
    if str(model).startswith("hub:"):
        try:
            return cls.from_pretrained(str(model).removeprefix("hub:"))
        except (OSError, *_UNSUITABLE) as error:
            reason = _first_line(error)
            raise UserError(
                f"{model}: cannot be loaded from the hub ({reason}); check the name and the network"
            ) from error
    folder = Path(model)
    if not folder.is_dir():
        raise UserError(f"{folder}: no such model folder; the other forms are bundled:NAME and hub:OWNER/NAME")
    for name in (CHECKSUMS, CONFIG, WEIGHTS):
        if not (folder / name).is_file():
            raise UserError(f"{folder}: {name} is missing; copy the model folder again")
    checksums = (folder / CHECKSUMS).read_text(errors="replace").splitlines()
    for name in (CONFIG, WEIGHTS):
        if f"{_sha256(folder / name)}  {name}" not in checksums:
            raise UserError(f"{folder / name}: not the file that was saved (its SHA-256 differs); copy it again")
    try:
        return cls.from_pretrained(folder)
    except _UNSUITABLE as error:
        reason = _first_line(error)
        raise UserError(
            f"{folder}: made by another version of this program, or for another model ({reason})"
        ) from error


def save_model(model: SavedModel, output: str | Path, card: str) -> None:
    """Write a model folder, whole or not at all.

    Args:
        model: The model.
        output: The folder, replaced if it is a model folder already.
        card: The model card, in Markdown.

    Raises:
        UserError: `output` holds something else, or cannot be written.
    """
    output = Path(output)
    if output.is_dir() and any(output.iterdir()) and not (output / CONFIG).is_file():
        raise UserError(f"{output}: holds something other than a model; choose another folder")
    with atomic_path(output) as staged:
        staged.mkdir()
        model.card = card
        model.save_pretrained(staged)


def _first_line(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]


def _sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()
