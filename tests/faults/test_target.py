"""`make test-faults` collects the tests of every file here that `make test` does not run."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.mark.skipif(sys.platform != "linux", reason="the fault tests are of Linux alone")
def test_make_test_faults_collects_every_other_file() -> None:
    if not (ROOT / ".venv" / "installed-dev").exists():
        pytest.skip("no .venv of make test")
    ours = {name: value for name, value in os.environ.items() if not name.startswith(("MAKE", "MFLAGS"))}
    command = ["make", "--assume-old=.venv/installed-dev", "test-faults"]
    environment = ours | {"PYTEST_ADDOPTS": "--collect-only --quiet"}
    made = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=300)
    assert made.returncode == 0, made.stdout + made.stderr
    collected = {line.partition("::")[0] for line in made.stdout.splitlines() if "::" in line}
    files = {path.name for path in Path(__file__).parent.glob("*.py")} - {"conftest.py", "forks.py"}
    assert collected == {f"tests/faults/{name}" for name in files if not name.startswith("test_")}
