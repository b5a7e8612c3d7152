"""Commands of whole experiments: ablate, coord-check, lr-transfer, study GRID, train-all. They import torch inside.

Those that end in a report stand in paper_figures/commands_experiments.py; what they do is in job.py beside this.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import get_args

import click

from latebloom.theory.errors import InputError
from latebloom.theory.optimizers import OptimizerName
from latebloom.theory.options import settings
from latebloom.theory.words import amount_text, count_text, text_table
from latebloom.train.config import AblationConfig, LaunchConfig, LRTransferConfig, TrainConfig
from latebloom.train.options import PATH, plan_of

__all__ = ["ablate_command", "coord_check_command", "grid_command", "lr_transfer_command", "train_all_command"]


@click.command("ablate")
@click.argument("plan_path", metavar="PLAN", type=PATH)
@click.option("--data", type=PATH, required=True, help="Directory of token shards.")
@click.option("--out", type=PATH, required=True, help="Directory of the runs; finished ones are kept.")
@click.option("--parquet", type=PATH, help="Write each record there as OUT's name and the arm's.")
@click.option("--json", "as_json", is_flag=True, help="Print the result as JSON.")
@settings(
    {"ways": AblationConfig, "config": TrainConfig},
    without=("checkpoint_every", "keep_checkpoints"),  # a trunk keeps those that its branches start from
)
def ablate_command(
    plan_path: Path,
    data: Path,
    out: Path,
    ways: AblationConfig,
    config: TrainConfig,
    parquet: Path | None,
    as_json: bool,
) -> None:
    """Compare ways of growing as PLAN does: starting depths, initialisations, orders, with every control."""
    from rich.console import Console

    from latebloom.theory.record import write_parquet
    from latebloom.train.experiments.ablation import ablate, lowest_of_each_start

    ranking = ablate(
        plan_of(plan_path), data=data, out=out, small=ways.small, inits=ways.init, orders=ways.order,
        seeds=ways.seeds, config=config.replace(quiet=True), console=Console(quiet=as_json or config.quiet),
    )  # fmt: skip
    for name, record in ranking.records.items():
        if parquet:
            write_parquet(record, parquet / f"{out.name}_{name.replace('-', '_')}.parquet")
    if as_json:
        rows = [{"arm": a.name, "losses": a.losses, "flops": a.flops} for a in ranking.arms]
        click.echo(json.dumps(rows))
        return
    table = []
    for arm in ranking.arms:
        mean, error = ranking.against(arm)
        spread = f"{mean:+.4f}" + (f" +- {error:.4f}" if ways.seeds > 1 else "")
        table.append((arm.name, f"{arm.mean:.4f}", spread, f"{arm.flops / ranking.fixed.flops:.0%}"))
    click.echo(text_table("<>>>", ("arm", "final loss", "against fixed", "compute"), table))
    for told in lowest_of_each_start(ranking):
        click.echo(told)


@click.command("coord-check")
@click.option(
    "--optimizer",
    type=click.Choice(get_args(OptimizerName)),
    default="muon_nsgd",
    show_default=True,
    help="The update rule.",
)
@click.option(
    "--rule",
    type=click.Choice(["transfer", "none"]),
    default="transfer",
    show_default=True,
    help="Scale learning rates from size to size, or not: the check should then fail.",
)
@click.option("--lr", type=float, default=0.002, show_default=True, help="At the smallest size.")
@click.option("--json", "as_json", is_flag=True, help="Print the result as JSON.")
def coord_check_command(optimizer: OptimizerName, rule: str, lr: float, as_json: bool) -> None:
    """Do features move alike in wide and deep models? Exit code 0: pass, 1: fail. Under a minute on a CPU."""
    from dataclasses import asdict

    from latebloom.train.experiments.coord_check import check_text, coord_check

    check = coord_check(optimizer=optimizer, rule=rule, lr=lr)
    click.echo(json.dumps(asdict(check) | {"passed": check.passed}, indent=2) if as_json else check_text(check))
    sys.exit(0 if check.passed else 1)


@click.command("lr-transfer")
@click.argument("plan_path", metavar="PLAN", type=PATH)
@click.option("--data", type=PATH, required=True, help="Directory of token shards.")
@click.option("--out", type=PATH, required=True, help="Directory of the runs; finished ones are kept.")
@click.option("--plot", "plot_path", type=PATH, help="Write the curve there (.svg, .pdf, .png).")
@click.option("--json", "as_json", is_flag=True, help="Print the result as JSON.")
@settings({"target": LRTransferConfig, "config": TrainConfig}, without=("evals",))  # only the final loss is read
def lr_transfer_command(
    plan_path: Path,
    data: Path,
    out: Path,
    target: LRTransferConfig,
    config: TrainConfig,
    plot_path: Path | None,
    as_json: bool,
) -> None:
    """Sweep the learning rate of the small PLAN at its full depth, and predict the optimum at the target."""
    from latebloom.train.experiments.lr_transfer import lr_transfer, plot, transfer_text

    if plot_path and (plot_path.suffix not in (".svg", ".pdf", ".png") or not plot_path.absolute().parent.is_dir()):
        rule = "is not a .svg, .pdf or .png in a directory that is there"
        raise InputError("--plot", str(plot_path), rule, "name such a file")
    result = lr_transfer(
        plan_of(plan_path), data=data, out=out, lrs=target.lrs, width=target.width, depth=target.depth,
        steps=target.steps, horizons=target.horizons or (),
        config=config.replace(quiet=config.quiet or as_json, evals=0),
    )  # fmt: skip
    if plot_path:
        plot(result, plot_path)
    click.echo(json.dumps(result.as_dict(), indent=2) if as_json else transfer_text(result))


@click.command("grid")
@click.argument("study_path", metavar="STUDY", type=PATH)
@click.option("--data", type=PATH, help="Directory of token shards.")
@click.option("--out", type=PATH, help="Directory of the runs; finished ones are kept.")
@click.option("--price", "price_only", is_flag=True, help="Print what it takes; train nothing.")
@click.option("--parquet", type=PATH, help="Write each record there as STUDY/ARM-sSEED.parquet.")
@click.option("--json", "as_json", is_flag=True, help="Print the result as JSON.")
@settings(
    {"config": TrainConfig, "launch": LaunchConfig},
    without=("seed", "checkpoint_every", "keep_checkpoints"),  # the study's; a trunk keeps what its branches start from
)
def grid_command(
    study_path: Path,
    data: Path | None,
    out: Path | None,
    price_only: bool,
    config: TrainConfig,
    launch: LaunchConfig,
    parquet: Path | None,
    as_json: bool,
) -> None:
    """Train the grid of runs that the file STUDY declares: grown and fixed depths at equal compute."""
    from dataclasses import asdict

    from rich.console import Console

    from latebloom.theory.files import write_whole
    from latebloom.theory.record import write_parquet
    from latebloom.train.experiments.study import price, read_study, run_study, study_arms, study_table, study_text

    study = read_study(study_path)
    runs, flops = len(study_arms(study)) * len(study.seeds), price(study)
    if price_only:
        click.echo(
            json.dumps({"runs": runs, "flops": flops})
            if as_json
            else f"{study.name}: {count_text(runs, 'run')}, {amount_text(flops)} FLOPs"
        )
        return
    for name, value in {"--data": data, "--out": out}.items():
        if value is None:
            raise InputError(name, None, "is required to train", "give it, or --price")
    assert data is not None and out is not None
    console = Console(quiet=as_json or config.quiet)
    console.print(f"[bold]{study.name}[/]  {count_text(runs, 'run')}, {amount_text(flops)} FLOPs")
    records = run_study(study, data=data, out=out, config=config.replace(quiet=True), launch=launch, console=console)
    if parquet:
        for name, record in records.items():
            write_parquet(record, parquet / study.name / f"{name}.parquet")
    rows = study_table(study, {name: record.final() for name, record in records.items()})
    write_whole(out / "study.json", json.dumps([asdict(row) for row in rows], indent=1) + "\n")
    if as_json:
        click.echo(json.dumps([asdict(row) for row in rows]))
        return
    lines = []
    for row in rows:
        above = f"{row.above_best_fixed:+.4f}" + (f" +- {row.standard_error:.4f}" if len(study.seeds) > 1 else "")
        efficiency = (f"{row.rho:.2f}", f"{row.n:.2f}") if row.grown else ("", "")
        lines.append((f"{row.compute}", row.arm, str(row.steps), f"{row.mean:.4f}", above, *efficiency))
    head = ("compute", "arm", "steps", "loss", "above best fixed", "rho", "n")
    click.echo(text_table("><>>>>>", head, lines))
    for told in study_text(rows):
        console.print(told, highlight=False)


@click.command("train-all")
@click.argument("plan_paths", nargs=-1, required=True, metavar="PLANS...", type=PATH)
@click.option("--data", type=PATH, required=True, help="Directory of token shards.")
@click.option("--out", type=PATH, required=True, help="Directory of the runs; finished ones are kept.")
@settings(
    {"config": TrainConfig},
    without=("checkpoint_every", "keep_checkpoints"),  # a trunk keeps those that its branches start from
)
def train_all_command(plan_paths: tuple[Path, ...], data: Path, out: Path, config: TrainConfig) -> None:
    """Train several plans, those that begin alike as branches of one another: pilots, or a plan and its controls.

    As many at once as the machine has cores, on a GPU one after another; interrupted, the same command goes on.
    """
    from rich.console import Console

    from latebloom.train.experiments.job import CHECKPOINTS, run_plans
    from latebloom.train.run.branch import share_trunks

    plans = [plan_of(path) for path in plan_paths if path.name != "manifest.json"]  # of `latebloom pilots`
    names = [plan.name for plan in plans]
    if twice := [name for name in names if names.count(name) > 1]:
        raise InputError("PLANS", twice[0], "is the name of several plans", "give each a name of its own")
    every = max(1, max(plan.steps for plan in plans) // CHECKPOINTS)
    console = Console(quiet=config.quiet)
    trunks = share_trunks(plans, out, every=every)
    run_plans(plans, data, out, trunks=trunks, every=every, train=config, console=console, what="runs")
    console.print(f"{out}: {count_text(len(plans), 'run')} finished", highlight=False)
