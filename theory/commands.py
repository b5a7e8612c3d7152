"""Commands of theory: make, show, check and compare plans; fit landscapes to records."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from latebloom.theory import spec
from latebloom.theory.architectures.model_config import ModelConfig
from latebloom.theory.base_plan import base_plan
from latebloom.theory.config import PlanConfig
from latebloom.theory.cost import plan_flops
from latebloom.theory.errors import InputError, nearest
from latebloom.theory.options import LocalPath, settings
from latebloom.theory.plan import Optimizer, Plan, Provenance, Stage, diff, read_plan, write_plan
from latebloom.theory.plan_transfer import rates_text
from latebloom.theory.planning import plan_expansion
from latebloom.theory.words import blocks_text, count_text, text_table

if TYPE_CHECKING:
    from latebloom.theory.fitting.landscape_fit import LandscapeFit
    from latebloom.theory.landscapes.growth import GrowthLandscape
    from latebloom.theory.record import Record

__all__ = ["fit_command", "plan_command", "read_pilots", "record_command"]

LAW_NAMES = (
    "area, normalised, pair, reuse or field (pilots); size, shape or noisy_quadratic (several sizes); best, power, "
    "convex, momentum, multi_power, functional, quadratic, river_valley or two_valleys (curves). [default: see above]"
)


class _PlanGroup(click.Group):
    """`latebloom plan --model ...` makes a plan; `latebloom plan check FILE` and the others are subcommands."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        if args and args[0] == "--next":
            args = ["next", *args[1:]]
        elif not args or args[0] not in self.list_commands(ctx):
            args = ["make", *args]
        return super().parse_args(ctx, args)

    def list_commands(self, ctx: click.Context) -> list[str]:
        return [*super().list_commands(ctx), "next"]

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name == "next":  # stands beside `latebloom pilots`, which imports this module
            from latebloom.theory.commands_pilots import next_command

            return next_command
        return super().get_command(ctx, cmd_name)


@click.group(cls=_PlanGroup, name="plan", help="Make a plan (the default), or show, check, compare plans.")
def plan_command() -> None:
    """Make, show, check, compare plans."""


@plan_command.command("make")
@settings(
    {"model": ModelConfig, "config": PlanConfig, "optimizer": Optimizer},
    without=("base",),  # --base-width and --base-depth
    renamed={"name": "optimizer"},
)
@click.option(
    "--pilot",
    "pilots",
    multiple=True,
    type=LocalPath(path_type=Path),
    help="Run directory, record, or list of runs (TOML).",
)
@click.option(
    "--out",
    type=LocalPath(path_type=Path, dir_okay=False),
    default=Path("plan.json"),
    show_default=True,
    help="The plan file to write.",
)
@click.option("--json", "as_json", is_flag=True, help="Print the plan instead of the reason.")
@click.argument("more_pilots", nargs=-1, type=LocalPath(path_type=Path))
def make_command(
    model: ModelConfig,
    config: PlanConfig,
    optimizer: Optimizer,
    pilots: tuple[Path, ...],
    more_pilots: tuple[Path, ...],
    out: Path,
    as_json: bool,
) -> None:
    """Make a plan: what to train for a budget, from pilots; or when to expand, from the mixing area or a budget alone.

    From pilots the plan is the arm of least expected loss among all that cost the same: each fixed depth, and growing
    at each step. It grows only where that is best, or with --grow. `latebloom pilots` says which pilots to run.

    A shell expands `--pilot runs/pilot*` into several words: those after the first are taken as pilots too.

    Beside this: `latebloom plan next|show|check|diff|schema`, each with its own --help.
    """
    pilots += more_pilots
    base = base_plan(model, config, optimizer)
    area = _mixing_area(config, base.schedule.peak)
    if pilots and area is not None:
        raise InputError("--u-mix", area, "stands beside --pilot, which measures the mixing area", "give one of them")
    records = read_pilots(pilots, base, growth=(config.init, config.order)) if pilots else []
    if pilots and config.law == "field":
        plan = _plan_from_field(config, base, records)
    else:
        plan = _plan_from_law(config, base, records, area)
    replaced = out.exists()
    write_plan(plan, out)
    if replaced and not as_json:
        click.echo(f"{out} was there and is replaced", err=True)
    click.echo(plan.to_json() if as_json else f"{plan.provenance.reason}\n{out}  sha256 {plan.digest[:16]}")


