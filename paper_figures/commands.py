"""Commands that draw: reports, figures."""

from __future__ import annotations

from pathlib import Path

import click

from latebloom.paper_figures.paths import OUTPUT
from latebloom.paper_figures.registry import FIGURES

__all__ = ["figures_command", "report_command"]


@click.command("figures")
@click.option("--only", multiple=True, help=f"Draw just these: {', '.join(FIGURES)}.")
@click.option(
    "--out", type=click.Path(path_type=Path, file_okay=False), default=OUTPUT, show_default=True, help="Directory."
)
def figures_command(only: tuple[str, ...], out: Path) -> None:
    """Draw the figures from committed records: PDF, SVG, PNG and CSV each."""
    from latebloom.paper_figures import registry

    for name in only:
        registry.module(name)  # refuse an unknown name before anything is written
    for name in only or FIGURES:
        paths = registry.save_figure(name, out)
        made = registry.module(name)
        click.echo(f"{name}: {', '.join(str(path) for path in paths)}")
        click.echo(f"  {made.caption(registry.load_records(made.RECORDS))}")


@click.command("report")
@click.argument("run", type=click.Path(path_type=Path))
def report_command(run: Path) -> None:
    """Write report.html into an experiment's or a run's directory."""
    from latebloom.paper_figures.report import write_report

    click.echo(str(write_report(run).resolve()))
