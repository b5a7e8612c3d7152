"""Commands that end in something to look at: the demo, reports, figures."""

from __future__ import annotations

from pathlib import Path

import click

from latebloom.paper_figures.paths import OUTPUT
from latebloom.paper_figures.registry import FIGURES
from latebloom.theory.architectures.presets import PRESETS
from latebloom.theory.options import settings
from latebloom.train.config import DemoConfig, TrainConfig

__all__ = ["demo_command", "explorer_command", "figures_command", "report_command"]


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
@click.argument("runs", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option(
    "--out", type=click.Path(path_type=Path, dir_okay=False), help="[default: report.html where the runs are]"
)
def report_command(runs: tuple[Path, ...], out: Path | None) -> None:
    """Write report.html: of a demo, an ablation, a study or a run, or of any loss curves (CSV, TensorBoard)."""
    from latebloom.paper_figures.report import write_report

    click.echo(str(write_report(*runs, out=out).resolve()))


@click.command("explorer")
@click.argument("plan", required=False, type=click.Path(path_type=Path))
@click.option(
    "--out",
    type=click.Path(path_type=Path, dir_okay=False),
    default=Path("explorer.html"),
    show_default=True,
    help="The page.",
)
def explorer_command(plan: Path | None, out: Path) -> None:
    """Write a page to move PLAN about on: horizon, depths, schedule, price of compute. It opens offline."""
    from latebloom.paper_figures.explorer import write_explorer

    click.echo(str(write_explorer(out, plan).resolve()))


@click.command("demo")
@click.option(
    "--out",
    type=click.Path(path_type=Path, file_okay=False),
    default=Path("runs/demo"),
    show_default=True,
    help="Directory.",
)
@settings({"config": DemoConfig, "train": TrainConfig}, choices={"model": PRESETS})
def demo_command(out: Path, config: DemoConfig, train: TrainConfig) -> None:
    """Pilots, fit, plan, the run that grows and every other way to spend its compute on this computer, then a report.

    No download, no GPU, no account: the corpus is the text of this Python's own standard library. Interrupted, the same
    command goes on where it stopped.
    """
    from rich.console import Console

    from latebloom.paper_figures.report import write_report
    from latebloom.theory.verdict import details, sentence
    from latebloom.train.experiments.demo import demo

    console = Console(quiet=train.quiet)
    verdict = demo(out, config, train=train, console=console)
    page = write_report(out)
    for path in (out / "plan.json", out / "result.json", page):
        console.print(f"[bold]wrote[/]   {path.resolve()}", soft_wrap=True, highlight=False)
    for told in details(verdict):
        console.print(f"          {told}", highlight=False)
    console.print(f"\n[bold]verdict[/] {sentence(verdict)}", highlight=False)
