"""What every landscape of a small and a full depth shares: which runs it can say something about."""

from __future__ import annotations

from typing import TYPE_CHECKING

from latebloom.theory.errors import InputError
from latebloom.theory.spec import Count, Spec

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import ArrayLike

    from latebloom.theory.plan import Plan
    from latebloom.theory.schedules import Schedule

__all__ = ["TwoDepths"]


class TwoDepths(Spec, frozen=True, kw_only=True):
    """A landscape of runs that keep ``small_depth`` = l or ``full_depth`` = L, or grow once from l to L."""

    small_depth: Count
    full_depth: Count

    def check(self) -> None:
        if self.full_depth <= self.small_depth:
            rule = f"must be larger than the small depth {self.small_depth}"
            raise InputError("full_depth", self.full_depth, rule, "swap them")

    def fixed(self, schedule: Schedule, step: ArrayLike, *, depth: int) -> np.ndarray:
        """Loss after ``step`` updates of a run that keeps ``depth``, one of the two. Nats."""
        raise NotImplementedError

    def grown(self, schedule: Schedule, step: ArrayLike, *, tau: float) -> np.ndarray:
        """Loss after ``step`` updates of a run that grows after ``tau`` updates. Nats."""
        raise NotImplementedError

    def loss(self, plan: Plan, step: ArrayLike | None = None) -> np.ndarray:
        """Loss of ``plan`` after ``step`` updates (its last one by default). Nats.

        Raises:
            InputError: if the plan has depths that this law does not know, or expands more than once.
        """
        step = plan.steps if step is None else step
        if len(plan.stages) > 2:
            raise InputError("stages", len(plan.stages), "this law knows one expansion", "give a plan with two stages")
        for stage in plan.stages:
            self.check_depth(stage.depth)
        if plan.tau is None:
            return self.fixed(plan.schedule, step, depth=plan.depth)
        return self.grown(plan.schedule, step, tau=plan.tau)

    def check_depth(self, depth: int) -> None:
        """Refuse a depth that is neither of the two."""
        if depth not in (self.small_depth, self.full_depth):
            rule = f"is unknown to a law of depths {self.small_depth} and {self.full_depth}"
            raise InputError("depth", depth, rule, "fit pilots of that depth")
