"""Commands that draw: reports, figures."""

from __future__ import annotations

from pathlib import Path

import click

from latebloom.paper_figures.config import FigureConfig
from latebloom.paper_figures.missing import MissingRecords
from latebloom.paper_figures.paths import DATA, OUTPUT
from latebloom.paper_figures.registry import FIGURES
from latebloom.theory.errors import InputError
from latebloom.theory.options import LocalPath, settings
from latebloom.train.options import PATH

__all__ = ["explorer_command", "figures_command", "report_command"]


@click.command("figures")
@click.argument("runs", nargs=-1, type=PATH)
@click.option("--only", multiple=True, metavar="NAME", help=f"Draw just these: {', '.join(FIGURES)}.")
@click.option("--data", type=PATH, default=DATA, help="Records of the same names.  [default: the committed ones]")
@click.option("--out", type=PATH, default=OUTPUT, show_default=True, help="Directory.")
@settings({"config": FigureConfig})
def figures_command(runs: tuple[Path, ...], only: tuple[str, ...], data: Path, out: Path, config: FigureConfig) -> None:
    """Draw every figure and table from committed records, or one of your own RUNS.

    Each is written as PDF, SVG, PNG and CSV, with its caption (.txt) and a sidecar (.json) that says from which
    records, plans, commit and command it was made. RUNS are run directories or record files.
    """
    from latebloom.paper_figures import registry

    if runs:
        if only:
            raise InputError("--only", ", ".join(only), "is for the committed figures; RUNS make one", "drop either")
        _say_figure("runs", registry.save_runs(runs, out, config))
        return
    for name in only:
        registry.module(name)  # refuse an unknown name before anything is written
    drawn = 0
    for name in only or FIGURES:
        try:
            paths = registry.save_figure(name, out, data, config)
        except MissingRecords as error:
            if only:
                raise
            click.echo(f"{name}: left out, {error}")
            continue
        _say_figure(name, paths)
        drawn += 1
    click.echo(f"{'1 figure or table' if drawn == 1 else f'{drawn} figures and tables'} in {out}")


def _say_figure(name: str, paths: list[Path]) -> None:
    """Where a figure stands, and what it shows."""
    stem, suffixes = paths[0].with_suffix(""), ", ".join(path.suffix.removeprefix(".") for path in paths)
    click.echo(f"{name}: {stem}.{{{suffixes}}}")
    click.echo(f"  {stem.with_suffix('.txt').read_text(encoding='utf-8').rstrip()}")


@click.command("report")
@click.argument("runs", nargs=-1, required=True, type=LocalPath(path_type=Path))
@click.option("--out", type=LocalPath(path_type=Path, dir_okay=False), help="[default: report.html where the runs are]")
def report_command(runs: tuple[Path, ...], out: Path | None) -> None:
    """Write report.html: what runs found, on one page that opens offline.

    RUNS are a demo, a study or an ablation; a run, a folder of runs, several runs or records; or loss curves of any
    trainer (CSV, TensorBoard).
    """
    from latebloom.paper_figures.report import write_report

    click.echo(str(write_report(*runs, out=out).resolve()))


@click.command("explorer")
@click.argument("plan", required=False, type=LocalPath(path_type=Path))
@click.option(
    "--out",
    type=LocalPath(path_type=Path, dir_okay=False),
    default=Path("explorer.html"),
    show_default=True,
    help="The page.",
)
def explorer_command(plan: Path | None, out: Path) -> None:
    """Write a page to move PLAN about on: horizon, depths, schedule, price of compute. It opens offline."""
    from latebloom.paper_figures.explorer import write_explorer

    click.echo(str(write_explorer(out, plan).resolve()))
