"""The notebooks in `examples/` run from top to bottom, as `jupyter` runs them, and are stored without outputs."""

import base64
import io
from pathlib import Path

import nbformat
import numpy as np
import pytest
from nbclient import NotebookClient
from PIL import Image

EXAMPLES = Path(__file__).parents[1] / "examples"
NOTEBOOKS = sorted(path.name for path in EXAMPLES.glob("*.ipynb"))


def test_there_is_a_notebook_of_each_model():
    assert NOTEBOOKS == ["captions.ipynb", "pixels.ipynb"]


@pytest.mark.parametrize("name", NOTEBOOKS)
def test_a_notebook_is_stored_without_outputs_and_says_how_to_run_it(name: str):
    notebook = nbformat.read(EXAMPLES / name, as_version=4)
    nbformat.validate(notebook)
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert [cell for cell in code if cell.outputs or cell.execution_count] == []
    assert f"jupyter notebook examples/{name}\n" in notebook.cells[0].source


@pytest.mark.parametrize(("name", "pictures"), [("captions.ipynb", 3), ("pixels.ipynb", 6)])
def test_a_notebook_runs_from_top_to_bottom(name: str, pictures: int):
    """An exception in a cell fails the test, also that of an assertion about the results."""
    notebook = nbformat.read(EXAMPLES / name, as_version=4)
    NotebookClient(notebook, timeout=300, resources={"metadata": {"path": str(EXAMPLES)}}).execute()
    outputs = [output for cell in notebook.cells if cell.cell_type == "code" for output in cell.outputs]
    drawn = [output.data["image/png"] for output in outputs if "image/png" in output.get("data", {})]
    assert len(drawn) == pictures
    for picture in drawn:
        assert np.ptp(np.asarray(Image.open(io.BytesIO(base64.b64decode(picture))).convert("L"))) > 200
