r"""Deciding the expansion while the run goes on: tau* from what has happened so far.

Notation: S_t area that the run has really spent, u_mix mixing area, T horizon of the schedule.

    expand at the first step t at which the area that is left, S_T - S_t, is no more than u_mix

It is the rule of :func:`latebloom.theory.timing.tau_star`, fed by the live record of the small run instead of a plan:
learning rates may have been changed by hand (the area that is left follows the current ratio to the schedule), and
with a law the tolerance follows the loss that the run really has. Nothing here looks ahead; the state is plain data.

With a law and the price of a small step the rule has a deadline beside the trigger: the last step at which growing
still pays, that is ends below what the same FLOPs buy at the small or at the full depth alone,

    P(T, tau) < min(s(T_N), f(T_E)),     T_E = n tau + T - tau,  T_N = T_E/n

Whichever comes first decides. Where growing pays at no step the rule never decides.
"""

from __future__ import annotations

import functools
import math
from typing import Annotated, Any

import numpy as np
from msgspec import Meta

from latebloom.theory.cost import flops_per_token
from latebloom.theory.errors import InputError
from latebloom.theory.landscapes.growth import GrowthLandscape
from latebloom.theory.landscapes.registry import AnyLandscape
from latebloom.theory.menu import schedule_for
from latebloom.theory.plan import Plan
from latebloom.theory.schedules import AnySchedule
from latebloom.theory.spec import Count, NonNegative, Positive, Spec

__all__ = ["AutoExpansion", "rule_of_plan"]

TRIED = 33  # steps at which the deadline is looked for before it is bisected


class AutoExpansion(Spec, frozen=True, kw_only=True):
    """An online rule and all that it has seen. :meth:`observe` returns the next state; JSON holds it between restarts.

    Args:
        schedule: The whole run's.
        mixing_area: u_mix, learning rate x steps; or give ``law``.
        law: A landscape of the registry, from which u_mix follows for the loss that the run shows.
        tolerance: With a law: share of the final loss that growing may cost.
        cost_ratio: n, FLOPs of a small step over those of a full one, in (0, 1); with a law it sets the deadline.
        window: With a law: number of observations over which the run's level against the law's is averaged.
        step: State, not to be given: updates seen.
        area: State: learning-rate area spent.
        scale: State: last learning rate over the schedule's.
        offsets: State: observed minus predicted losses, the last ``window``.
        decided: State: step of the decision; None before it.
        late: State: whether the area left was too small at the first observation already, so that no expansion mixes
            within this run.

    >>> from latebloom.theory import wsd
    >>> rule = AutoExpansion(schedule=wsd(steps=1000, peak_lr=0.1), mixing_area=20.0)
    >>> for step in range(1, 1001):
    ...     rule = rule.observe(step=step, lr=float(rule.schedule.lr(step - 1)), loss=3.0)
    ...     if rule.due:
    ...         break
    >>> step
    751
    """

    schedule: AnySchedule
    mixing_area: Positive | None = None
    law: AnyLandscape | None = None
    tolerance: Annotated[float, Meta(gt=0, lt=1)] = 0.01
    cost_ratio: Annotated[float, Meta(gt=0, lt=1)] | None = None
    window: Annotated[int, Meta(ge=1, le=10_000)] = 20
    step: Count = 0
    area: NonNegative = 0.0
    scale: Positive = 1.0
    offsets: tuple[float, ...] = ()
    decided: Count | None = None
    late: bool = False

    def check(self) -> None:
        if (self.law is None) == (self.mixing_area is None):
            raise InputError("mixing_area", self.mixing_area, "or a law is needed, and not both", "give one of them")
        if self.cost_ratio is not None and self.law is None:
            raise InputError("cost_ratio", self.cost_ratio, "sets a deadline by a law, and there is none", "give a law")

    @classmethod
    def from_older(cls, plain: dict[str, Any]) -> dict[str, Any]:
        """Until 2026-11-26 the law was an area law, and its name was not written."""
        law = plain.get("law")
        return plain | {"law": {"landscape": "area"} | law} if isinstance(law, dict) else plain

    def observe(self, *, step: int, lr: float, loss: float) -> AutoExpansion:
        """The state after update number ``step``, made at learning rate ``lr``, has left the small model at ``loss``.

        Observations may skip updates; the ratio of learning rates is taken as constant between them.

        Raises:
            InputError: if steps do not increase or leave the schedule, or a value is not finite.
        """
        if not (self.step < step <= self.schedule.horizon and step == int(step)):
            rule = f"must be a whole number in ({self.step}, {self.schedule.horizon}]"
            raise InputError("step", step, rule, "feed observations in order, each once")
        if not (math.isfinite(lr) and lr >= 0):
            raise InputError("lr", lr, "must be finite and >= 0", "give the learning rate of the last update")
        if not math.isfinite(loss):
            raise InputError("loss", loss, "must be finite", "stop the run: it has diverged")
        planned = float(self.schedule.lr(step - 1))
        scale = lr / planned if planned > 0 and lr > 0 else self.scale
        new = float(self.schedule.area(step)) - float(self.schedule.area(self.step))
        offsets = self.offsets
        if self.law is not None:
            predicted = float(self.law.fixed(self.schedule, step, depth=self.law.small_depth))
            offsets = (*offsets, float(loss) - predicted)[-self.window :]
        state = self.replace(step=int(step), area=self.area + scale * new, scale=scale, offsets=offsets)
        if self.decided is None and state.is_time:
            state = state.replace(decided=int(step), late=self.step == 0)
        return state

    @property
    def remaining(self) -> float:
        """Area that is left if the learning rate keeps its present ratio to the schedule's."""
        return self.scale * (self.schedule.total_area - float(self.schedule.area(self.step)))

    @property
    def needed(self) -> float:
        """u_mix as known now."""
        if self.law is None:
            assert self.mixing_area is not None
            return self.mixing_area
        final = _final_loss(self.law, self.schedule) + (float(np.mean(self.offsets)) if self.offsets else 0.0)
        return self.law.area_to_leave(self.schedule, self.tolerance * final, total=self.area + self.remaining)

    @property
    def deadline(self) -> int | None:
        """Last step at which growing still pays; None where it pays at no step, or no price was given."""
        if self.law is None or self.cost_ratio is None:
            return None
        return _deadline(self.law, self.schedule, self.cost_ratio)

    @property
    def is_time(self) -> bool:
        """Whether the trigger or the deadline is reached, and growing pays as far as is known."""
        triggered = self.remaining <= self.needed
        if self.cost_ratio is None:
            return triggered
        deadline = self.deadline
        return deadline is not None and (triggered or self.step >= deadline)

    @property
    def due(self) -> bool:
        """The expansion is due now, or was at ``decided``."""
        return self.decided is not None


