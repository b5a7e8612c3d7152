"""The fault matrix: its page, its tests and its command belong together."""

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.faults.__main__ import outcomes
from tests.faults.injector import EVENTS, Fault, injected, stop
from tests.faults.table import ROWS, page
from tests.helpers import ROOT, needs_checkout


@needs_checkout
def test_the_page_is_made_from_the_table():
    made = page()
    assert (ROOT / "docs" / "faults.md").read_text(encoding="utf-8") == made, "python -m tests.faults --page"
    assert len(re.findall(r"^\| \d+ \|", made, re.MULTILINE)) == 32


def test_every_row_names_tests_that_exist():
    assert [row.number for row in ROWS] == list(range(1, 33))
    functions = {}
    for path in Path(__file__).parent.glob("test_*.py"):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        names = {node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)}
        functions[f"tests/{path.name}"] = names
    for row in ROWS:
        assert row.promise.endswith(".") and row.tests
        for test in row.tests:
            file, _, name = test.partition("::")
            assert name in functions[file], f"row {row.number}: {test}"


def test_a_row_without_a_passed_test_fails(tmp_path):
    report = tmp_path / "report.xml"
    report.write_text(
        '<testsuites><testsuite><testcase classname="tests.test_a" name="test_x[1]"/>'
        '<testcase classname="tests.test_a" name="test_x[2]"><failure/></testcase>'
        '<testcase classname="tests.test_a" name="test_y"><skipped/></testcase></testsuite></testsuites>'
    )
    found = outcomes(report)
    assert found == {"tests/test_a.py::test_x": ["passed", "failure"], "tests/test_a.py::test_y": ["skipped"]}


@needs_checkout
def test_the_command_prints_a_table_and_its_exit_code_says_whether_all_rows_passed():
    command = [sys.executable, "-m", "tests.faults", "--row", "29"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "1 of 1 rows passed" in done.stdout and ROWS[28].fault in done.stdout


def test_an_injected_fault_is_gone_with_its_context():
    before = {event: getattr(place, name) for event, (place, name) in EVENTS.items()}
    with pytest.raises(ValueError), injected(Fault(event="update", act=stop)):  # noqa: PT011
        raise ValueError
    assert before == {event: getattr(place, name) for event, (place, name) in EVENTS.items()}
