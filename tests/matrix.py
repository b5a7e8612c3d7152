"""The tests that compute with torch, under each set of processor instructions that its libraries can be told to use.

    make matrix                                          # python -m tests.matrix
    make matrix ROWS="ATEN_CPU_CAPABILITY=default"       # some rows only

oneDNN (products in low precision, and on some processors in float32) takes ``ONEDNN_MAX_CPU_ISA``, torch's own kernels
take ``ATEN_CPU_CAPABILITY``; both are read when a process starts, so each row is one of its own. On a processor with
AMX units the default row uses them and AVX512_CORE_BF16 turns them off. Other versions of the libraries need another
environment: ``make lowest``.
"""

from __future__ import annotations

import os
import platform
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from xml.etree import ElementTree

import click

# What is asked of numbers that kernels make; data, commands and trackers are the same under any instructions.
TESTS = (
    "tests/test_train_polar.py", "tests/test_train_operands.py", "tests/test_train_optim.py",
    "tests/test_train_model.py", "tests/test_train_growth.py", "tests/test_train_memory.py",
    "tests/test_train_run.py", "tests/test_train_foreign.py", "tests/test_train_hf.py", "tests/test_sim_optimizers.py",
    "tests/test_sim_chain.py", "tests/test_sim_lowrank.py", "tests/test_sim_growth.py",
)  # fmt: skip
DEFAULT = "default"
# Row -> processor flag without which its instructions cannot be told from those of a row before; "" where all have it.
ROWS = {
    DEFAULT: "",
    "ONEDNN_MAX_CPU_ISA=SSE41": "",
    "ONEDNN_MAX_CPU_ISA=AVX2": "avx2",
    "ONEDNN_MAX_CPU_ISA=AVX512_CORE": "avx512bw",
    "ONEDNN_MAX_CPU_ISA=AVX512_CORE_BF16": "amx_bf16",
    "ATEN_CPU_CAPABILITY=default": "",
    "ATEN_CPU_CAPABILITY=avx2": "avx2",
    "ATEN_CPU_CAPABILITY=avx512": "avx512bw",
}
LOWEST = "The lowest declared version of every dependency: make lowest PYTHON=python3.11"


def processor_flags() -> set[str]:
    """Instruction sets of this processor as Linux names them; elsewhere nothing is known, and no flag there."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return set()
    return {flag for line in lines if line.startswith("flags") for flag in line.split(":", 1)[1].split()}


def run_tests(row: str, tests: tuple[str, ...]) -> tuple[int, int, float]:
    """(passed, failed, seconds) of ``tests`` under the setting ``row``; output is shown if any fails."""
    environment = {k: v for k, v in os.environ.items() if k not in ("ONEDNN_MAX_CPU_ISA", "ATEN_CPU_CAPABILITY")}
    if row != DEFAULT:
        name, value = row.split("=")
        environment[name] = value
    start = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder) / "report.xml"
        command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", f"--junitxml={report}", *tests]
        run = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
        suites = list(ElementTree.parse(report).iter("testsuite")) if report.exists() else []
    counts = {key: sum(int(s.get(key, 0)) for s in suites) for key in ("tests", "failures", "errors", "skipped")}
    failed = counts["failures"] + counts["errors"]
    if run.returncode:
        click.echo(run.stdout[-20_000:] + run.stderr[-5_000:], err=True)
        failed = max(failed, 1)  # a run that reported nothing has not passed
    return counts["tests"] - failed - counts["skipped"], failed, time.perf_counter() - start


@click.command(help="Run the numerical tests under each set of processor instructions.")
@click.option("--row", "rows", multiple=True, type=click.Choice(list(ROWS)), help="One setting; all if none is given.")
@click.argument("tests", nargs=-1)
def main(rows: tuple[str, ...], tests: tuple[str, ...]) -> None:
    flags, failures = processor_flags(), 0
    amx = "with" if "amx_bf16" in flags else "without"
    click.echo(f"{platform.machine()} {amx} AMX, Python {platform.python_version()}")
    click.echo(f"{'setting':<38}{'passed':>8}{'failed':>8}{'seconds':>9}")
    for row in rows or ROWS:
        if ROWS[row] and ROWS[row] not in flags:
            click.echo(f"{row:<38}  this processor has no {ROWS[row]}")
            continue
        passed, failed, seconds = run_tests(row, tests or TESTS)
        click.echo(f"{row:<38}{passed:>8}{failed:>8}{seconds:>9.0f}")
        failures += failed
    click.echo(LOWEST)
    sys.exit(bool(failures))


if __name__ == "__main__":
    main()
