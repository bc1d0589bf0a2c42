"""The wheel, installed and used outside the checkout."""

import os
import subprocess
import sys
import sysconfig
import venv
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
CONFIGS = sorted(
    (path.relative_to(ROOT / "configs").parts[0], path.relative_to(ROOT / "configs" / package).with_suffix(""))
    for package in ("captioning", "pixelrnn")
    for path in (ROOT / "configs" / package).rglob("*.yaml")
)

# Parses every shipped configuration as `train` does, and builds its model, without the encoder's pretrained weights.
BUILD = """
import sys
from captioning import Captioner, cli as captioning
from pixelrnn import PixelNetwork, cli as pixelrnn
from pixelrnn.pixel_config import ImageShape
from vision_rnn.cli import bundled_config, command_parser

for package, name in (line.split() for line in sys.stdin):
    module = {"captioning": captioning, "pixelrnn": pixelrnn}[package]
    parser = command_parser(package, "train", module.COMMANDS["train"])
    path = bundled_config(f"bundled:{name}", module.CONFIGS)
    options = parser.instantiate(parser.parse_args(["--config", str(path)]))
    if package == "captioning":
        model = Captioner(options.encoder, options.decoder, ["a", "dog"], options.search)
    else:
        model = PixelNetwork(options.model, ImageShape(height=28, width=28, num_classes=10 * options.model.conditional))
    print(path, sum(parameter.numel() for parameter in model.parameters()))
"""


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(folder), str(ROOT)]
    subprocess.run(command, check=True, capture_output=True)
    (built,) = folder.glob("*.whl")
    return built


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of the commands in an environment with the wheel, and with the requirements installed here."""
    environment = tmp_path_factory.mktemp("environment")
    venv.create(environment, with_pip=False, symlinks=True)
    site = Path(sysconfig.get_path("purelib", vars={"base": str(environment)}))
    here = sysconfig.get_path("purelib")
    # A path in a .pth file is searched for modules, and its own .pth files, such as that of the checkout, are not read.
    (site / "requirements.pth").write_text(f"{here}\n")
    install = [sys.executable, "-m", "pip", "--python", str(environment / "bin" / "python"), "install", "--quiet"]
    subprocess.run([*install, "--no-deps", "--no-index", "--ignore-installed", str(wheel)], check=True)
    return environment / "bin"


def run(folder: Path, *command: object, **options: str) -> str:
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    done = subprocess.run(
        list(map(str, command)), cwd=folder, env=environment, capture_output=True, text=True, check=False, **options
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_wheel_has_what_the_packages_need(wheel: Path):
    names = set(zipfile.ZipFile(wheel).namelist())
    assert wheel.stat().st_size < 80e6
    for package, name in CONFIGS:
        assert f"{package}/configs/{name}.yaml" in names
    for package in ("captioning", "pixelrnn", "data_prep", "evaluation", "vision_rnn"):
        assert f"{package}/py.typed" in names
    assert not [name for name in names if name.startswith(("tests/", "docs/", "examples/"))]


@pytest.mark.slow
def test_the_commands_work_in_an_empty_folder(installed: Path, tmp_path: Path):
    photo, digits = ROOT / "examples" / "photos" / "dog-in-the-woods.jpg", ROOT / "examples" / "digits"
    assert "dog" in run(tmp_path, installed / "captioning", "caption", photo)
    assert "runs/caption-ladder" in run(tmp_path, installed / "captioning", "ladder", "--help")
    run(tmp_path, installed / "pixelrnn", "complete", digits, "--mask", "lower-half", "--samples", "1", "-o", "out.png")
    assert [path.name for path in tmp_path.iterdir()] == ["out.png"]
    assert str(installed.parent) in run(
        tmp_path, installed / "python", "-c", "import captioning as c; print(c.__file__)"
    )


@pytest.mark.slow
def test_every_shipped_configuration_is_parsed_and_built(installed: Path, tmp_path: Path):
    given = "".join(f"{package} {name}\n" for package, name in CONFIGS)
    lines = run(tmp_path, installed / "python", "-c", BUILD, input=given).splitlines()
    assert len(lines) == len(CONFIGS) > 25
    for (package, name), line in zip(CONFIGS, lines, strict=True):
        path, parameters = line.split()
        assert path.endswith(f"{package}/configs/{name}.yaml")
        assert path.startswith(str(installed.parent))
        assert int(parameters) > 10_000
