"""Run the fault matrix and print it: row, fault, promise, passed. ``python -m tests.faults`` or ``make faults``.

python -m tests.faults                  # all rows
python -m tests.faults --row 4 --row 9  # some
python -m tests.faults --page           # docs/faults.md
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
from pathlib import Path
from xml.etree import ElementTree

import click
from rich.console import Console
from rich.table import Table

from tests.faults.table import ROWS, page


def outcomes(report: Path) -> dict[str, list[str]]:
    """By test, without parameters: what each of its cases was."""
    found: dict[str, list[str]] = {}
    for case in ElementTree.parse(report).iter("testcase"):
        name = case.get("classname", "").replace(".", "/") + ".py::" + case.get("name", "").partition("[")[0]
        wrong = [child.tag for child in case if child.tag in ("failure", "error", "skipped")]
        found.setdefault(name, []).append(wrong[0] if wrong else "passed")
    return found


@click.command(help=__doc__)
@click.option("--row", "numbers", multiple=True, type=click.IntRange(1, len(ROWS)), help="Some rows only.")
@click.option("--page", "as_page", is_flag=True, help="Print docs/faults.md instead.")
def main(numbers: tuple[int, ...], as_page: bool) -> None:
    if as_page:
        click.echo(page(), nl=False)
        return
    rows = [row for row in ROWS if not numbers or row.number in numbers]
    tests = sorted({test for row in rows for test in row.tests})
    began = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder) / "report.xml"
        command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--dist", "worksteal",
                   f"--junitxml={report}", *tests]  # fmt: skip
        run = subprocess.run(command, capture_output=True, text=True, check=False)
        found = outcomes(report) if report.exists() else {}
    if run.returncode:
        click.echo(run.stdout[-20_000:] + run.stderr[-5_000:], err=True)
    table = Table("row", "fault", "promised", "cases", "passed", show_lines=True)
    failed = 0
    for row in rows:
        cases = [case for test in row.tests for case in found.get(test, ["not run"])]
        passed = bool(cases) and all(case == "passed" for case in cases)
        failed += not passed
        said = "passed" if passed else ", ".join(sorted(set(cases) - {"passed"}))
        table.add_row(str(row.number), row.fault, row.promise, str(len(cases)), said)
    Console(width=None if sys.stdout.isatty() else 150).print(table)
    seconds = time.perf_counter() - began
    click.echo(
        f"{len(rows) - failed} of {len(rows)} rows passed, {sum(map(len, found.values()))} cases, {seconds:.0f} s"
    )
    sys.exit(bool(failed or run.returncode))


if __name__ == "__main__":
    main()