def _plan_from_field(config: PlanConfig, base: Plan, records: list[Record]) -> Plan:
    """The best arm of equal compute, or with --grow the best that grows."""
    from latebloom.theory.fitting.recovery_field import field_of_records
    from latebloom.theory.menu_plan import plan_from_menu

    if config.tolerance != PlanConfig(steps=1, batch_tokens=1).tolerance:
        rule = "places an expansion by what it may cost against the full depth; the field takes the least loss"
        raise InputError("--tolerance", config.tolerance, rule, "leave it out, or give --law area")
    field = field_of_records(
        records, small_depth=config.small_depth, full_depth=base.depth, reference=base.schedule.total_area
    )
    depths = config.depths
    if depths is None:
        depths = tuple(sorted({end.depth for end in field.ends if end.kind == "between"}))
    share = 1.0 if config.budget is None else config.budget
    plans = plan_from_menu(
        field,
        base,
        budget=share * plan_flops(base),
        growth=Stage(start_step=1, depth=base.depth, init=config.init, order=config.order,
                     optimizer_state=config.optimizer_state),
        depths=depths,
        ladders=config.ladders,
        most_steps=config.most_steps,
        seed=config.seed,
    )  # fmt: skip
    if not config.grow:
        return plans.best
    if plans.growing is None:
        rule = f"at {share:g} of the fixed-depth FLOPs no run that grows has time for its warm-up"
        raise InputError("--grow", True, rule, "allow more FLOPs with --budget")
    return plans.growing


def _plan_from_law(config: PlanConfig, base: Plan, records: list[Record], area: float | None) -> Plan:
    """When to grow, from the mixing area, a law fitted to pilots, or a compute budget."""
    given = {
        "--grow": config.grow,
        "--depths": config.depths,
        "--most-steps": config.most_steps,
        "--ladders": config.ladders,
    }
    for name, value in given.items():
        if value is None or value is False:
            continue
        raise InputError(name, value, "needs pilots and --law field: here the plan always grows", "leave it out")
    law: GrowthLandscape | None = None
    fit: LandscapeFit | None = None
    resamples: tuple[GrowthLandscape, ...] = ()
    provenance, unknown = Provenance(), []
    if records:
        from latebloom.theory.landscapes.registry import FITTED, fit_landscape

        if config.law not in FITTED:
            fix = nearest(config.law, FITTED)
            raise InputError("--law", config.law, "is not a landscape that is fitted to pilots", fix)
        fit = fit_landscape(config.law, records, seed=config.seed)
        law, resamples, provenance = fit.law, fit.bootstrap(seed=config.seed), fit.provenance()
        unknown = [*fit.identifiability, *fit.left_open(resamples, base.schedule)]
    plan = plan_expansion(
        model=base.model,
        small_depth=config.small_depth,
        full_depth=base.depth,
        schedule=base.schedule,
        batch_tokens=base.batch_tokens,
        mixing_area=area,
        law=law,
        resamples=resamples,
        tolerance=config.tolerance,
        budget=config.budget,
        init=config.init,
        order=config.order,
        optimizer=base.optimizer,
        provenance=provenance,
        name=base.name,
    )
    if fit is not None and area is None and config.budget is None:
        from latebloom.theory.narrowing_pilot import narrowing_pilot

        pilot = narrowing_pilot(plan, fit, resamples, tolerance=config.tolerance)
        unknown += [pilot.sentence()] if pilot else []
    if config.optimizer_state != plan.stages[-1].optimizer_state:
        grown = plan.stages[-1].replace(optimizer_state=config.optimizer_state)
        plan = plan.replace(stages=(*plan.stages[:-1], grown))
    if unknown:
        reason = " ".join([plan.provenance.reason or "", "Left open by the pilots:", *unknown])
        plan = plan.replace(provenance=plan.provenance.replace(reason=reason))
    return plan


