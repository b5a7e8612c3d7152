"""Which pilot would narrow the step to grow, and to what: from the replicas of a fit, without fitting again.

Every replica of a law says how the pilot would end. If it ends as the law expects, replicas that expect otherwise lose
weight as a normal error of one run has it, and the step's interval is that of the weighted replicas (importance
weights: Rubin 1988, Bayesian Statistics 3, 395).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from latebloom.theory.controls import fixed_depth
from latebloom.theory.cost import plan_flops
from latebloom.theory.fitting.bootstrap import LEVEL
from latebloom.theory.fitting.landscape_fit import LandscapeFit
from latebloom.theory.landscapes.growth import GrowthLandscape
from latebloom.theory.plan import Plan
from latebloom.theory.prediction import Interval
from latebloom.theory.words import amount_text, blocks_text

__all__ = ["Narrowing", "narrowing_pilot"]

NOISE = 0.002  # chosen: standard deviation of one final loss about its law, relative
HORIZONS = (0.25, 0.5, 1.0)  # of the plan's, that pilots are looked for at
FEWER = 0.8  # chosen: share of the interval that is left, down to which a pilot is worth naming
REPLICAS = 5.0  # that must agree with what a pilot is expected to show, as a sum of weights of at most 1


class Narrowing(NamedTuple):
    """A pilot, and the step's interval once it has ended as expected.

    Attributes:
        pilot: What to train.
        interval: Of the step to grow.
    """

    pilot: Plan
    interval: Interval

    def sentence(self) -> str:
        """For people."""
        pilot, low, high = self.pilot, self.interval.low, self.interval.high
        what = f"A pilot of {blocks_text(pilot.depth)}"
        if pilot.tau is not None:
            what = f"A pilot of {blocks_text(pilot.stages[0].depth, pilot.depth)} grown at step {pilot.tau}"
        cost = f"{pilot.steps} steps ({amount_text(plan_flops(pilot))} FLOPs)"
        step = f"the step to grow to {low:.0f} ... {high:.0f}"
        return f"{what} for {cost} would narrow {step}, if it ends as the law expects."


def narrowing_pilot(
    plan: Plan, fit: LandscapeFit, resamples: Sequence[GrowthLandscape], *, tolerance: float
) -> Narrowing | None:
    """The cheapest pilot, longer than those there are, that narrows the interval of the step to grow.

    Tried are the full depth, and growth half-way, at a quarter, half and all of the plan's steps.

    Args:
        plan: That grows.
        fit: Of its pilots.
        resamples: Bootstrap replicas of its law.
        tolerance: Share of the full depth's final loss that growing may cost.

    Returns:
        The pilot; None if none narrows the interval, or too few replicas agree with what it is expected to show.
    """
    full = fixed_depth(plan, name="full")
    steps = [law.tau_star(plan.schedule, tolerance * float(law.loss(full))) or 0.0 for law in resamples]
    stars = np.array(steps, dtype=float)
    if len(stars) < REPLICAS:
        return None
    now = _interval(stars, np.full(len(stars), 1 / len(stars)))
    if now.high - now.low < 1:
        return None
    for pilot in sorted(_candidates(plan, fit), key=plan_flops):
        expected = float(fit.law.loss(pilot))
        apart = np.log([float(law.loss(pilot)) / expected for law in resamples]) / NOISE
        agreeing = np.exp(-0.5 * apart**2)
        if agreeing.sum() < REPLICAS:
            continue
        then = _interval(stars, agreeing / agreeing.sum())
        if then.high - then.low <= FEWER * (now.high - now.low):
            return Narrowing(pilot, then)
    return None


def _candidates(plan: Plan, fit: LandscapeFit) -> list[Plan]:
    """Pilots longer than those of their kind."""
    seen = {
        role: max((r.schedule.horizon for r in fit.runs if r.role == role), default=0) for role in ("full", "grown")
    }
    pilots = []
    for share in HORIZONS:
        horizon = max(2, round(share * plan.steps))
        fixed = fixed_depth(plan, name=f"full-{horizon}", schedule=plan.schedule.with_steps(horizon))
        stages = (plan.stages[0], plan.stages[-1].replace(start_step=horizon // 2))
        pilots += [fixed] if horizon > seen["full"] else []
        pilots += [fixed.replace(name=f"grown-{horizon}", stages=stages)] if horizon > seen["grown"] else []
    return pilots


def _interval(values: np.ndarray, weights: np.ndarray) -> Interval:
    """Central interval of weighted values."""
    order = np.argsort(values)
    middle = np.cumsum(weights[order]) - 0.5 * weights[order]
    low, high = np.interp([(1 - LEVEL) / 2, (1 + LEVEL) / 2], middle, values[order])
    return Interval(low=float(low), high=float(high), level=LEVEL)
