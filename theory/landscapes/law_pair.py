r"""A landscape of two loss laws over schedules, one for each depth, between which a run may grow.

The full depth's signal splits into the small depth's own and B = signal_full - signal_small, modes that only the full
depth has; their clock starts at the expansion tau, at kappa of a fresh start:

    P(t) = L_full(t) + kappa B(u) - B(S_t),   u = S_t - S_tau,  t > tau;     L_small(t) before.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from latebloom.theory import checks
from latebloom.theory.errors import InputError
from latebloom.theory.landscapes import AnyLaw
from latebloom.theory.landscapes.growth import GrowthLandscape
from latebloom.theory.landscapes.law import Law
from latebloom.theory.landscapes.lr_history import History, history
from latebloom.theory.spec import NonNegative

if TYPE_CHECKING:
    from numpy.typing import ArrayLike

    from latebloom.theory.schedules import Schedule

__all__ = ["LawPair"]


class LawPair(GrowthLandscape, frozen=True, kw_only=True, tag="pair"):
    """Two loss laws, and how far from their optimum new layers start.

    Attributes:
        small_depth: l.
        full_depth: L.
        small: Law of the small depth.
        full: Law of the full depth.
        kappa: Squared distance of new layers from their optimum over that of fresh ones, in the loss metric.
    """

    small: AnyLaw
    full: AnyLaw
    kappa: NonNegative = 1.0

    def __post_init__(self) -> None:
        for name, law in {"small": self.small, "full": self.full}.items():
            if not isinstance(law, Law):
                raise InputError(name, law, "must be a loss law", "give one of latebloom.theory.landscapes")
        super().__post_init__()

    def fixed(self, schedule: Schedule, step: ArrayLike, *, depth: int) -> np.ndarray:
        """Loss after ``step`` updates, whole and in [1, horizon], of a run that keeps ``depth``. Nats."""
        self.check_depth(depth)
        law = self.full if depth == self.full_depth else self.small
        return np.reshape(law.loss(schedule, np.ravel(step)), np.shape(step))

    def grown(self, schedule: Schedule, step: ArrayLike, *, tau: float) -> np.ndarray:
        """Loss after ``step`` updates, whole and in [1, horizon], of a run that grows after ``tau`` (rounded). Nats."""
        start = round(float(checks.within("tau", tau, 0, schedule.horizon, fix="expand within the run")))
        steps = np.ravel(np.asarray(step))
        loss = np.empty(len(steps))
        before = steps <= start
        if np.any(before):
            loss[before] = self.small.loss(schedule, steps[before])
        if np.any(~before):
            whole = history(schedule, steps[~before])
            tail = history(schedule.lrs()[start:], steps[~before] - start)
            loss[~before] = self.full.predict(whole) + self.kappa * self.fresh(tail) - self.fresh(whole)
        return np.reshape(loss, np.shape(step))

    def fresh(self, past: History) -> np.ndarray:
        """B: what the full depth's signal has over the small depth's, (points,). Nats."""
        return self.full.signal(past) - self.small.signal(past)