def rule_of_plan(plan: Plan, law: GrowthLandscape | None = None) -> AutoExpansion:
    """The online rule of a plan: its mixing area, or a landscape with the price of the plan's small step.

    Args:
        plan: With one expansion.
        law: Of the plan's two depths. None: the plan's mixing area is the trigger, and there is no deadline.

    Raises:
        InputError: if the plan does not grow once or has no mixing area and no law is given, or the law is of other
            depths.
    """
    if len(plan.stages) != 2:
        raise InputError("stages", len(plan.stages), "must be two for an online expansion", "plan one expansion")
    if law is None:
        area = plan.predicted.mixing_area
        if area is None:
            rule = "needs a plan with a mixing area, or a landscape"
            raise InputError(
                "--online", True, rule, "give --online-law with what `latebloom fit --law field --out` wrote"
            )
        return AutoExpansion(schedule=plan.schedule, mixing_area=area)
    small, full = (stage.depth for stage in plan.stages)
    if (law.small_depth, law.full_depth) != (small, full):
        rule = f"is of depths {law.small_depth} and {law.full_depth}, the plan grows {small} -> {full}"
        raise InputError("--online-law", law.__struct_config__.tag, rule, "fit one to pilots of these two depths")
    price = flops_per_token(plan.model, small) / flops_per_token(plan.model, full)
    return AutoExpansion(schedule=plan.schedule, law=law, cost_ratio=price)  # type: ignore[arg-type]


@functools.lru_cache(maxsize=8)
def _final_loss(law: GrowthLandscape, schedule: AnySchedule) -> float:
    return float(law.fixed(schedule, schedule.horizon, depth=law.full_depth))


@functools.lru_cache(maxsize=8)
def _deadline(law: GrowthLandscape, schedule: AnySchedule, cost_ratio: float) -> int | None:
    horizon = schedule.horizon
    steps = np.unique(np.linspace(0, horizon - 1, TRIED).round().astype(int))[1:]

    def pays(tau: int) -> bool:
        equal = cost_ratio * tau + horizon - tau
        grown = float(law.grown(schedule, horizon, tau=float(tau)))
        for depth, length in ((law.small_depth, equal / cost_ratio), (law.full_depth, equal)):
            try:
                control = schedule_for(schedule, round(length))
            except InputError:  # no time for the warm-up: nothing to compare with
                continue
            if float(law.fixed(control, control.horizon, depth=depth)) <= grown:
                return False
        return True

    paying = [int(tau) for tau in steps if pays(int(tau))]
    if not paying:
        return None
    low = paying[-1]
    later = steps[steps > low]
    high = int(later[0]) if len(later) else horizon
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if pays(middle) else (low, middle)
    return low
