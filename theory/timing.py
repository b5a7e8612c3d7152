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

from theory.errors import InputError

if TYPE_CHECKING:
    from numpy.typing import ArrayLike

    from theory.schedules import Schedule

__all__ = ["mixing_step", "tau_cosine", "tau_star", "tau_wsd"]


def tau_star(schedule: Schedule, mixing_area: float) -> float:
    """tau* = S^{-1}(S(T) - u_mix), exact for any schedule; a real number of updates.

    Args:
        schedule: Learning rates of the whole run.
        mixing_area: u_mix, in learning rate x steps.

    Raises:
        InputError: if the schedule's whole area is less than u_mix: no expansion mixes within this horizon.

    >>> from theory.schedules import wsd
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
        horizon: T, steps. decay: d in (0, 1]. mixing_share: v in (0, 1 - d/2).
    """
    if not 0 < decay <= 1 or not 0 < mixing_share < 1 - decay / 2:
        raise InputError("mixing_share", mixing_share, f"must lie in (0, {1 - decay / 2:g})", "train longer")
    if mixing_share < decay / 2:
        return horizon * (1 - math.sqrt(2 * decay * mixing_share))
    return horizon * (1 - decay / 2 - mixing_share)


def tau_cosine(horizon: float, mixing_share: float) -> float:
    """tau* under cosine decay to 0, continuous time: the root x = tau*/T of (1 - x)/2 - sin(pi x)/(2 pi) = v.

    Args:
        horizon: T, steps. mixing_share: v = u_mix/(eta T), in (0, 1/2).
    """
    if not 0 < mixing_share < 0.5:
        raise InputError("mixing_share", mixing_share, "must lie in (0, 0.5), all of a cosine's area", "train longer")
    x = scipy.optimize.brentq(
        lambda x: (1 - x) / 2 - math.sin(math.pi * x) / (2 * math.pi) - mixing_share, 0, 1, xtol=1e-15
    )
    return horizon * x


def mixing_step(
    step: ArrayLike, progressive: ArrayLike, fixed: ArrayLike, *, tolerance: float, start: float
) -> float | None:
    """First step from which on |progressive - fixed|/fixed stays within ``tolerance``; None if it never does.

    Args:
        step: Steps after which both runs were measured, increasing.
        progressive, fixed: Losses of the two runs at ``step``.
        tolerance: Relative tolerance, such as 0.01.
        start: Only steps after this one (tau) count.
    """
    step, progressive, fixed = (np.asarray(v, dtype=float) for v in (step, progressive, fixed))
    if not step.shape == progressive.shape == fixed.shape:
        raise InputError(
            "step", step.shape, "must have the shape of both losses", "measure both runs at the same steps"
        )
    after = step > start
    far = np.abs(progressive - fixed) > tolerance * fixed
    if not after.any() or far[after][-1]:
        return None
    last_far = np.flatnonzero(far & after)
    first = last_far[-1] + 1 if last_far.size else np.flatnonzero(after)[0]
    return float(step[first])
