r"""From a landscape to a Plan: when to expand, what it will cost, what it will save against both baselines.

The plan's predictions stand beside those of its controls (:func:`latebloom.theory.controls.compared`);
:mod:`latebloom.theory.verdict` measures the same quantities.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import scipy

from latebloom.theory import verdict, verdict_text
from latebloom.theory.controls import compared, equal_compute, fixed_depth
from latebloom.theory.cost import flops_per_token, plan_flops
from latebloom.theory.errors import InputError
from latebloom.theory.fitting.bootstrap import interval
from latebloom.theory.landscapes.growth import GrowthLandscape
from latebloom.theory.plan import (
    Curve,
    GPT2Shape,
    Optimizer,
    Plan,
    Prediction,
    Provenance,
    Stage,
)
from latebloom.theory.timing import tau_star
from latebloom.theory.words import amount_text, blocks_text

if TYPE_CHECKING:
    from latebloom.theory.schedules import AnySchedule

__all__ = ["budget_step", "plan_expansion", "predict"]

ANY_STEP = 0.9  # share of the horizon from which on an interval of the step says nothing


def plan_expansion(
    *,
    model: GPT2Shape,
    small_depth: int,
    full_depth: int,
    schedule: AnySchedule,
    batch_tokens: int,
    mixing_area: float | None = None,
    law: GrowthLandscape | None = None,
    resamples: Sequence[GrowthLandscape] = (),
    tolerance: float = 0.01,
    budget: float | None = None,
    init: str = "random",
    order: str = "stack",
    optimizer: Optimizer | None = None,
    provenance: Provenance | None = None,
    name: str = "plan",
) -> Plan:
    """A progressive plan whose expansion step follows from the landscape.

    Args:
        model: Shape of the network.
        small_depth: l, blocks before the expansion.
        full_depth: L, blocks after it.
        schedule: Learning rate of the whole run; its horizon is the plan's.
        batch_tokens: Tokens per step.
        mixing_area: u_mix, learning rate x steps to leave after the expansion; or give ``law``.
        law: A fitted landscape, which says the latest step at which growing costs no more than ``tolerance``.
        resamples: Bootstrap replicas of ``law``, for the intervals.
        tolerance: With a law: share of the full depth's final loss that growing may cost.
        budget: Spend at most this share of the fixed-depth FLOPs; the expansion is then as early as that allows.
        init: How new blocks begin, see :class:`latebloom.theory.plan.Stage`.
        order: Where they stand, see there.
        optimizer: Update rule.
        provenance: Where the landscape came from.
        name: For people.

    Raises:
        InputError: if neither ``mixing_area`` nor ``law`` nor ``budget`` is given, if no expansion step keeps within
            the tolerance, or if a number is out of range.
    """
    if law is None and mixing_area is None and budget is None:
        rule = "is needed to place the expansion, or a fitted law, or a compute budget"
        raise InputError("mixing_area", None, rule, "give --u-mix, --pilot or --budget")
    if mixing_area is not None and not mixing_area > 0:
        raise InputError("mixing_area", mixing_area, "must be positive", "give learning rate x steps, as --u-mix-area")
    placed_by_law = mixing_area is None and law is not None
    if not 0 < tolerance < 1:
        raise InputError("tolerance", tolerance, "must be a share of the loss in (0, 1)", "give 0.01 for 1 %")
    if small_depth >= full_depth:
        raise InputError("small_depth", small_depth, f"must be below the full depth {full_depth}", "start shallower")
    optimizer = optimizer or Optimizer()
    full = Plan(
        name=f"{name}-fixed",
        model=model,
        batch_tokens=batch_tokens,
        schedule=schedule,
        stages=(Stage(start_step=0, depth=full_depth),),
        optimizer=optimizer,
    )

    def price(landscape: GrowthLandscape) -> float:
        """What growing may cost, nats."""
        return tolerance * float(landscape.loss(full))

    star = None
    if placed_by_law:
        assert law is not None
        star = law.tau_star(schedule, price(law))
        mixing_area = law.area_to_leave(schedule, price(law))
        if star is None and budget is None:
            rule = (
                f"growing {small_depth} -> {full_depth} costs more than this whenever it happens in {full.steps} steps"
            )
            raise InputError("tolerance", tolerance, rule, "train longer, allow more, or do not grow")
    elif mixing_area is not None and (budget is None or mixing_area < schedule.total_area):
        star = tau_star(schedule, mixing_area)  # refuses an area that the schedule does not have
    if budget is not None:
        tau = budget_step(full, small_depth=small_depth, budget=budget)
    else:
        assert star is not None
        tau = round(star)
    tau = min(max(tau, 1), full.steps - 1)  # growing after the last step would cost nothing and be worth nothing
    stages = (
        Stage(start_step=0, depth=small_depth),
        Stage(start_step=tau, depth=full_depth, init=init, order=order),  # type: ignore[arg-type]
    )
    plan = full.replace(name=name, stages=stages, provenance=provenance or Provenance())
    predicted = predict(plan, law=law, resamples=resamples)
    around = None
    if placed_by_law and len(resamples) > 1:  # a replica in which no expansion costs so little stands at step 0
        around = interval([replica.tau_star(schedule, price(replica)) or 0.0 for replica in resamples])
    predicted = predicted.replace(
        mixing_area=mixing_area if mixing_area and math.isfinite(mixing_area) else None,
        tau_star=star,
        tau_interval=around,
    )
    plan = plan.replace(predicted=predicted)
    return plan.replace(
        provenance=plan.provenance.replace(
            reason=explain(plan, tolerance=tolerance if placed_by_law else None, budget=budget)
        )
    )


def budget_step(fixed: Plan, *, small_depth: int, budget: float) -> int:
    """Earliest expansion step at which the grown run costs at most ``budget`` of ``fixed``'s FLOPs.

    (tau c_l + (T - tau) c_L)/(T c_L) <= budget.

    Args:
        fixed: The full depth for T steps.
        small_depth: l, blocks before the expansion.
        budget: Share of the FLOPs of ``fixed``.

    Raises:
        InputError: if even the small depth alone costs more.
    """
    ratio = flops_per_token(fixed.model, small_depth) / flops_per_token(fixed.model, fixed.depth)
    if not ratio < budget <= 1:
        rule = f"must lie in ({ratio:.4g}, 1]: depth {small_depth} alone costs {ratio:.4g} of depth {fixed.depth}"
        raise InputError("budget", budget, rule, "allow more, or start shallower")
    return math.ceil(fixed.steps * (1 - budget) / (1 - ratio) - 1e-9)


def predict(plan: Plan, *, law: GrowthLandscape | None, resamples: Sequence[GrowthLandscape] = ()) -> Prediction:
    """What a landscape says of a progressive plan and of its controls.

    Args:
        plan: With an expansion.
        law: The landscape; None: costs only.
        resamples: Its bootstrap replicas, for the interval of the final loss.
    """
    fixed = fixed_depth(plan, name="fixed")
    spent, full = plan_flops(plan), plan_flops(fixed)
    costs = Prediction(flops=spent, fixed_flops=full, saving_same_horizon=1 - spent / full)
    if law is None:
        return costs
    final = float(law.loss(plan))
    losses = _control_losses(plan, law)
    iso = _iso_loss_steps(law, fixed, final)
    step = _grid(plan)
    replicas = [float(replica.loss(plan)) for replica in resamples]
    predicted = costs.replace(
        final_loss=final,
        final_loss_interval=interval(replicas) if len(replicas) > 1 else None,
        fixed_final_loss=losses.pop("fixed"),
        equal_compute_steps=float(equal_compute(plan, name="equal").steps),
        equal_compute_final_loss=losses.pop("equal_compute"),
        small_final_loss=losses.pop("small", None),
        retention=losses.pop("cold_start") - final,
        control_losses=losses or None,
        saving_equal_compute=1 - spent / (full * iso / fixed.steps) if iso else None,
        curve=Curve(step=tuple(step.tolist()), loss=tuple(law.loss(plan, step).tolist())),
    )
    return predicted.replace(verdict=verdict_text.sentence(verdict.from_prediction(plan.replace(predicted=predicted))))


def _control_losses(plan: Plan, law: GrowthLandscape) -> dict[str, float]:
    """Final loss of every control that ``law`` knows the depth of, by name."""
    plans = {control.name: control.plan(plan) for control in compared()}
    known = (law.small_depth, law.full_depth)
    return {name: float(law.loss(each)) for name, each in plans.items() if each.depth in known}


def explain(plan: Plan, *, tolerance: float | None, budget: float | None) -> str:
    """Why the plan is what it is, in plain English; ``tolerance`` None where the mixing area was given."""
    p, tau = plan.predicted, plan.tau
    assert tau is not None and p.flops is not None
    full = blocks_text(plan.depth)
    text = [f"Train {blocks_text(plan.stages[0].depth)} for {tau} of {plan.steps} steps, then grow to {plan.depth}."]
    if budget is not None:
        text.append(f"It is the earliest step that spends at most {budget:.0%} of what {full} for as long cost.")
        if p.tau_star:
            text.append(f"The mixing area asks for step {p.tau_star:.0f}.")
    elif p.mixing_area is None:
        text.append(f"Even at the last step growing costs less than the {tolerance:.1%} of the final loss allowed.")
    elif tolerance is None:
        share = float(plan.schedule.remaining(tau))
        text.append(f"It leaves {share:.1%} of the learning-rate area, the mixing area {p.mixing_area:.4g} given.")
    if p.final_loss is not None and p.fixed_final_loss is not None:
        price = p.final_loss - p.fixed_final_loss
        where = "above" if price >= 0 else "below"
        of = f", {tolerance:.1%} of the final loss" if tolerance and p.mixing_area and budget is None else ""
        text.append(f"Expected price: {abs(price):.2g} nats {where} {full} from the start{of}.")
    text += _confidence(plan)
    text.append(f"It takes {amount_text(p.flops)} FLOPs, {p.saving_same_horizon:.1%} less than {full} for as long.")
    if p.verdict:
        return " ".join([*text, p.verdict])
    return " ".join([*text, f"Against {full} of equal compute nothing is predicted: that needs pilots (--pilot)."])


def _confidence(plan: Plan) -> list[str]:
    """How sure the step is, as far as replicas of the fit say; an interval over all of the run says nothing."""
    around = plan.predicted.tau_interval
    if around is None:
        return []
    if around.high - around.low > ANY_STEP * plan.steps:
        return ["Confidence: none, the pilots allow any step."]
    where = f"{around.low:.0f} to {around.high:.0f}"
    return [f"Confidence: {around.level:.0%} of the fits to resampled pilots put the step at {where}."]


def _iso_loss_steps(law: GrowthLandscape, fixed: Plan, loss: float) -> float | None:
    """Steps after which the full depth alone, on its own schedule, ends at ``loss``; None beyond 10 horizons."""

    def gap(log_steps: float) -> float:
        schedule = fixed.schedule.with_steps(max(1, round(math.exp(log_steps))))
        return float(law.fixed(schedule, schedule.horizon, depth=law.full_depth)) - loss

    low, high = math.log(max(2, fixed.steps // 1000)), math.log(fixed.steps * 10)
    if gap(low) < 0 or gap(high) > 0:
        return None
    return math.exp(scipy.optimize.brentq(gap, low, high, xtol=1e-3))


def _grid(plan: Plan, points: int = 60) -> np.ndarray:
    """Steps at which the predicted curve is tabulated: logarithmic, and dense after the expansion."""
    tau = plan.tau or 0
    before = np.geomspace(max(1, plan.steps // 200), max(tau, 2), points // 2)
    after = tau + np.geomspace(1, plan.steps - tau, points // 2)
    return np.unique(np.concatenate([before, [tau, plan.steps], after]).round().astype(int).clip(1, plan.steps))
