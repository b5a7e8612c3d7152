"""``latebloom pilots``: the pilots of a target as plans, with prices; ``latebloom plan next``: which one to run now."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from latebloom.theory.architectures.model_config import ModelConfig
from latebloom.theory.base_plan import base_plan
from latebloom.theory.commands import read_pilots
from latebloom.theory.config import PlanConfig
from latebloom.theory.cost import plan_flops
from latebloom.theory.errors import InputError
from latebloom.theory.files import write_whole
from latebloom.theory.options import LocalPath, settings
from latebloom.theory.plan import Optimizer, Plan, Provenance, Stage, write_plan
from latebloom.theory.prediction import Prediction
from latebloom.theory.words import amount_text, blocks_text, text_table

if TYPE_CHECKING:
    from latebloom.theory.fitting.annealed_ends import AnnealedEnd
    from latebloom.theory.pilot_design import DesignedPilot, PilotDesign
    from latebloom.theory.record import Record

__all__ = ["next_command", "pilots_command"]

PATH = LocalPath(path_type=Path)
MANIFEST = "manifest.json"
SMALLER = (  # tests/benchmarks/pilot_sizes.py computes it from committed Records
    "Pilots at half the width (measured once, 1 -> 4 blocks, one seed): the small depth's slope came out the same to "
    "1 %, the depth gap 12 % too small, the share of it that growing recovers .01 to .14 too large. They say whether "
    "growing can pay, not what it gains; a plan from them is refused. With half the tokens a step as well, the slope "
    "came out 28 % too large and the depth gap 61 % too small: keep the batch."
)
NOT_OF_PILOTS = (  # settings of a plan that say nothing about its pilots
    "u_mix", "u_mix_area", "tolerance", "depths", "ladders", "most_steps", "grow", "law", "base_width", "base_depth",
)  # fmt: skip


@click.command("pilots")
@settings(
    {"model": ModelConfig, "config": PlanConfig, "optimizer": Optimizer},
    without=("base", *NOT_OF_PILOTS),
    renamed={"name": "optimizer"},
)
@click.option("--after", "records", multiple=True, type=PATH, help="Runs that there are: only the rest is written.")
@click.option("--out", type=PATH, default=Path("pilots"), show_default=True, help="Directory of plan files.")
@click.option("--json", "as_json", is_flag=True, help="Print the manifest instead of the table.")
@click.argument("more_records", nargs=-1, type=PATH)
def pilots_command(
    model: ModelConfig,
    config: PlanConfig,
    optimizer: Optimizer,
    records: tuple[Path, ...],
    more_records: tuple[Path, ...],
    out: Path,
    as_json: bool,
) -> None:
    """Design and price the pilots that `latebloom plan --pilot` needs, and write them as plans.

    Three trunks and their branches: the small depth for all steps, the full depth for a quarter of them, and the small
    one grown half-way. With --after, runs that there are already are left out, and where they show that growing cannot
    beat never growing, the pilots that grow are too.
    """
    from latebloom.theory.pilot_design import design_pilots, pilots_left

    base = base_plan(model, config, optimizer)
    growth = Stage(
        start_step=1,
        depth=base.depth,
        init=config.init,
        order=config.order,
        optimizer_state=config.optimizer_state,
    )
    design = design_pilots(base, small_depth=config.small_depth, growth=growth)
    lines: list[str] = []
    if records or more_records:
        from latebloom.theory.fitting.annealed_ends import ends_of

        runs = read_pilots(records + more_records, base, growth=(config.init, config.order))
        ends = ends_of(runs, small_depth=config.small_depth, full_depth=base.depth)
        ruled_out, lines = _conditions(runs, ends, base, config)
        design = pilots_left(design, ends, growth=not ruled_out)
    out.mkdir(parents=True, exist_ok=True)
    for pilot in design.pilots:
        write_plan(pilot.plan, out / pilot.file)
    write_whole(out / MANIFEST, design.to_json())
    click.echo(design.to_json() if as_json else "\n".join(lines + _table(design, out)), nl=not as_json)


def _conditions(
    records: Sequence[Record], ends: Sequence[AnnealedEnd], base: Plan, config: PlanConfig
) -> tuple[bool, list[str]]:
    """Whether growing is ruled out by the runs so far, and what they say."""
    from latebloom.theory.fitting.annealed_ends import FEWEST_SMALL_ENDS
    from latebloom.theory.fitting.recovery_field import field_of_records
    from latebloom.theory.growth_conditions import conditions_text
    from latebloom.theory.pilot_design import growth_is_ruled_out

    if len({end.steps for end in ends if end.kind == "small"}) < FEWEST_SMALL_ENDS:
        return False, [
            f"The conditions for growing need {FEWEST_SMALL_ENDS} annealed ends of {blocks_text(config.small_depth)}."
        ]
    field = field_of_records(
        records, small_depth=config.small_depth, full_depth=base.depth, reference=base.schedule.total_area
    )
    budget = (1.0 if config.budget is None else config.budget) * plan_flops(base)
    ruled_out, conditions = growth_is_ruled_out(field, base, budget=budget, seed=config.seed)
    lines = [conditions_text(conditions)]
    if conditions.delta is None:
        least = min(row.needed.median for row in conditions.conditions)
        lines.append(
            f"Stop here if you know that {blocks_text(base.depth)} would end less than {least:.2g} nats "
            f"({least / field.scale:.1%}) below {blocks_text(config.small_depth)}: growing cannot be the best use then."
        )
    elif ruled_out:
        lines.append("Stop: growing can beat never growing with less than 10 % at every share; no pilot need grow.")
    return ruled_out, lines


def _table(design: PilotDesign, out: Path) -> list[str]:
    """The pilots that are left, their prices and how to run them."""
    if not design.pilots:
        return [f"Nothing is left to run: `latebloom plan --pilot` now. {out / MANIFEST}"]
    rows = [(p.name, amount_text(p.flops), f"{p.share_of_fixed:.3f}", _how(p)) for p in design.pilots]
    share = sum(p.share_of_fixed for p in design.pilots)
    rows.append(("together", amount_text(design.flops), f"{share:.3f}", ""))
    lines = [text_table("<>><", ("pilot", "FLOPs", "of fixed", "how"), rows)]
    if design.pilots[0].role == "small" and design.pilots[0].branch_of is None:
        lines.append(
            f"The first is the beginning of every run that starts with {blocks_text(design.small_depth)}: beside it "
            f"the pilots cost {amount_text(design.flops_beside_small)} FLOPs, {design.share_of_fixed:.2f} of the fixed "
            "run."
        )
    lines.append(f"Run them: latebloom train-all {out}/*.json --data ... --out runs")
    lines.append("or one by one, each trunk, then its branches (the same --data and --seed for all):")
    trunk = next((p for p in design.pilots if p.branch_of is None), None)
    if trunk is not None:
        every = trunk.checkpoint_every
        lines.append(
            f"  latebloom train {out / trunk.file} --out runs/{trunk.name} --checkpoint-every {every} "
            f"--keep-checkpoints {-(-trunk.plan.steps // every)} --data ..."
        )
    leaf = next((p for p in design.pilots if p.branch_of is not None), None)
    if leaf is not None:
        lines.append(f"  latebloom branch runs/{leaf.branch_of} {out / leaf.file} --out runs/{leaf.name}")
    lines += [SMALLER, str(out / MANIFEST)]
    return lines


def _how(pilot: DesignedPilot) -> str:
    return "a trunk" if pilot.branch_of is None else f"a branch of {pilot.branch_of} at step {pilot.branch_at}"


@click.command("next")
@click.argument("paths", nargs=-1, required=True, type=PATH, metavar="RECORDS...")
@click.option("--steps", type=click.IntRange(min=1), help="Horizon. [default: the longest run's]")
@click.option("--depth", type=click.IntRange(min=1), help="Full depth. [default: the deepest run's]")
@click.option("--budget", type=float, help="Share of the FLOPs of the full depth for all steps. [default: 1.0]")
@click.option("--out", type=PATH, help="Write the pilot's plan to this file.")
@click.option("--json", "as_json", is_flag=True, help="Print all candidates as JSON.")
def next_command(
    paths: tuple[Path, ...],
    steps: int | None,
    depth: int | None,
    budget: float | None,
    out: Path | None,
    as_json: bool,
) -> None:
    """Name the run that is most worth its price now: expected fall in the regret of the choice, per FLOP.

    RECORDS are the pilots so far; model, batch, depths and schedule are theirs.
    """
    from latebloom.theory.fitting.foreign_runs import read_runs
    from latebloom.theory.fitting.recovery_field import field_of_records
    from latebloom.theory.menu import equal_compute_menu, schedule_for
    from latebloom.theory.menu_plan import WORTH_SAYING, next_text
    from latebloom.theory.pilot_design import pilot_plan
    from latebloom.theory.pilot_reach import short_pilots_text
    from latebloom.theory.pilot_value import candidate_pilots, pilot_value

    records = [record for _, record in read_runs(paths)]
    longest = max((record.plan for record in records), key=lambda plan: plan.steps)
    depths = {stage.depth for record in records for stage in record.plan.stages}
    small, full = min(depths), max(depths) if depth is None else depth
    if small >= full:
        raise InputError("--depth", full, f"is not above the small depth {small} of these runs", "give the full depth")
    base = longest.replace(
        schema_version=1,
        schedule=schedule_for(longest.schedule, longest.steps if steps is None else steps),
        stages=(Stage(start_step=0, depth=full),),
        predicted=Prediction(),
        provenance=Provenance(),
    )
    records = read_pilots(paths, base, growth=None)
    field = field_of_records(records, small_depth=small, full_depth=full, reference=base.schedule.total_area)
    between = tuple(sorted({end.depth for end in field.ends if end.kind == "between"}))
    flops = (1.0 if budget is None else budget) * plan_flops(base)
    menu = equal_compute_menu(base, small_depth=small, full_depth=full, budget=flops, depths=between)
    pilots = candidate_pilots(field, base, horizon=base.steps, depths=between)
    values = sorted((pilot_value(field, menu, pilot) for pilot in pilots), key=lambda value: -value.per_flop)
    if not values:
        raise InputError("RECORDS", len(records), "leave no candidate that was not run", "plan with them")
    too_short, idle = short_pilots_text(field.ends, menu), values[0].regret_fall < WORTH_SAYING
    if out is not None and too_short is None and not idle:
        grown = [record.plan.stages[-1] for record in records if record.plan.tau is not None]
        growth = grown[0] if grown else Stage(start_step=1, depth=full)
        best = values[0].pilot
        plan = pilot_plan(base, small_depth=small, depth=best.depth, steps=best.steps, tau=best.tau, growth=growth)
        write_plan(plan, out)
    if as_json:
        table = [
            {
                "name": value.pilot.name,
                "flops": value.pilot.flops,
                "regret_fall": value.regret_fall,
                "p_decides": value.p_decides,
            }
            for value in values
        ]
        click.echo(json.dumps(table, indent=2))
        return
    click.echo(next_text(values) if too_short is None else too_short)
    if out is not None:
        click.echo(str(out) if too_short is None and not idle else f"{out} is not written.")
