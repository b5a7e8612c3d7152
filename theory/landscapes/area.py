r"""The area law: the loss of a run that grows depends on learning-rate area alone.

Notation
    t, tau    updates done, expansion step              S_t    learning-rate area after t updates
    u         S_t - S_tau, area since the expansion     x      remaining share of the mass, u/S_T
    A(S)      signal in modes that the small model has too (``trunk``)
    B(u)      signal in modes that only the full depth has (``fresh``); its clock starts at the expansion
    kappa     distance of the new layers from their optimum at tau over that of fresh ones, squared, in the loss metric

        small depth      L_l(t) = L0 + G + A(S_t)                 + N_t
        full depth       L_L(t) = L0     + A(S_t) + B(S_t)        + N_t
        grown at tau     P(t)   = L0     + A(S_t) + kappa B(u)    + N_t      t > tau

    signal   A(S) = a ((S + S0)/S_ref)^-s;   exponent s = 0 means the logarithm -a ln((S + S0)/S_ref)
    noise    N_t = b sum_{k<t} eta_k int_{S_k}^{S_{k+1}} C (1 + C (S_t - v))^-2 dv,
             which is b eta at constant learning rate and follows a decay with the memory 1/C.

Then the price of growing at tau is *exactly* the area law

        Delta(tau) = P(T) - L_L(T) = kappa B(S_T - S_tau) - B(S_T):

tau and the schedule enter through the learning-rate area that is left. Two modes per unit of depth are enough to see
it: on gradient flow over a quadratic whose Hessian does not couple the two groups, each eigenmode lambda decays as
exp(-2 lambda S), so trunk and fresh modes are functions of their own area (``theory/derivations/area.py``).

Regime: gradient-flow-like optimisers at stable learning rates. Under Muon and other normalised steps the law is off
by 10-35 % of the excess on deep linear nets; see ``sim``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import numpy as np
from msgspec import Meta

from latebloom.theory import checks
from latebloom.theory.errors import InputError
from latebloom.theory.landscapes.growth import GrowthLandscape
from latebloom.theory.spec import NonNegative, Positive, Spec

if TYPE_CHECKING:
    from numpy.typing import ArrayLike

    from latebloom.theory.schedules import AnySchedule, Schedule

__all__ = ["AreaLaw", "Signal", "noise_response", "noise_segments"]

SEGMENTS = 20_000  # pieces of a schedule in the noise response


class Signal(Spec, frozen=True, kw_only=True):
    """Loss in a group of modes as a function of learning-rate area: a ((S + S0)/S_ref)^-s, in nats.

    Args:
        amplitude: a, the value at S + S0 = S_ref for s > 0; the slope in ln S for s = 0. Nats.
        exponent: s; 0 stands for the logarithmic limit -a ln((S + S0)/S_ref).
        onset: S0, area before the power law sets in (keeps the value at S = 0 finite).
        reference: S_ref, a unit of area.
    """

    amplitude: NonNegative
    exponent: Annotated[float, Meta(ge=0, le=10)]
    onset: Positive
    reference: Positive

    def __call__(self, area: ArrayLike) -> np.ndarray:
        """Value at learning-rate area ``area`` >= 0, any shape. Nats."""
        ratio = (checks.non_negative("area", area) + self.onset) / self.reference
        return self.amplitude * (ratio**-self.exponent if self.exponent else -np.log(ratio))

    def inverse(self, value: float) -> float:
        """Area at which the signal has come down to ``value``; infinite if it never does, 0 if it starts below.

        Raises:
            InputError: if ``value`` is not finite.
        """
        value = float(checks.finite("value", value))
        if self.amplitude == 0:
            return 0.0 if value >= 0 else np.inf
        ratio = value / self.amplitude
        if self.exponent:
            if ratio <= 0:
                return np.inf
            with np.errstate(over="ignore"):
                shifted = np.power(ratio, -1.0 / self.exponent)
        else:
            shifted = np.exp(-ratio)
        return float(max(0.0, shifted * self.reference - self.onset))


class AreaLaw(GrowthLandscape, frozen=True, kw_only=True, tag="area"):
    """Loss of small, full and grown runs as a function of learning-rate area.

    Attributes:
        small_depth: l.
        full_depth: L.
        floor: L0, loss of the full depth after infinite area without noise. Nats.
        small_gap: G, what the small model can never learn. Nats.
        trunk: A, signal of modes that the small model has too.
        fresh: B, signal of modes that only the full depth has.
        kappa: Distance of grown layers over that of fresh ones; with a logarithmic ``fresh`` it must be 1.
        noise: b, loss per unit of learning rate.
        noise_rate: C, per unit of area.
    """

    floor: float
    small_gap: NonNegative
    trunk: Signal
    fresh: Signal
    kappa: NonNegative = 1.0
    noise: NonNegative = 0.0
    noise_rate: Positive = 1.0

    def check(self) -> None:
        super().check()
        if self.fresh.exponent == 0 and self.kappa != 1:
            rule = "has no meaning for a logarithmic signal, which has no floor to measure distance from"
            raise InputError("kappa", self.kappa, rule, "use kappa = 1 or an exponent > 0")

    def fixed(self, schedule: Schedule, step: ArrayLike, *, depth: int) -> np.ndarray:
        """Loss after ``step`` updates of a run that keeps ``depth``, one of the two. Nats."""
        self.check_depth(depth)
        area = schedule.area(step)
        body = self.fresh(area) if depth == self.full_depth else self.small_gap
        return self.floor + self.trunk(area) + body + self._noise(schedule, step)

    def grown(self, schedule: Schedule, step: ArrayLike, *, tau: float) -> np.ndarray:
        """Loss after ``step`` updates of a run that grows after ``tau`` updates. Nats.

        At ``step`` = tau it is the small model's loss, the last value before the expansion.
        """
        step = np.asarray(step, dtype=float)
        area = schedule.area(step)
        since = np.maximum(area - schedule.area(tau), 0.0)
        body = np.where(step > tau, self.kappa * self.fresh(since), self.small_gap)
        return self.floor + self.trunk(area) + body + self._noise(schedule, step)

    def _noise(self, schedule: Schedule, step: ArrayLike) -> np.ndarray | float:
        """The noise floor's part; asked thousands of times by a search, often of a law without noise."""
        return self.noise * noise_response(schedule, step, self.noise_rate) if self.noise else 0.0

    def excess(self, remaining: ArrayLike, total: float) -> np.ndarray:
        """Price of growing Delta = kappa B(u) - B(S_T), in nats.

        Args:
            remaining: u = S_T - S_tau, learning-rate area left at the expansion, any shape.
            total: S_T.

        Returns:
            Nats, in the shape of ``remaining``.

        Raises:
            InputError: if an area is negative or not finite.
        """
        return self.kappa * self.fresh(remaining) - self.fresh(total)

    def mixing_area(self, tolerance: float, total: float) -> float:
        """u_mix: least area to leave so that growing costs at most ``tolerance`` nats; inf if no area does.

        Solves kappa B(u) = B(S_T) + tolerance.

        Args:
            tolerance: Accepted price at the end, nats; negative where growing must win by so much.
            total: S_T, learning-rate area of the whole run.

        Returns:
            Learning rate x steps.

        Raises:
            InputError: if an argument is not finite, or ``total`` not positive.
        """
        tolerance, total = float(checks.finite("tolerance", tolerance)), float(checks.positive("total", total))
        if self.kappa == 0:
            return 0.0
        return self.fresh.inverse((float(self.fresh(total)) + tolerance) / self.kappa)

    def area_to_leave(self, schedule: AnySchedule, tolerance: float, *, total: float | None = None) -> float:
        """:meth:`mixing_area` of the schedule's area, or of ``total``; see :class:`GrowthLandscape`."""
        return self.mixing_area(tolerance, schedule.total_area if total is None else total)

    def tau_star(self, schedule: AnySchedule, tolerance: float) -> float | None:
        """S^-1(S(T) - u_mix), exact for any schedule; see :class:`GrowthLandscape`."""
        total = schedule.total_area
        area = self.mixing_area(tolerance, total)
        if area >= total:
            return None
        return float(schedule.area_inverse(total - area)) if area else float(schedule.horizon)

    @property
    def parameters(self) -> dict[str, float]:
        """The law's numbers by name."""
        return {
            "floor": self.floor,
            "small_gap": self.small_gap,
            "trunk_amplitude": self.trunk.amplitude,
            "trunk_exponent": self.trunk.exponent,
            "fresh_amplitude": self.fresh.amplitude,
            "fresh_exponent": self.fresh.exponent,
            "onset": self.trunk.onset,
            "reference": self.trunk.reference,
            "kappa": self.kappa,
            "noise": self.noise,
            "noise_rate": self.noise_rate,
        }


