"""Commands that end in a verdict and a report: the demo, the same job on one's own data, anybody's finished runs."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import click

from latebloom.theory.architectures.model_config import ModelConfig
from latebloom.theory.config import PlanConfig
from latebloom.theory.controls import control
from latebloom.theory.errors import InputError
from latebloom.theory.optimizers import Optimizer
from latebloom.theory.options import ChoosingGroup, LocalPath, settings
from latebloom.theory.plan import read_plan
from latebloom.theory.words import blocks_text
from latebloom.train.config import DemoConfig, JobConfig, TrainConfig
from latebloom.train.experiments.commands import grid_command
from latebloom.train.options import PATH

if TYPE_CHECKING:
    from rich.console import Console

    from latebloom.theory.verdict import Verdict

__all__ = ["demo_command", "judge_command", "study_command"]

NOT_OF_JOBS = (  # settings of a plan that the job decides itself, or that belong to other laws
    "u_mix", "u_mix_area", "tolerance", "grow", "law", "PlanConfig.seed",
)  # fmt: skip


@click.command("demo")
@click.option(
    "--out",
    type=LocalPath(path_type=Path, file_okay=False),
    default=Path("runs/demo"),
    show_default=True,
    help="Directory.",
)
@settings({"model": ModelConfig, "config": DemoConfig, "job": JobConfig, "train": TrainConfig})
def demo_command(out: Path, model: ModelConfig, config: DemoConfig, job: JobConfig, train: TrainConfig) -> None:
    """Pilots, fit, plan, the run that grows and every other way to spend its compute on this computer, then a report.

    No download, no GPU, no account: the corpus is the text of this Python's own standard library. Interrupted, the same
    command goes on where it stopped; finished, it shows what it found. `latebloom study` does the same on your data.
    """
    from rich.console import Console

    from latebloom.train.experiments.demo import demo

    console = Console(quiet=train.quiet)
    verdict = demo(out, config, model=model, train=train, console=console, seeds=job.seeds)
    _show_verdict(verdict, out, console)


@click.command("job")
@click.option("--data", type=PATH, required=True, help="Directory of token shards (see `latebloom data prepare`).")
@click.option("--out", type=PATH, help="Directory of the study. [default: runs/study-MODEL-STEPS]")
@click.option("--price", "price_only", is_flag=True, help="Print what pilots and runs take; train nothing.")
@settings(
    {"model": ModelConfig, "config": PlanConfig, "optimizer": Optimizer, "job": JobConfig, "train": TrainConfig},
    without=("base", *NOT_OF_JOBS, "checkpoint_every", "keep_checkpoints"),  # a trunk keeps what its branches need
    renamed={"name": "optimizer"},
)
def job_command(
    data: Path,
    out: Path | None,
    model: ModelConfig,
    config: PlanConfig,
    optimizer: Optimizer,
    job: JobConfig,
    train: TrainConfig,
    price_only: bool,
) -> None:
    """Should this model grow, on these data? Pilots, plan, the run that grows, every control, verdict and report.

    What `latebloom demo` does, on your shards and your model. Leaves pilots/, plan.json (before the runs), runs/,
    result.json and report.html in --out; interrupted, the same command goes on where it stopped; with more --seeds it
    adds those.

    With a file, `latebloom study GRID.toml` trains the grid that it declares: `latebloom study grid --help`.
    """
    import msgspec
    from rich.console import Console

    from latebloom.theory.base_plan import base_plan
    from latebloom.train.data.shards import open_shards
    from latebloom.train.experiments.job import claimed_directory, job_price, run_job

    shards = open_shards(data)
    base = base_plan(model, config, optimizer, vocab_size=shards.vocab_size)
    console = Console(quiet=train.quiet)
    told = job_price(base, config, seeds=job.seeds)  # refuses what has no pilots before anything is written
    console.print(f"[bold]study[/]   {told}", highlight=False, soft_wrap=True)
    if price_only:
        return
    out = out or Path("runs") / f"study-{base.name}"
    used = msgspec.to_builtins(config) | msgspec.to_builtins(train.replace(quiet=False))
    used |= {"model": msgspec.to_builtins(base.model), "depth": base.depth, "data": shards.digest}
    with claimed_directory(out, used | {"optimizer": msgspec.to_builtins(optimizer)}, what="study"):
        verdict = run_job(base, data, out, config=config, train=train, console=console, seeds=job.seeds)
        _show_verdict(verdict, out, console)


study_command = ChoosingGroup("study", usual=job_command, other=grid_command, is_other=bool)


@click.command("judge")
@click.argument("paths", nargs=-1, required=True, type=PATH, metavar="RUNS...")
@click.option("--out", type=PATH, default=Path("judged"), show_default=True, help="New directory of the report.")
@click.option("--plan", "plan_path", type=PATH, help="What the run that grows carried out, for what it predicted.")
@click.option("--progressive", help="Name of the run that grows, where several do.")
@click.option(
    "--noise", type=click.FloatRange(min=0), help="Of one final loss, nats. [default: as the plan's pilots say]"
)
@click.option("--json", "as_json", is_flag=True, help="Print the result as JSON.")
def judge_command(
    paths: tuple[Path, ...],
    out: Path,
    plan_path: Path | None,
    progressive: str | None,
    noise: float | None,
    as_json: bool,
) -> None:
    """Verdict and report from finished runs, this trainer's or anybody's.

    RUNS are the run that grows and its controls (`latebloom controls` writes their plans): run directories, records, or
    a TOML list of other trainers' loss curves (`latebloom import list --help`). Which control a run is follows from its
    depth and its length. What is there is judged, and what is not is named. Runs done again on other seeds are
    replicates: differences are taken seed by seed. To say "grow" takes the small and the full depth at equal compute;
    the full depth for as many steps and the cold start say what growing costs and keeps.
    """
    from rich.console import Console

    from latebloom.paper_figures.report import write_report
    from latebloom.theory.arms import arms_of, planned_as
    from latebloom.theory.commands_runs import write_arms
    from latebloom.theory.experiment_result import experiment_result
    from latebloom.theory.files import write_whole
    from latebloom.theory.fitting.foreign_runs import read_runs
    from latebloom.theory.verdict import judge

    if out.exists() and any(out.iterdir()):
        raise InputError("--out", str(out), "is not empty", "give a new directory")
    seeds, left_out = arms_of([record for _, record in read_runs(paths)], progressive=progressive)
    arms, *replicates = seeds
    for line in left_out:
        click.echo(line, err=True)
    if plan_path is not None:
        arms["progressive"] = planned_as(read_plan(plan_path), arms["progressive"])
    plan = arms["progressive"].plan
    if noise is None and plan.predicted.field is not None:
        noise = plan.predicted.field.noise.median * plan.predicted.field.scale
    costs = plan.predicted.pilots
    pilot_flops = costs.flops - costs.reused if costs else None
    verdict = judge(arms, noise=noise, pilot_flops=pilot_flops, replicates=replicates)
    result = experiment_result(plan, verdict, arms)
    write_arms(seeds, out)
    write_whole(out / "result.json", json.dumps(result, indent=2) + "\n")
    if as_json:
        write_report(out)
        click.echo(json.dumps(result))
        return
    console = Console()
    for name in arms:
        again = sum(name in runs for runs in replicates)
        told = f"{arms[name].header.name}{f' and {again} of other seeds' if again else ''}"
        console.print(f"  {name:<24} {told}", highlight=False, soft_wrap=True)
    _show_verdict(verdict, out, console)
    for name in verdict.missing:
        each = control(name)
        wanted = each.plan(plan)
        console.print(
            f"not run   {name}: {blocks_text(wanted.depth)} for {wanted.steps} steps would tell {each.controls_for}",
            soft_wrap=True, highlight=False,
        )  # fmt: skip
    if verdict.missing:
        told = f"          their plans: latebloom controls {out / 'plan.json'} --out {out}-controls"
        console.print(told, soft_wrap=True, highlight=False)


def _show_verdict(verdict: Verdict, out: Path, console: Console) -> None:
    """The report of the experiment in ``out``, and what it says."""
    from rich.padding import Padding

    from latebloom.paper_figures.report import write_report
    from latebloom.theory.verdict_text import details, sentence

    page = write_report(out)
    for path in (out / "plan.json", out / "result.json", page):
        if path.exists():
            console.print(f"[bold]wrote[/]   {path.resolve()}", soft_wrap=True, highlight=False)
    for told in details(verdict):
        console.print(Padding(told, (0, 0, 0, 10), expand=False), highlight=False)
    console.print(f"\n[bold]verdict[/] {sentence(verdict)}", highlight=False)
