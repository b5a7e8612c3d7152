"""From pilots to plans by the recovery field: the best arm of the menu, and beside it the best one that grows.

Both plans carry the same prediction: the whole menu, the gaps with their probabilities, joint draws, the conditions for
growing, and what the pilots cost. Whoever grows anyway takes the second plan, and reads there what it costs.

Losses of runs (``final_loss``, the controls', the gaps) are those which runs of the pilots' seed will show; the menu's
are expected over seeds, because a choice between arms is one for every seed.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from latebloom.theory import checks
from latebloom.theory.cost import flops_per_token
from latebloom.theory.decision import DRAWS, Choice, Decision, Gap, decide, sentences
from latebloom.theory.errors import InputError
from latebloom.theory.fitting.annealed_ends import AnnealedEnd
from latebloom.theory.fitting.recovery_field import RecoveryField
from latebloom.theory.growth_conditions import conditions_text, growth_conditions, smallest_budget
from latebloom.theory.menu import (
    SHARES,
    MenuArm,
    draws_of_arms,
    equal_compute_menu,
    expected_of_arms,
    growth_controls,
    schedule_for,
)
from latebloom.theory.pilot_value import UNLIKELY, PilotValue, candidate_pilots
from latebloom.theory.plan import SCHEMA_VERSION, Plan, Provenance, Stage
from latebloom.theory.prediction import (
    FieldSummary,
    GrowthConditions,
    Interval,
    JointDraws,
    MenuRow,
    PilotCosts,
    PilotCurve,
    PilotEnd,
    PilotRun,
    PlannedDecision,
    PredictedGap,
    PredictedGaps,
    Prediction,
    Quantiles,
)
from latebloom.theory.words import amount_text, blocks_text

__all__ = ["MenuPlans", "field_summary", "next_text", "pilot_costs", "plan_from_menu"]

LONGEST = 10.0  # multiple of the full depth's steps at this budget up to which an equal loss is looked for
WORTH_SAYING = 1e-5  # nats: a smaller fall in regret is none
DECIMALS = 5  # of losses in the file's draws


@dataclass(frozen=True, kw_only=True)
class MenuPlans:
    """What follows from one field at one budget.

    Attributes:
        best: The arm of least expected loss, as a plan.
        growing: The best arm that grows, as a plan; None if no arm of the menu grows.
        decision: Which arm, and how sure.
        conditions: What must hold for growing to be worth it; None where the budget does not hold the full depth.
        text: All of it in plain English, a line a subject.
    """

    best: Plan
    growing: Plan | None
    decision: Decision
    conditions: GrowthConditions | None
    text: str


def plan_from_menu(
    field: RecoveryField,
    base: Plan,
    *,
    budget: float,
    growth: Stage,
    depths: Sequence[int] = (),
    shares: Sequence[float] = SHARES,
    ladders: bool = False,
    most_steps: int | None = None,
    seed: int = 0,
) -> MenuPlans:
    """The plans that minimise posterior expected loss at a budget.

    Args:
        field: Posterior, of pilots of the same experiment as ``base``.
        base: The full depth for the whole horizon: model, batch, optimizer, schedule, name.
        budget: C, training FLOPs.
        growth: How new blocks begin and where they stand; its step and depth are chosen here.
        depths: Fixed depths between that would be trained as well.
        shares: x = tau/T at which growing is considered.
        ladders: Whether growing through each of ``depths`` is considered too.
        most_steps: Steps that the data allow.
        seed: Of the draws.

    Returns:
        The plans, and why.

    Raises:
        InputError: if the pilots had another warm-up or peak learning rate than ``base``, nothing was trained at the
            full depth, a number is out of range, or the budget buys no arm.
    """
    checks.positive("budget", budget, fix="give training FLOPs")
    checks.whole("seed", seed, 0)
    if most_steps is not None:
        checks.whole("most_steps", most_steps, 1)
    _check_schedule(field, base)
    small, full = field.small_depth, field.full_depth
    menu = equal_compute_menu(
        base,
        small_depth=small,
        full_depth=full,
        budget=budget,
        depths=depths,
        shares=shares,
        ladders=ladders,
        most_steps=most_steps,
    )
    pilots = candidate_pilots(field, base, horizon=base.steps, depths=depths)
    decision = decide(field, menu, base, pilots=pilots, seed=seed)
    try:
        conditions = growth_conditions(field, base, budget=budget, seed=seed)
    except InputError:  # the budget does not hold the full depth's warm-up: growing was no arm either
        conditions = None
    shared = Prediction(
        menu=tuple(_row(choice) for choice in decision.choices),
        gaps=_gaps(decision),
        decision=_planned(decision),
        draws=_draws(field, decision, base, seed),
        conditions=conditions,
        field=field_summary(field),
    )
    text = _text(field, base, decision, conditions, budget, seed)

    def written(index: int) -> Plan:
        return _written(field, base, decision, index, shared, growth, text)

    return MenuPlans(
        best=written(decision.best),
        growing=None if decision.growth is None else written(decision.growth),
        decision=decision,
        conditions=conditions,
        text=text,
    )


def _check_schedule(field: RecoveryField, base: Plan) -> None:
    """Refuse to plan runs whose schedule is not the pilots'."""
    end = field.ends[0]
    if not np.isclose(end.peak_lr, base.schedule.peak):
        rule = f"is the plan's peak learning rate, the pilots' is {end.peak_lr:g}"
        raise InputError("peak_lr", base.schedule.peak, rule, f"give --peak-lr {end.peak_lr:g}, or pilots at that rate")
    warmup = int(np.argmax(base.schedule.lrs())) + 1
    if warmup != end.warmup_steps:
        rule = f"is the plan's warm-up in steps, the pilots' is {end.warmup_steps}: pilots keep the warm-up in steps"
        fix = f"give --warmup {end.warmup_steps / base.steps:.4g}, or run pilots with a warm-up of {warmup} steps"
        raise InputError("warmup_steps", warmup, rule, fix)


