"""Which pilots to run for a target, as plans that are branches of three trunks, and what each adds to the price.

    small depth  to T, annealed at T/8, T/4, T/2 and T       what never growing ends at, and how fast it still falls
    full depth   to T/4, annealed at T/8 and T/4             the depth gap: all that growing can recover
    grown        from the small trunk at T/2, annealed .04 and .1 T later    what growing does recover

A trunk runs at the constant rate, and a branch leaves it where its own decay or growth begins: it costs what follows.
The warm-up is kept in steps, so that all have it in common. The small trunk is the beginning of every run that starts
at the small depth, so that its FLOPs are spent anyway. Of simulated designs this one left the least regret for its
price (simple to state: about half a fixed run beside the small trunk).
"""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from typing import Literal

from latebloom.theory import checks
from latebloom.theory.cost import flops_per_token
from latebloom.theory.errors import InputError
from latebloom.theory.fitting.annealed_ends import AnnealedEnd
from latebloom.theory.fitting.recovery_field import RecoveryField
from latebloom.theory.growth_conditions import growth_conditions
from latebloom.theory.menu import branch_schedule
from latebloom.theory.pilot_value import SURE
from latebloom.theory.plan import Plan, Stage
from latebloom.theory.prediction import GrowthConditions
from latebloom.theory.spec import Count, NonNegative, Spec
from latebloom.theory.words import count_text

__all__ = ["DesignedPilot", "PilotDesign", "design_pilots", "growth_is_ruled_out", "pilot_plan", "pilots_left"]

SMALL_SHARES = (1.0, 0.5, 0.25, 0.125)  # of T, the trunk first
FULL_SHARES = (0.25, 0.125)
GROWN_AT = 0.5
GROWN_TAILS = (0.1, 0.04)
MOST_CHECKPOINTS = 100  # of a trunk
SHORTEST_TAIL = 2  # steps after the warm-up, and after growing


class DesignedPilot(Spec, frozen=True, kw_only=True):
    """One pilot of a design.

    Attributes:
        plan: What is run.
        role: ``small``, ``full`` or ``grown``.
        file: Of the plan, beside the manifest.
        branch_of: Name of the pilot whose run it goes on from; None for a trunk.
        branch_at: Step at which it leaves that run.
        checkpoint_every: Of a trunk: steps between checkpoints, for its branches to leave; 0 for a branch.
        flops: What it adds.
        share_of_fixed: The same, of the full depth for the whole horizon.
    """

    plan: Plan
    role: Literal["small", "full", "grown"]
    file: str
    branch_of: str | None = None
    branch_at: Count = 0
    checkpoint_every: Count = 0
    flops: NonNegative
    share_of_fixed: NonNegative

    @property
    def name(self) -> str:
        """Of its plan."""
        return self.plan.name


class PilotDesign(Spec, frozen=True, kw_only=True):
    """The pilots of a target, in the order in which they are run.

    Attributes:
        base: The full depth for the whole horizon, for which the pilots are.
        small_depth: l.
        pilots: Small depth, full depth, grown; a trunk before its branches.
        flops: Of all.
        flops_beside_small: Without the small trunk, which is the beginning of every run that starts at the small depth.
        share_of_fixed: ``flops_beside_small`` of the full depth for the whole horizon.
    """

    base: Plan
    small_depth: Count
    pilots: tuple[DesignedPilot, ...]
    flops: NonNegative
    flops_beside_small: NonNegative
    share_of_fixed: NonNegative


def pilot_plan(base: Plan, *, small_depth: int, depth: int, steps: int, tau: int, growth: Stage) -> Plan:
    """The plan of one pilot.

    Args:
        base: Of the target: model, batch, optimizer, schedule.
        small_depth: l.
        depth: Blocks at the end.
        steps: Horizon.
        tau: Expansion step from the small depth, 0 for a run of one depth.
        growth: How new blocks begin and where they stand.

    Raises:
        InputError: if a number is out of range, or the expansion not within the run.
    """
    checks.whole("small_depth", small_depth, 0)
    checks.whole("depth", depth, 0)
    checks.whole("steps", steps, 1)
    checks.whole("tau", tau, 0)
    stages: tuple[Stage, ...] = (Stage(start_step=0, depth=depth),)
    name = f"{'small' if depth == small_depth else 'full' if depth == base.depth else f'depth{depth}'}-{steps}"
    if tau:
        stages = (Stage(start_step=0, depth=small_depth), growth.replace(start_step=tau, depth=depth))
        name = f"grown-{steps}-at-{tau}"
    return Plan(
        name=name,
        model=base.model,
        batch_tokens=base.batch_tokens,
        schedule=branch_schedule(base.schedule, steps, tau),
        stages=stages,
        optimizer=base.optimizer,
    )


