r"""Bounds of convex optimisation for (sub)gradient descent under any learning rates: last iterate, restarted.

Notation
    x_1 ... x_T   iterates, x_{k+1} = x_k - eta_k g_k, of a convex L with |g_k| <= G_k (or E|g_k|^2 <= G_k^2)
    eta_k  ``lrs``, k = 1 ... T         S_k = eta_1 + ... + eta_k      D  ``distance`` |x_1 - x*|     G_k  ``gradient``

    D^2/(2 S_T) + 1/2 [ eta_T G_T^2 + sum_{k<T} eta_k^2 G_k^2/(S_T - S_k) ]

This is Theorem 10 and Corollary 12 of Defazio et al. (arXiv 2310.07831), which state it as a double sum; summed
by parts (Abel) it has positive terms only, is exact to rounding and cheap, and is a Volterra sum with kernel 1/u, so
that the whole curve of horizons t <= T costs O(T M) (:mod:`latebloom.theory.volterra`). It has the form
a/c + b c when all learning rates are multiplied by c: :class:`Bound` knows the best c.

A step of learning rate 0 changes nothing, neither the iterate nor the bound. Regime: convex, non-smooth worst case.
Real losses follow such a bound within one run and with fitted D and G; between schedules the constants move
(arXiv 2602.07145), so no expansion step is ever based on it alone.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from latebloom.theory import checks, volterra
from latebloom.theory.errors import InputError

if TYPE_CHECKING:
    from numpy.typing import ArrayLike

__all__ = [
    "Bound",
    "BoundCurve",
    "last_iterate",
    "last_iterate_curve",
    "meeting_area",
    "meeting_step",
    "restarted",
]


@dataclass(frozen=True, kw_only=True)
class Bound:
    """L(x) - L(x*) <= ``distance_term`` + ``gradient_term`` + ``constant``, in the unit of the loss.

    Multiplying the learning rates by c divides the first by c, multiplies the second by c, and leaves the third.

    Attributes:
        distance_term: What the distance to the optimum leaves, the part with D^2.
        gradient_term: What the steps' size leaves, the part with G^2.
        constant: What no learning rate changes.
    """

    distance_term: float
    gradient_term: float
    constant: float = 0.0

    @property
    def value(self) -> float:
        """The bound at the learning rates given."""
        return self.distance_term + self.gradient_term + self.constant

    @property
    def best_scale(self) -> float:
        """c* = sqrt(distance term/gradient term): factor to all learning rates that makes the bound least."""
        if self.distance_term < 0 or self.gradient_term <= 0:
            rule = "must be positive for a best learning rate to exist"
            raise InputError("distance_term", self.distance_term, rule, "the bound falls without end, or rises")
        return math.sqrt(self.distance_term / self.gradient_term)

    @property
    def best_value(self) -> float:
        """2 sqrt(distance term x gradient term) + constant: the bound at the best scale."""
        return 2 * self.best_scale * self.gradient_term + self.constant


@dataclass(frozen=True, kw_only=True)
class BoundCurve:
    """A bound for every horizon t = 1 ... T.

    Attributes:
        value: Bound after horizon t, shape (T,).
        error: Relative error of its sums.
    """

    value: np.ndarray
    error: float


def last_iterate(lrs: ArrayLike, *, distance: float, gradient: ArrayLike) -> Bound:
    """Bound on the last iterate x_T, any G_k: D^2/(2 S_T) + 1/2 [eta_T G_T^2 + sum_{k<T} eta_k^2 G_k^2/(S_T - S_k)].

    x_T is reached after T - 1 steps; eta_T weighs the gradient at x_T itself. Sums run in extended precision where the
    machine has it, from the end, so that no difference of areas is ever taken.

    Args:
        lrs: eta, shape (T,), >= 0.
        distance: D > 0.
        gradient: G > 0, one number or shape (T,).

    Raises:
        InputError: if a number is negative or not finite, or no learning rate is positive.

    References:
        Defazio et al., arXiv 2310.07831, Theorem 10, Corollary 12.

    >>> lrs = [(60 - k) / 60 / 60**0.5 for k in range(60)]  # linear decay at the best peak D/(G sqrt T)
    >>> round(last_iterate(lrs, distance=1.0, gradient=1.0).best_value * 60**0.5, 2)
    2.05
    """
    eta, energy = _inputs(lrs, distance, gradient)
    left = np.cumsum(eta[::-1])[::-1]  # S_T - S_{k-1}
    gradients = energy[-1] / eta[-1] + np.sum(energy[:-1] / left[1:])
    return Bound(distance_term=float(distance**2 / (2 * left[0])), gradient_term=float(gradients / 2))


def last_iterate_curve(lrs: ArrayLike, *, distance: float, gradient: ArrayLike, tolerance: float = 5e-6) -> BoundCurve:
    """:func:`last_iterate` for every horizon t = 1 ... T at once, in O(T M).

    Args:
        lrs: eta, shape (T,), >= 0.
        distance: D > 0.
        gradient: G > 0, one number or shape (T,).
        tolerance: Wanted relative error of the sums; the measured one is in the result. All terms are positive, so the
            bound's own relative error is smaller still.

    Returns:
        Bound of every horizon; infinite for horizons before the first positive learning rate.

    Raises:
        InputError: if a number is negative or not finite, or no learning rate is positive.
    """
    eta = _series(lrs)
    moves = eta > 0
    rate, energy = _inputs(lrs, distance, gradient, precision=np.float64)
    past, error = np.zeros(len(rate)), 0.0
    if len(rate) > 1:
        gaps = rate[1:]
        kernel = volterra.power_kernel(1.0, low=float(gaps.min()), high=float(gaps.sum()), tolerance=tolerance)
        past, error = volterra.response(gaps, energy[:-1], kernel), kernel.error
    value = distance**2 / (2 * np.cumsum(rate)) + 0.5 * (energy / rate + past)
    if not moves.all():  # a step of zero changes nothing
        value = np.concatenate([[np.inf], value])[np.cumsum(moves)]
    return BoundCurve(value=value, error=error)


def restarted(lrs: ArrayLike, *, tau: int, distance: float, gradient: ArrayLike) -> Bound:
    """Two-phase bound: the last-iterate bound of the run from ``tau`` on. Always valid, nothing subtracted.

        |W_tau - W*|^2/(2 (S_T - S_tau)) + 1/2 [eta_T G_T^2 + sum_{tau<k<T} eta_k^2 G_k^2/(S_T - S_k)]

    What phase one did enters through where it ended, so L(w*) is not needed.

    Args:
        lrs: Learning rates of the whole run, shape (T,).
        tau: Updates before the expansion, in [0, T).
        distance: |W_tau - W*| = sqrt(|w_tau - w*|^2 + |x_tau - x*|^2).
        gradient: G, one number or shape (T,).

    Raises:
        InputError: if a number is negative or not finite, or ``tau`` lies outside the run.
    """
    eta = _series(lrs)
    checks.whole("tau", tau, 0, len(eta) - 1, fix="expand within the run")
    norms = np.asarray(gradient, dtype=float)
    return last_iterate(eta[tau:], distance=distance, gradient=norms if norms.ndim == 0 else norms[tau:])


def meeting_area(total: float, rho: float) -> float:
    """S_tau = (1 - rho) S_T, at which the distance terms of the restarted and of the fixed-depth bound are equal.

    Growing at a smaller area gives the smaller bound, since the restarted one has fewer gradient terms too.

    Args:
        total: S_T > 0.
        rho: |W_tau - W*|^2/|W_0 - W*|^2 in [0, 1]; beyond 1 they never meet.

    Raises:
        InputError: if ``total`` is not positive, or ``rho`` lies outside [0, 1].
    """
    checks.positive("total", total, fix="give such a number")
    if not 0 <= rho <= 1:
        raise InputError("rho", rho, "must lie in [0, 1]", "above 1 the restarted bound is never the better one")
    return (1 - rho) * total


def meeting_step(lrs: ArrayLike, *, rho: float, distance: float, gradient: ArrayLike) -> int:
    """Largest tau up to which the restarted bound with |W_tau - W*|^2 = rho D^2 is at most the fixed-depth bound.

    At least the step at which S_tau = :func:`meeting_area`: the gradient terms that a restart leaves behind are a gain.

    Args:
        lrs: eta, shape (T,), >= 0.
        rho: |W_tau - W*|^2/|W_0 - W*|^2 in [0, 1].
        distance: D = |W_0 - W*| > 0.
        gradient: G > 0, one number or shape (T,).

    Raises:
        InputError: if rho > 1, where there may be none; if a number is negative or not finite.
    """
    eta = _series(lrs)
    whole = last_iterate(lrs, distance=distance, gradient=gradient).value
    meeting_area(float(eta.sum()), rho)

    def worse(tau: int) -> bool:
        return restarted(lrs, tau=tau, distance=math.sqrt(rho) * distance, gradient=gradient).value > whole

    last = int(np.flatnonzero(eta > 0)[-1])  # a restart needs a learning rate
    if rho == 0:
        return last
    low, high = 0, last + 1  # the distance term grows with tau faster than gradient terms are lost: bisect
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if worse(middle) else (middle, high)
    return low


def _inputs(
    lrs: ArrayLike, distance: float, gradient: ArrayLike, *, precision: type = np.longdouble
) -> tuple[np.ndarray, np.ndarray]:
    """Positive learning rates and eta^2 G^2 at them."""
    eta = _series(lrs)
    checks.positive("distance", distance, fix="give such a number")
    norms = np.asarray(gradient, dtype=float)
    if norms.shape not in ((), eta.shape) or not 0 < norms.min() <= norms.max() < math.inf:
        rule = f"must be positive and finite, one number or {len(eta)}"
        raise InputError("gradient", norms.tolist() if norms.ndim == 0 else norms.shape, rule, "give gradient norms")
    moves = eta > 0
    if not moves.any():
        raise InputError("lrs", 0.0, "is zero at every step", "give a learning rate")
    norms = np.broadcast_to(norms, eta.shape)
    if not moves.all():
        eta, norms = eta[moves], norms[moves]
    eta = eta.astype(precision)
    return eta, (eta * norms) ** 2


def _series(lrs: ArrayLike) -> np.ndarray:
    eta = np.asarray(lrs, dtype=float)
    if eta.ndim != 1 or eta.size == 0:
        raise InputError("lrs", eta.shape, "must be a series of learning rates", "give schedule.lrs()")
    if not 0 <= eta.min() <= eta.max() < math.inf:  # false for NaN too
        bad = eta[~(np.isfinite(eta) & (eta >= 0))][0].item()
        raise InputError("lrs", bad, "must be finite and >= 0", "correct the schedule")
    return eta
