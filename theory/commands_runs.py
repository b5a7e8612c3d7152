"""``latebloom controls``: the plans of every control of a plan; ``latebloom import``: records of anybody's curves."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import click

from latebloom.theory.architectures.model_config import ModelConfig, model_of
from latebloom.theory.controls import compared, depths_between
from latebloom.theory.cost import plan_flops
from latebloom.theory.errors import InputError
from latebloom.theory.fitting.foreign_runs import (
    RunDescription,
    curve_text,
    is_run_list,
    read_run_list,
    record_of_curve,
)
from latebloom.theory.options import ChoosingGroup, LocalPath, settings
from latebloom.theory.plan import Plan, Stage, read_plan, write_plan
from latebloom.theory.record import RECORD_FILE, Record, RecordWriter
from latebloom.theory.schedules import Constant
from latebloom.theory.words import amount_text, count_text, text_table

__all__ = ["controls_command", "import_command", "write_arms"]

PATH = LocalPath(path_type=Path)


@click.command("controls")
@click.argument("path", metavar="PLAN", type=PATH)
@click.option("--out", type=PATH, default=Path("controls"), show_default=True, help="Directory of plan files.")
@click.option("--between", type=click.IntRange(min=0), multiple=True, help="A fixed depth; repeatable.")
@click.option("--json", "as_json", is_flag=True, help="Print the table as JSON.")
def controls_command(path: Path, out: Path, between: tuple[int, ...], as_json: bool) -> None:
    """Write the plan of every run that PLAN is to be compared with, and PLAN itself as progressive.json.

    At equal compute: the full depth, the small one (never grown) and those between. For as many steps: the full depth
    and the small one. From a cold start: the full depth for the steps after the expansion. Train all of them on the
    same data with the same seed (`latebloom train-all`), or with a trainer of your own, then `latebloom judge`.
    """
    plan = read_plan(path)
    if plan.tau is None:
        rule = "does not grow: it has nothing to be compared with"
        raise InputError("PLAN", str(path), rule, "`latebloom plan --grow` writes the best plan that grows")
    small = plan.stages[0].depth
    for depth in between:
        if not small < depth < plan.depth:
            rule = f"does not lie between the small depth {small} and the full depth {plan.depth}"
            raise InputError("--between", depth, rule, "name depths between; those two are controls already")
    table = compared(between or depths_between(small, plan.depth))
    plans = {"progressive": plan.replace(name="progressive")} | {each.name: each.plan(plan) for each in table}
    out.mkdir(parents=True, exist_ok=True)
    for name, made in plans.items():
        write_plan(made, out / f"{name}.json")
    reasons = {"progressive": "the plan"} | {each.name: each.controls_for for each in table}
    if as_json:
        rows = [
            {"name": name, "file": str(out / f"{name}.json"), "depth": made.depth, "steps": made.steps,
             "flops": plan_flops(made), "controls_for": reasons[name]}
            for name, made in plans.items()
        ]  # fmt: skip
        click.echo(json.dumps(rows, indent=2))
        return
    click.echo(f"{_controls_table(plans, reasons)}\n{out}: {count_text(len(plans), 'plan')}")


def _controls_table(plans: dict[str, Plan], reasons: dict[str, str]) -> str:
    rows = [
        (name, " -> ".join(str(stage.depth) for stage in made.stages), str(made.steps), amount_text(plan_flops(made)),
         reasons[name])
        for name, made in plans.items()
    ]  # fmt: skip
    return text_table("<>>><", ("plan", "blocks", "steps", "FLOPs", "its difference to the plan is"), rows)


@click.command("curve")
@click.argument("paths", metavar="CURVE...", nargs=-1, required=True, type=PATH)
@click.option("--out", type=PATH, required=True, help="Directory in which each run gets one of its own.")
@settings({"model": ModelConfig, "run": RunDescription}, without=("ModelConfig.depth",))
def curve_command(paths: tuple[Path, ...], model: ModelConfig, run: RunDescription, out: Path) -> None:
    """Write a run that another trainer made as a record, which plan, judge, fit and report then take as their own.

    CURVE is its losses, one file or one for each column: CSV, JSON lines or a JSON list, trainer_state.json of Hugging
    Face, metrics.csv of Lightning, a W&B export or offline file, TensorBoard's files, Parquet, a log of nanoGPT or
    llm.c. The options say what it does not. Several runs at once: `latebloom import LIST.toml`, see
    `latebloom import list --help`.
    """
    shape, _ = model_of(model.replace(depth=max(run.depths)))
    if run.batch_tokens is None:
        raise InputError("--batch-tokens", None, "is required", "say the tokens of one update")
    base = Plan(
        name=shape.name, model=shape, batch_tokens=run.batch_tokens, schedule=Constant(steps=1, peak_lr=1.0),
        stages=(Stage(start_step=0, depth=max(run.depths)),),
    )  # fmt: skip
    _write_runs([record_of_curve(paths, run, base)], out)


@click.command("list")
@click.argument("path", metavar="LIST", type=PATH)
@click.option("--out", type=PATH, required=True, help="Directory in which each run gets one of its own.")
def list_command(path: Path, out: Path) -> None:
    """Write the runs that a TOML or YAML file lists as records; its keys are the options of `latebloom import`.

    \b
    width = 768                     # or model = "gpt2-124m"; what stands
    heads = 12                      # at the top holds for all runs
    context = 1024
    vocab_size = 50304
    batch_tokens = 524288
    peak_lr = 6e-4
    warmup_steps = 200
    decay = 0.1                     # share of each run's steps
    \b
    [[run]]
    curve = "small/log.csv"
    depths = [1]
    \b
    [[run]]
    curve = "grown/log.csv"
    depths = [1, 12]
    expanded_at = [4000]

    `latebloom plan --pilot LIST` reads such a file as it is, with model and batch from its options.
    """
    _write_runs(read_run_list(path), out)


import_command = ChoosingGroup(
    "import", usual=curve_command, other=list_command, is_other=lambda word: is_run_list(Path(word))
)


def write_arms(seeds: Sequence[Mapping[str, Record]], out: Path) -> None:
    """Lay out runs as an experiment's folder, which reports are made from: pilots/ empty, plan.json and runs/ARM.

    Args:
        seeds: Records by the names of arms, ``progressive`` among them; of other seeds than the first as ARM-sSEED.
        out: Directory of the experiment.
    """
    arms, *replicates = seeds
    (out / "pilots").mkdir(parents=True, exist_ok=True)
    write_plan(arms["progressive"].plan, out / "plan.json")
    for name, record in arms.items():
        _write_record(record, out / "runs" / name)
    for again in replicates:
        for name, record in again.items():
            _write_record(record, out / "runs" / f"{name}-s{record.header.seed}")


def _write_record(record: Record, folder: Path) -> None:
    rows = zip(*(column.tolist() for column in record.columns.values()), strict=True)
    with RecordWriter(folder / RECORD_FILE, record.header) as writer:
        writer.write(dict(zip(record.columns, values, strict=True)) for values in rows)


def _write_runs(records: Sequence[Record], out: Path) -> None:
    """Each record in a directory of its own name in ``out``, and what was read; a run that is there is refused."""
    for record in records:
        if (out / record.header.name).exists():
            rule = "is there already"
            raise InputError("--out", str(out / record.header.name), rule, "give another --out, or name the run")
    for record in records:
        _write_record(record, out / record.header.name)
        for line in curve_text(record):
            click.echo(line)