def noise_response(schedule: Schedule, step: ArrayLike, rate: float) -> np.ndarray:
    r"""Response of the noise floor to the schedule, in units of learning rate.

        sum_{k<t} eta_k [1/(1 + C (S_t - S_{k+1})) - 1/(1 + C (S_t - S_k))]

    At a constant rate the sum telescopes to eta (1 - 1/(1 + C S_t)).

    Args:
        schedule: Learning rates eta_k.
        step: t, whole numbers of updates, any shape; exact up to a horizon of SEGMENTS steps, then in as many pieces.
        rate: C, inverse memory in area, > 0.

    Returns:
        In the shape of ``step``.

    Raises:
        InputError: if ``rate`` is not positive, or a step lies outside the schedule.
    """
    rate = float(checks.positive("rate", rate))
    area = np.asarray(schedule.area(step))
    edges, lr = noise_segments(schedule, SEGMENTS)
    lags = (np.maximum(now - edges, 0.0) for now in area.ravel())  # what is not yet done has no lag, and cancels
    return np.array([np.diff(1.0 / (1.0 + rate * lag)) @ lr for lag in lags]).reshape(area.shape)


def noise_segments(schedule: Schedule, count: int) -> tuple[np.ndarray, np.ndarray]:
    """The schedule as at most ``count`` segments: (areas at their edges, mean learning rate of each).

    With one segment a step the noise response is exact; with fewer it is as exact as the learning rate is constant
    within a segment, since the kernel is integrated, not sampled.

    Args:
        schedule: Learning rates.
        count: Most segments that there may be.
    """
    checks.whole("count", count, 1)
    t = np.unique(np.linspace(0, schedule.horizon, min(count, schedule.horizon) + 1).round().astype(int))
    edges = schedule.area(t)
    return edges, np.diff(edges) / np.diff(t)
