"""Settings that a command chooses, keeps beside what it writes, and does not let change when it continues."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields, is_dataclass, replace
from pathlib import Path
from typing import Any, Self, get_type_hints

from vision_rnn.errors import UserError


@dataclass(frozen=True, kw_only=True)
class ChosenSettings:
    """Everything besides the inputs that determines a model; a subclass adds its own, some of them dataclasses.

    Attributes:
        init_from: Model to start from; None for none.
    """

    init_from: str | None

    @classmethod
    def from_document(cls, document: dict[str, Any]) -> Self:
        """Build the settings of a document that `document` returned."""
        types = get_type_hints(cls)

        def read(name: str, value: Any) -> Any:
            if not is_dataclass(types[name]):
                return value
            values = {key: tuple(each) if isinstance(each, list) else each for key, each in value.items()}
            return types[name](**values)

        return cls(**{name: read(name, value) for name, value in document.items()})

    def document(self) -> dict[str, Any]:
        """Return the settings in JSON types."""
        return asdict(self)

    def override(self, given: Mapping[str, Any]) -> Self:
        """Replace the settings that are given, those that do not have their defaults.

        Args:
            given: Dataclasses of settings, by name.
        """
        return replace(self, **{name: _override(getattr(self, name), values) for name, values in given.items()})

    def check_same(self, given: Mapping[str, Any], folder: Path, **others: Any) -> None:
        """Refuse to continue in `folder`, which was started with these settings, with others.

        Args:
            given: As for `override`.
            folder: The output folder.
            others: Settings that are no dataclasses, by name.

        Raises:
            UserError: One that is given differs; the message names the part.
        """
        wanted = replace(self.override(given), **others)
        for name in (field.name for field in fields(self)):
            if getattr(wanted, name) != getattr(self, name):
                raise UserError(
                    f"{folder}: was started with another {name}; give the same options to continue, or choose another "
                    "--output"
                )


def _override(chosen: Any, given: Any) -> Any:
    defaults = type(given)()
    return replace(chosen, **{name: value for name, value in vars(given).items() if value != getattr(defaults, name)})
