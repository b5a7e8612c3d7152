"""Notebooks run from top to bottom, without errors and without a download, in under a minute of one processor."""

import resource

import pytest

from tests.helpers import CHECKOUT, needs_checkout

NOTEBOOKS = sorted((CHECKOUT / "notebooks").glob("*.ipynb"))
LONGEST_S = 60  # of the processor, whatever else the machine does
HANGS_S = 900  # of a clock, for one cell


@needs_checkout
@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of the kernel's own libraries
def test_notebook(path):
    import nbformat  # here: takes seconds, which every worker would spend before its first test
    from nbclient import NotebookClient

    notebook = nbformat.read(path, as_version=4)
    assert not any(cell.get("outputs") for cell in notebook.cells), "commit notebooks without outputs"
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    NotebookClient(notebook, timeout=HANGS_S, resources={"metadata": {"path": str(CHECKOUT)}}).execute()
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    taken = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    assert 0.5 < taken < LONGEST_S, f"{taken:.1f} s"


@needs_checkout
def test_the_documentation_names_every_notebook():
    listed = (CHECKOUT / "docs" / "notebooks.md").read_text(encoding="utf-8")
    assert [path.name for path in NOTEBOOKS if path.name not in listed] == []
