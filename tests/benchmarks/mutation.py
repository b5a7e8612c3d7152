"""Do the tests notice a wrong sign or factor of 2? ``python -m tests.benchmarks.mutation [--json FILE]``.

Each mutation is made in a copy of ``theory`` and ``tests`` in a temporary directory, where the one test file that is
about the formula runs with ``-x``. Caught means that tests ran and one failed (exit status 1), after the same file had
passed unmutated. One core, well under four minutes.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

import click

ROOT = Path(__file__).resolve().parents[2]


class Mutation(NamedTuple):
    """``old`` becomes ``new`` in ``theory/<module>.py``, to be caught by ``tests/test_theory_<test>.py``."""

    module: str
    old: str
    new: str
    test: str


MUTATIONS = (
    Mutation("schedules", "m * (m + 1.0) / (2 * max(w, 1))", "m * (m - 1.0) / (2 * max(w, 1))", "schedules"),
    Mutation("schedules", "slope[j] * steps * (steps - 1) / 2", "slope[j] * steps * (steps - 1)", "schedules"),
    Mutation("decay_shapes", "m * (m - 1.0) / (2 * n)", "m * (m - 1.0) / n", "schedules"),
    Mutation("decay_shapes", "np.cos((m - 1) * x / 2)", "np.cos((m + 1) * x / 2)", "schedules"),
    Mutation("decay_shapes", "1.5 - 0.75 * math.log(3.0)", "1.5 + 0.75 * math.log(3.0)", "bounds"),
    Mutation("qualifying_exam", "total = warmup / 2 + stable + last", "total = warmup + stable + last", "bounds"),
    Mutation("bounds", "gradient_term=float(gradients / 2)", "gradient_term=float(gradients)", "bounds"),
    Mutation("bounds", "return (1 - rho) * total", "return (1 + rho) * total", "bounds"),
    Mutation("volterra", "            z += add[i]\n", "            z -= add[i]\n", "volterra"),
    Mutation("architectures/gpt2", 'bias("attention.qkv.bias", 3 * d)', 'bias("attention.qkv.bias", d)', "cost"),
    Mutation("cost", "12 * depth * model.context * model.width", "6 * depth * model.context * model.width", "cost"),
    Mutation("timing", "1 - decay / 2 - mixing_share)", "1 - decay - mixing_share)", "area"),
    Mutation("timing", "(1 - x) / 2 - math.sin", "(1 - x) / 2 + math.sin", "area"),
    Mutation("landscapes/area", "self.fresh(remaining) - self", "self.fresh(remaining) + self", "area"),
    Mutation("landscapes/area", "float(self.fresh(total)) + tolerance", "float(self.fresh(total)) - tolerance", "area"),
    Mutation("landscapes/coupled", "return b - c.T @", "return b + c.T @", "coupled"),
    Mutation("landscapes/coupled", "np.exp(-2 * np.multiply.outer", "np.exp(-1 * np.multiply.outer", "coupled"),
    Mutation("planning", "(1 - budget) / (1 - ratio)", "(1 - budget) / (1 + ratio)", "planning"),
    Mutation("verdict", 'return -self.difference("cold_start")', 'return self.difference("cold_start")', "planning"),
    Mutation("controls", "round(plan_flops(plan) / per_step)", "round(2 * plan_flops(plan) / per_step)", "planning"),
    Mutation("limits", "b / (b + a * (b + 1))", "b / (b + a * (b - 1))", "limits"),
    Mutation("tradeoff", "weight *= self.cost_ratio / (1 -", "weight *= self.cost_ratio / (1 +", "timing"),
)  # fmt: skip


def source(mutation: Mutation, root: Path = ROOT) -> Path:
    return root / "theory" / f"{mutation.module}.py"


def run(test: str, folder: Path) -> int:
    """Exit status of one test file in ``folder``: 0 passed, 1 a test failed, else it did not run."""
    options = ["-n", "0", "-x", "-q", "-p", "no:cacheprovider"]
    command = [sys.executable, "-m", "pytest", *options, f"tests/test_theory_{test}.py"]
    environment = {
        **os.environ,
        "PYTHONPATH": str(folder / "src"),
        "PYTHONDONTWRITEBYTECODE": "1",
        "OMP_NUM_THREADS": "1",
    }
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True).returncode


def check() -> dict[str, object]:
    """Try every mutation; the result is plain data."""
    rows = []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for part in ("theory", "tests"):
            shutil.copytree(ROOT / part, folder / part, ignore=shutil.ignore_patterns("__pycache__"))
        shutil.copytree(ROOT / "src", folder / "src", symlinks=True, ignore=shutil.ignore_patterns("__pycache__"))
        shutil.copy(ROOT / "pyproject.toml", folder / "pyproject.toml")
        broken = [test for test in sorted({m.test for m in MUTATIONS}) if run(test, folder) != 0]
        if broken:
            raise click.ClickException(f"these fail without any mutation: {', '.join(broken)}")
        for mutation in MUTATIONS:
            path = source(mutation, folder)
            text = path.read_text()
            if text.count(mutation.old) != 1:
                raise click.ClickException(f"{mutation.old!r} stands {text.count(mutation.old)} times in {path.name}")
            path.write_text(text.replace(mutation.old, mutation.new))
            start = time.monotonic()
            status = run(mutation.test, folder)
            path.write_text(text)
            row = {**mutation._asdict(), "caught": status == 1, "status": status, "seconds": time.monotonic() - start}
            rows.append(row)
            word = "caught" if status == 1 else f"MISSED (pytest's status {status})"
            click.echo(f"{word:8} {mutation.module}: {mutation.old.strip()} -> {mutation.new.strip()}")
    return {"caught": sum(bool(row["caught"]) for row in rows), "of": len(rows), "mutations": rows}


@click.command()
@click.option("--json", "path", type=click.Path(path_type=Path), default=None, help="Write the result here.")
def main(path: Path | None) -> None:
    """Flip signs and factors of 2 in twenty-two formulas; exit with 1 unless the tests catch all."""
    start = time.monotonic()
    result = check()
    result["seconds"] = time.monotonic() - start
    click.echo(f"{result['caught']} of {result['of']} caught in {result['seconds']:.0f} s")
    if path:
        path.write_text(json.dumps(result, indent=1) + "\n")
    if result["caught"] != result["of"]:
        raise SystemExit(1)


if __name__ == "__main__":
    main()
