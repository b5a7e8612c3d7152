r"""The law of normalised steps (Muon, NSGD): constant speed until each mode is hit, a delay by momentum, a floor.

Notation
    S_t, u      learning-rate area after t updates; area since the clock began (at 0, or at the expansion tau)
    p_k, q      learnt part of mode sigma_k; size of each of the factors p = s m q^2 that m blocks share
    h           hit area: where a mode is learnt and stops
    etabar      learning rate averaged over the area since the clock began, weight 2 (S - S_tau) dS/u^2
    lambda      ``lag``, area lost per unit of area and of learning rate
    N_t         response of the floor, sum_{k<t} eta_k (e^{-C (S_t - S_{k+1})} - e^{-C (S_t - S_k)})

        loss(t) = L0 + Phi(u (1 - lambda etabar)) + b N_t,     Phi(S) = sum_j w_j (1 - min(S/h_j, 1)^2)^2

**Signal (derived).** A normalised step has length eta whatever the gradient, so w' = -D(g(w)) in the variable S with D
free of scale: the flow has no other clock than S, and after an expansion the new layers' clock starts at S_tau. A mode
moves at constant speed, |dq| = dS, p = s m (q0 + S)^2, until it is hit at (:func:`hit_area`)
h = (sigma/(s m))^(1/2) - q0 and stays: it leaves (sigma - p)^2/2 = sigma^2/2 (1 - (S/h)^2)^2 for small q0. Many modes
have many hit areas; blocks that are done turn to the next mode. The weights w_j over a grid of h_j are fitted
(non-negative least squares), the shape of each term is not.

**Delay (derived at first order but for its mean).** Momentum averages gradients over M = mu/(1 - mu) steps, an area
M eta: the direction followed is D(g(S - M eta)), out of date by M eta g'. The flow is free of scale, so what is lost is
proportional to M eta per unit of area: S is delayed to S (1 - lambda eta), lambda = c M over the way. At a varying rate
each piece is delayed by the eta at which it was laid down, and two factors lay p down at rate dp ~ S dS, hence etabar's
weight. c is fitted; valid while lambda etabar is small (5 % of loss at lambda eta = .04, momentum .95 over 1000 steps).

**Floor (derived but for b and C).** Steps of length eta cannot rest. Near a minimum under gradient noise of size v a
normalised step is on average eta g/v, linear: each mode relaxes as e^{-C S}, and since the step divides by v and not by
the mode's curvature alone, one rate C serves all; steps of size eta keep a loss b eta there, which follows a decay of
the rate with memory 1/C. (Fitted against the kernel 1/(1 + C S) of plain descent, the exponential halves the error.)

From zero layers Phi of a grown run is Phi of the fixed run. A trained trunk (l >= 1) has its r l modes already, the
grown run need not spend area on them: its signal ``regrown`` is another one, measured on one grown pilot. Between the
two, signal(u) = Phi(u) + w (Phi_regrown(u) - Phi(u)) with w the share of ``trunk`` that is learnt at tau: right at both
ends, an interpolation between them (within 1 % for gradient descent and 1 % for Muon, 11 % for NSGD at alpha = 1/2).

Regime: deep linear nets, normalised steps with momentum.
References: Jordan et al. (2024), Muon. Bernstein & Newhouse, arXiv 2409.20325 (steepest descent under norms).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import numpy as np
import scipy
from msgspec import Meta

from latebloom.theory import checks
from latebloom.theory.errors import InputError
from latebloom.theory.landscapes.area import noise_segments
from latebloom.theory.landscapes.growth import GrowthLandscape
from latebloom.theory.spec import NonNegative, Positive, Spec

if TYPE_CHECKING:
    from numpy.typing import ArrayLike

    from latebloom.theory.schedules import Schedule

__all__ = ["HitTimes", "NormalisedLaw", "delayed_area", "floor_response", "hit_area", "mode_shapes"]

NOISE_SEGMENTS = 400


class HitTimes(Spec, frozen=True, kw_only=True):
    """Signal of modes learnt at constant speed: sum_j w_j (1 - min(S/h_j, 1)^2)^2, exactly 0 once all are hit.

    Args:
        weights: w_j, loss of each mode before it is learnt. Nats.
        areas: h_j, learning-rate area at which it is learnt.
    """

    weights: Annotated[tuple[NonNegative, ...], Meta(max_length=1000)] = ()
    areas: Annotated[tuple[Positive, ...], Meta(max_length=1000)] = ()

    def check(self) -> None:
        if len(self.weights) != len(self.areas):
            raise InputError("areas", len(self.areas), f"needs one for each of {len(self.weights)} weights", "match")

    def __call__(self, area: ArrayLike) -> np.ndarray:
        """Value at learning-rate area ``area`` >= 0, any shape. Nats."""
        area = checks.non_negative("area", area)
        return mode_shapes(area, np.array(self.areas)) @ np.array(self.weights) if self.areas else np.zeros(area.shape)

    def inverse(self, value: float) -> float:
        """Area at which the signal has come down to ``value``; 0 if it starts below, infinite for ``value`` < 0.

        Raises:
            InputError: if ``value`` is not finite.
        """
        value = float(checks.finite("value", value))
        if value < 0:
            return np.inf
        if not self.areas or float(self(0.0)) <= value:
            return 0.0
        if value == 0:
            return max(h for h, w in zip(self.areas, self.weights, strict=True) if w > 0)
        return float(
            scipy.optimize.brentq(lambda s: float(self(s)) - value, 0.0, max(self.areas), xtol=1e-12 * max(self.areas))
        )


class NormalisedLaw(GrowthLandscape, frozen=True, kw_only=True, tag="normalised"):
    """Loss of small, full and grown runs under normalised steps.

    The delay depends on the rates after tau, so tau* is a root of the loss itself and of no area: the default
    :meth:`GrowthLandscape.tau_star`.

    Attributes:
        small_depth: l.
        full_depth: L.
        floor: L0, loss of the full depth after all modes are hit, without noise.
        small_gap: G, what the small model can never learn.
        trunk: Signal of the small model above L0 + G.
        fresh: Phi of a fixed full-depth run.
        regrown: Phi of the full depth grown from a trained small model, clock at the expansion.
        lag: lambda, per unit of learning rate.
        noise: b, loss per unit of learning rate.
        noise_rate: C, per unit of area.
    """

    floor: float
    small_gap: NonNegative
    fresh: HitTimes
    regrown: HitTimes
    trunk: HitTimes = HitTimes()
    lag: NonNegative = 0.0
    noise: NonNegative = 0.0
    noise_rate: Positive = 1.0

    def fixed(self, schedule: Schedule, step: ArrayLike, *, depth: int) -> np.ndarray:
        """Loss after ``step`` updates of a run that keeps ``depth``, one of the two. Nats."""
        self.check_depth(depth)
        area = delayed_area(schedule, step, lag=self.lag)
        body = self.fresh(area) if depth == self.full_depth else self.small_gap + self.trunk(area)
        return self.floor + body + self._noise(schedule, step)

    def grown(self, schedule: Schedule, step: ArrayLike, *, tau: float) -> np.ndarray:
        """Loss after ``step`` updates of a run that grows after ``tau`` updates. Nats.

        At ``step`` = tau it is the small model's loss, the last value before the expansion.
        """
        step = np.asarray(step, dtype=float)
        since = delayed_area(schedule, np.maximum(step, tau), lag=self.lag, start=tau)
        before = self.small_gap + self.trunk(delayed_area(schedule, step, lag=self.lag))
        after = self._signal(since, self.learnt(schedule, tau))
        return self.floor + np.where(step > tau, after, before) + self._noise(schedule, step)

    def excess(self, remaining: ArrayLike, total: float) -> np.ndarray:
        """Price of growing a trained trunk, Delta = Phi_regrown(u) - Phi(S_T) in nats, areas already delayed.

        Args:
            remaining: u, any shape.
            total: S_T.

        Returns:
            Nats, in the shape of ``remaining``.
        """
        return self.regrown(remaining) - self.fresh(total)

    def mixing_area(self, tolerance: float, total: float) -> float:
        """Least *delayed* area to leave a trained trunk so that growing costs at most ``tolerance`` nats.

        No step of a schedule follows from it alone, since the delay depends on the rates after it: see
        :meth:`tau_star` and :meth:`area_to_leave`.

        Args:
            tolerance: Accepted price at the end, nats; negative where growing must win by so much.
            total: S_T, delayed.

        Returns:
            Learning rate x steps; infinite if no area is enough.

        Raises:
            InputError: if an argument is not finite, or ``total`` negative.
        """
        tolerance = float(checks.finite("tolerance", tolerance))
        return self.regrown.inverse(float(self.fresh(total)) + tolerance)

    def learnt(self, schedule: Schedule, tau: float) -> float:
        """w in [0, 1], share of what the small model can learn that it has learnt after ``tau`` updates."""
        checks.non_negative("tau", tau)
        whole = float(self.trunk(0.0))
        return 1.0 - float(self.trunk(delayed_area(schedule, tau, lag=self.lag))) / whole if whole else 1.0

    def _signal(self, since: np.ndarray, learnt: float) -> np.ndarray:
        return self.fresh(since) + learnt * (self.regrown(since) - self.fresh(since))

    def _noise(self, schedule: Schedule, step: ArrayLike) -> np.ndarray | float:
        if not self.noise:
            return 0.0
        step = np.asarray(step, dtype=float)
        return self.noise * floor_response(schedule, step.ravel(), self.noise_rate).reshape(step.shape)


def hit_area(sigma: ArrayLike, *, start: float = 0.0, share: float = 1.0, factors: int = 2) -> np.ndarray:
    """Area at which a mode is learnt, h = (sigma/share)^(1/N) - q0, exact for aligned factors at constant speed.

    Args:
        sigma: Size of the mode, or what is left of it.
        start: q0, size of each factor at first.
        share: s m in p = s m q^N: residual multiplier times the number of blocks that work on the mode.
        factors: N; 2 in a low-rank block, the depth in a plain deep net.

    Raises:
        InputError: if an argument is out of range.

    >>> float(hit_area(0.25, start=0.1))
    0.4
    """
    sigma = np.asarray(sigma, dtype=float)
    in_range = np.all((sigma >= 0) & (sigma < np.inf)) and 0 < share < np.inf and 0 <= start < np.inf
    if not (in_range and 1 <= factors < np.inf):
        raise InputError("sigma", sigma.tolist(), "and share must be positive, factors at least 1", "give sizes > 0")
    return np.maximum((sigma / share) ** (1 / factors) - start, 0.0)


def delayed_area(schedule: Schedule, step: ArrayLike, *, lag: float, start: float = 0.0) -> np.ndarray:
    """u (1 - lambda etabar) after ``step`` updates with the clock started at ``start``; see the module.

    u etabar = (1/u) sum_k eta_k [(S_{k+1} - S_start)^2 - (S_k - S_start)^2], exact. A delay of all of u gives 0.

    Args:
        schedule: Learning rates eta_k.
        step: Updates done, in [0, horizon], any shape.
        lag: lambda, area lost per unit of area and of learning rate, >= 0.
        start: Update at which the clock starts.

    Returns:
        Learning rate x steps, in the shape of ``step``.

    Raises:
        InputError: if ``lag`` is negative or not finite, or a step lies outside the schedule.
    """
    lag = float(checks.non_negative("lag", lag))
    step = np.asarray(step, dtype=float)
    area = np.maximum(schedule.area(step) - schedule.area(start), 0.0)
    if not lag:
        return area
    first = int(np.floor(start))
    edges = np.maximum(schedule.area(np.arange(first, schedule.horizon + 1)) - schedule.area(start), 0.0)
    lr = schedule.lr(np.arange(first, schedule.horizon)) if first < schedule.horizon else np.zeros(0)
    laid = np.concatenate([[0.0], np.cumsum(lr * np.diff(edges**2))])
    mean = np.interp(step, np.arange(first, schedule.horizon + 1), laid) / np.where(area > 0, area, 1.0) ** 2
    return area * np.maximum(1.0 - lag * mean, 0.0)


def mode_shapes(area: np.ndarray, hit: np.ndarray) -> np.ndarray:
    """(1 - min(S/h, 1)^2)^2 of every mode at every area, shape (..., modes).

    Args:
        area: S, shape (...).
        hit: h, shape (modes,).
    """
    return (1.0 - np.minimum(area[..., None] / hit, 1.0) ** 2) ** 2


def floor_response(schedule: Schedule, step: np.ndarray, rate: float) -> np.ndarray:
    """N_t, the floor per unit of b, on at most ``NOISE_SEGMENTS`` segments of the schedule; shape (points,).

    Args:
        schedule: Learning rates.
        step: Updates done, shape (points,).
        rate: Of forgetting, per learning-rate area, > 0.
    """
    rate = float(checks.positive("rate", rate))
    edges, lr = noise_segments(schedule, NOISE_SEGMENTS)
    kernel = np.exp(-rate * np.maximum(schedule.area(step)[:, None] - edges, 0.0))
    return np.diff(kernel, axis=1) @ lr
