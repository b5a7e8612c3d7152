"""``latebloom ask``: what a landscape says of a plan; ``latebloom schedule``: what theory says of its schedule."""

from __future__ import annotations

import json
from pathlib import Path

import click

from latebloom.theory.errors import InputError
from latebloom.theory.options import LocalPath
from latebloom.theory.plan import read_plan

__all__ = ["ask_command", "schedule_command"]

FILE = LocalPath(path_type=Path)


@click.command("ask")
@click.argument("plan_path", metavar="PLAN", type=FILE)
@click.option("--law", "laws", multiple=True, type=FILE, help="From `latebloom fit --out`; one a small depth.")
@click.option("--pilot", "pilots", multiple=True, type=FILE, help="Run directory or record; instead of --law.")
@click.option("--landscape", default="area", show_default=True, help="Of --pilot: area, normalised, pair or reuse.")
@click.option("--compute", type=float, default=None, help="FLOPs. [default: what PLAN costs]")
@click.option("--peaks", type=float, nargs=2, default=None, help="Peak learning rates to choose from: LOW HIGH.")
@click.option("--tolerance", type=float, default=0.01, show_default=True, help="Accepted price, share of the loss.")
@click.option("--seed", type=click.IntRange(min=0), default=0, show_default=True, help="Of the fit and its bootstrap.")
@click.option("--json", "as_json", is_flag=True, help="Print the result as JSON.")
@click.argument("more_pilots", nargs=-1, type=FILE)
def ask_command(
    plan_path: Path,
    laws: tuple[Path, ...],
    pilots: tuple[Path, ...],
    landscape: str,
    compute: float | None,
    peaks: tuple[float, float] | None,
    tolerance: float,
    seed: int,
    as_json: bool,
    more_pilots: tuple[Path, ...],
) -> None:
    """From what depth to grow, when, how long, at what peak: the best grown run of a compute beside the best fixed one.

    PLAN says which model, batch, depth and schedule shape it is about; what is asked comes from a landscape.
    """
    from latebloom.theory.ask import answer, answers_text
    from latebloom.theory.landscapes.registry import FittedLandscape, fit_landscape, read_fitted
    from latebloom.theory.record import read_records

    pilots += more_pilots
    if bool(laws) == bool(pilots):
        given = [str(path) for path in (*laws, *pilots)] or None
        raise InputError("--law", given, "or --pilot is needed, and not both", "give one of them")
    plan = read_plan(plan_path)
    fitted = [read_fitted(path) for path in laws]
    if pilots:
        fit = fit_landscape(landscape, read_records(pilots), seed=seed)
        replicas = fit.bootstrap(seed=seed)
        fitted = [
            FittedLandscape(
                law=fit.law,  # type: ignore[arg-type]
                replicas=replicas,  # type: ignore[arg-type]
                pilots=fit.digests,
                left_open=(*fit.identifiability, *fit.left_open(replicas, plan.schedule)),
            )
        ]
    answers = answer(plan, fitted, flops=compute, peaks=peaks or None, tolerance=tolerance)
    click.echo(answers.to_json() if as_json else answers_text(answers, plan), nl=not as_json)


@click.command("schedule")
@click.argument("plan_path", metavar="PLAN", type=FILE)
@click.option("--curve", "curves", multiple=True, type=FILE, help="Loss curves: also the best schedule of their law.")
@click.option("--law", "name", default="functional", show_default=True, help="Fitted to the curves, as in `fit`.")
@click.option("--warmup", type=int, default=0, show_default=True, help="Of the curves, as in `fit`.")
@click.option("--json", "as_json", is_flag=True, help="Print the result as JSON.")
def schedule_command(plan_path: Path, curves: tuple[Path, ...], name: str, warmup: int, as_json: bool) -> None:
    """Can PLAN's schedule be good at all? The qualifying exam, its convex bound, and the best schedule of a law."""
    from latebloom.theory.schedule_report import report, report_text

    table = report(read_plan(plan_path), curves, law=name, warmup=warmup)
    click.echo(json.dumps(table, indent=2) if as_json else report_text(table))
