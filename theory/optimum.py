r"""The joint optimum of a growing run under a landscape: small depth, expansion step, horizon and peak learning rate.

Notation: C compute in units of a full-depth step, n_l = c_l/c_L, x = tau/T. At equal compute

    T(x) = C/(n_l x + 1 - x),     minimise over l, x, eta:  P(T(x), tau = x T(x); eta)

beside the best fixed run of the same compute, min over eta of L_L(C; eta). Both choose their learning rate: a saving
against a fixed run at the grown run's would be none. Minimisation is scipy's, from a grid.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np
import scipy

from latebloom.theory import checks
from latebloom.theory.errors import InputError
from latebloom.theory.spec import Spec

if TYPE_CHECKING:
    from latebloom.theory.landscapes.growth import GrowthLandscape
    from latebloom.theory.schedules import AnySchedule

__all__ = ["Optimum", "best_growth", "winning_window"]

SHARES = np.array([0.1, 0.3, 0.5, 0.65, 0.8, 0.9, 0.96])


class Optimum(Spec, frozen=True, kw_only=True):
    """The best grown run of a compute beside the best fixed ones.

    Attributes:
        small_depth: Depth from which the best grown run starts.
        steps: Its horizon T.
        tau: Its expansion step.
        peak_lr: Its peak learning rate.
        loss: Its final loss, nats.
        fixed_steps: Horizon of the full depth at the same compute.
        fixed_peak_lr: Its best peak learning rate.
        fixed_loss: Its final loss, nats.
        grows: Whether the grown run ends below the full depth; False where its best expansion step is 0.
        best_depth: The best fixed depth at the same compute, among the full depth and the small ones.
        best_steps: Its horizon.
        best_peak_lr: Its best peak learning rate.
        best_loss: Its final loss, nats.
        wins: Whether the grown run ends below the best fixed depth: the comparison that decides.
        at_edge: A best peak lies at an end of the range searched: widen it.
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
    best_depth: int
    best_steps: int
    best_peak_lr: float
    best_loss: float
    wins: bool
    at_edge: bool


@dataclass(frozen=True, kw_only=True)
class _Schedules:
    """One shape of schedule at any horizon and any peak of a range."""

    shape: AnySchedule
    peaks: tuple[float, float]

    def starts(self) -> np.ndarray:
        """Logarithms of the peaks from which searches start; one where the range is a point."""
        return np.unique(np.linspace(np.log(self.peaks[0]), np.log(self.peaks[1]), 5))

    def peak(self, log_peak: float) -> float:
        return float(np.clip(math.exp(log_peak), *self.peaks))

    def of(self, steps: int, log_peak: float) -> AnySchedule:
        return self.shape.with_steps(steps).replace(peak_lr=self.peak(log_peak))


@dataclass(frozen=True, kw_only=True)
class _Run:
    """The best run of one depth, or of one way of growing."""

    depth: int
    steps: int
    tau: int
    peak: float
    loss: float


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

    Returns:
        The optimum, beside the best fixed depths of the same compute.

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
    schedules = _Schedules(shape=schedule, peaks=peaks)
    first = next(iter(laws.values()))
    full = _best_fixed(first, first.full_depth, round(compute), schedules)
    small = [
        _best_fixed(law, law.small_depth, round(compute / cost_ratio[depth]), schedules) for depth, law in laws.items()
    ]
    grown = min(
        (_best_grown(law, depth, compute, cost_ratio[depth], schedules) for depth, law in laws.items()),
        key=lambda run: run.loss,
    )
    best = min([full, *small], key=lambda run: run.loss)
    on_edge = [abs(math.log(run.peak / end)) < 1e-3 for run in (grown, full, best) for end in (low, high)]
    return Optimum(
        small_depth=grown.depth,
        steps=grown.steps,
        tau=grown.tau,
        peak_lr=grown.peak,
        loss=grown.loss,
        fixed_steps=full.steps,
        fixed_peak_lr=full.peak,
        fixed_loss=full.loss,
        grows=grown.tau > 0 and grown.loss < full.loss,
        best_depth=best.depth,
        best_steps=best.steps,
        best_peak_lr=best.peak,
        best_loss=best.loss,
        wins=grown.tau > 0 and grown.loss < best.loss,
        at_edge=high > low and any(on_edge),
    )


def _best_fixed(law: GrowthLandscape, depth: int, steps: int, schedules: _Schedules) -> _Run:
    """The best peak of a run that keeps ``depth`` for ``steps``."""

    def final_loss(log_peak: float) -> float:
        return float(law.fixed(schedules.of(steps, log_peak), steps, depth=depth))

    log_peak, loss = _least_1d(final_loss, schedules.starts())
    return _Run(depth=depth, steps=steps, tau=0, peak=schedules.peak(log_peak), loss=loss)


