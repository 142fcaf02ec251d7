"""Every notebook runs from its first cell to its last, and says what it promises."""

from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

from resonance.paths import PROJECT_ROOT

NOTEBOOKS = sorted((PROJECT_ROOT / "notebooks").glob("*.ipynb"))


@pytest.mark.slow
@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_runs_from_top_to_bottom(path: Path) -> None:
    notebook = nbformat.read(path, as_version=4)
    assert all(not cell.get("outputs") for cell in notebook.cells), f"{path.name} is kept without outputs"
    NotebookClient(notebook, timeout=280, resources={"metadata": {"path": str(path.parent)}}).execute()
    last = [cell for cell in notebook.cells if cell.cell_type == "code"][-1]
    answer = "".join(output.get("data", {}).get("text/plain", "") for output in last.outputs)
    assert answer == "'cold'", answer
