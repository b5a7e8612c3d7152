r"""The menu: every way to spend a budget.

A budget C buys any one of

    d      one depth d from the start, T_d = C/c_d steps
    l -> L grown at the share x of its own T = C/(c_L (n x + 1 - x)) steps,   n = c_l/c_L
    l -> m -> L, a ladder of two expansions, at x and x'

each with its own schedule of one shape, its warm-up kept in steps, and each capped by the steps that the data allow.
Which to take is decided in :mod:`latebloom.theory.decision`.

What a ladder ends at follows from the field without a further assumption but one, that the second expansion recovers
what it would on a trunk of m as old: with y(l -> d, S) the logarithm of the loss grown to d at the area S,

    y(l -> m at S, -> L at S') = y(l -> L, S') + y(l -> m, S) - y(l -> m, S')

so that it is l -> L at S where both expansions meet, and l -> m where the second comes with the last step.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from latebloom.theory import checks
from latebloom.theory.cost import flops_per_token
from latebloom.theory.errors import InputError
from latebloom.theory.words import amount_text, blocks_text, count_text

if TYPE_CHECKING:
    from latebloom.theory.fitting.field_kernel import Points
    from latebloom.theory.fitting.recovery_field import RecoveryField
    from latebloom.theory.plan import Plan
    from latebloom.theory.schedules import AnySchedule

__all__ = [
    "MenuArm", "branch_schedule", "combined_points", "draws_of_arms", "equal_compute_menu", "expected_of_arms",
    "growth_controls", "points_of", "schedule_for",
]  # fmt: skip

# shares x at which growing is considered; later ones leave less area than any pilot shows: never growing
SHARES = (0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8)
LADDER_SHARES = ((0.1, 0.3), (0.2, 0.5), (0.3, 0.6), (0.4, 0.7), (0.5, 0.8), (0.3, 0.8))  # x and x'


@dataclass(frozen=True, kw_only=True)
class MenuArm:
    """One way to spend the budget.

    Attributes:
        depths: One depth, the small and the full one, or the small, one between and the full one.
        tau: Expansion step, the first; None for a run of one depth.
        steps: Horizon.
        flops: Training FLOPs.
        area_before: Learning-rate area at ``depths[0]`` that an expansion finds; all of it for the small depth.
        area_after: Learning-rate area that is left.
        second_tau: Second expansion step of a ladder.
        second_area: Learning-rate area that it finds.
    """

    depths: tuple[int, ...]
    tau: int | None
    steps: int
    flops: float
    area_before: float
    area_after: float
    second_tau: int | None = None
    second_area: float = 0.0

    @property
    def name(self) -> str:
        """For people, such as ``1 block``, ``1 -> 4 at 360`` or ``1 -> 2 at 200 -> 4 at 500``."""
        if self.tau is None:
            return blocks_text(self.depths[0])
        if self.second_tau is not None:
            small, between, full = self.depths
            return f"{small} -> {between} at {self.tau} -> {full} at {self.second_tau}"
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
        raise InputError("steps", steps, f"does not hold the warm-up of {count_text(warmup, 'step')}", "train longer")
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
    ladders: bool = False,
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
        ladders: Whether growing through each of ``depths`` is considered too.
        most_steps: Steps that the data allow.

    Returns:
        Fixed depths in ascending order, then the growing arms, ladders last.

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
        least = amount_text(shortest * price[small_depth])
        rule = f"is below the cheapest arm, {blocks_text(small_depth)} for {shortest} steps: {least}"
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
    for between in sorted(set(depths) - {small_depth, full_depth}) if ladders else ():
        for first, second in LADDER_SHARES:
            path = (small_depth, between, full_depth)
            a_step = price[small_depth] * first + price[between] * (second - first) + price[full_depth] * (1 - second)
            steps = _capped(budget / a_step, most_steps)
            taus = (round(first * steps), round(second * steps))
            if steps >= shortest and 0 < taus[0] < taus[1] < steps:
                arms.append(_ladder(plan.schedule, path, taus, steps, price))
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


def _ladder(
    schedule: AnySchedule, depths: tuple[int, int, int], taus: tuple[int, int], steps: int, price: dict[int, float]
) -> MenuArm:
    rates = schedule_for(schedule, steps)
    before, second = (float(rates.area(tau)) for tau in taus)
    lengths = (taus[0], taus[1] - taus[0], steps - taus[1])
    return MenuArm(
        depths=depths, tau=taus[0], steps=steps,
        flops=sum(price[depth] * length for depth, length in zip(depths, lengths, strict=True)),
        area_before=before, area_after=rates.total_area - before, second_tau=taus[1], second_area=second,
    )  # fmt: skip


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
    """Where the field is asked for the losses of ``arms``, none of them a ladder.

    Args:
        field: Posterior.
        arms: Any.
    """
    return field.points([a.area_before for a in arms], [a.area_after for a in arms], [a.depths[-1] for a in arms])


def combined_points(field: RecoveryField, arms: Sequence[MenuArm]) -> tuple[Points, np.ndarray]:
    """Points of the field, those of ``arms`` first, and how the arms' logarithms follow from theirs.

    Args:
        field: Posterior.
        arms: Any.

    Returns:
        Points, and a matrix of 1, 0 and -1, (arms, points).
    """
    rows = [[arm.area_before, arm.area_after, arm.depths[-1]] for arm in arms]
    matrix = [np.eye(len(arms))]
    for i, arm in enumerate(arms):
        if arm.second_tau is not None:
            total = arm.area_before + arm.area_after
            rows[i][:2] = [arm.second_area, total - arm.second_area]
            for sign, area in ((1.0, arm.area_before), (-1.0, arm.second_area)):
                rows.append([area, total - area, arm.depths[1]])
                matrix.append(sign * np.eye(len(arms))[:, [i]])
    before, after, depths = zip(*rows, strict=True)
    return field.points(before, after, [int(depth) for depth in depths]), np.concatenate(matrix, axis=1)


def draws_of_arms(
    field: RecoveryField,
    arms: Sequence[MenuArm],
    *,
    number: int,
    seed: int = 0,
    measured: bool | Sequence[bool] = False,
) -> np.ndarray:
    """Joint posterior draws of the losses of ``arms``, nats per token, (number, arms).

    Args:
        field: Posterior.
        arms: Any.
        number: How many draws.
        seed: Of the generator.
        measured: As of :meth:`RecoveryField.draws`.
    """
    points, matrix = combined_points(field, arms)
    runs = np.zeros(len(points), bool)
    runs[: len(arms)] = measured
    return np.exp(np.log(field.draws(points, number=number, seed=seed, measured=runs.tolist())) @ matrix.T)


def expected_of_arms(field: RecoveryField, arms: Sequence[MenuArm], *, measured: bool = False) -> np.ndarray:
    """Losses of ``arms`` whose logarithm is the expected one, nats per token, (arms,).

    Args:
        field: Posterior.
        arms: Any.
        measured: As of :meth:`RecoveryField.draws`.
    """
    points, matrix = combined_points(field, arms)
    return np.exp(matrix @ np.log(field.expected(points, measured=measured)))
