"""The model folder: it gives the same model back, or says in one line what is wrong with it."""

import hashlib
import json
import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import huggingface_hub.hub_mixin
import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn

from vision_rnn import saved_model
from vision_rnn.errors import UserError
from vision_rnn.model_folder import CHECKSUMS, CONFIG, WEIGHTS
from vision_rnn.saved_model import SavedModel, load_model, save_model

BUNDLED_CAPTIONER = Path(__file__).parents[2] / "captioning" / "pretrained" / "flickr8k"


class Scale(SavedModel):
    """A model of another kind than the bundled one."""

    kind = "pixel-model"
    program = "scaling"
    bundled = BUNDLED_CAPTIONER.parent

    def __init__(self, width: int, names: list[str] | None = None):
        super().__init__()
        self.names = names or []
        self.factors = nn.Parameter(torch.rand(width))
        self.register_buffer("steps", torch.tensor(70000))

    def describe(self) -> dict[str, Any]:
        return {"width": len(self.factors), "names": self.names}

    @classmethod
    def from_description(cls, description: dict[str, Any]) -> "Scale":
        return cls(**description)


class Captions(Scale):
    """The same, of the bundled one's kind."""

    kind = "captioner"


@pytest.fixture
def model() -> Scale:
    return Scale(5, ["café"])


@pytest.fixture
def folder(model: Scale, tmp_path: Path) -> Path:
    save_model(model, tmp_path / "model", "# A card\n")
    return tmp_path / "model"


def change_config(folder: Path, **changes: Any) -> None:
    """Alter the configuration (None removes a key) and make the checksums right again."""
    config = json.loads((folder / CONFIG).read_text()) | changes
    kept = {name: value for name, value in config.items() if value is not None}
    (folder / CONFIG).write_text(json.dumps(kept))
    rewrite_checksums(folder)


def rewrite_checksums(folder: Path) -> None:
    sums = [f"{hashlib.sha256((folder / name).read_bytes()).hexdigest()}  {name}" for name in (CONFIG, WEIGHTS)]
    (folder / CHECKSUMS).write_text("\n".join(sums) + "\n")


def test_a_folder_gives_the_model_back_in_half_precision(model: Scale, folder: Path):
    loaded = load_model(Scale, folder)
    assert not loaded.training
    assert loaded.names == ["café"]
    assert torch.equal(loaded.factors, model.factors.half().float())
    assert loaded.factors.dtype == torch.float32
    assert loaded.steps == 70000  # more than half precision holds
    assert load_file(folder / WEIGHTS)["factors"].dtype == torch.float16
    assert json.loads((folder / CONFIG).read_text())["kind"] == "pixel-model"
    assert (folder / "README.md").read_text() == "# A card\n"


def test_saving_what_was_loaded_gives_identical_files(folder: Path, tmp_path: Path):
    save_model(load_model(Scale, folder), tmp_path / "again", "# A card\n")
    names = sorted(path.name for path in folder.iterdir())
    assert names == sorted([CHECKSUMS, CONFIG, WEIGHTS, "README.md"])
    for name in names:
        assert (tmp_path / "again" / name).read_bytes() == (folder / name).read_bytes(), name


def test_a_model_of_another_kind_is_refused_by_name(folder: Path):
    with pytest.raises(UserError, match=r"model: a pixel model, not a captioner; [^\n]*$"):
        load_model(Captions, folder)


def test_a_folder_of_the_first_release_names_no_kind_and_loads(folder: Path):
    config = json.loads((folder / CONFIG).read_text())
    del config["kind"]
    (folder / CONFIG).write_text(json.dumps(config))
    rewrite_checksums(folder)
    assert load_model(Scale, folder).names == ["café"]


@pytest.mark.parametrize("changes", [{"width": None}, {"depth": 2}, {"width": 4}])
def test_a_configuration_of_another_version_is_an_error_of_one_line(folder: Path, changes: dict[str, Any]):
    change_config(folder, **changes)
    with pytest.raises(UserError, match=r"^[^\n]*model: written by another version[^\n]*$"):
        load_model(Scale, folder)


@pytest.mark.parametrize("width", [10**9, 10**15])
def test_sizes_that_the_weights_do_not_have_are_refused_before_they_take_memory(folder: Path, width: int):
    resource = pytest.importorskip("resource")
    change_config(folder, width=width)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(UserError, match=r"^[^\n]*model: the sizes in config.json are not those of [^\n]*$"):
        load_model(Scale, folder)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 2**20  # KiB, where the values are 4 GB.


def test_sizes_of_a_network_that_reads_a_value_while_it_is_built_are_bounded_too(
    folder: Path, monkeypatch: pytest.MonkeyPatch
):
    class Reading(Scale):
        def __init__(self, width: int, names: list[str] | None = None):
            assert torch.zeros(1).item() == 0  # impossible without memory
            super().__init__(width, names)

    assert load_model(Reading, folder).names == ["café"]
    monkeypatch.setattr(saved_model, "_FREE_VALUES", 0)
    change_config(folder, width=(folder / WEIGHTS).stat().st_size + 1)
    with pytest.raises(UserError, match=r"^[^\n]*model: the sizes in config.json are not those of [^\n]*$"):
        load_model(Reading, folder)


def test_other_weights_are_an_error_of_one_line(folder: Path):
    save_file({"weight": torch.zeros(2)}, folder / WEIGHTS)
    rewrite_checksums(folder)
    with pytest.raises(UserError, match=r"^[^\n]*model: written by another version[^\n]*$"):
        load_model(Scale, folder)