def _best_grown(law: GrowthLandscape, depth: int, compute: float, cost_ratio: float, schedules: _Schedules) -> _Run:
    """The best share x = tau/T and peak of a run of cost ``compute`` that grows from ``depth``."""
    latest, starts = 1 - 1 / compute, schedules.starts()

    def horizon(share: float) -> int:
        return round(compute / (cost_ratio * share + 1 - share))

    def final_loss(point: np.ndarray) -> float:
        share = float(np.clip(point[0], 0.0, latest))
        steps = horizon(share)
        return float(law.grown(schedules.of(steps, point[1]), steps, tau=share * steps))

    _, share, log_peak = min((final_loss(np.array([x, p])), x, p) for x in SHARES for p in starts)
    step = 0.2 if len(starts) > 1 else 1e-9
    result = scipy.optimize.minimize(
        final_loss,
        [share, log_peak],
        method="Nelder-Mead",
        options={
            "initial_simplex": np.array([[share, log_peak], [share - 0.05, log_peak], [share, log_peak + step]]),
            "xatol": 1e-4,
            "fatol": 1e-10,
            "maxfev": 300,
        },
    )
    share = float(np.clip(result.x[0], 0.0, latest))
    steps = horizon(share)
    return _Run(
        depth=depth,
        steps=steps,
        tau=round(share * steps),
        peak=schedules.peak(result.x[1]),
        loss=float(result.fun),
    )


def winning_window(
    law: GrowthLandscape,
    *,
    schedule: AnySchedule,
    cost_ratio: float,
    compute: tuple[float, float],
    accuracy: float = 0.02,
    against: Literal["full", "best"] = "best",
) -> tuple[float, float] | None:
    """First stretch of compute in a range at which growing beats fixed runs of equal compute; None if nowhere.

    Eight computes spread evenly in the logarithm are tried first, then each change is bisected to ``accuracy``
    (relative). The schedule keeps its peak. Below it the small depth alone, with more steps, is the better use; above
    it, where there is an end, the full depth is.

    Args:
        law: Landscape of growing from its small depth l.
        schedule: Its shape and peak.
        cost_ratio: n = c_l/c_L, in (0, 1).
        compute: Range (low, high), full-depth steps, low > 10.
        accuracy: Relative, > 0.
        against: What growing must beat: the "full" depth, or the "best" of full and small depth.

    Returns:
        Its ends, full-depth steps; the second infinite where growing still wins at the end of the range.

    Raises:
        InputError: if an argument is out of range.
    """
    low, high = compute
    if not 10 < low < high < 1e9:
        raise InputError("compute", compute, "must be a range of full-depth steps in (10, 1e9)", "give (low, high)")
    checks.positive("accuracy", accuracy)
    peak, small_depth = schedule.peak, law.small_depth

    def wins(c: float) -> bool:
        best = best_growth(
            {small_depth: law}, schedule=schedule, compute=c, cost_ratio={small_depth: cost_ratio}, peaks=(peak, peak)
        )
        return best.grows if against == "full" else best.wins

    def change(low: float, high: float, *, before: bool) -> float:
        while high / low > 1 + accuracy:
            middle = math.sqrt(low * high)
            low, high = (middle, high) if wins(middle) == before else (low, middle)
        return float(high if not before else low)

    grid = [float(c) for c in np.geomspace(*compute, 8)]
    won = [wins(c) for c in grid]
    if not any(won):
        return None
    first = won.index(True)
    begins = grid[0] if first == 0 else change(grid[first - 1], grid[first], before=False)
    if all(won[first:]):
        return begins, math.inf
    lost = won.index(False, first)
    return begins, change(grid[lost - 1], grid[lost], before=True)


def _least_1d(function: Callable[[float], float], starts: np.ndarray) -> tuple[float, float]:
    """Least value over the range of ``starts``: the best of them, then Brent's method between its neighbours."""
    values = [function(s) for s in starts]
    k = int(np.argmin(values))
    if len(starts) == 1:
        return float(starts[0]), values[0]
    low, high = starts[max(k - 1, 0)], starts[min(k + 1, len(starts) - 1)]
    best = scipy.optimize.minimize_scalar(function, bounds=(low, high), method="bounded", options={"xatol": 1e-5})
    return (float(best.x), float(best.fun)) if best.fun < values[k] else (float(starts[k]), values[k])
