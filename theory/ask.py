"""What a landscape answers about a plan: from what depth to grow, how long, when, at what peak, and is it worth it.

Every answer stands beside the *best fixed depth at equal compute*, the control that decides, and the full depth at
equal compute, which growing beats exactly where it transfers more than a small step costs.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from latebloom.theory.cost import depth_cost_ratio, flops_per_token, plan_flops
from latebloom.theory.errors import InputError
from latebloom.theory.landscapes.area import AreaLaw
from latebloom.theory.landscapes.coupled import CoupledQuadratic
from latebloom.theory.landscapes.growth import GrowthLandscape
from latebloom.theory.landscapes.registry import FittedLandscape
from latebloom.theory.optimum import Optimum, best_growth, winning_window
from latebloom.theory.plan import Plan
from latebloom.theory.spec import Spec
from latebloom.theory.timing import TimingIntervals, timing_intervals
from latebloom.theory.tradeoff import BestRun, Tradeoff
from latebloom.theory.words import amount_text, blocks_text

__all__ = ["Answers", "answer", "answers_text"]

WINNING_RANGE = 30.0  # the smallest compute that wins is looked for within this factor of the one asked about
WINNING_ACCURACY = 0.1  # relative: loss is flat there
FEWEST_REPLICAS = 10  # for intervals


class Answers(Spec, frozen=True, kw_only=True):
    """Answers about one plan at one compute.

    Attributes:
        flops: Compute C asked about.
        landscape: Name of the law of the best small depth.
        fixed_depths: Depths among which the best fixed one is: those that the landscapes know.
        optimum: The best grown run at C beside the best fixed ones.
        tolerance: Share of the full depth's final loss that growing may cost in ``tau_star``.
        tau_star: Latest expansion step of the plan's own schedule that costs no more; None where every step does.
        intervals: Of the timing, from the replicas; None without enough of them.
        not_identified: Why there are no intervals, if the pilots are to blame.
        winning_flops: Least compute at which growing beats the best fixed depth; None if nowhere within a factor 30.
        winning_until: Compute up to which it does; None if to the end of that range, or nowhere.
        winning_flops_full: As ``winning_flops``, against the full depth.
        winning_until_full: As ``winning_until``, against the full depth.
        retention: Loss of a cold start minus that of the best grown run, nats; None unless the law is exact about it.
        left_open: What the pilots leave open.
        closed_form: The best run by power laws at a constant rate alone, against the full depth; of the area law.
    """

    flops: float
    landscape: str
    fixed_depths: tuple[int, ...]
    optimum: Optimum
    tolerance: float
    tau_star: float | None
    intervals: TimingIntervals | None
    not_identified: str | None
    winning_flops: float | None
    winning_flops_full: float | None
    winning_until: float | None
    winning_until_full: float | None
    retention: float | None
    left_open: tuple[str, ...]
    closed_form: BestRun | None = None


def answer(
    plan: Plan,
    fitted: Sequence[FittedLandscape],
    *,
    flops: float | None = None,
    peaks: tuple[float, float] | None = None,
    tolerance: float = 0.01,
) -> Answers:
    """Answer the planner's questions from landscapes, for the model, batch and schedule shape of ``plan``.

    Args:
        plan: What it is about; its schedule's horizon matters to ``tau_star`` only.
        fitted: Landscapes of growing to the plan's depth, one a small depth.
        flops: Compute C; None for what the plan costs.
        peaks: Range of peak learning rates to choose from; None for the plan's own.
        tolerance: Share of the full depth's final loss that growing may cost in ``tau_star``, in (0, 1).

    Returns:
        The answers.

    Raises:
        InputError: for landscapes of other depths, two of one small depth, or numbers out of range.
    """
    if not 0 < tolerance < 1:
        raise InputError("tolerance", tolerance, "must be a share of the loss in (0, 1)", "give 0.01 for 1 %")
    laws = {}
    for one in fitted:
        if one.law.full_depth != plan.depth:
            rule = f"is the depth that this law grows to, the plan's is {plan.depth}"
            raise InputError("full_depth", one.law.full_depth, rule, "give a law of the plan's depth")
        if one.law.small_depth in laws:
            raise InputError("small_depth", one.law.small_depth, "has two laws", "give one law a small depth")
        laws[one.law.small_depth] = one
    if not laws:
        raise InputError("law", None, "is needed to answer from", "give --law FILE or --pilot RUNS")
    spent = plan_flops(plan) if flops is None else flops
    per_step = plan.batch_tokens * flops_per_token(plan.model, plan.depth)
    compute = spent / per_step
    cost_ratio = {depth: depth_cost_ratio(plan.model, depth, plan.depth) for depth in laws}
    schedule = plan.schedule
    optimum = best_growth(
        {depth: one.law for depth, one in laws.items()},
        schedule=schedule,
        compute=compute,
        cost_ratio=cost_ratio,
        peaks=(schedule.peak, schedule.peak) if peaks is None else peaks,
    )
    best = laws[optimum.small_depth]
    law, ratio = best.law, cost_ratio[optimum.small_depth]
    price = tolerance * float(law.fixed(schedule, schedule.horizon, depth=law.full_depth))
    intervals, why = None, None
    if len(best.replicas) >= FEWEST_REPLICAS:
        try:
            intervals = timing_intervals(schedule, best.replicas, tolerance=tolerance, cost_ratio=ratio)
        except InputError as error:
            why = str(error)
    chosen = schedule.replace(peak_lr=optimum.peak_lr)
    winning = {
        against: winning_window(
            law,
            schedule=chosen,
            cost_ratio=ratio,
            compute=(max(compute / WINNING_RANGE, 11.0), min(compute * WINNING_RANGE, 9e8)),
            accuracy=WINNING_ACCURACY,
            against=against,
        )
        for against in ("best", "full")
    }
    ends: dict[str, tuple[float | None, float | None]] = {}
    for name, window in winning.items():
        low, high = (None, None) if window is None else window
        ends[name] = (
            None if low is None else low * per_step,
            None if high is None or math.isinf(high) else high * per_step,
        )
    retention = None
    if isinstance(law, CoupledQuadratic):
        whole = chosen.with_steps(optimum.steps)
        spent_area = float(whole.area(optimum.tau))
        retention = float(law.retention(spent_area, whole.total_area - spent_area))
    return Answers(
        flops=spent,
        landscape=str(law.__struct_config__.tag),
        fixed_depths=(*sorted(laws), plan.depth),
        optimum=optimum,
        tolerance=tolerance,
        tau_star=law.tau_star(schedule, price),
        intervals=intervals,
        not_identified=why,
        winning_flops=ends["best"][0],
        winning_flops_full=ends["full"][0],
        winning_until=ends["best"][1],
        winning_until_full=ends["full"][1],
        retention=retention,
        left_open=best.left_open,
        closed_form=_closed_form(law, peak=optimum.peak_lr, cost_ratio=ratio, compute=compute),
    )


def _closed_form(law: GrowthLandscape, *, peak: float, cost_ratio: float, compute: float) -> BestRun | None:
    """What :class:`Tradeoff` says of the area law's power laws, without onsets, decay and noise."""
    if not isinstance(law, AreaLaw) or not min(law.trunk.amplitude, law.fresh.amplitude, law.kappa) > 0:
        return None
    if not min(law.trunk.exponent, law.fresh.exponent) > 0:
        return None
    trunk, fresh = (s.amplitude * (peak / s.reference) ** -s.exponent for s in (law.trunk, law.fresh))
    return Tradeoff(
        cost_ratio=cost_ratio,
        trunk=trunk,
        trunk_exponent=law.trunk.exponent,
        fresh=fresh,
        fresh_exponent=law.fresh.exponent,
        kappa=law.kappa,
    ).best(compute)