@pytest.mark.parametrize("name", [CONFIG, WEIGHTS])
def test_an_altered_file_is_named(folder: Path, name: str):
    altered = bytearray((folder / name).read_bytes())
    altered[-2] ^= 1
    (folder / name).write_bytes(altered)
    with pytest.raises(UserError, match=rf"{name}: differs from the file that was saved"):
        load_model(Scale, folder)


@pytest.mark.parametrize("name", [CONFIG, WEIGHTS, CHECKSUMS])
def test_a_missing_file_is_named(folder: Path, name: str):
    (folder / name).unlink()
    with pytest.raises(UserError, match=rf"{name} is missing"):
        load_model(Scale, folder)


@pytest.fixture
def run(folder: Path, tmp_path: Path) -> Path:
    """A run folder with its checkpoints and its model."""
    for name in ("config.yaml", "manifest.json", "checkpoints/best.ckpt", "logs/log.csv"):
        (tmp_path / "run" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "run" / name).touch()
    shutil.copytree(folder, tmp_path / "run" / "model")
    return tmp_path / "run"


def test_for_a_run_folder_its_model_is_named_or_how_to_write_it(run: Path):
    for path in (run, run / "checkpoints", run / "checkpoints" / "best.ckpt"):
        found = "a run folder" if path == run else f"part of the run folder {run}"
        with pytest.raises(UserError, match=f"^{path}: {found}, not a model folder; name its model: {run / 'model'}$"):
            load_model(Scale, path)
    shutil.rmtree(run / "model")
    with pytest.raises(UserError, match=f"write its model with: scaling export {run} -o {run / 'model'}$"):
        load_model(Scale, run)
    shutil.rmtree(run / "checkpoints")
    with pytest.raises(UserError, match=r"complete its first epoch with: scaling train$"):
        load_model(Scale, run)


@pytest.mark.parametrize(
    ("path", "reason"),
    [
        ("model/config.json", "a file of a model folder; name the folder: .*model$"),
        ("data", "a prepared data set, not a model folder; name a model folder, bundled:NAME or hub:OWNER/NAME"),
        ("best.ckpt", "a checkpoint, not a model folder; name"),
        ("photo.jpg", "not a model folder; name"),
        (".", "not a model folder; name"),
        ("absent", "no such model folder; the other forms are bundled:NAME and hub:OWNER/NAME"),
    ],
)
def test_what_is_no_model_folder_is_named(folder: Path, path: str, reason: str):
    (folder.parent / "data").mkdir()
    for name in ("data/manifest.json", "best.ckpt", "photo.jpg"):
        (folder.parent / name).touch()
    with pytest.raises(UserError, match=f"{folder.parent / path}: {reason}"):
        load_model(Scale, folder.parent / path)


def test_a_model_is_written_over_a_model_and_over_nothing_else(model: Scale, folder: Path, tmp_path: Path):
    save_model(Scale(2), folder, "# Another\n")
    assert load_model(Scale, folder).describe()["width"] == 2
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "dog.jpg").touch()
    (tmp_path / "file").touch()
    something_else, unwritable = "holds something other than a model", "cannot be written"
    for taken, message in (("photos", something_else), ("file", something_else), ("file/model", unwritable)):
        with pytest.raises(UserError, match=f"{taken}: {message}"):
            save_model(model, tmp_path / taken, "")
    assert [path.name for path in (tmp_path / "photos").iterdir()] == ["dog.jpg"]


def test_a_hub_name_loads_what_the_hub_holds_and_knows_its_kind(
    model: Scale, folder: Path, monkeypatch: pytest.MonkeyPatch
):
    for module in (huggingface_hub.hub_mixin, saved_model):
        monkeypatch.setattr(module, "hf_hub_download", lambda repo_id, filename, **_: str(folder / filename))
    loaded = load_model(Scale, "hub:someone/model")
    assert torch.equal(loaded.factors, model.factors.half().float())
    assert loaded.card == "# A card\n"
    with pytest.raises(UserError, match="someone/model: a pixel model, not a captioner"):
        load_model(Captions, "hub:someone/model")
    (folder / CONFIG).write_text('{"model_type": "bert"}')
    rewrite_checksums(folder)
    with pytest.raises(UserError, match="hub:someone/model: cannot be loaded from the hub"):
        load_model(Scale, "hub:someone/model")


def test_a_model_is_pushed_to_the_hub_as_its_folder(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """What is uploaded is a model folder, with the card that the model was loaded with."""

    class Hub:
        def __init__(self, token: str | None = None):
            pass

        def create_repo(self, repo_id: str, **_: Any) -> Any:
            return SimpleNamespace(repo_id=repo_id)

        def upload_folder(self, *, repo_id: str, folder_path: Path, **_: Any) -> str:
            shutil.copytree(folder_path, tmp_path / "uploaded")
            return f"the commit in {repo_id}"

    monkeypatch.setattr(huggingface_hub.hub_mixin, "HfApi", Hub)
    assert load_model(Scale, folder).push_to_hub("someone/model") == "the commit in someone/model"
    for name in (CONFIG, WEIGHTS, CHECKSUMS, "README.md"):
        assert (tmp_path / "uploaded" / name).read_bytes() == (folder / name).read_bytes(), name
    assert len(list((tmp_path / "uploaded").iterdir())) == 4


def test_a_bundled_model_is_found_by_its_name(folder: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(Scale, "bundled", folder.parent, raising=False)
    assert load_model(Scale, f"bundled:{folder.name}").names == ["café"]
    with pytest.raises(UserError, match=f"^bundled:other: no such bundled model; choose one of: .*{folder.name}"):
        load_model(Scale, "bundled:other")
