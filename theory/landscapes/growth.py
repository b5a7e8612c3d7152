"""The one interface of a landscape in which a run may grow; planner, online rule, ``ask`` and simulator take it.

A member answers three questions about runs that keep one of two depths, or grow once from the small to the full one:
the loss of a fixed run, the loss of a grown run, and from these the latest expansion step that costs little. Members
and their fits stand in :data:`latebloom.theory.landscapes.registry.LANDSCAPES`.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np
import scipy

from latebloom.theory import checks
from latebloom.theory.errors import InputError
from latebloom.theory.schedules import Piecewise, Tail
from latebloom.theory.spec import Count, Spec, flatten

if TYPE_CHECKING:
    from numpy.typing import ArrayLike

    from latebloom.theory.plan import Plan
    from latebloom.theory.schedules import AnySchedule, Schedule

__all__ = ["GrowthLandscape", "with_area"]

TRIED = 65  # expansion steps at which the default tau_star looks before it refines between two of them


class GrowthLandscape(Spec, frozen=True, kw_only=True, tag_field="landscape"):
    """A landscape of runs that keep ``small_depth`` = l or ``full_depth`` = L, or grow once from l to L.

    A subclass gives :meth:`fixed` and :meth:`grown`; it may give :meth:`tau_star` and :meth:`area_to_leave` in closed
    form where the law has one.

    Attributes:
        small_depth: l, blocks before the expansion.
        full_depth: L > l, blocks after it.
    """

    small_depth: Count
    full_depth: Count

    def check(self) -> None:
        if self.full_depth <= self.small_depth:
            rule = f"must be larger than the small depth {self.small_depth}"
            raise InputError("full_depth", self.full_depth, rule, "swap them")

    def fixed(self, schedule: Schedule, step: ArrayLike, *, depth: int) -> np.ndarray:
        """Loss of a run that keeps ``depth``.

        Args:
            schedule: Its learning rates.
            step: Updates done, in [0, horizon], any shape.
            depth: One of the two.

        Returns:
            Nats, in the shape of ``step``.

        Raises:
            InputError: for another depth, or steps outside the schedule.
        """
        raise NotImplementedError

    def grown(self, schedule: Schedule, step: ArrayLike, *, tau: float) -> np.ndarray:
        """Loss of a run that grows from l to L; up to ``tau`` that of the small depth.

        Args:
            schedule: Its learning rates.
            step: Updates done, in [0, horizon], any shape.
            tau: Updates before the expansion, in [0, horizon].

        Returns:
            Nats, in the shape of ``step``. At ``step`` = tau it is the last value before the expansion.

        Raises:
            InputError: for steps outside the schedule.
        """
        raise NotImplementedError

    def loss(self, plan: Plan, step: ArrayLike | None = None) -> np.ndarray:
        """Loss of ``plan``, fixed or grown as its stages say.

        Args:
            plan: One stage, or two.
            step: Updates done, any shape; None for the plan's last.

        Returns:
            Nats, in the shape of ``step``.

        Raises:
            InputError: if the plan has depths that this law does not know, or expands more than once.
        """
        step = plan.steps if step is None else step
        if len(plan.stages) > 2:
            raise InputError("stages", len(plan.stages), "this law knows one expansion", "give a plan with two stages")
        plan.refuse_special_stages("this law")
        for stage in plan.stages:
            self.check_depth(stage.depth)
        if plan.tau is None:
            return self.fixed(plan.schedule, step, depth=plan.depth)
        return self.grown(plan.schedule, step, tau=plan.tau)

    def tau_star(self, schedule: AnySchedule, tolerance: float) -> float | None:
        """Latest expansion step at which growing costs at most ``tolerance``: P(T; tau) - F_L(T) <= tolerance.

        Args:
            schedule: Learning rates of the whole run.
            tolerance: Accepted price at the end, nats; negative where growing must win by so much.

        Returns:
            Steps, a real number; the horizon where growing costs so little at the last step too, None where it costs
            more at every step.

        Raises:
            InputError: if ``tolerance`` is not finite.
        """
        tolerance = float(checks.finite("tolerance", tolerance))
        horizon = schedule.horizon
        full = float(self.fixed(schedule, horizon, depth=self.full_depth))

        def excess(tau: float) -> float:
            return float(self.grown(schedule, horizon, tau=tau)) - full - tolerance

        steps = np.unique(np.linspace(0, horizon - 1, min(TRIED, horizon)).round())
        if excess(float(steps[-1])) <= 0:
            return float(horizon)
        for early, late in zip(steps[-2::-1], steps[:0:-1], strict=True):  # from the last on: the latest is asked for
            if excess(float(early)) <= 0:
                return float(scipy.optimize.brentq(excess, early, late, xtol=1e-6 * horizon))
        return None

    def area_to_leave(self, schedule: AnySchedule, tolerance: float, *, total: float | None = None) -> float:
        """u_mix = S(T) - S(tau*), the learning-rate area that :meth:`tau_star` leaves.

        Args:
            schedule: Learning rates of the whole run.
            tolerance: Accepted price at the end, nats; negative where growing must win by so much.
            total: Area of the whole run where its rates were changed on the way; None for the schedule's own. The
                schedule is then taken with all its rates multiplied to that area.

        Returns:
            Learning rate x steps; 0 where the last step costs so little too, infinite where every step costs more.

        Raises:
            InputError: if ``tolerance`` is not finite.
        """
        if total is not None and not math.isclose(total, schedule.total_area):
            schedule = with_area(schedule, total)
        tau = self.tau_star(schedule, tolerance)
        return math.inf if tau is None else schedule.total_area - float(schedule.area(tau))

    @property
    def parameters(self) -> dict[str, float]:
        """The law's numbers by name, for a plan's provenance and for reports."""
        numbers = {path.removeprefix("$."): value for path, value in flatten(self).items()}
        return {
            name: float(value)
            for name, value in numbers.items()
            if isinstance(value, int | float) and name not in ("small_depth", "full_depth")
        }

    def check_depth(self, depth: int) -> None:
        """Refuse a depth that is neither of the two.

        Args:
            depth: Number of blocks.

        Raises:
            InputError: if it is neither.
        """
        if depth not in (self.small_depth, self.full_depth):
            rule = f"is unknown to a law of depths {self.small_depth} and {self.full_depth}"
            raise InputError("depth", depth, rule, "fit pilots of that depth")


def with_area(schedule: AnySchedule, total: float) -> AnySchedule:
    """``schedule`` with every learning rate multiplied by one factor, so that its whole area is ``total``.

    Args:
        schedule: Any shape.
        total: Learning rate x steps, > 0.

    Returns:
        A schedule of the same shape and horizon.

    Raises:
        InputError: if ``total`` is not positive.
    """
    factor = float(checks.positive("total", total)) / schedule.total_area
    if isinstance(schedule, Tail):
        return schedule.replace(base=with_area(schedule.base, factor * schedule.base.total_area))
    if isinstance(schedule, Piecewise):
        return schedule.replace(rate=tuple(factor * rate for rate in schedule.rate))
    return schedule.replace(peak_lr=factor * schedule.peak_lr)
