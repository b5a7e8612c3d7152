"""Which control each of several finished runs is, by what it did: names do not matter. Seeds are replicates."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

from latebloom.theory.controls import Control, compared, control, controls_among
from latebloom.theory.cost import plan_flops
from latebloom.theory.errors import InputError
from latebloom.theory.plan import Plan
from latebloom.theory.record import Record
from latebloom.theory.schedules import Tail
from latebloom.theory.verdict import COMPUTE_TOLERANCE, same_run

__all__ = ["arms_of", "planned_as"]


def arms_of(records: Sequence[Record], *, progressive: str | None = None) -> tuple[list[dict[str, Record]], list[str]]:
    """The run that grows as ``progressive``, its controls by their names, seed by seed, and why others are none.

    A run whose name is a control's and whose depth fits is that one; any other is the first control of its depth and
    horizon, or at equal compute of its FLOPs. Runs that grow alike on different seeds are replicates.

    Args:
        records: Finished runs.
        progressive: Name of the run that grows, where several do.

    Returns:
        Records by arm, those of the chosen run's seed first, then what was done again on other seeds; and a sentence
        for each run that is left out.

    Raises:
        InputError: if none grows, or several do and none is chosen.
    """
    grown = [record for record in records if record.plan.tau is not None]
    names = [record.header.name for record in grown]
    if not grown:
        rule = "do not hold a run that grows"
        raise InputError("RUNS", [r.header.name for r in records], rule, "add it: the verdict is on that one")
    if progressive is None and "progressive" in names:
        progressive = "progressive"
    if progressive is not None and names.count(progressive) != 1:
        raise InputError(
            "--progressive", progressive, f"is not one of the runs that grow: {', '.join(names)}", "name one"
        )
    if progressive is None and not all(same_run(record.plan, grown[0].plan) for record in grown):
        raise InputError("RUNS", names, "grow, all of them", "name the one to judge with --progressive")
    chosen = grown[0] if progressive is None else grown[names.index(progressive)]
    arms, no_control = _arms_of_seed(records, chosen)
    seeds, left_out = [arms], []
    if no_control:
        listed, are = ", ".join(no_control), "is" if len(no_control) == 1 else "are"
        left_out.append(f"{listed} {are} left out: no control of {chosen.header.name}, or one that is there already.")
    for seed in dict.fromkeys(record.header.seed for record in records):
        if seed == chosen.header.seed:
            continue
        again = next((r for r in grown if r.header.seed == seed and same_run(r.plan, chosen.plan)), None)
        if again is None:
            names = [record.header.name for record in records if record.header.seed == seed]
        else:
            found, names = _arms_of_seed(records, again)
            same = {name: r for name, r in found.items() if name in arms and same_run(r.plan, arms[name].plan)}
            names += [record.header.name for name, record in found.items() if name not in same]
            seeds.append(same)
        why = f"of seed {seed}, and no run of seed {chosen.header.seed} again"
        left_out += [f"{name} is left out: {why}." for name in names]
    return seeds, left_out


def _arms_of_seed(records: Sequence[Record], grown: Record) -> tuple[dict[str, Record], list[str]]:
    """Runs of one seed by arm, and the names of those that are no control of ``grown``."""
    arms, no_control = {"progressive": grown}, []
    others = [record for record in records if record is not grown and record.header.seed == grown.header.seed]
    named = [record for record in others if controls_among([record.header.name])]
    for record in [*named, *(record for record in others if record not in named)]:
        fits = [each for each in _candidates(record, grown) if each.name not in arms]
        if not fits:
            no_control.append(record.header.name)
            continue
        arms[fits[0].name] = record
    return arms, no_control


def planned_as(plan: Plan, record: Record) -> Record:
    """The record of a run that another trainer made, with the plan it carried out and what that predicted.

    Args:
        plan: As it was written before the run.
        record: Of the run; its model's name and its optimizer stay as they were said with its curve.

    Raises:
        InputError: if the run did something else: which, and what differs.
    """
    done = record.plan
    same = plan.replace(model=plan.model.replace(name=done.model.name), optimizer=done.optimizer)
    for name in ("model", "batch_tokens", "schedule", "stages"):
        if getattr(same, name) != getattr(done, name):
            rule = f"differs in {name} from what {record.header.name} did"
            raise InputError("--plan", plan.name, rule, "give the plan that this run carried out")
    return dataclasses.replace(record, header=record.header.replace(plan=same, plan_digest=plan.digest))


def _candidates(record: Record, progressive: Record) -> list[Control]:
    """The controls that a run may be, the one of its name first."""
    plan, target = record.plan, progressive.plan
    if plan.tau is not None:
        return []
    depths = {target.stages[0].depth: (), target.depth: ()}
    rows = compared(depths.get(plan.depth, (plan.depth,)))
    fits = [each for each in rows if _fits(each, record, progressive)]
    own = [control(record.header.name)] if controls_among([record.header.name]) else []
    return [each for each in own if each in fits] + [each for each in fits if each not in own]


def _fits(each: Control, record: Record, progressive: Record) -> bool:
    """Whether a run has the depth and the length of a control."""
    plan, wanted = record.plan, each.plan(progressive.plan)
    if plan.depth != wanted.depth or isinstance(plan.schedule, Tail) != each.starts_at_expansion:
        return False
    if each.at_equal_compute:
        return abs(plan_flops(plan) / plan_flops(progressive.plan) - 1) <= COMPUTE_TOLERANCE
    return plan.steps == wanted.steps
