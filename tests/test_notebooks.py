"""Notebooks run from top to bottom, without errors and without a download."""

import nbformat
import pytest
from nbclient import NotebookClient

from tests.helpers import CHECKOUT, needs_checkout

NOTEBOOKS = sorted((CHECKOUT / "notebooks").glob("*.ipynb"))


@needs_checkout
@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of the kernel's own libraries
def test_notebook(path):
    notebook = nbformat.read(path, as_version=4)
    assert not any(cell.get("outputs") for cell in notebook.cells), "commit notebooks without outputs"
    NotebookClient(notebook, timeout=120, resources={"metadata": {"path": str(CHECKOUT)}}).execute()
