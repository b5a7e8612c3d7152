"""``latebloom simulate plan.json``: the plan on a deep linear network, predicted against simulated; and ``latebloom
validate``: the whole programme that proves or refutes the theory.
"""

from __future__ import annotations

import json
import re
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING

import click

from latebloom.sim.config import SimulationConfig
from latebloom.theory.errors import InputError, nearest
from latebloom.theory.options import LocalPath, settings

if TYPE_CHECKING:
    from latebloom.sim.claims import Claim
    from latebloom.sim.simulation import Simulation

__all__ = ["never_text", "simulate_command", "validate_command"]


@click.command("simulate")
@click.argument("plan_path", metavar="PLAN", type=LocalPath(path_type=Path))
@click.option("--out", default=None, type=LocalPath(path_type=Path), help="Directory.  [default: runs/sim/NAME]")
@click.option("--json", "as_json", is_flag=True, help="Print the claims as JSON.")
@settings({"config": SimulationConfig})
def simulate_command(plan_path: Path, config: SimulationConfig, out: Path | None, as_json: bool) -> None:
    """Run PLAN on a deep linear network, where theory can be checked, and say which claims hold."""
    from rich.console import Console

    from latebloom.theory.plan import read_plan

    plan = read_plan(plan_path)

    import torch

    from latebloom.sim.lowrank import LowRank
    from latebloom.sim.simulation import simulate

    torch.set_num_threads(1)  # small products thrash on more
    family = LowRank(width=config.width, rank=config.rank, alpha=config.alpha, noise=config.noise, batch=config.batch)
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
            plan, seeds=config.seeds, family=family, steps=config.steps, max_depth=config.max_depth,
            tolerance=config.tolerance, peak_lr=config.peak_lr,
            on_progress=on_progress if progress else None,
        )  # fmt: skip
    out = out or Path("runs") / "sim" / (re.sub(r"[^\w.-]+", "-", plan.name).strip(".-") or plan.digest[:12])
    write(result, out)
    if as_json:
        click.echo(json.dumps(summary(result), indent=2, allow_nan=False))
    else:
        _print(console, result, out)


@click.command("validate")
@click.option("--quick", is_flag=True, help="A small version of every check: under a minute on two cores.")
@click.option("--only", multiple=True, metavar="CHECK", help="Run just these checks.")
@click.option(
    "--out",
    default=None,
    type=LocalPath(path_type=Path, file_okay=False),
    help="Store results here, and go on with those that are there.  [default: runs/validate without --quick]",
)
@click.option(
    "--json",
    "json_path",
    default=None,
    type=LocalPath(path_type=Path, dir_okay=False),
    help="Write the claims here.",
)
@click.option("--processes", default=None, type=click.IntRange(min=1), help="At once.  [default: one a core]")
def validate_command(
    quick: bool, only: tuple[str, ...], out: Path | None, json_path: Path | None, processes: int | None
) -> None:
    """Prove or refute the theory on deep linear networks: theory, simulation, interval and tolerance of every claim.

    Exits with 1 if a claim fails. --out also gets claims.parquet, the table as a Record. Interrupted, the same command
    goes on where it stopped.
    """
    import sys

    from rich.console import Console

    from latebloom.sim.validation.programme import CHECKS, run_programme
    from latebloom.sim.validation.table import claims_record
    from latebloom.theory.record import write_parquet

    for name in only:
        if name not in CHECKS:
            raise InputError("only", name, "is not a check", nearest(name, CHECKS))
    if json_path is not None and not json_path.absolute().parent.is_dir():
        raise InputError("--json", str(json_path), "stands in a directory that is not there", "make it first")
    out = out if out is not None or quick else Path("runs") / "validate"
    console = Console()
    total = len(only) or len(CHECKS)
    progress = _progress(console) if console.is_terminal else None
    with progress or nullcontext():
        task = progress.add_task("checks", total=total) if progress else None

        def on_done(name: str, claims: list[dict], stored: bool) -> None:
            held = sum(bool(c["holds"]) for c in claims)
            source = ", stored before" if stored else ""
            console.print(f"{name}: {held} of {len(claims)} claims hold{source}", highlight=False)
            if progress is not None and task is not None:
                progress.advance(task)

        found = run_programme(out, quick=quick, only=only, processes=processes, on_done=on_done)
    if out is not None and not only:
        write_parquet(claims_record(found, quick=quick), out / "claims.parquet")
    claims = [claim for part in found.values() for claim in part]
    if json_path is not None:
        json_path.write_text(json.dumps({"claims": claims}, indent=2, allow_nan=False) + "\n", encoding="utf-8")
    _print_claims(console, claims)
    held = sum(bool(c["holds"]) for c in claims)
    console.print(f"{held} of {len(claims)} claims hold" + (f"; results in {out}" if out else ""), highlight=False)
    if held < len(claims):
        sys.exit(1)


