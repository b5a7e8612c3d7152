r"""The joint optimum of a growing run under a landscape: small depth, expansion step, horizon and peak learning rate.

Notation: C compute in units of a full-depth step, n_l = c_l/c_L, x = tau/T. At equal compute

    T(x) = C/(n_l x + 1 - x),     minimise over l, x, eta:  P(T(x), tau = x T(x); eta)

beside the best fixed run of the same compute, min over eta of L_L(C; eta). Both choose their learning rate: a saving
against a fixed run at the grown run's would be none. Minimisation is scipy's, from a grid.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import scipy

from latebloom.theory.errors import InputError
from latebloom.theory.landscapes.lr_history import history
from latebloom.theory.spec import Spec

if TYPE_CHECKING:
    from numpy.typing import ArrayLike

    from latebloom.theory.landscapes.law import Growth
    from latebloom.theory.schedules import AnySchedule, Schedule

__all__ = ["GrowthLandscape", "LawGrowth", "Optimum", "best_growth", "winning_compute"]

SHARES = np.array([0.1, 0.3, 0.5, 0.65, 0.8, 0.9, 0.96])


class GrowthLandscape(Protocol):
    """What a landscape must answer: :class:`theory.AreaLaw`, the coupled quadratic, the law of normalised steps; any
    pair of loss laws through :class:`LawGrowth`."""

    @property
    def full_depth(self) -> int:
        """L."""
        ...

    def fixed(self, schedule: Schedule, step: ArrayLike, *, depth: int) -> np.ndarray:
        """Loss of a run of constant depth."""
        ...

    def grown(self, schedule: Schedule, step: ArrayLike, *, tau: float) -> np.ndarray:
        """Loss of a run that grows after tau updates."""
        ...


@dataclass(frozen=True, kw_only=True)
class LawGrowth:
    """A :class:`latebloom.theory.landscapes.law.Growth` of two loss laws, with the questions that :func:`best_growth`
    asks.

    P(t) = L_full(t) + kappa B(u) - B(S_t) for t > tau, rounded to whole updates; B = signal_full - signal_small
    """

    growth: Growth

    @property
    def full_depth(self) -> int:
        """L."""
        return self.growth.full_depth

    def fixed(self, schedule: Schedule, step: ArrayLike, *, depth: int) -> np.ndarray:
        """Loss of a run of constant depth after ``step`` updates. Nats."""
        laws = {self.growth.small_depth: self.growth.small, self.growth.full_depth: self.growth.full}
        if depth not in laws:
            raise InputError("depth", depth, f"is unknown to laws of depths {sorted(laws)}", "fit pilots of that depth")
        return np.reshape(laws[depth].loss(schedule, np.atleast_1d(step)), np.shape(step))

    def grown(self, schedule: Schedule, step: ArrayLike, *, tau: float) -> np.ndarray:
        """Loss of a run that grows after ``tau`` updates (rounded), after ``step`` > tau updates. Nats."""
        start, steps = round(tau), np.atleast_1d(np.asarray(step))
        if start < 0:
            raise InputError("tau", tau, "must be >= 0", "expand within the run")
        if not np.all(steps > start):
            raise InputError("step", steps.tolist(), f"must lie after the expansion at {start}", "ask for later steps")
        full, small = self.growth.full, self.growth.small
        whole, tail = history(schedule, steps), history(schedule.lrs()[start:], steps - start)
        fresh = [full.signal(past) - small.signal(past) for past in (tail, whole)]
        return np.reshape(full.predict(whole) + self.growth.kappa * fresh[0] - fresh[1], np.shape(step))


class Optimum(Spec, frozen=True, kw_only=True):
    """The best grown run of a compute beside the best fixed one.

    Attributes:
        small_depth, steps, tau, peak_lr, loss: Of the best grown run.
        fixed_steps, fixed_peak_lr, fixed_loss: Of the best fixed run.
        grows: Whether the grown run's loss is the lower one; False where its best expansion step is 0.
        at_edge: The best peak lies at an end of the range searched: widen it.
    """

    small_depth: int
    steps: int
    tau: int
    peak_lr: float
    loss: float
    fixed_steps: int
    fixed_peak_lr: float
    fixed_loss: float
    grows: bool
    at_edge: bool


def best_growth(
    laws: Mapping[int, GrowthLandscape],
    *,
    schedule: AnySchedule,
    compute: float,
    cost_ratio: Mapping[int, float],
    peaks: tuple[float, float],
) -> Optimum:
    """Best small depth, expansion step, horizon and peak learning rate at a given compute, for any schedule.

    Args:
        laws: Small depth -> landscape of growing from it; all to the same full depth.
        schedule: Its shape; horizon and peak are chosen here.
        compute: C > 10, full-depth steps.
        cost_ratio: Small depth -> n_l in (0, 1).
        peaks: Range of peak learning rates; equal ends keep the peak.

    Raises:
        InputError: if an argument is out of range or the schedule has no peak of its own (tables, tails).
    """
    if not laws or set(laws) != set(cost_ratio):
        raise InputError("cost_ratio", sorted(cost_ratio), f"needs one for each law, {sorted(laws)}", "match them")
    low, high = peaks
    if not 0 < low <= high < math.inf:
        raise InputError("peaks", peaks, "must be a range of positive learning rates", "give (low, high)")
    if not 10 < compute < 1e9:
        raise InputError("compute", compute, "must lie in (10, 1e9) full-depth steps", "give C/c_L")
    if any(not 0 < n < 1 for n in cost_ratio.values()):
        raise InputError("cost_ratio", dict(cost_ratio), "must lie in (0, 1)", "give c_l/c_L")
    if not hasattr(schedule, "peak_lr"):
        raise InputError("schedule", type(schedule).__name__, "has no peak to choose", "give WSD, cosine or the like")

    def at(steps: int, peak: float) -> Any:
        return schedule.with_steps(steps).replace(peak_lr=float(np.clip(peak, low, high)))

    logs = np.log([low, high])
    starts = np.unique(np.linspace(logs[0], logs[1], 5))
    steps = round(compute)
    law = next(iter(laws.values()))

    def fixed(log_peak: float) -> float:
        return float(law.fixed(at(steps, math.exp(log_peak)), steps, depth=law.full_depth))

    fixed_peak, fixed_loss = _least_1d(fixed, starts)
    best: tuple[float, int, int, int, float] | None = None
    for depth, landscape in laws.items():
        n = cost_ratio[depth]

        def horizon(x: float, n: float = n) -> int:
            return round(compute / (n * x + 1 - x))

        def grown(point: np.ndarray, landscape: GrowthLandscape = landscape) -> float:
            x = float(np.clip(point[0], 0.0, 1 - 1 / compute))
            t = horizon(x)
            return float(landscape.grown(at(t, math.exp(point[1])), t, tau=x * t))

        grid = [(grown(np.array([x, p])), x, p) for x in SHARES for p in starts]
        _, x0, p0 = min(grid)
        size = [0.05, 0.2 if high > low else 0.0]
        simplex = np.array([[x0, p0], [x0 - size[0], p0], [x0, p0 + (size[1] or 1e-9)]])
        found = scipy.optimize.minimize(
            grown, [x0, p0], method="Nelder-Mead",
            options={"initial_simplex": simplex, "xatol": 1e-4, "fatol": 1e-10, "maxfev": 300},
        )  # fmt: skip
        x = float(np.clip(found.x[0], 0.0, 1 - 1 / compute))
        t = horizon(x)
        if best is None or found.fun < best[0]:
            best = (float(found.fun), depth, t, round(x * t), float(np.clip(math.exp(found.x[1]), low, high)))
    assert best is not None
    loss, depth, t, tau, peak = best
    edges = [abs(math.log(p / edge)) < 1e-3 for p in (peak, math.exp(fixed_peak)) for edge in (low, high)]
    return Optimum(
        small_depth=depth, steps=t, tau=tau, peak_lr=peak, loss=loss, fixed_steps=steps,
        fixed_peak_lr=float(np.clip(math.exp(fixed_peak), low, high)), fixed_loss=fixed_loss,
        grows=tau > 0 and loss < fixed_loss, at_edge=high > low and any(edges),
    )  # fmt: skip


def winning_compute(
    law: GrowthLandscape,
    *,
    schedule: AnySchedule,
    cost_ratio: float,
    small_depth: int,
    compute: tuple[float, float],
    accuracy: float = 0.02,
) -> float | None:
    """Smallest compute in a range at which growing beats the best fixed run of equal compute; None if nowhere.

    Eight computes spread evenly in the logarithm are tried first, then the first change is bisected to ``accuracy``
    (relative). The schedule keeps its peak.

    Args:
        law, schedule, cost_ratio, small_depth: As in :func:`best_growth`.
        compute: Range, full-depth steps.
    """
    peak = schedule.peak

    def wins(c: float) -> bool:
        best = best_growth(
            {small_depth: law}, schedule=schedule, compute=c, cost_ratio={small_depth: cost_ratio}, peaks=(peak, peak)
        )
        return best.grows

    grid = np.geomspace(*compute, 8)
    previous = None
    for c in grid:
        if wins(c):
            break
        previous = c
    else:
        return None
    if previous is None:
        return float(c)
    low, high = previous, c
    while high / low > 1 + accuracy:
        middle = math.sqrt(low * high)
        low, high = (low, middle) if wins(middle) else (middle, high)
    return float(high)


def _least_1d(function: Any, starts: np.ndarray) -> tuple[float, float]:
    """Least value over the range of ``starts``: the best of them, then Brent's method between its neighbours."""
    values = [function(s) for s in starts]
    k = int(np.argmin(values))
    if len(starts) == 1:
        return float(starts[0]), values[0]
    low, high = starts[max(k - 1, 0)], starts[min(k + 1, len(starts) - 1)]
    found = scipy.optimize.minimize_scalar(function, bounds=(low, high), method="bounded", options={"xatol": 1e-5})
    return (float(found.x), float(found.fun)) if found.fun < values[k] else (float(starts[k]), values[k])
