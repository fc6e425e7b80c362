"""The notebook runs from top to bottom, and shows what its text says."""

import ast
from pathlib import Path

import nbformat
import pytest

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def executed(tmp_path_factory):
    client = pytest.importorskip("nbclient")
    pytest.importorskip("ipykernel")
    notebook = nbformat.read(ROOT / "notebooks" / "tour.ipynb", as_version=4)
    folder = tmp_path_factory.mktemp("notebook")
    client.NotebookClient(notebook, timeout=180, resources={"metadata": {"path": str(folder)}}).execute()
    return notebook


def shown(cell, kind="text/plain"):
    found = [output["data"] for output in cell.outputs if output.output_type == "execute_result"]
    return [data[kind] for data in found if kind in data]


def test_every_code_cell_ran(executed):
    cells = [cell for cell in executed.cells if cell.cell_type == "code"]
    assert all(cell.execution_count for cell in cells)
    assert not [output for cell in cells for output in cell.outputs if output.output_type == "error"]


def test_training_is_better_than_chance_and_than_random_weights(executed):
    [text] = [text for cell in executed.cells if "top1(ckpt=" in cell.source for text in shown(cell)]
    scores = ast.literal_eval(text)
    assert min(scores["teacher"], scores["student"]) > scores["random"] > 15


def test_the_attention_is_a_picture(executed):
    pictures = [picture for cell in executed.cells if cell.cell_type == "code" for picture in shown(cell, "image/png")]
    assert len(pictures) == 1 and len(pictures[0]) > 50_000


def test_the_notebook_is_kept_without_outputs():
    kept = nbformat.read(ROOT / "notebooks" / "tour.ipynb", as_version=4)
    assert all(not cell.get("outputs") and cell.get("execution_count") is None for cell in kept.cells)