def _print_claims(console, claims: list[dict]) -> None:
    """A table on a terminal, one line a claim otherwise."""
    from rich.table import Table

    if not console.is_terminal:
        for c in claims:
            click.echo(
                f"{c['verdict']}: {c['optimizer']}: {c['name']}: theory {_number(c['theory'])}, "
                f"simulated {_number(c['simulated'])}, tolerance {_number(c['tolerance'])}"
            )
        return

    table = Table(title="theory against simulation")
    for name in ("rule", "claim"):
        table.add_column(name)
    for name in ("theory", "simulated", "interval", "tolerance"):
        table.add_column(name, justify="right")
    table.add_column("verdict")
    for c in claims:
        style = "green" if c["holds"] else "red" if c["verdict"].startswith("fails") else "yellow"
        interval = f"{_number(c['interval'][0])} ... {_number(c['interval'][1])}" if c["interval"] else ""
        table.add_row(c["optimizer"], c["name"], _number(c["theory"]), _number(c["simulated"]), interval,
                      _number(c["tolerance"]), f"[{style}]{c['verdict']}[/]")  # fmt: skip
    console.print(table)


def write(result: Simulation, out: Path) -> None:
    """Write ``out``/RULE/RUN/seed-K/record.jsonl for every run, and ``out``/claims.json; earlier ones are replaced."""
    from latebloom.theory.record import COLUMNS, RECORD_FILE, RecordWriter

    for record in result.records:
        path = out / record.header.name / RECORD_FILE
        path.unlink(missing_ok=True)
        with RecordWriter(path, record.header) as writer:
            columns = [record.columns[name].tolist() for name in COLUMNS]
            writer.write(dict(zip(COLUMNS, row, strict=True)) for row in zip(*columns, strict=True))
    (out / "claims.json").write_text(json.dumps(summary(result), indent=2, allow_nan=False) + "\n", encoding="utf-8")


def summary(result: Simulation) -> dict[str, object]:
    """Claims, notes and diverged runs as JSON data."""
    from latebloom.sim.claims import claim_data

    return {
        "plan": result.plan.name,
        "plan_digest": result.plan.digest,
        "claims": [claim_data(claim) for claim in result.claims],
        "notes": list(result.notes),
        "diverged": [{"run": run, "seed": seed, "step": step} for run, seed, step in result.diverged],
        "wall_s": round(result.wall_s, 3),
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
    never = [c for c in result.claims if c.holds and c.theory is None]
    for c in result.claims:
        if c in never:
            continue
        style = "green" if c.holds else "red" if c.verdict.startswith("fails") else "yellow"
        interval = f"{_number(c.interval.low)} ... {_number(c.interval.high)}" if c.interval else ""
        verdict = f"[{style}]{c.verdict}[/]"
        table.add_row(c.optimizer, c.name, _number(c.theory), _number(c.simulated), interval, verdict)
    console.print(table)
    for c in never:
        console.print(never_text(c), markup=False, highlight=False, soft_wrap=True)
    for run, seed, step in result.diverged:
        console.print(f"diverged: {run}, seed {seed}, by step {step}: in no mean", highlight=False)
    held = sum(c.holds for c in result.claims)
    console.print(f"{held} of {len(result.claims)} claims hold; {len(result.records)} records and claims.json in {out}",
                  highlight=False, soft_wrap=True)  # fmt: skip


def never_text(claim: Claim) -> str:
    """A claim that something never happens, and does not, in words.

    Args:
        claim: That holds, with no step predicted and none found.
    """
    if claim.name.startswith("tau*"):
        return f"{claim.optimizer}: no step to grow at catches up in the toy, as theory says there"
    return f"{claim.optimizer}: the plan never catches up in the toy, as theory says there"


def _number(value: float | None) -> str:
    return "never" if value is None else f"{value:.4g}"
