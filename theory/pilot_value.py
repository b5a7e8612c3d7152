r"""What to find out next: runs that could be made as branches of the trunks there are, and what each is worth.

A pilot is worth the fall in expected regret that it buys, min_a E(loss_a) - E_y[min_a E(loss_a | y)] with y what it
would show. Of a Gaussian posterior only the mean depends on y, so that this is known before the pilot is run (Raiffa &
Schlaifer 1961, Applied Statistical Decision Theory, chapter 5).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from latebloom.theory import checks
from latebloom.theory.cost import flops_per_token
from latebloom.theory.menu import MenuArm, branch_schedule, combined_points, schedule_for
from latebloom.theory.prediction import Interval
from latebloom.theory.words import blocks_text

if TYPE_CHECKING:
    from latebloom.theory.fitting.recovery_field import RecoveryField
    from latebloom.theory.plan import Plan

__all__ = ["SURE", "Pilot", "PilotValue", "candidate_pilots", "pilot_value"]

SURE = 0.9  # probability from which on the decision has a head of its own
UNLIKELY = 0.01  # probability of deciding below which a pilot is not said to decide
HALF_WIDTH = 1.6449  # standard deviations of half a 90 % interval
OUTCOMES = 200  # results of a pilot that are played through


@dataclass(frozen=True, kw_only=True)
class Pilot:
    """A run that could be made next, as a branch of the trunks there are.

    Attributes:
        name: What to do, for people.
        area_before: As of :class:`MenuArm`.
        area_after: As of :class:`MenuArm`.
        depth: Blocks at the end.
        flops: What it adds to what the pilots have cost so far.
        steps: Horizon, 0 if only the areas are known.
        tau: Expansion step, 0 for a run of one depth.
    """

    name: str
    area_before: float
    area_after: float
    depth: int
    flops: float
    steps: int = 0
    tau: int = 0


@dataclass(frozen=True, kw_only=True)
class PilotValue:
    """What a pilot would be worth.

    Attributes:
        pilot: Which.
        regret_fall: Expected fall in the expected regret of the choice, nats per token.
        p_decides: Probability that P(growing is best) leaves [0.1, 0.9].
        gap: ln of the best growing arm's loss over the best other arm's as it is known now; None without either.
        gap_then: The same after the pilot, if it ends as expected.
    """

    pilot: Pilot
    regret_fall: float
    p_decides: float
    gap: Interval | None = None
    gap_then: Interval | None = None

    @property
    def per_flop(self) -> float:
        """Expected fall in regret for each FLOP."""
        return self.regret_fall / self.pilot.flops


def candidate_pilots(
    field: RecoveryField, plan: Plan, *, horizon: int, depths: Sequence[int] = ()
) -> tuple[Pilot, ...]:
    """Branches of the trunks there are, priced by what they would add.

    The full depth (and each of ``depths``) annealed at an eighth, a quarter and a half of the horizon; the small
    depth's trunk grown at a quarter, a half and three quarters of it and annealed .06 and .12 of it later; the small
    depth annealed at a half of it and at all of it. What was run already is left out.

    Args:
        field: Posterior so far.
        plan: Of any run of the experiment.
        horizon: T, steps of the run to be planned.
        depths: Fixed depths between that stand on the menu.
    """
    checks.whole("horizon", horizon, 1)
    tokens = float(plan.batch_tokens)
    small, full = field.small_depth, field.full_depth
    price = {d: tokens * flops_per_token(plan.model, d) for d in {small, full, *depths}}
    decay = getattr(plan.schedule, "decay_steps", 0) / plan.steps
    reached = dict.fromkeys(price, 0.0)  # step to which the trunk of each depth is known at the constant rate
    for end in field.ends:
        begins = small if end.kind == "grown" else end.depth
        stable = end.tau if end.kind == "grown" else end.steps * (1 - decay)
        reached[begins] = max(reached.get(begins, 0.0), stable)
    done = {(end.depth, end.steps, end.tau) for end in field.ends}
    pilots = []
    for depth in sorted(price):
        eighths = (4, 8) if depth == small else (1, 2, 4)
        for eighth in eighths:
            steps = max(round(horizon * eighth / 8), getattr(plan.schedule, "warmup_steps", 0) + 2)
            if (depth, steps, 0) in done:
                continue
            rates = schedule_for(plan.schedule, steps)
            before = rates.total_area if depth == small else 0.0
            flops = price[depth] * max(steps - reached[depth], decay * steps, 1)
            name = f"{blocks_text(depth)} to step {steps}, annealed"
            pilots.append(_pilot(name, before, rates.total_area, depth, flops, steps))
    for share in (0.25, 0.5, 0.75):
        for later in (0.06, 0.12):
            tau = round(horizon * share)
            steps = tau + max(1, round(horizon * later))
            if (full, steps, tau) in done:
                continue
            rates = branch_schedule(plan.schedule, steps, tau)
            before = float(rates.area(tau))
            flops = price[full] * (steps - tau) + price[small] * max(0.0, tau - reached[small])
            name = f"grow {small} -> {full} at step {tau}, annealed at {steps}"
            pilots.append(_pilot(name, before, rates.total_area, full, flops, steps, tau))
    return tuple(pilots)


def _pilot(name: str, before: float, area: float, depth: int, flops: float, steps: int, tau: int = 0) -> Pilot:
    return Pilot(
        name=name, area_before=before, area_after=area - before, depth=depth, flops=flops, steps=steps, tau=tau
    )


def pilot_value(field: RecoveryField, menu: Sequence[MenuArm], pilot: Pilot, *, seed: int = 0) -> PilotValue:
    """Expected fall in regret, and probability of a decision, from one more annealed end.

    The mixture is taken as the Gaussian of its mean and covariance: given the pilot's loss y the arms' expected losses
    have mean m + k (y - E y) with k = Cov(losses, y)/Var y, and their covariance falls by k Var(y) k', whatever y.

    Args:
        field: Posterior so far.
        menu: Arms of equal compute.
        pilot: The run that would be made, with an error of its own.
        seed: Of the draws.
    """
    arms, matrix = combined_points(field, menu)
    at = field.points([pilot.area_before], [pilot.area_after], [pilot.depth])
    trunk = field.trunks_of(at)
    points = type(arms)(
        before=np.append(arms.before, at.before),
        after=np.append(arms.after, at.after),
        share=np.append(arms.share, at.share),
    )
    mean, covariance = field.moments(points, trunks=[""] * len(arms) + trunk)  # of ln(loss/scale)
    joint = np.block([[matrix, np.zeros((len(menu), 1))], [np.zeros((1, len(arms))), np.ones((1, 1))]])
    mean, covariance = joint @ mean, joint @ covariance @ joint.T
    losses, variance = mean[:-1], covariance[-1, -1]
    shift = covariance[:-1, -1] / np.sqrt(variance)  # of the arms' means for y one standard deviation up
    generator = np.random.default_rng(seed)
    outcomes = generator.normal(size=OUTCOMES)
    outcomes = np.concatenate([outcomes, -outcomes])  # antithetic: the mean outcome is exactly the expected one
    updated = losses + outcomes[:, None] * shift
    fall = field.scale * float(losses.min() - updated.min(axis=1).mean())  # to first order
    values, vectors = np.linalg.eigh(covariance[:-1, :-1] - np.outer(shift, shift))
    residual = generator.normal(size=(OUTCOMES, len(menu))) @ (vectors * np.sqrt(np.maximum(values, 0))).T
    grows = np.array([arm.tau is not None for arm in menu])
    p_grow = grows[(updated[:, None, :] + residual[None]).argmin(axis=2)].mean(axis=1)
    decided = (p_grow > SURE) | (p_grow < 1 - SURE)
    gap, gap_then = _gap(losses, covariance[:-1, :-1], shift, grows)
    return PilotValue(
        pilot=pilot, regret_fall=max(fall, 0.0), p_decides=float(decided.mean()), gap=gap, gap_then=gap_then
    )


def _gap(
    mean: np.ndarray, covariance: np.ndarray, shift: np.ndarray, grows: np.ndarray
) -> tuple[Interval | None, Interval | None]:
    """Interval of the best growing arm's gap to the best other one, before and after the pilot."""
    if not grows.any() or grows.all():
        return None, None
    best = [int(np.where(among, mean, np.inf).argmin()) for among in (grows, ~grows)]
    apart = np.zeros(len(mean))
    apart[best] = 1, -1
    now = float(apart @ covariance @ apart)
    then = max(now - float(apart @ shift) ** 2, 0.0)
    gap = float(apart @ mean)
    before, after = (Interval(low=gap - HALF_WIDTH * v**0.5, high=gap + HALF_WIDTH * v**0.5) for v in (now, then))
    return before, after
