"""The pilots from which it is planned whether and when to grow: annealed ends of two trunks and of their branches.

A schedule that is constant until it decays can be annealed anywhere, so that one trunk a depth gives its final loss at
every horizon for the decay alone, and a growth on it gives what growing recovers. Of a run of T steps:

    small depth   to T, annealed at T/8, T/4, T/2 and T     how fast it still falls
    grown         from the small depth's trunk at T/2, annealed .03, .06 and .12 T later     what growing recovers
    full depth    to T/4, annealed at T/8 and T/4     the depth gap

All keep the run's warm-up in steps, its peak and its seed, without which they would share no trunk and no noise. The
small depth's trunk is the beginning of the run that grows, and of the one that never does, so that it costs nothing.
"""

from __future__ import annotations

from collections.abc import Sequence

from latebloom.theory.errors import InputError
from latebloom.theory.expansion import Init, Order
from latebloom.theory.menu import schedule_for
from latebloom.theory.plan import Plan, Stage

__all__ = ["pilot_plans"]

SMALL_ENDS = (1, 2, 4, 8)  # eighths of T
FULL_ENDS = (1, 2)
GROWN_AT = 0.5  # share of T
GROWN_ENDS = (0.03, 0.06, 0.12)  # shares of T after the expansion
FEWEST_STEPS = 160  # of the whole run: its eighth has to hold a warm-up and a decay


def pilot_plans(base: Plan, *, small_depth: int, init: Init = "random", order: Order = "stack") -> tuple[Plan, ...]:
    """The pilots of a run, longest of each depth first: ``small-T``, ``grown-TAU-T``, ``full-T``.

    Args:
        base: The full depth for the whole horizon.
        small_depth: Depth before the expansion.
        init: How new blocks begin.
        order: Where they stand.

    Raises:
        InputError: if the horizon is too short for an eighth of it.
    """
    horizon = base.steps
    if horizon < FEWEST_STEPS:
        rule = f"is too short to learn from an eighth of it: pilots need {FEWEST_STEPS}"
        raise InputError("steps", horizon, rule, "train longer")
    small = base.replace(stages=(Stage(start_step=0, depth=small_depth),))
    plans = [_annealed(small, f"small-{steps}", steps) for steps in _eighths(horizon, SMALL_ENDS)]
    tau = round(GROWN_AT * horizon)
    grown = base.replace(stages=(small.stages[0], Stage(start_step=tau, depth=base.depth, init=init, order=order)))
    for share in reversed(GROWN_ENDS):
        steps = tau + max(1, round(share * horizon))
        plans.append(_annealed(grown, f"grown-{tau}-{steps}", steps))
    plans += [_annealed(base, f"full-{steps}", steps) for steps in _eighths(horizon, FULL_ENDS)]
    return tuple(plans)


def _eighths(horizon: int, ends: Sequence[int]) -> list[int]:
    return [round(horizon * end / 8) for end in reversed(ends)]


def _annealed(plan: Plan, name: str, steps: int) -> Plan:
    """``plan`` over ``steps``; a decay that would begin before the expansion begins with it."""
    schedule = schedule_for(plan.schedule, steps)
    decay = getattr(schedule, "decay_steps", None)
    if plan.tau is not None and decay is not None:
        schedule = schedule.replace(decay_steps=min(decay, steps - plan.tau))
    return plan.replace(name=name, schedule=schedule)
