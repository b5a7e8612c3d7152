r"""What must hold for growing to be worth it at all, from the small depth's trunk alone.

Notation: s(T), f(T) final losses of the small and the full depth, delta = s - f, z(x) = s(T) - P(T, x T) what growing
at the share x recovers, n = c_l/c_L, beta = -ds/d ln T. The grown run of compute C has T = C/(c_L (n x + 1 - x)) steps;
the small depth buys T_N = C/c_l of them, the full one T_E = C/c_L. Growing at x

    beats never growing only if   z(x) > s(T) - s(T_N)          = beta ln(1 + (1 - n)(1 - x)/n) to first order
    beats the full depth only if  z(x) > delta - [f(T_E) - f(T)] = delta - beta ln(1/(n x + 1 - x)) to first order

Since z(x) cannot exceed delta (what the full depth gains from the first step on), the first can hold only where
delta > s(T) - s(T_N). Its right side needs runs of the small depth alone, which the progressive run makes anyway.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from latebloom.theory import checks
from latebloom.theory.cost import flops_per_token
from latebloom.theory.errors import InputError
from latebloom.theory.menu import schedule_for
from latebloom.theory.prediction import Condition, GrowthConditions, Quantiles
from latebloom.theory.words import amount_text

if TYPE_CHECKING:
    from latebloom.theory.fitting.recovery_field import RecoveryField
    from latebloom.theory.plan import Plan

__all__ = ["conditions_text", "growth_conditions", "smallest_budget"]

CONDITION_DRAWS = 1000
LARGEST = 1e29  # nats; a power law may go beyond what a plan's file holds, a thousand times as far as the pilots reach
SHARES = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9)


def growth_conditions(
    field: RecoveryField, plan: Plan, *, budget: float, shares: Sequence[float] = SHARES, seed: int = 0
) -> GrowthConditions:
    """Both sides of both conditions at ``budget``.

    Args:
        field: Posterior; of the small depth's ends alone, or of all pilots.
        plan: Of any run of the experiment: its model, batch and schedule.
        budget: C, training FLOPs.
        shares: x.
        seed: Of the draws.

    Raises:
        InputError: if the budget does not hold the warm-up.
    """
    checks.positive("budget", budget, fix="give training FLOPs")
    small, full = (
        float(plan.batch_tokens) * flops_per_token(plan.model, d) for d in (field.small_depth, field.full_depth)
    )
    price = small / full
    seen = any(end.kind in ("full", "grown") for end in field.ends)
    never = budget / small
    horizons = [round(budget / (full * (price * x + 1 - x))) for x in shares]
    equal = round(budget / full)
    if min(equal, *horizons) <= getattr(plan.schedule, "warmup_steps", 0) + 1:
        raise InputError("budget", budget, "does not hold the warm-up at the full depth", "allow more FLOPs")

    def area(steps: float) -> float:
        return schedule_for(plan.schedule, round(steps)).total_area

    step = 0.1  # of ln T, for the slope
    before, after, depths = [area(never), area(never * np.exp(step)), area(never * np.exp(-step))], [0.0] * 3, [0] * 3
    for horizon, share in zip(horizons, shares, strict=True):
        rates = schedule_for(plan.schedule, horizon)
        total, at = rates.total_area, float(rates.area(round(share * horizon)))
        before += [total, at, 0.0]
        after += [0.0, total - at, total]
        depths += [0, 1, 1]
    before.append(0.0)
    after.append(area(equal))
    depths.append(1)
    blocks = [field.full_depth if d else field.small_depth for d in depths]
    drawn = field.draws(field.points(before, after, blocks), number=CONDITION_DRAWS, seed=seed).T
    drawn = np.minimum(drawn, LARGEST)
    slope = (drawn[2] - drawn[1]) / (2 * step)
    conditions, gaps = [], []
    for i, (horizon, share) in enumerate(zip(horizons, shares, strict=True)):
        s, p, f = drawn[3 + 3 * i : 6 + 3 * i]
        needed, gap = s - drawn[0], s - f
        gaps.append(gap)
        conditions.append(
            Condition(
                share=share,
                steps=horizon,
                needed=_quantiles(needed),
                recovered=_quantiles(s - p) if seen else None,
                p_possible=float((gap > needed).mean()) if seen else None,
                p_met=float((s - p > needed).mean()) if seen else None,
                needed_full=_quantiles(gap - (drawn[-1] - f)) if seen else None,
            )
        )
    return GrowthConditions(
        budget=budget,
        beta=_quantiles(slope),
        price=price,
        delta=_quantiles(gaps[len(gaps) // 2]) if seen else None,
        conditions=tuple(conditions),
    )


def smallest_budget(
    field: RecoveryField, plan: Plan, *, budget: float, share: float = 0.5, largest: float = 1000.0, seed: int = 0
) -> float | None:
    """Smallest compute from ``budget`` on at which delta > s(T) - s(T_N) is more likely than not.

    Both sides are extrapolations of the posterior beyond the pilots, a power law and a logarithm.

    Args:
        field: Posterior of all pilots.
        plan: Of any run of the experiment.
        budget: C to begin with, training FLOPs.
        share: x.
        largest: Multiple of ``budget`` at which the search ends.
        seed: Of the draws.

    Returns:
        Training FLOPs; None if it does not hold anywhere up to ``largest``, or nothing was trained at the full depth.
    """
    for factor in np.geomspace(1.0, largest, 25):
        found = growth_conditions(field, plan, budget=budget * float(factor), shares=(share,), seed=seed)
        possible = found.conditions[0].p_possible
        if possible is None:
            return None
        if possible > 0.5:
            return budget * float(factor)
    return None


def conditions_text(conditions: GrowthConditions, *, smallest: float | None = None) -> str:
    """The conditions in plain English.

    Args:
        conditions: Of one budget.
        smallest: What :func:`smallest_budget` returned.
    """
    middle = conditions.conditions[len(conditions.conditions) // 2]
    text = (
        f"The small depth still falls {conditions.beta.median:.2g} nats an e-fold of steps, so what growing at "
        f"{middle.share:.0%} of the run costs is worth {middle.needed.median:.2g} nats to it: growing beats never "
        f"growing there only if it recovers more than that"
    )
    if conditions.delta is None:
        return text + "; the depth gap, all there is to recover, is not known before the full depth is trained."
    text += f", and the whole depth gap is {conditions.delta.median:.2g}."
    possible = [c.share for c in conditions.conditions if c.p_possible is not None and c.p_possible > 0.5]
    if not possible:
        text += " It cannot at any share."
    elif possible[0] > conditions.conditions[0].share:
        text += f" It can only from {possible[0]:.0%} of the run on."
    if smallest is not None and smallest > conditions.budget:
        text += f" At {middle.share:.0%} it could from {amount_text(smallest, digits=2)} FLOPs on, by extrapolation."
    return text


def _quantiles(values: np.ndarray) -> Quantiles:
    low, median, high = np.quantile(values, [0.05, 0.5, 0.95])
    return Quantiles(low=float(low), median=float(median), high=float(high))