# --- the plan of an arm -----------------------------------------------------------------------------------------------


def _written(
    field: RecoveryField, base: Plan, decision: Decision, index: int, shared: Prediction, growth: Stage, text: str
) -> Plan:
    """The plan of one arm of the menu with all that is predicted."""
    arm = decision.choices[index].arm
    stages = [Stage(start_step=0, depth=arm.depths[0])]
    if arm.tau is not None:
        stages.append(growth.replace(start_step=arm.tau, depth=arm.depths[1]))
    if arm.second_tau is not None:
        stages.append(growth.replace(start_step=arm.second_tau, depth=arm.depths[2]))
    assert shared.draws is not None
    if index != decision.best:
        first, *rest = text.split("\n")
        regret = decision.choices[index].regret
        first += f" This plan grows all the same, {arm.name} of {arm.steps} steps: expected regret {regret:.2g} nats."
        text = "\n".join([first, *rest])
    elif decision.growth is not None and decision.growth != decision.best:
        grown = decision.choices[decision.growth].arm
        text += f"\nTo grow all the same: --grow writes {grown.name} of {grown.steps} steps."
    predicted = shared.replace(
        **_point_values(field, base, decision, arm, shared.draws),
        pilots=pilot_costs(field.ends, base, arm),
        verdict=text.split("\n", 1)[0],
    )
    fixed = _iso_loss_flops(field, base, predicted.final_loss)
    if fixed is not None and predicted.pilots is not None:
        extra = predicted.pilots.flops - predicted.pilots.reused
        predicted = predicted.replace(
            saving_equal_compute=1 - arm.flops / fixed,
            pilots=predicted.pilots.replace(saving_net=1 - (arm.flops + extra) / fixed),
        )
    return base.replace(
        schema_version=SCHEMA_VERSION,
        schedule=schedule_for(base.schedule, arm.steps),
        stages=tuple(stages),
        predicted=predicted,
        provenance=Provenance(
            landscape="field",
            parameters={name: getattr(shared.field, name).median for name in ("amplitude", "exponent", "noise")},
            pilots=tuple(dict.fromkeys(end.digest for end in field.ends if end.digest)),
            reason=text,
        ),
    )