@plan_command.command("show")
@click.argument("path", type=LocalPath(path_type=Path))
@click.option("--json", "as_json", is_flag=True, help="Canonical fields as JSON.")
def show_command(path: Path, as_json: bool) -> None:
    """Print a plan in words."""
    plan = read_plan(path)
    if as_json:
        click.echo(plan.to_json(), nl=False)
        return
    click.echo(
        f"{plan.name}: {plan.model.name}, {plan.steps} steps of {plan.batch_tokens} tokens, {plan.optimizer.name}"
    )
    for stage in plan.stages:
        grown = f", new blocks {stage.init} in order {stage.order}" if stage.start_step else ""
        if stage.new_rate is not None:
            grown += f", these at {stage.new_rate:g} times the rate"
        if stage.replayed_to is not None:
            grown = f", passed as {stage.replayed_to} with shared weights in order {stage.order}"
        click.echo(f"  from step {stage.start_step}: {blocks_text(stage.depth)}{grown}")
    click.echo(f"  learning rate: {plan.schedule.__struct_config__.tag}, peak {plan.schedule.peak:.4g}")
    for line in rates_text(plan):
        click.echo(line)
    if plan.provenance.reason:
        click.echo(f"  {plan.provenance.reason}")
    click.echo(f"  sha256 {plan.digest}")


@plan_command.command("check")
@click.argument("paths", nargs=-1, required=True, type=LocalPath(path_type=Path))
def check_command(paths: tuple[Path, ...]) -> None:
    """Validate plan files."""
    for path in paths:
        click.echo(f"{path}: a valid plan, sha256 {read_plan(path).digest}")


@plan_command.command("lr")
@click.argument("path", metavar="PLAN", type=LocalPath(path_type=Path))
@click.option("--every", type=click.IntRange(min=1), default=1, show_default=True, help="Updates between rows.")
def lr_command(path: Path, every: int) -> None:
    """Print the learning rate and depth of every update as CSV, for trainers that take a table.

    Columns: step, lr, depth, and for each kind of parameter the factor on lr that the plan's optimizer and its base
    call for. Rows at the beginning, at expansions and at the last update are always there.
    """
    import csv
    import io

    from latebloom.theory.plan_transfer import lr_rows

    rows = lr_rows(read_plan(path), every=every)
    text = io.StringIO()
    table = csv.DictWriter(text, list(rows[0]), lineterminator="\n")
    table.writeheader()
    table.writerows(rows)
    click.echo(text.getvalue(), nl=False)


@plan_command.command("diff")
@click.argument("a", type=LocalPath(path_type=Path))
@click.argument("b", type=LocalPath(path_type=Path))
def diff_command(a: Path, b: Path) -> int:
    """Print the fields in which two plans differ; exit code 1 if there are any."""
    differences = diff(read_plan(a), read_plan(b))
    for path, left, right in differences:
        click.echo(f"{path}: {json.dumps(left)} -> {json.dumps(right)}")
    return int(bool(differences))


@plan_command.command("schema")
def schema_command() -> None:
    """Print the JSON Schema of plans."""
    click.echo(json.dumps(spec.json_schema(Plan), indent=2))


