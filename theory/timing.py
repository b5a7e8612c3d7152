r"""When to expand: the step that leaves just the learning-rate area that the new layers need.

Notation: T horizon, tau expansion step, S(t) learning-rate area, u = S(T) - S(tau), u_mix mixing area, eta peak
learning rate, d decay fraction of WSD.

    tau* = S^{-1}(S(T) - u_mix)

One number explains the two limits that arXiv 2511.04981 finds by experiment: u_mix = 0.10 ... 0.15 eta T gives
tau* = 0.85 ... 0.80 T under WSD (d = 0.1) and 0.48 ... 0.40 T under cosine.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np
import scipy

from latebloom.theory import checks
from latebloom.theory.errors import InputError
from latebloom.theory.fitting.bootstrap import LEVEL, interval
from latebloom.theory.plan import Interval
from latebloom.theory.spec import Spec

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import ArrayLike

    from latebloom.theory.landscapes.growth import GrowthLandscape
    from latebloom.theory.schedules import AnySchedule, Schedule

__all__ = [
    "TimingIntervals",
    "horizon_share",
    "mixing_step",
    "tau_cosine",
    "tau_star",
    "tau_wsd",
    "timing_intervals",
]


def tau_star(schedule: Schedule, mixing_area: float) -> float:
    """tau* = S^{-1}(S(T) - u_mix), exact for any schedule; a real number of updates.

    Args:
        schedule: Learning rates of the whole run.
        mixing_area: u_mix, in learning rate x steps.

    Raises:
        InputError: if the schedule's whole area is less than u_mix: no expansion mixes within this horizon.

    >>> from latebloom.theory.schedules import wsd
    >>> round(tau_star(wsd(steps=100_000, peak_lr=0.01), mixing_area=120.0))
    83000
    """
    total = schedule.total_area
    if not mixing_area > 0:
        raise InputError("mixing_area", mixing_area, "must be positive", "give an area in learning rate x steps")
    if mixing_area >= total:
        rule = f"is all of the schedule's area {total:.6g} or more: no expansion mixes within {schedule.horizon} steps"
        raise InputError("mixing_area", mixing_area, rule, "train longer, or do not grow")
    return float(schedule.area_inverse(total - mixing_area))


def tau_wsd(horizon: float, decay: float, mixing_share: float) -> float:
    """tau* under WSD with linear decay, continuous time, without warm-up: T (1 - d/2 - v), v = u_mix/(eta T).

    Where v < d/2 the expansion falls into the decay and tau* = T (1 - sqrt(2 d v)).

    Args:
        horizon: T, steps, > 0.
        decay: d in (0, 1], share of the steps.
        mixing_share: v in (0, 1 - d/2).

    Returns:
        Steps.

    Raises:
        InputError: if an argument is out of range.
    """
    horizon = float(checks.positive("horizon", horizon, fix="give a number of steps"))
    if not 0 < decay <= 1 or not 0 < mixing_share < 1 - decay / 2:
        raise InputError("mixing_share", mixing_share, f"must lie in (0, {1 - decay / 2:g})", "train longer")
    if mixing_share < decay / 2:
        return horizon * (1 - math.sqrt(2 * decay * mixing_share))
    return horizon * (1 - decay / 2 - mixing_share)


def tau_cosine(horizon: float, mixing_share: float) -> float:
    """tau* under cosine decay to 0, continuous time: the root x = tau*/T of (1 - x)/2 - sin(pi x)/(2 pi) = v.

    Args:
        horizon: T, steps, > 0.
        mixing_share: v = u_mix/(eta T), in (0, 1/2).

    Returns:
        Steps.

    Raises:
        InputError: if an argument is out of range.
    """
    horizon = float(checks.positive("horizon", horizon, fix="give a number of steps"))
    if not 0 < mixing_share < 0.5:
        raise InputError("mixing_share", mixing_share, "must lie in (0, 0.5), all of a cosine's area", "train longer")
    share = scipy.optimize.brentq(
        lambda x: (1 - x) / 2 - math.sin(math.pi * x) / (2 * math.pi) - mixing_share, 0, 1, xtol=1e-15
    )
    return horizon * share


def mixing_step(
    step: ArrayLike, progressive: ArrayLike, fixed: ArrayLike, *, tolerance: float, start: float
) -> float | None:
    """First step from which on |progressive - fixed|/fixed stays within ``tolerance``; None if it never does.

    Args:
        step: Steps after which both runs were measured, increasing.
        progressive: Losses of the grown run at ``step``.
        fixed: Losses of the fixed run at ``step``.
        tolerance: Relative tolerance, such as 0.01, > 0.
        start: Only steps after this one (tau) count, >= 0.

    Returns:
        Steps.

    Raises:
        InputError: if shapes differ, steps do not increase, or a number is not finite.
    """
    step, progressive, fixed = (np.asarray(v, dtype=float) for v in (step, progressive, fixed))
    if not step.shape == progressive.shape == fixed.shape:
        raise InputError(
            "step", step.shape, "must have the shape of both losses", "measure both runs at the same steps"
        )
    for name, values in {"progressive": progressive, "fixed": fixed}.items():
        if not np.all(np.isfinite(values)):
            bad = float(values[~np.isfinite(values)][0])
            raise InputError(name, bad, "must be finite", "leave diverged runs out")
    checks.increasing("step", step, fix="sort the measurements")
    checks.positive("tolerance", tolerance)
    checks.non_negative("start", start, fix="give the expansion step")
    after = step > start
    far = np.abs(progressive - fixed) > tolerance * fixed
    if not after.any() or far[after][-1]:
        return None
    last_far = np.flatnonzero(far & after)
    first = last_far[-1] + 1 if last_far.size else np.flatnonzero(after)[0]
    return float(step[first])


def horizon_share(horizon: float, *, decay: float, mixing_area: float, reference_lr: float) -> float:
    """tau*/T under WSD when the peak follows eta = eta_ref/sqrt(T): 1 - d/2 - u_mix/(eta_ref sqrt T).

    The mixing area is a property of the landscape, the area of a run grows as sqrt(T): later and later expansions,
    larger savings with the horizon. (Expansions inside the decay as in :func:`tau_wsd`.)

    Args:
        horizon: T, steps, > 0.
        decay: d, share of the steps.
        mixing_area: u_mix, learning rate x steps.
        reference_lr: eta_ref, > 0.

    Returns:
        tau*/T.

    Raises:
        InputError: if the run has no such area.
    """
    if not (horizon > 0 and reference_lr > 0 and math.isfinite(horizon * reference_lr)):
        raise InputError("horizon", (horizon, reference_lr), "must be positive, as must eta_ref", "give finite values")
    return tau_wsd(1.0, decay, mixing_area / (reference_lr * math.sqrt(horizon)))


class TimingIntervals(Spec, frozen=True, kw_only=True):
    """Bootstrap intervals of what a timing rests on.

    Attributes:
        mixing_area: u_mix, learning rate x steps.
        tau: tau*, steps.
        saving: Share of the fixed-depth cost saved, (1 - n) tau*/T.
        never: Share of the resamples in which no expansion mixes.
    """

    mixing_area: Interval
    tau: Interval
    saving: Interval
    never: float


def timing_intervals(
    schedule: AnySchedule, laws: Sequence[GrowthLandscape], *, tolerance: float, cost_ratio: float, level: float = LEVEL
) -> TimingIntervals:
    """Intervals on u_mix, tau* and the saving from laws fitted to resampled runs (residuals within a run correlate).

    Args:
        schedule: Of the run to be planned.
        laws: At least ten replicas, one for each resample of the pilots.
        tolerance: Share of the full depth's final loss that growing may cost.
        cost_ratio: n = c_l/c_L, in (0, 1).
        level: Of the intervals, in (0, 1).

    Returns:
        The intervals.

    Raises:
        InputError: if mixing is not identifiable from the pilots: more resamples never mix, or mix at once, than the
            interval leaves outside on that side.
    """
    if len(laws) < 10:
        raise InputError("laws", len(laws), "are too few resamples for an interval", "draw at least ten")
    if not (0 < cost_ratio < 1 and 0 < level < 1 and 0 < tolerance < 1):
        raise InputError("level", (cost_ratio, level, tolerance), "must lie in (0, 1), each", "give shares")
    total, steps = schedule.total_area, schedule.horizon
    areas = np.array(
        [
            law.area_to_leave(schedule, tolerance * float(law.fixed(schedule, steps, depth=law.full_depth)))
            for law in laws
        ]
    )
    never, outside = float(np.mean(areas >= total)), (1 - level) / 2
    if never > outside:
        rule = f"leaves the mixing area unidentified: {never:.0%} of the resamples never mix in {steps} steps"
        raise InputError(
            "pilots", f"{len(laws)} resamples", rule, "add a pilot that grows earlier, with more area left"
        )
    at_once = float(np.mean(areas <= 0))
    if at_once > outside:
        rule = (
            f"leaves the mixing area unidentified: in {at_once:.0%} of the resamples growing costs nothing at the end"
        )
        raise InputError("pilots", f"{len(laws)} resamples", rule, "add a pilot that grows late, with little area left")
    inside = areas[(areas > 0) & (areas < total)]
    tau = np.array([tau_star(schedule, float(area)) for area in inside])

    return TimingIntervals(
        mixing_area=interval(inside, level=level),
        tau=interval(tau, level=level),
        saving=interval((1 - cost_ratio) * tau / steps, level=level),
        never=never,
    )