def design_pilots(base: Plan, *, small_depth: int, growth: Stage) -> PilotDesign:
    """The pilots of ``base``.

    Args:
        base: The full depth for the whole horizon, with a schedule that has a constant phase (wsd).
        small_depth: l.
        growth: How new blocks begin and where they stand; its step and depth are chosen here.

    Returns:
        Plans and prices.

    Raises:
        InputError: if the small depth is not below the full one, the horizon is too short for an eighth of it
            to hold the warm-up, or the schedule has no constant phase from which a branch could leave.
    """
    checks.whole("small_depth", small_depth, 0, base.depth - 1, fix="start shallower than the full depth")
    horizon, warmup = base.steps, int(getattr(base.schedule, "warmup_steps", 0))
    if getattr(base.schedule, "decay_steps", None) is None:
        shape = str(base.schedule.__struct_config__.tag)
        rule = "has no constant phase that pilots could be branches of"
        raise InputError(
            "schedule", shape, rule, "give --schedule wsd, or train pilots of your own for `latebloom plan`"
        )
    shortest = min(SMALL_SHARES) * horizon
    if shortest < warmup + SHORTEST_TAIL or min(GROWN_TAILS) * horizon < SHORTEST_TAIL:
        needed = math.ceil(max((warmup + SHORTEST_TAIL) / min(SMALL_SHARES), SHORTEST_TAIL / min(GROWN_TAILS)))
        rule = f"is too short for pilots: an eighth of it holds no warm-up of {count_text(warmup, 'step')} and a decay"
        raise InputError("steps", horizon, rule, f"plan at least {needed} steps, or shorten the warm-up")
    make = functools.partial(pilot_plan, base, small_depth=small_depth, growth=growth)
    tau = round(GROWN_AT * horizon)
    small = [make(depth=small_depth, steps=round(x * horizon), tau=0) for x in SMALL_SHARES]
    full = [make(depth=base.depth, steps=round(x * horizon), tau=0) for x in FULL_SHARES]
    grown = [make(depth=base.depth, steps=tau + round(x * horizon), tau=tau) for x in GROWN_TAILS]
    pilots = [
        *_branches(base, small, "small", None),
        *_branches(base, full, "full", None),
        *_branches(base, grown, "grown", small[0]),
    ]
    trunks = [pilot for pilot in pilots if pilot.branch_of is None]
    every = {trunk.name: _checkpoint_every(trunk, pilots) for trunk in trunks}
    return _design(base, small_depth, [p.replace(checkpoint_every=every.get(p.name, 0)) for p in pilots])


def _design(base: Plan, small_depth: int, pilots: Sequence[DesignedPilot]) -> PilotDesign:
    """The design of these pilots, with its sums."""
    beside = sum(p.flops for p in pilots if p.role != "small" or p.branch_of is not None)
    return PilotDesign(
        base=base,
        small_depth=small_depth,
        pilots=tuple(pilots),
        flops=sum(pilot.flops for pilot in pilots),
        flops_beside_small=beside,
        share_of_fixed=beside / (_price(base, base.depth) * base.steps),
    )


def _checkpoint_every(trunk: DesignedPilot, pilots: Sequence[DesignedPilot]) -> int:
    """So that every branch finds a checkpoint where it leaves, or shortly before where that would be too many."""
    leaves = [pilot.branch_at for pilot in pilots if pilot.branch_of == trunk.name]
    every = math.gcd(*leaves)
    return every if every * MOST_CHECKPOINTS >= trunk.plan.steps else max(1, trunk.plan.steps // MOST_CHECKPOINTS)


def _branches(
    base: Plan, plans: Sequence[Plan], role: Literal["small", "full", "grown"], trunk: Plan | None
) -> list[DesignedPilot]:
    """Plans of one trunk, the longest first; the others leave it, or ``trunk`` where they grow and decay at once."""
    fixed = _price(base, base.depth) * base.steps
    out = []
    for i, plan in enumerate(plans):
        stable = plan.steps - int(getattr(plan.schedule, "decay_steps", 0))
        begun = plan.tau or 0
        parent, at = (trunk, begun) if i == 0 or stable <= begun else (plans[0], stable)
        flops = _price(base, plan.depth) * (plan.steps - at)
        out.append(
            DesignedPilot(
                plan=plan,
                role=role,
                file=f"{plan.name}.json",
                branch_of=None if parent is None else parent.name,
                branch_at=at,
                flops=flops,
                share_of_fixed=flops / fixed,
            )
        )
    return out


def _price(base: Plan, depth: int) -> float:
    """FLOPs of a step at ``depth``."""
    return float(base.batch_tokens) * flops_per_token(base.model, depth)


def pilots_left(design: PilotDesign, ends: Sequence[AnnealedEnd], *, growth: bool = True) -> PilotDesign:
    """The pilots of ``design`` of which no run has ended yet.

    Args:
        design: Of a target.
        ends: Of the runs that there are.
        growth: Whether pilots that grow are still worth their price.
    """
    there = {(end.depth, end.steps, end.tau) for end in ends}
    left = [p for p in design.pilots if (p.plan.depth, p.plan.steps, p.plan.tau or 0) not in there]
    return _design(design.base, design.small_depth, [p for p in left if growth or p.role != "grown"])


def growth_is_ruled_out(
    field: RecoveryField, base: Plan, *, budget: float, seed: int = 0
) -> tuple[bool, GrowthConditions]:
    """Whether growing can hardly beat never growing at any share, so that no growth pilot is worth its price.

    So where P(delta > s(T) - s(T_N)) < .1 at every share, see :mod:`latebloom.theory.growth_conditions`; never before
    something was trained at the full depth, because delta is not known then.

    Args:
        field: Posterior of the pilots so far.
        base: Of the target.
        budget: C, training FLOPs.
        seed: Of the draws.

    Returns:
        The answer, and the conditions it follows from.

    Raises:
        InputError: if a number is out of range, or the budget does not hold the full depth's warm-up.
    """
    checks.positive("budget", budget, fix="give training FLOPs")
    checks.whole("seed", seed, 0)
    conditions = growth_conditions(field, base, budget=budget, seed=seed)
    possible = [row.p_possible for row in conditions.conditions if row.p_possible is not None]
    return bool(possible) and max(possible) < 1 - SURE, conditions
