r"""The recovery field as a landscape: posterior means of what annealed runs of the pilots' seed end at.

It is :class:`~latebloom.theory.fitting.recovery_field.RecoveryField` behind the one interface, for the online rule,
`ask` and the simulator, which want one number; decisions with their probabilities come from
:mod:`latebloom.theory.decision`. A loss at a step within a schedule is that of a run annealed there, because the field
knows annealed ends only: runs at the constant rate lie above it.
"""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Annotated

import numpy as np
from msgspec import Meta

from latebloom.theory import checks
from latebloom.theory.errors import InputError
from latebloom.theory.fitting.annealed_ends import AnnealedEnd, TrunkCurve
from latebloom.theory.fitting.recovery_field import COLUMNS, RecoveryField, fit_recovery_field
from latebloom.theory.landscapes.growth import TRIED, GrowthLandscape
from latebloom.theory.spec import Positive

if TYPE_CHECKING:
    from numpy.typing import ArrayLike

    from latebloom.theory.schedules import AnySchedule, Schedule

__all__ = ["FieldLaw"]

EARLIEST = (
    0.125  # of the shortest pilot's area: a power law extrapolated further back says nothing, so losses stop there
)


class FieldLaw(GrowthLandscape, frozen=True, kw_only=True, tag="field"):
    """Posterior means of a recovery field.

    Attributes:
        ends: Annealed ends of the pilots, from which the field follows.
        reference: Learning-rate area of the full depth's whole run, the unit of the prior.
        trunk_curve: The small trunk's validation curve. None: the ends alone.
    """

    ends: Annotated[tuple[AnnealedEnd, ...], Meta(min_length=1)]
    reference: Positive
    trunk_curve: TrunkCurve | None = None

    def check(self) -> None:
        super().check()
        small = {end.depth for end in self.ends if end.kind == "small"}
        if small != {self.small_depth}:
            rule = f"is not the depth of the small runs, {sorted(small)}"
            raise InputError("small_depth", self.small_depth, rule, "give the depth of the small runs")

    @property
    def field(self) -> RecoveryField:
        """The posterior."""
        return _field(self.ends, self.full_depth, self.reference, self.trunk_curve)

    def fixed(self, schedule: Schedule, step: ArrayLike, *, depth: int) -> np.ndarray:
        """Posterior mean of a run of ``depth`` annealed at ``step``.

        Args:
            schedule: Its learning rates.
            step: Updates done, in [0, horizon], any shape; early ones as :data:`EARLIEST` says.
            depth: One of the two.

        Raises:
            InputError: for another depth, or steps outside the schedule.
        """
        self.check_depth(depth)
        area = self._area(schedule, step)
        before = area if depth == self.small_depth else np.zeros_like(area)
        return self._mean(before, area - before, np.full(area.shape, depth))

    def grown(self, schedule: Schedule, step: ArrayLike, *, tau: float) -> np.ndarray:
        """Posterior mean of a run that grows after ``tau`` updates, annealed at ``step``.

        Args:
            schedule: Its learning rates.
            step: Updates done, in [0, horizon], any shape; early ones as :data:`EARLIEST` says.
            tau: Updates before the expansion, in [0, horizon].

        Raises:
            InputError: for steps outside the schedule.
        """
        area = self._area(schedule, step)
        begun = float(schedule.area(checks.non_negative("tau", tau)))
        before = np.minimum(area, begun)
        depth = np.where(np.asarray(step) > tau, self.full_depth, self.small_depth)
        return self._mean(before, area - before, depth)

    def tau_star(self, schedule: AnySchedule, tolerance: float) -> float | None:
        """As of :meth:`GrowthLandscape.tau_star`, linear between :data:`TRIED` steps that are asked in one go.

        Args:
            schedule: Learning rates of the whole run.
            tolerance: Accepted price at the end, nats; negative where growing must win by so much.

        Returns:
            Steps; the horizon where growing costs so little at the last step too, None where it always costs more.

        Raises:
            InputError: if ``tolerance`` is not finite.
        """
        tolerance = float(checks.finite("tolerance", tolerance))
        steps, price = _prices(self, schedule)
        within = np.flatnonzero(np.array(price) <= tolerance)
        if not len(within):
            return None
        last = int(within[-1])
        if last == len(steps) - 1:
            return float(schedule.horizon)
        return float(np.interp(tolerance, price[last : last + 2], steps[last : last + 2]))

    @property
    def parameters(self) -> dict[str, float]:
        """Posterior medians of the field's own numbers, relative to the loss, and what they are relative to."""
        return {name: self.field.parameter(name).median for name in COLUMNS} | {"reference": self.reference}

    def _area(self, schedule: Schedule, step: ArrayLike) -> np.ndarray:
        checks.within("step", step, 0, schedule.horizon)
        shortest = min(end.area for end in self.ends)
        return np.maximum(np.asarray(schedule.area(step), float), EARLIEST * shortest)

    def _mean(self, before: np.ndarray, after: np.ndarray, depth: np.ndarray) -> np.ndarray:
        field = self.field
        after = np.where(depth == self.small_depth, 0.0, after)
        points = field.points(before.ravel().tolist(), after.ravel().tolist(), depth.ravel().tolist())
        return field.expected(points, measured=True).reshape(before.shape)


@functools.lru_cache(maxsize=8)
def _prices(law: FieldLaw, schedule: AnySchedule) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Expansion steps, and what growing at each costs at the end against the full depth, nats."""
    steps = np.unique(np.linspace(0, schedule.horizon - 1, min(TRIED, schedule.horizon)).round())
    total, begun = schedule.total_area, np.asarray(schedule.area(steps), float)
    before = np.append(begun, 0.0)
    losses = law._mean(before, total - before, np.full(len(before), law.full_depth))
    return tuple(steps.tolist()), tuple((losses[:-1] - losses[-1]).tolist())


@functools.lru_cache(maxsize=8)
def _field(
    ends: tuple[AnnealedEnd, ...], full_depth: int, reference: float, trunk_curve: TrunkCurve | None
) -> RecoveryField:
    return fit_recovery_field(ends, full_depth=full_depth, reference=reference, trunk_curve=trunk_curve)
