r"""Claims: what theory predicts for a plan, what the toy does, and whether the two agree.

Everything is predicted from fixed-depth runs of the toy alone, by the shift (area) law. With S learning-rate area,
u = S(T) - S(tau), F the fixed-depth loss, ``signal`` its noiseless part as a function of area and
noise(T) = F(T) - signal(S_T) what the schedule's end leaves of the noise:

    final loss       P(T) = signal(u) + noise(T)
    mixing area      signal(u_mix) = signal(S_T) + eps F(T),       tau* = S^-1(S_T - u_mix)
    mixing step      first t > tau with signal(S_t - S_tau) - signal(S_t) <= eps F(t) from there on
    equal compute    E(T_e) = signal(S_e) + noise(T),  S_e the area of its own schedule
    cold start       C = signal(u) + noise(T): growing retains nothing, R = C - P = 0

The law is exact for growth from zero layers without noise at a constant rate and approximate otherwise; normalised
rules (Muon, NSGD) break it, by how much the table says.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import scipy.stats

from latebloom.theory import checks
from latebloom.theory.errors import InputError
from latebloom.theory.plan import Interval
from latebloom.theory.schedules import Schedule
from latebloom.theory.timing import mixing_step, tau_star

__all__ = ["Claim", "Landscape", "claim", "claim_data", "simulated_tau_star"]

LEVEL = 0.9


@dataclass(frozen=True, kw_only=True)
class Claim:
    """One prediction against one measurement.

    Args:
        name: What is claimed.
        optimizer: Under which update rule.
        theory: Predicted value, mean over seeds; None for 'never' (no step mixes).
        simulated: Mean over the seeds whose runs stayed finite; None for 'never'.
        interval: Of that mean over seeds, Student's t; None for a single seed.
        tolerance: Largest |simulated - theory| that holds, in the claim's unit.
        unit: Of all values.
        verdict: 'holds', 'fails by x' or 'not tested: why'.
    """

    name: str
    optimizer: str
    theory: float | None
    simulated: float | None
    interval: Interval | None
    tolerance: float
    unit: str
    verdict: str

    @property
    def holds(self) -> bool:
        return self.verdict == "holds"


def claim(
    name: str,
    *,
    optimizer: str,
    theory: Sequence[float | None],
    values: Sequence[float | None],
    tolerance: float,
    unit: str,
    diverged: int = 0,
) -> Claim:
    """Judge one prediction.

    Args:
        name: What is claimed.
        optimizer: Update rule.
        theory: Predicted from the fixed-depth runs of each seed; None for 'never'.
        values: Simulated, of the same seeds; None for 'never'.
        tolerance: In ``unit``.
        unit: For people.
        diverged: Seeds left out because a run was not finite; values that are not are left out and counted too.

    It holds if the mean lies within the tolerance of the prediction. If it does not, but the interval of the paired
    differences reaches into the tolerance, the seeds scatter too much and the claim is not tested.
    """
    assert len(theory) == len(values)
    finite = [v is None or bool(np.isfinite(v)) for v in values]
    diverged += finite.count(False)
    theory, values = ([x for x, good in zip(xs, finite, strict=True) if good] for xs in (theory, values))
    never = [(t is None, v is None) for t, v in zip(theory, values, strict=True)]
    known = [v for v in values if v is not None]
    expected = [t for t in theory if t is not None]
    mean, predicted = (float(np.mean(x)) if x else None for x in (known, expected))
    if diverged:
        verdict = f"not tested: {diverged} of {diverged + len(values)} seeds diverged"
    elif not values:
        verdict = "not tested: no runs"
    elif all(t and v for t, v in never):
        verdict = "holds"
    elif all(t for t, _ in never):
        verdict = f"fails: predicted never, reached by {len(known)} of {len(values)} seeds"
    elif all(v for _, v in never):
        verdict = "fails: predicted, but reached by no seed"
    elif any(t or v for t, v in never):
        verdict = f"not tested: reached by {len(known)} of {len(values)} seeds"
    else:
        verdict = _verdict(np.subtract(known, expected), predicted, tolerance)
    return Claim(
        name=name,
        optimizer=optimizer,
        theory=predicted,
        simulated=mean,
        interval=_interval(known),
        tolerance=tolerance,
        unit=unit,
        verdict=verdict,
    )


def claim_data(claim: Claim) -> dict[str, object]:
    """A claim as JSON data.

    Args:
        claim: What was judged.
    """
    interval = claim.interval
    return {
        "name": claim.name,
        "optimizer": claim.optimizer,
        "theory": claim.theory,
        "simulated": claim.simulated,
        "interval": [interval.low, interval.high, interval.level] if interval else None,
        "tolerance": claim.tolerance,
        "unit": claim.unit,
        "holds": claim.holds,
        "verdict": claim.verdict,
    }


def _verdict(differences: np.ndarray, predicted: float | None, tolerance: float) -> str:
    error = float(np.mean(differences))
    if abs(error) <= tolerance:
        return "holds"
    interval = _interval(list(differences))
    if interval is not None and interval.low <= tolerance and interval.high >= -tolerance:
        return f"not tested: {len(differences)} seeds scatter too much"
    relative = f" ({error / predicted:+.0%})" if predicted else ""
    return f"fails by {abs(error):.3g}{relative}"


def _interval(values: list[float]) -> Interval | None:
    if len(values) < 2:
        return None
    half = float(scipy.stats.t.ppf(0.5 + LEVEL / 2, len(values) - 1) * np.std(values, ddof=1) / len(values) ** 0.5)
    mean = float(np.mean(values))
    return Interval(low=mean - half, high=mean + half, level=LEVEL)


@dataclass(frozen=True, kw_only=True)
class Landscape:
    """F of the toy: what fixed-depth runs alone say.

    Args:
        schedule: Of the fixed-depth run.
        step: Steps at which both curves were measured, increasing from 0 to the horizon.
        signal: Noiseless loss of the full depth at ``step``.
        loss: Loss with the noise of the minibatches at ``step``.
        noise: noise(T) = F(T) - signal(S_T), best averaged over seeds.
    """

    schedule: Schedule
    step: np.ndarray
    signal: np.ndarray
    loss: np.ndarray
    noise: float

    def at(self, area: float | np.ndarray) -> np.ndarray:
        """Noiseless loss after learning-rate area ``area``, between the measured points linear."""
        return np.interp(area, self.schedule.area(self.step), self.signal)

    def final_loss(self, area: float) -> float:
        """Loss after ``area`` at the end of a schedule of this shape."""
        return float(self.at(area)) + self.noise

    def mixing_area(self, eps: float) -> float:
        """u_mix: least area from which on the signal is within ``eps`` F(T) of its last value."""
        area = self.schedule.area(self.step)
        excess = self.signal - self.signal[-1] - eps * self.loss[-1]
        last = int(np.flatnonzero(excess > 0)[-1]) if (excess > 0).any() else None
        if last is None:
            return 0.0
        a, b = excess[last], excess[last + 1]
        return float(area[last] + (area[last + 1] - area[last]) * a / (a - b))

    def tau_star(self, eps: float) -> float | None:
        """Latest expansion that mixes within ``eps``; None if not even one at the first step does."""
        area = self.mixing_area(eps)
        if area <= 0:
            return float(self.schedule.horizon)
        return tau_star(self.schedule, area) if area < self.schedule.total_area else None

    def mixing_step(self, tau: int, eps: float) -> float | None:
        """Predicted first step from which on the run grown at ``tau`` stays within ``eps`` of the fixed one."""
        area = self.schedule.area(self.step)
        since = np.maximum(area - float(self.schedule.area(tau)), 0.0)
        grown = self.at(since) + self.loss - self.signal
        return mixing_step(self.step, grown, self.loss, tolerance=eps, start=tau)


def simulated_tau_star(tau: Sequence[float], excess: Sequence[float], eps: float) -> float | None:
    """Latest tau whose final relative excess is at most ``eps``, up to where it is first exceeded.

    Args:
        tau: Expansion steps tried, increasing.
        excess: P(T)/F(T) - 1 of each.
        eps: Tolerance.

    Returns:
        The crossing, linear between the taus tried; None if already the first exceeds ``eps``; the last tau if none
        does.

    Raises:
        InputError: if ``tau`` is empty or does not increase, the lengths differ, or a number is not finite.
    """
    steps, relative = checks.increasing("tau", tau), checks.series("excess", excess)
    checks.non_negative("eps", eps)
    if not len(steps) or len(steps) != len(relative):
        raise InputError("excess", len(relative), f"needs one value for each of {len(steps)} taus", "match them")
    above = np.flatnonzero(relative > eps)
    if not above.size:
        return float(steps[-1])
    i = int(above[0])
    if i == 0:
        return None
    rise = relative[i] - relative[i - 1]
    return float(steps[i - 1] + (steps[i] - steps[i - 1]) * (eps - relative[i - 1]) / rise)