def _point_values(
    field: RecoveryField, base: Plan, decision: Decision, arm: MenuArm, draws: JointDraws
) -> dict[str, object]:
    """The fields of version 1: medians of what runs of the pilots' seed will show."""
    assert draws.names
    table = dict(zip(draws.names, np.array(draws.losses).T, strict=True))
    run = draws_of_arms(field, [arm], number=2000, measured=True)[:, 0]
    low, median, high = np.quantile(run, [0.05, 0.5, 0.95])
    values: dict[str, object] = {
        "final_loss": float(median),
        "final_loss_interval": Interval(low=float(low), high=float(high)),
        "flops": arm.flops,
    }
    if arm.tau is None:
        return values
    price = _price(base, arm.depths[-1])
    medians = {name: float(np.median(table[name])) for name in ("fixed", "equal_compute", "never", "small")}
    tau = decision.tau_share
    assert tau is not None
    return values | {
        "tau_star": float(arm.tau),
        "tau_interval": Interval(low=tau.low * arm.steps, high=tau.high * arm.steps),
        "fixed_final_loss": medians["fixed"],
        "equal_compute_steps": float(round(arm.flops / price)),
        "equal_compute_final_loss": medians["equal_compute"],
        "small_final_loss": medians["small"],
        "control_losses": {"small_equal_compute": medians["never"]},
        "retention": float(np.median(table["cold_start"] - table["grown"])),
        "fixed_flops": price * arm.steps,
        "saving_same_horizon": 1 - arm.flops / (price * arm.steps),
    }


def _price(base: Plan, depth: int) -> float:
    """FLOPs of a step at ``depth``."""
    return float(base.batch_tokens) * flops_per_token(base.model, depth)


def _iso_loss_flops(field: RecoveryField, base: Plan, loss: float | None) -> float | None:
    """FLOPs at which the full depth alone reaches ``loss``; None where that is not predicted."""
    if loss is None:
        return None
    full = field.full_depth
    shortest = getattr(base.schedule, "warmup_steps", 0) + 2
    steps = np.unique(np.geomspace(shortest, base.steps * LONGEST, 60).round())
    areas = [schedule_for(base.schedule, int(t)).total_area for t in steps]
    runs = field.points([0.0] * len(areas), areas, [full] * len(areas))
    predicted = field.expected(runs, measured=True)
    below = np.flatnonzero(predicted <= loss)
    if not len(below) or below[0] == 0:
        return None
    i = int(below[0])
    share = (predicted[i - 1] - loss) / (predicted[i - 1] - predicted[i])
    return _price(base, full) * float(np.exp(np.interp(share, [0, 1], np.log(steps[i - 1 : i + 1]))))


# --- what the file says -----------------------------------------------------------------------------------------------


def _row(choice: Choice) -> MenuRow:
    arm = choice.arm
    return MenuRow(
        name=arm.name,
        depths=arm.depths,
        tau=arm.tau,
        steps=arm.steps,
        flops=arm.flops,
        loss=choice.loss,
        p_best=choice.p_best,
        regret=choice.regret,
    )


def _gaps(decision: Decision) -> PredictedGaps | None:
    gaps = (decision.fixed, decision.equal_compute, decision.never, decision.best_fixed)
    fixed, equal, never, best = (None if gap is None else _gap(gap) for gap in gaps)
    if fixed is None or equal is None or never is None or best is None:
        return None
    return PredictedGaps(fixed=fixed, equal_compute=equal, never=never, best_fixed=best)


def _gap(gap: Gap) -> PredictedGap:
    arm = gap.against
    return PredictedGap(against=arm.name, steps=arm.steps, flops=arm.flops, gap=gap.gap, p_below=gap.p_below)


def _planned(decision: Decision) -> PlannedDecision:
    value = decision.next_pilots[0] if decision.next_pilots else None
    if value is not None and value.regret_fall < WORTH_SAYING:
        value = None
    return PlannedDecision(
        head=decision.head,
        p_grow=decision.p_grow,
        best=decision.choices[decision.best].arm.name,
        growth=None if decision.growth is None else decision.choices[decision.growth].arm.name,
        next_pilot=None if value is None else value.pilot.name,
        next_pilot_flops=None if value is None else value.pilot.flops,
        next_pilot_decides=None if value is None else value.p_decides,
    )