@click.command("fit")
@click.argument("paths", nargs=-1, required=True, type=LocalPath(path_type=Path), metavar="CURVES...")
@click.option("--law", "name", default=None, help=LAW_NAMES)
@click.option("--loss", default=None, help="Column or tag of the loss.")
@click.option("--lr", default=None, help="Column or tag of the learning rate.")
@click.option("--step", default=None, help="Column of the step.")
@click.option("--other-lr", default=None, help="Column or tag of the learning rate of all that is no matrix.")
@click.option("--weight-decay", type=float, default=0.0, show_default=True, help="Of matrices under Muon and its kin.")
@click.option("--predict", multiple=True, type=LocalPath(path_type=Path), help="A run that is predicted, not fitted.")
@click.option("--warmup", type=int, default=0, show_default=True, help="Updates of warm-up before the first logged LR.")
@click.option("--burn-in", type=float, default=0.1, show_default=True, help="Share of each run that is left out.")
@click.option("--points", type=int, default=500, show_default=True, help="Average longer curves to so many points.")
@click.option("--out", type=LocalPath(path_type=Path, dir_okay=False), help="Keep a landscape for `latebloom ask`.")
@click.option("--replicas", type=click.IntRange(min=0), default=40, show_default=True, help="Of the bootstrap.")
@click.option("--seed", type=click.IntRange(min=0), default=0, show_default=True, help="Of the fit and the bootstrap.")
@click.option("--json", "as_json", is_flag=True, help="Print the result as JSON.")
def fit_command(
    paths: tuple[Path, ...],
    name: str | None,
    loss: str | None,
    lr: str | None,
    step: str | None,
    other_lr: str | None,
    weight_decay: float,
    predict: tuple[Path, ...],
    warmup: int,
    burn_in: float,
    points: int,
    out: Path | None,
    replicas: int,
    seed: int,
    as_json: bool,
) -> None:
    """Fit a loss law to curves; print parameters with intervals, errors, and what the curves leave open.

    CURVES are Records or run directories, CSV, JSON lines, TensorBoard event files, W&B exports.

    Records of two depths are pilots of an expansion: a landscape is fitted, the area law unless --law names another.
    Final losses of several sizes are fitted by --law size, shape or noisy_quadratic. Otherwise laws are compared by
    the error on the run that they were fitted without, and the best one is reported.

    Curves with a second learning rate (a column other_lr, aux_lr or aux_shape) are fitted by the law of two. With
    --predict the law's error on other runs is told: alone, and carried, where what the fitted runs miss at the same
    step is added, good for runs that read the same batches in the same order.
    """
    from latebloom.theory.fitting.sizes import SIZE_LAWS, fit_sizes
    from latebloom.theory.landscapes import LAWS
    from latebloom.theory.landscapes.registry import DEFAULT, FITTED, fit_landscape, write_fitted

    landscape = name in FITTED or (name is None and _are_pilots(paths))
    if predict and (landscape or name in SIZE_LAWS):
        raise InputError("--predict", str(predict[0]), "is for laws of curves", f"give --law {', '.join(LAWS)}")
    if out is not None and not landscape:
        raise InputError("--out", str(out), "is for landscapes fitted to pilots", f"give --law {' or '.join(FITTED)}")
    if landscape:
        from latebloom.theory.record import read_records

        fit = fit_landscape(name or DEFAULT, read_records(paths), seed=seed)
        resamples = fit.bootstrap(seed=seed, replicas=replicas)
        table = fit.report(resamples)
        if out is not None:
            write_fitted(fit, resamples, out)
    elif name in SIZE_LAWS:
        table = fit_sizes(name, paths, seed=seed)
    else:
        from latebloom.theory.fitting.readers import read_curves

        fitted, predicted = (
            read_curves(
                files, loss=loss, lr=lr, step=step, other_lr=other_lr, two_rates=True, weight_decay=weight_decay,
                warmup=warmup, burn_in=burn_in, points=points,
            )
            for files in (paths, predict)
        )  # fmt: skip
        table = _fit_laws(fitted, predicted, name, replicas, seed)
    click.echo(json.dumps(table, indent=2) if as_json else _fit_text(table))


@click.command("record")
@click.argument("run", type=LocalPath(path_type=Path))
@click.option("--parquet", type=LocalPath(path_type=Path, dir_okay=False), help="Write it to this file.")
def record_command(run: Path, parquet: Path | None) -> None:
    """Show what RUN (a run's directory or a record file) measured last; with --parquet, write the record there."""
    from latebloom.theory.record import read_record, write_parquet

    record = read_record(run)
    step, loss = record.curve()
    last = f"validation loss {loss[-1]:.6f} after {step[-1]} of {record.plan.steps} steps" if len(step) else "no loss"
    if parquet is not None:
        write_parquet(record, parquet)
    click.echo(f"{record.header.name}: {last}, {count_text(len(record), 'row')}, plan {record.header.plan_digest[:16]}")
    if parquet is not None:
        click.echo(str(parquet))


def _fit_laws(curves: list, others: list, name: str | None, replicas: int, seed: int) -> dict:
    """The law called ``name``, or the one with the least held-out error, fitted to ``curves``; its errors on others."""
    from latebloom.theory.fitting.laws import (
        bootstrap_laws,
        fit_law,
        held_out_errors,
        law_report,
        prediction_errors,
    )
    from latebloom.theory.fitting.sizes import SIZE_LAWS
    from latebloom.theory.landscapes import LAWS
    from latebloom.theory.landscapes.lr_history import GroupRates
    from latebloom.theory.landscapes.registry import FITTED

    if name is None and all(isinstance(curve.schedule, GroupRates) for curve in curves):
        name = "two_valleys"  # the others see one of the two
    league: dict[str, dict[str, float]] = {}
    if name is None or name == "best":
        errors = held_out_errors(list(LAWS.values()), curves, seed=seed)
        names = {law: tag for tag, law in LAWS.items()}
        league = {names[law]: by_run for law, by_run in errors.items()}
        name = min(league, key=lambda tag: sum(league[tag].values()))
    if name not in LAWS:
        raise InputError("--law", name, "is not a law", nearest(name, [*FITTED, *SIZE_LAWS, "best", *LAWS]))
    fit = fit_law(LAWS[name], curves, seed=seed)
    predicted = {curve.name: prediction_errors(fit, curve) for curve in others}
    report = law_report(fit, bootstrap_laws(fit, replicas=replicas, seed=seed))
    return report | {"held_out": league, "predicted": predicted}


