"""``latebloom simulate plan.json``: the plan on a deep linear network, predicted against simulated.

The dispatcher imports this module, and torch with its package, for this command only.
"""

from __future__ import annotations

import json
import re
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING

import click

from theory.errors import InputError

if TYPE_CHECKING:
    from sim.claims import Claim
    from sim.simulation import Simulation

__all__ = ["simulate_command"]


@click.command("simulate")
@click.argument("plan_path", metavar="PLAN", type=click.Path(path_type=Path))
@click.option("--seeds", default=4, show_default=True, help="Number of seeds.")
@click.option("--steps", default=2000, show_default=True, help="Horizon of the toy.")
@click.option("--d", "width", default=32, show_default=True, help="Width of the toy.")
@click.option("--rank", default=2, show_default=True, help="Rank of each block.")
@click.option("--max-depth", default=8, show_default=True, help="Deepest toy; deeper plans are scaled down to it.")
@click.option("--alpha", default=1.0, show_default=True, help="Residual multiplier L^-alpha.")
@click.option("--noise", default=0.1, show_default=True, help="Standard deviation of the targets' noise.")
@click.option("--batch", default=64, show_default=True, help="Samples a minibatch.")
@click.option("--eps", default=0.05, show_default=True, help="Mixed means within this share of the fixed-depth loss.")
@click.option("--lr", "peak_lr", default=None, type=float, help="Peak learning rate of the toy.  [default: its own]")
@click.option("--out", default=None, type=click.Path(path_type=Path), help="Directory.  [default: runs/sim/NAME]")
@click.option("--json", "as_json", is_flag=True, help="Print the claims as JSON.")
def simulate_command(
    plan_path: Path,
    seeds: int,
    steps: int,
    width: int,
    rank: int,
    max_depth: int,
    alpha: float,
    noise: float,
    batch: int,
    eps: float,
    peak_lr: float | None,
    out: Path | None,
    as_json: bool,
) -> None:
    """Run PLAN on a deep linear network, where theory can be checked, and say which claims hold."""
    from rich.console import Console

    from theory.plan import read_plan

    if not plan_path.is_file():
        raise InputError("PLAN", str(plan_path), "is not there", "name a plan file, as 'latebloom plan' writes it")
    plan = read_plan(plan_path)

    import torch

    from sim.lowrank import LowRank
    from sim.simulation import simulate

    torch.set_num_threads(1)  # small products thrash on more
    family = LowRank(width=width, rank=rank, alpha=alpha, noise=noise, batch=batch)
    console = Console(stderr=as_json)
    progress = _progress(console) if console.is_terminal else None
    with progress or nullcontext():
        tasks: dict[str, int] = {}

        def on_progress(stage: str, done: int, total: int) -> None:
            assert progress is not None
            if stage not in tasks:
                tasks[stage] = progress.add_task(stage, total=total)
            progress.update(tasks[stage], completed=done)

        result = simulate(
            plan, seeds=seeds, family=family, steps=steps, max_depth=max_depth, eps=eps, peak_lr=peak_lr,
            on_progress=on_progress if progress else None,
        )  # fmt: skip
    out = out or Path("runs") / "sim" / (re.sub(r"[^\w.-]+", "-", plan.name).strip(".-") or plan.digest[:12])
    write(result, out)
    if as_json:
        click.echo(json.dumps(summary(result), indent=2, allow_nan=False))
    else:
        _print(console, result, out)


def write(result: Simulation, out: Path) -> None:
    """Write ``out``/RULE/RUN/seed-K/record.jsonl for every run, and ``out``/claims.json; earlier ones are replaced."""
    from theory.record import COLUMNS, RecordWriter

    for record in result.records:
        path = out / record.header.name / "record.jsonl"
        path.unlink(missing_ok=True)
        with RecordWriter(path, record.header) as writer:
            columns = [record.columns[name].tolist() for name in COLUMNS]
            writer.write(dict(zip(COLUMNS, row, strict=True)) for row in zip(*columns, strict=True))
    (out / "claims.json").write_text(json.dumps(summary(result), indent=2, allow_nan=False) + "\n", encoding="utf-8")


def summary(result: Simulation) -> dict[str, object]:
    """Claims, notes and diverged runs as JSON data."""
    return {
        "plan": result.plan.name,
        "plan_digest": result.plan.digest,
        "claims": [_plain(claim) for claim in result.claims],
        "notes": list(result.notes),
        "diverged": [{"run": run, "seed": seed, "step": step} for run, seed, step in result.diverged],
        "wall_s": round(result.wall_s, 3),
    }


def _plain(claim: Claim) -> dict[str, object]:
    interval = claim.interval
    return {
        "name": claim.name,
        "optimizer": claim.optimizer,
        "theory": claim.theory,
        "simulated": claim.simulated,
        "interval": [interval.low, interval.high, interval.level] if interval else None,
        "tolerance": claim.tolerance,
        "unit": claim.unit,
        "verdict": claim.verdict,
    }


def _progress(console):
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = TextColumn("{task.description:>10}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn()
    return Progress(*columns, console=console, transient=True)


def _print(console, result: Simulation, out: Path) -> None:
    from rich.markup import escape
    from rich.table import Table

    for note in result.notes:
        console.print(note, markup=False, highlight=False, soft_wrap=True)
    table = Table(title=f"{escape(result.plan.name)}: predicted from fixed-depth runs, against simulated")
    for name in ("rule", "claim"):
        table.add_column(name)
    for name in ("theory", "simulated", "interval"):
        table.add_column(name, justify="right")
    table.add_column("verdict")
    for c in result.claims:
        style = "green" if c.holds else "red" if c.verdict.startswith("fails") else "yellow"
        interval = f"{_number(c.interval.low)} ... {_number(c.interval.high)}" if c.interval else ""
        verdict = f"[{style}]{c.verdict}[/]"
        table.add_row(c.optimizer, c.name, _number(c.theory), _number(c.simulated), interval, verdict)
    console.print(table)
    for run, seed, step in result.diverged:
        console.print(f"diverged: {run}, seed {seed}, by step {step}: in no mean", highlight=False)
    held = sum(c.holds for c in result.claims)
    console.print(f"{held} of {len(result.claims)} claims hold; {len(result.records)} records and claims.json in {out}",
                  highlight=False, soft_wrap=True)  # fmt: skip


def _number(value: float | None) -> str:
    return "never" if value is None else f"{value:.4g}"
