"""The folder that `train FOLDER` writes: a run folder (`vision_rnn.run_folder`) with data and evaluations.

Every file is complete or absent, and what is there is not computed again.
"""

from dataclasses import dataclass
from pathlib import Path

from vision_rnn.alone import LOCK
from vision_rnn.errors import UserError
from vision_rnn.files import MANIFEST, UNFINISHED
from vision_rnn.run_folder import LAST, checkpoint_folder, read_checkpoint


@dataclass(frozen=True)
class OutputFolder:
    """The places in the folder, and which steps are done.

    Attributes:
        path: The folder.
    """

    path: Path

    @classmethod
    def choose(cls, source: Path, output: str | Path | None, kind: str) -> "OutputFolder":
        """Return the folder for the model of a source, by default beside the source's folder.

        Args:
            source: The folder or file to learn from.
            output: The folder that the user gave, if any.
            kind: What messages call the model; with hyphens, the end of the default name.

        Raises:
            UserError: It lies within the source, or holds something else.
        """
        learned = source.resolve() if source.is_dir() else source.resolve().parent
        folder = cls(Path(output) if output else learned.with_name(f"{learned.name}-{kind.replace(' ', '-')}"))
        if source.is_dir() and folder.path.resolve().is_relative_to(learned):
            raise UserError(f"{folder.path}: lies within {source}, which is learned from; choose another --output")
        if folder.path.is_file() or (folder.path.is_dir() and folder._is_other()):
            raise UserError(
                f"{folder.path}: holds something other than a {kind} of this command; choose another --output"
            )
        return folder

    def _is_other(self) -> bool:
        """Return whether something else is in the folder. A kill leaves the lock, and may do so before `started`."""
        left = {LOCK, f".{self.started.name}{UNFINISHED}"}
        return not self.started.is_file() and not {path.name for path in self.path.iterdir()} <= left

    @property
    def started(self) -> Path:
        """The inputs and the settings that it was started with."""
        return self.path / "started.json"

    @property
    def data(self) -> Path:
        """The prepared data set."""
        return self.path / "data"

    @property
    def before(self) -> Path:
        """The evaluation, on held-out inputs, of what is compared with the model."""
        return self.path / "before.json"

    @property
    def model(self) -> Path:
        """The model folder."""
        return self.path / "model"

    @property
    def after(self) -> Path:
        """The evaluation of the model."""
        return self.path / "after.json"

    @property
    def is_prepared(self) -> bool:
        """Whether the data set is there; until it is, nothing that was started is worth keeping."""
        return (self.data / MANIFEST).is_file()

    @property
    def is_trained(self) -> bool:
        """Whether the model is there."""
        return self.model.is_dir()

    @property
    def is_finished(self) -> bool:
        """Whether nothing is left to do."""
        return self.is_trained and self.after.is_file()

    @property
    def has_checkpoint(self) -> bool:
        """Whether an epoch has been completed."""
        return (checkpoint_folder(self.path) / LAST).is_file()

    def completed_epochs(self, description: str, kind: str) -> int:
        """Return the number of epochs that are completed.

        Args:
            description: The key under which a checkpoint describes its model.
            kind: What messages call such a model.
        """
        if not self.has_checkpoint:
            return 0
        return read_checkpoint(checkpoint_folder(self.path) / LAST, description, kind)["epoch"] + 1