def _draws(field: RecoveryField, decision: Decision, base: Plan, seed: int) -> JointDraws:
    """The menu's expected losses, and what runs of the best growing arm and its controls will show, in one draw."""
    arms = [choice.arm for choice in decision.choices]
    names, measured = [arm.name for arm in arms], [False] * len(arms)
    if decision.growth is not None:
        grown = arms[decision.growth]
        begun = grown.area_before if grown.second_tau is None else grown.second_area
        cold = dataclasses.replace(
            grown, depths=grown.depths[-1:], tau=None, second_tau=None, area_before=0.0,
            area_after=grown.area_before + grown.area_after - begun,
        )  # fmt: skip
        arms += [grown, *growth_controls(grown, base), cold]
        names += ["grown", "fixed", "equal_compute", "never", "small", "cold_start"]
        between = [
            arm
            for arm in arms[: len(measured)]
            if arm.tau is None and grown.depths[0] < arm.depths[0] < field.full_depth
        ]
        arms += between
        names += [f"depth_equal_compute-{arm.depths[0]}" for arm in between]
        measured += [True] * (len(arms) - len(measured))
    drawn = draws_of_arms(field, arms, number=DRAWS, seed=seed, measured=measured)
    losses = tuple(tuple(row) for row in drawn.round(DECIMALS).tolist())
    return JointDraws(names=tuple(names), measured=tuple(measured), losses=losses)


def field_summary(field: RecoveryField) -> FieldSummary:
    """A posterior as a plan states it, with the pilots' ends from which it can be made again.

    Args:
        field: Posterior.
    """
    trunks = list(dict.fromkeys(end.trunk for end in field.ends))
    curve = field.trunk_curve
    values = {name: value for name, value in vars(field.prior).items() if isinstance(value, int | float)}
    return FieldSummary(
        small_depth=field.small_depth,
        full_depth=field.full_depth,
        reference=field.reference,
        scale=field.scale,
        amplitude=field.parameter("amplitude"),
        exponent=field.parameter("exponent"),
        discrepancy=field.parameter("discrepancy"),
        noise=field.parameter("noise"),
        prior={name: float(value) for name, value in values.items()},
        ends=tuple(
            PilotEnd(
                depth=end.depth,
                area=end.area,
                area_before=end.area_before,
                loss=end.loss,
                seed=end.seed,
                trunk=trunks.index(end.trunk),
            )
            for end in field.ends
        ),
        curve=None if curve is None else PilotCurve(area=curve.area, loss=curve.loss, noise=curve.noise),
    )


# --- what the pilots cost ---------------------------------------------------------------------------------------------


def pilot_costs(ends: Sequence[AnnealedEnd], base: Plan, arm: MenuArm | None = None) -> PilotCosts:
    """FLOPs of pilots that were run as branches: what several have in common counts once.

    Args:
        ends: Annealed ends of the pilots.
        base: Of the experiment: prices, and the fixed run in whose units the share is.
        arm: What will be run; it goes on from the trunk of its first depth. None: nothing is reused.
    """
    small = min(end.depth for end in ends) if ends else base.depth
    trunks: dict[tuple[int, int, str | None, str], float] = {}  # step to which each was trained at the constant rate
    grown: dict[tuple[int, int, str | None, str, int], float] = {}
    tails = 0.0
    for end in ends:
        begins = small if end.kind == "grown" else end.depth
        stable = max(end.stable_steps, end.tau)
        key = (begins, end.seed, end.data, end.trunk if end.stable_steps else end.name)
        trunks[key] = max(trunks.get(key, 0.0), end.tau if end.kind == "grown" else stable)
        if end.kind == "grown":
            grown[(*key, end.tau)] = max(grown.get((*key, end.tau), 0.0), stable - end.tau)
        tails += _price(base, end.depth) * (end.steps - stable)
    deepest = max((end.depth for end in ends), default=base.depth)
    spent = tails + sum(_price(base, key[0]) * steps for key, steps in trunks.items())
    spent += _price(base, deepest) * sum(grown.values())
    reused = 0.0
    if arm is not None:
        rates = schedule_for(base.schedule, arm.steps)
        first = arm.tau if arm.tau is not None else arm.steps - getattr(rates, "decay_steps", 0)
        there = max((steps for key, steps in trunks.items() if key[0] == arm.depths[0]), default=0.0)
        reused = _price(base, arm.depths[0]) * min(there, first)
    return PilotCosts(
        runs=tuple(
            PilotRun(name=end.name, digest=end.digest, role=end.kind, steps=end.steps, flops=end.flops) for end in ends
        ),
        flops=spent,
        reused=reused,
        share_of_fixed=(spent - reused) / (_price(base, base.depth) * base.steps),
    )


