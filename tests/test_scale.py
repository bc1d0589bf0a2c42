"""SCALE.md: its script captions a folder in parts, each photo once, and continues where it was stopped."""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

from captioning import load_captioner

ROOT = Path(__file__).parents[1]
SCRIPT, AFTERWARDS = re.findall(
    r"```sh\n(#!.*?|cat .*?)```", (ROOT / "SCALE.md").read_text(encoding="utf-8"), re.DOTALL
)
PARTS = 2


@pytest.mark.skipif(sys.platform == "win32", reason="the script is for bash")
def test_the_script_captions_each_photo_once(tmp_path: Path):
    photos = tmp_path / "photos" / "inside"
    photos.mkdir(parents=True)
    example = Image.open(ROOT / "examples" / "photos" / "dog-in-the-woods.jpg")
    for number in range(6):
        example.rotate(15 * number).resize((300, 200)).save(photos / f"{number}.png")
    (tmp_path / "captions.sh").write_text(SCRIPT)
    commands = Path(shutil.which("captioning", path=Path(sys.executable).parent) or "captioning").parent
    for part in range(1, PARTS + 1):
        task = {"SLURM_ARRAY_TASK_ID": str(part), "SLURM_ARRAY_TASK_COUNT": str(PARTS)}
        environment = os.environ | task | {"PATH": f"{commands}{os.pathsep}{os.environ['PATH']}"}
        for _again in range(2):
            subprocess.run(["bash", "captions.sh"], cwd=tmp_path, env=environment, check=True)
    assert len(list((tmp_path / "captions").iterdir())) == PARTS
    subprocess.run(["bash", "-c", AFTERWARDS], cwd=tmp_path, check=True)
    records = [json.loads(line) for line in (tmp_path / "captions.jsonl").read_text().splitlines()]
    found = {record["image"]: record["captions"][0]["caption"] for record in records}
    assert len(records) == len(found) == 6
    captioner = load_captioner(engine="onnx")
    assert found == {f"photos/inside/{path.name}": captioner.caption(path)[0].text for path in sorted(photos.iterdir())}