def _are_pilots(paths: tuple[Path, ...]) -> bool:
    """Whether these are records of an expansion's pilots: more than one depth among them."""
    from latebloom.theory.fitting.readers import is_record
    from latebloom.theory.record import read_record

    if not all(path.exists() and is_record(path) for path in paths):
        return False
    return len({stage.depth for path in paths for stage in read_record(path).plan.stages}) > 1


def _fit_text(table: dict) -> str:
    lines = []
    if table.get("held_out"):
        league = {name: sum(by_run.values()) / len(by_run) for name, by_run in table["held_out"].items()}
        rows = [(name, f"{error:.3%}") for name, error in sorted(league.items(), key=lambda item: item[1])]
        lines.append(text_table("<>", ("law", "held-out error"), rows))
    if "law" in table:
        lines.append(f"{table['law']}: {table['status']}")
    parameters = []
    left_open = {line.partition(":")[0] for line in table["identifiability"] if "law" in table}
    for name, row in table["parameters"].items():
        interval = f"{row['low']:.5g} ... {row['high']:.5g}" if row["low"] is not None else "no bootstrap"
        if name in left_open:  # held where the law expects it, in every replica
            interval = "left open, see below"
        parameters.append((name, f"{row['value']:.5g}", interval, row.get("unit", "")))
    lines.append(text_table("<><<", ("parameter", "value", "90% interval", ""), parameters))
    runs = [(name, f"{row['mean']:.3%}", f"{row['worst']:.3%}") for name, row in table["runs"].items()]
    lines.append(text_table("<>>", ("run", "mean error", "worst error"), runs))
    if table.get("predicted"):
        predicted = [(name, f"{row['alone']:.3%}", f"{row['carried']:.3%}") for name, row in table["predicted"].items()]
        lines.append(text_table("<>>", ("predicted run", "alone", "carried"), predicted))
    lines.extend(table["identifiability"])
    lines.extend(table.get("answers", ()))
    return "\n".join(lines)


def read_pilots(paths: Sequence[Path], base: Plan, *, growth: tuple[str, str] | None) -> list[Record]:
    """Records of pilots of what is planned.

    Args:
        paths: Run directories, record files, lists of runs that other trainers made.
        base: Model and batch that are planned.
        growth: Init and order of new blocks that are planned; None where the pilots say.

    Raises:
        InputError: naming the pilot that is of another model, batch or way of growing.
    """
    from latebloom.theory.fitting.foreign_runs import curve_text, is_run_list, read_runs

    model = base.model
    runs = read_runs(paths, base)
    for path, record in runs:
        if is_run_list(path):
            click.echo("\n".join(curve_text(record)), err=True)
        if record.plan.model.replace(name=model.name) != model:
            rule = f"is a run of another model than {model.name}: {record.plan.model.name}, width "
            rule += f"{record.plan.model.width}, vocabulary {record.plan.model.vocab_size}"
            raise InputError("--pilot", str(path), rule, "run pilots of the model that is planned")
        if record.plan.batch_tokens != base.batch_tokens:
            rule = f"has {record.plan.batch_tokens} tokens a step, the plan {base.batch_tokens}"
            raise InputError("--pilot", str(path), rule, "run pilots with the batch that is planned")
        for stage in record.plan.stages[1:]:
            if growth is not None and (stage.init, stage.order) != growth:
                rule = f"grows by {stage.init}, {stage.order}, the plan by {', '.join(growth)}"
                raise InputError("--pilot", str(path), rule, "say --init and --order as the pilots have them")
    return [record for _, record in runs]


def _mixing_area(config: PlanConfig, peak: float) -> float | None:
    """The mixing area that was given, in learning rate x steps."""
    u_mix = config.u_mix
    if u_mix is None:
        return config.u_mix_area
    if config.u_mix_area is not None:
        raise InputError("--u-mix", u_mix, "stands beside --u-mix-area", "give one of them")
    if not 0 < u_mix < 1:
        rule = "must be a share of peak_lr x steps in (0, 1)"
        raise InputError("--u-mix", u_mix, rule, "give such as 0.12, or an area with --u-mix-area")
    return u_mix * peak * config.steps
