r"""The menu: every way to spend a budget.

A budget C buys any one of

    d      one depth d from the start, T_d = C/c_d steps
    l -> L grown at the share x of its own T = C/(c_L (n x + 1 - x)) steps,   n = c_l/c_L

each with its own schedule of one shape, its warm-up kept in steps, and each capped by the steps that the data allow.
Which to take is decided in :mod:`latebloom.theory.decision`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from latebloom.theory import checks
from latebloom.theory.cost import flops_per_token
from latebloom.theory.errors import InputError

if TYPE_CHECKING:
    from latebloom.theory.fitting.field_kernel import Points
    from latebloom.theory.fitting.recovery_field import RecoveryField
    from latebloom.theory.plan import Plan
    from latebloom.theory.schedules import AnySchedule

__all__ = ["MenuArm", "branch_schedule", "equal_compute_menu", "growth_controls", "points_of", "schedule_for"]

# shares x at which growing is considered; later ones leave less area than any pilot shows: never growing
SHARES = (0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8)


@dataclass(frozen=True, kw_only=True)
class MenuArm:
    """One way to spend the budget.

    Attributes:
        depths: One depth, or the small and the full one.
        tau: Expansion step, None for a run of one depth.
        steps: Horizon.
        flops: Training FLOPs.
        area_before: Learning-rate area at ``depths[0]`` that an expansion finds; all of it for the small depth.
        area_after: Learning-rate area that is left.
    """

    depths: tuple[int, ...]
    tau: int | None
    steps: int
    flops: float
    area_before: float
    area_after: float

    @property
    def name(self) -> str:
        """For people, such as ``depth 1`` or ``1 -> 4 at 360``."""
        if self.tau is None:
            return f"depth {self.depths[0]}"
        return f"{self.depths[0]} -> {self.depths[-1]} at {self.tau}"


def schedule_for(schedule: AnySchedule, steps: int) -> AnySchedule:
    """``schedule`` over ``steps``: the same shape and peak, the warm-up kept in steps, the decay in its share.

    Args:
        schedule: Of a run of any horizon.
        steps: Horizon, more than the warm-up.

    Raises:
        InputError: if it does not hold the warm-up.
    """
    warmup = getattr(schedule, "warmup_steps", 0)
    if steps <= warmup:
        raise InputError("steps", steps, f"does not hold the warm-up of {warmup} steps", "train longer")
    scaled = schedule.with_steps(steps)
    if not warmup:
        return scaled
    decay = getattr(scaled, "decay_steps", None)
    if decay is None:
        return scaled.replace(warmup_steps=warmup)
    return scaled.replace(warmup_steps=warmup, decay_steps=min(decay, steps - warmup))


def branch_schedule(schedule: AnySchedule, steps: int, tau: int) -> AnySchedule:
    """:func:`schedule_for` with a decay that begins with the expansion at the earliest, so that the trunk is at the
    constant rate until then.

    Args:
        schedule: Of a run of any horizon.
        steps: Horizon of the branch.
        tau: Expansion step, 0 for none.

    Raises:
        InputError: if ``tau`` is not a step of the branch.
    """
    checks.whole("tau", tau, 0, steps)
    rates = schedule_for(schedule, steps)
    decay = getattr(rates, "decay_steps", None)
    return rates if decay is None else rates.replace(decay_steps=min(decay, steps - tau))


def equal_compute_menu(
    plan: Plan,
    *,
    small_depth: int,
    full_depth: int,
    budget: float,
    depths: Sequence[int] = (),
    shares: Sequence[float] = SHARES,
    most_steps: int | None = None,
) -> tuple[MenuArm, ...]:
    """Every arm that ``budget`` buys.

    Args:
        plan: Of any run of the experiment: its model, batch and schedule are those of every arm.
        small_depth: l.
        full_depth: L.
        budget: C, training FLOPs.
        depths: Fixed depths between that would be trained as well.
        shares: x at which growing is considered.
        most_steps: Steps that the data allow.

    Returns:
        Fixed depths in ascending order, then the growing arms.

    Raises:
        InputError: if the budget does not buy the cheapest arm's warm-up and one step.
    """
    checks.whole("full_depth", full_depth, small_depth + 1, fix="give a larger number of blocks")
    checks.positive("budget", budget, fix="give training FLOPs")
    if most_steps is not None:
        checks.whole("most_steps", most_steps, 1)
    for depth in depths:
        if not small_depth <= depth <= full_depth:
            raise InputError("depths", depth, f"must lie from {small_depth} to {full_depth}", "leave it out")
    price = {d: float(plan.batch_tokens) * flops_per_token(plan.model, d) for d in {small_depth, full_depth, *depths}}
    shortest = getattr(plan.schedule, "warmup_steps", 0) + 2
    if budget < shortest * price[small_depth]:
        rule = (
            f"is below the cheapest arm, depth {small_depth} for {shortest} steps: {shortest * price[small_depth]:.3g}"
        )
        raise InputError("budget", budget, rule, "allow more FLOPs, or shorten the warm-up")
    arms = []
    for depth in sorted(price):
        steps = _capped(budget / price[depth], most_steps)
        if steps >= shortest:
            arms.append(_arm(plan.schedule, (depth,), None, steps, price, small_depth))
    ratio = price[small_depth] / price[full_depth]
    for share in shares:
        steps = _capped(budget / (price[full_depth] * (ratio * share + 1 - share)), most_steps)
        tau = round(share * steps)
        if steps >= shortest and 0 < tau < steps:
            arms.append(_arm(plan.schedule, (small_depth, full_depth), tau, steps, price, small_depth))
    return tuple(arms)


def _capped(steps: float, most_steps: int | None) -> int:
    return round(steps) if most_steps is None else min(round(steps), most_steps)


def _arm(
    schedule: AnySchedule, depths: tuple[int, ...], tau: int | None, steps: int, price: dict[int, float], small: int
) -> MenuArm:
    rates = schedule_for(schedule, steps)
    total = rates.total_area
    before = total if depths == (small,) else 0.0 if tau is None else float(rates.area(tau))
    flops = price[depths[-1]] * (steps - (tau or 0)) + price[depths[0]] * (tau or 0)
    return MenuArm(depths=depths, tau=tau, steps=steps, flops=flops, area_before=before, area_after=total - before)


def growth_controls(grown: MenuArm, plan: Plan) -> list[MenuArm]:
    """Full depth for as many steps; full depth, then small depth, of equal compute; small depth for as many steps.

    Args:
        grown: An arm that grows.
        plan: Of any run of the experiment, for schedules and prices.
    """
    small, full = grown.depths[0], grown.depths[-1]
    price = {d: float(plan.batch_tokens) * flops_per_token(plan.model, d) for d in (small, full)}
    runs = (
        (full, grown.steps),
        (full, round(grown.flops / price[full])),
        (small, round(grown.flops / price[small])),
        (small, grown.steps),
    )
    return [_arm(plan.schedule, (depth,), None, steps, price, small) for depth, steps in runs]


def points_of(field: RecoveryField, arms: Sequence[MenuArm]) -> Points:
    """Where the field is asked for the losses of ``arms``.

    Args:
        field: Posterior.
        arms: Any.
    """
    return field.points([a.area_before for a in arms], [a.area_after for a in arms], [a.depths[-1] for a in arms])