# --- in words ---------------------------------------------------------------------------------------------------------


def _text(
    field: RecoveryField,
    base: Plan,
    decision: Decision,
    conditions: GrowthConditions | None,
    budget: float,
    seed: int,
) -> str:
    """What `latebloom plan` prints: the best arm and how sure, why, conditions, pilots, what to find out next."""
    lines = sentences(decision)
    if conditions is not None:
        smallest = smallest_budget(field, base, budget=budget, seed=seed)
        lines.append(f"Why: {conditions_text(conditions, smallest=smallest)}")
        lines += _condition_lines(conditions)
    costs = pilot_costs(field.ends, base, decision.choices[decision.best].arm)
    lines.append(
        f"Pilots: {amount_text(costs.flops)} FLOPs, of which the plan goes on from {amount_text(costs.reused)}; the "
        f"rest is {costs.share_of_fixed:.2f} of {blocks_text(base.depth)} for {base.steps} steps."
    )
    best = decision.choices[decision.best].arm
    expected = expected_of_arms(field, [best], measured=True)
    fixed = _iso_loss_flops(field, base, float(expected[0]))
    if fixed is not None:
        share, with_pilots = best.flops / fixed, (best.flops + costs.flops - costs.reused) / fixed
        lines.append(
            f"To reach that loss {blocks_text(base.depth)} alone need {amount_text(fixed)} FLOPs: this takes "
            f"{share:.0%} of it, {with_pilots:.0%} with the pilots."
        )
    if decision.next_pilots and decision.too_short is None:  # else the sentence on too short pilots names the next
        lines.append(next_text(decision.next_pilots))
    return "\n".join(lines)


def next_text(values: Sequence[PilotValue]) -> str:
    """What is most worth knowing next, in a sentence.

    Args:
        values: Candidates by fall in regret per FLOP, best first.
    """
    value = values[0]
    if value.regret_fall < WORTH_SAYING:
        return "Most worth knowing next: nothing that was looked at is expected to change the choice."
    decides = (
        f"decides between growing and not with probability {value.p_decides:.2g}"
        if value.p_decides >= UNLIKELY
        else "alone unlikely to decide between growing and not"
    )
    return (
        f"Most worth knowing next: {value.pilot.name}, {amount_text(value.pilot.flops)} FLOPs: expected to lower the "
        f"regret of the choice by {value.regret_fall:.2g} nats, {decides}.{_narrowed_text(value)}"
    )


def _narrowed_text(value: PilotValue) -> str:
    if value.gap is None or value.gap_then is None:
        return ""
    now, then = (f"{100 * each.low:+.1f} ... {100 * each.high:+.1f} %" for each in (value.gap, value.gap_then))
    if now == then:
        return ""
    return f" It would narrow the best growth's gap to not growing from {now} to {then}, if it ends as expected."


def _condition_lines(conditions: GrowthConditions) -> list[str]:
    """Both sides at three shares, a line each."""
    rows = [conditions.conditions[i] for i in (0, len(conditions.conditions) // 2, -1)]
    lines = []
    for row in rows:
        line = f"  grown at {row.share:.0%} of {row.steps} steps: recovers "
        line += "an unknown amount" if row.recovered is None else f"{_around(row.recovered)}"
        line += f", needs {_around(row.needed)} to beat never growing"
        if row.needed_full is not None:
            line += f" and {_around(row.needed_full)} to beat the full depth"
        lines.append(line)
    return lines


def _around(quantiles: Quantiles) -> str:
    return f"{quantiles.median:.3f} [{quantiles.low:.3f}, {quantiles.high:.3f}]"