def answers_text(answers: Answers, plan: Plan) -> str:
    """The answers on one screen.

    Args:
        answers: Of :func:`answer`.
        plan: That they are about.

    Returns:
        Lines for people.
    """
    best = answers.optimum
    grown = f"growing {best.small_depth} -> {plan.depth}"
    known = ", ".join(map(str, answers.fixed_depths))
    lines = [f"At {amount_text(answers.flops)} FLOPs, by the {answers.landscape} law (fixed depths compared: {known}):"]
    share = best.tau / best.steps
    lines.append(
        f"  best grown run      {blocks_text(best.small_depth)} for {best.tau} of {best.steps} steps ({share:.0%}), "
        f"then {plan.depth}; peak {best.peak_lr:.4g}; loss {best.loss:.4f}"
    )
    lines.append(
        f"  best fixed depth    {blocks_text(best.best_depth)} for {best.best_steps} steps; peak "
        f"{best.best_peak_lr:.4g}; loss {best.best_loss:.4f}"
    )
    lines.append(
        f"  full depth          {blocks_text(plan.depth)} for {best.fixed_steps} steps; peak {best.fixed_peak_lr:.4g}; "
        f"loss {best.fixed_loss:.4f}"
    )
    gap = best.loss / best.best_loss - 1
    if best.wins:
        lines.append(
            f"Grow: {grown} ends {-gap:.2%} below the best fixed depth of equal compute, "
            f"{blocks_text(best.best_depth)}."
        )
    elif best.tau == 0:
        lines.append(
            f"Do not grow: the best step for {grown} is the first, which is {blocks_text(plan.depth)} from the start: "
            f"train {blocks_text(best.best_depth)}."
        )
    else:
        lines.append(
            f"Do not grow: {grown} ends {gap:+.2%} from the best fixed depth of equal compute: "
            f"train {blocks_text(best.best_depth)}."
        )
    if best.at_edge:
        lines.append("  A best peak lies at an end of the range searched: widen --peaks.")
    for name, low, high in (
        ("the best fixed depth", answers.winning_flops, answers.winning_until),
        ("the full depth", answers.winning_flops_full, answers.winning_until_full),
    ):
        where = f"nowhere within {WINNING_RANGE:g} x this compute"
        if low is not None:
            where = (
                f"from {amount_text(low)} FLOPs on"
                if high is None
                else f"from {amount_text(low)} to {amount_text(high)} FLOPs"
            )
        lines.append(f"  beats {name}: {where}")
    if answers.closed_form is not None:
        closed = answers.closed_form
        text = f"expand at {closed.tau / closed.horizon:.0%}; {closed.iso_loss_gain:.2f} x cheaper than the full depth"
        lines.append(f"  by power laws at a constant rate: {text if closed.grows else 'no expansion pays'}")
    steps = plan.schedule.horizon
    if answers.tau_star is None:
        lines.append(f"On the plan's own {steps} steps growing costs more than {answers.tolerance:.1%} at every step.")
    else:
        text = f"On the plan's own {steps} steps: expand by step {answers.tau_star:.0f} to pay at most "
        lines.append(f"{text}{answers.tolerance:.1%} against the full depth for as many steps.")
    if answers.intervals is not None:
        tau, saving = answers.intervals.tau, answers.intervals.saving
        lines.append(
            f"  {tau.level:.0%} intervals: tau* {tau.low:.0f} to {tau.high:.0f}, FLOPs saved against that control "
            f"{saving.low:.0%} to {saving.high:.0%}; never mixes in {answers.intervals.never:.0%} of the replicas"
        )
    if answers.not_identified:
        lines.append(f"  no intervals: {answers.not_identified}")
    if answers.retention is not None and math.isfinite(answers.retention):
        lines.append(f"Retention (a cold start's loss minus the grown run's): {answers.retention:.4f} nats.")
    lines += [f"Left open by the pilots: {line}" for line in answers.left_open]
    return "\n".join(lines)
