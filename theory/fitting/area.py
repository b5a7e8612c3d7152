r"""Fitting the area law to pilot runs.

The law is linear in floor, gap, amplitudes, kappa x amplitude and noise; only four numbers are not (two exponents, the
onset and the noise rate), so the fit projects the linear ones out (:mod:`latebloom.theory.fitting.engine`) and searches
the four from many starts. Residuals are relative, Huber-weighted, and every run counts the same however often it was
evaluated.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import scipy

from latebloom.theory.errors import InputError
from latebloom.theory.fitting.bootstrap import interval
from latebloom.theory.fitting.curves import LossCurve, pilots
from latebloom.theory.fitting.engine import huber_weight, least_cost, nonnegative, sobol
from latebloom.theory.fitting.landscape_fit import LandscapeFit, curve_of
from latebloom.theory.landscapes.area import AreaLaw, Signal, noise_segments
from latebloom.theory.landscapes.growth import GrowthLandscape
from latebloom.theory.record import Record

__all__ = ["AreaFit", "fit_area_law"]

THRESHOLD = 0.005  # relative residual beyond which a point counts linearly
EXPONENT = (0.05, 1.5)
ONSET = (1e-3, 0.3)  # in units of the largest pilot's area
RATE = (1.0, 300.0)  # per largest pilot's area
FEWEST_POINTS = 16
SEEN = 0.3  # share of the largest area from which on the full depth's pilots narrow the expansion step
NOISE_SEGMENTS = 1000  # per run, for the noise response


class Coefficients(NamedTuple):
    """What is linear in the area law, in the order of the design's columns.

    Attributes:
        floor: L0.
        gap: G.
        trunk: Amplitude of A.
        fresh: Amplitude of B.
        grown: kappa x amplitude of B.
        noise: b.
    """

    floor: float
    gap: float
    trunk: float
    fresh: float
    grown: float
    noise: float


@dataclass(frozen=True, kw_only=True)
class Solution:
    """Optimum of the projected problem.

    Attributes:
        nonlinear: Logarithms of trunk exponent, fresh exponent, onset and noise rate.
        linear: The coefficients, >= 0.
        cost: Robust cost.
    """

    nonlinear: np.ndarray
    linear: Coefficients
    cost: float


@dataclass(frozen=True, kw_only=True)
class AreaFit(LandscapeFit):
    """A fitted :class:`AreaLaw` and what it was fitted to; see :class:`LandscapeFit`.

    Attributes:
        law: The fitted landscape.
        solution: The optimiser's answer.
    """

    law: AreaLaw
    solution: Solution

    def refit(self, runs: Sequence[LossCurve], losses: Sequence[np.ndarray], *, seed: int) -> AreaLaw:
        """The law fitted to other ``losses`` of ``runs``, from this fit's optimum."""
        reference = self.law.trunk.reference
        solution = _solve(runs, reference, losses, seed=seed, starts=0, start=self.solution.nonlinear)
        return _law(solution, reference, self.law.small_depth, self.law.full_depth)

    def _confounded(self, replicas: Sequence[GrowthLandscape], level: float) -> str:
        laws = [law for law in replicas if isinstance(law, AreaLaw)]
        floor = interval([law.floor for law in laws], level=level)
        exponent = interval([law.trunk.exponent for law in laws], level=level)
        return (
            f"floor and trunk exponent are not told apart ({level:.0%} intervals {floor.low:.3g} to {floor.high:.3g} "
            f"nats, {exponent.low:.2g} to {exponent.high:.2g})"
        )


def fit_area_law(records: Sequence[Record], *, split: str = "val", seed: int = 0, starts: int = 16) -> AreaFit:
    """Fit the area law to pilot records.

    Args:
        records: At least one run of the small depth, alone or before an expansion, and one of the full depth.
        split: Which loss.
        seed: Of the Sobol multistart.
        starts: Of the Sobol multistart; a power of 2.

    Returns:
        The fit.

    Raises:
        InputError: if roles are missing, or there are fewer points than parameters.
    """
    measured = pilots(records, split=split)
    runs = measured.runs
    measured.check_points(FEWEST_POINTS, parameters=10)
    reference = measured.largest_area
    solution = _solve(runs, reference, [run.loss for run in runs], seed=seed, starts=starts)
    law = _law(solution, reference, measured.small_depth, measured.full_depth)
    return AreaFit(
        law=law,
        runs=runs,
        predicted=tuple(curve_of(law, run) for run in runs),
        solution=solution,
        identifiability=_identifiability(runs, law, reference),
        digests=measured.digests,
    )


class _Points:
    """What the design needs of a run, computed once: areas in units of the reference, and the noise kernel's lags."""

    def __init__(self, run: LossCurve, reference: float):
        schedule = run.schedule
        area = schedule.area(run.step)
        self.grown = run.role == "grown"
        self.small = run.step <= run.tau if run.tau is not None else np.full(len(area), run.role == "small")
        start = float(schedule.area(run.tau)) if run.tau is not None else 0.0
        self.area = area / reference
        self.since = np.maximum(area - start, 0.0) / reference
        edges, self.lr = noise_segments(schedule, NOISE_SEGMENTS)
        self.lag = np.maximum(area[:, None] - edges, 0.0) / reference  # a lag of 0 and what follows cancel in diff

    def columns(self, nonlinear: np.ndarray) -> np.ndarray:
        """What each of :class:`Coefficients` multiplies, shape (points, 6)."""
        trunk_exponent, fresh_exponent, onset, rate = np.exp(nonlinear)
        fresh = np.where(self.small, 0.0, (self.since + onset) ** -fresh_exponent)
        zero = np.zeros(len(fresh))
        columns = {
            "floor": np.ones(len(fresh)),
            "gap": self.small.astype(float),
            "trunk": (self.area + onset) ** -trunk_exponent,
            "fresh": zero if self.grown else fresh,
            "grown": fresh if self.grown else zero,
            "noise": np.diff(1.0 / (1.0 + rate * self.lag), axis=1) @ self.lr,
        }
        return np.column_stack([columns[name] for name in Coefficients._fields])


def _solve(
    runs: Sequence[LossCurve],
    reference: float,
    losses: Sequence[np.ndarray],
    *,
    seed: int,
    starts: int,
    start: np.ndarray | None = None,
) -> Solution:
    """Least squares over the nonlinear numbers, the linear ones projected out, from Sobol points and ``start``."""
    y = np.concatenate(losses)
    weight = np.concatenate([np.full(len(loss), 1 / np.sqrt(len(loss))) for loss in losses])
    points = [_Points(run, reference) for run in runs]
    seen = list(Coefficients._fields)
    if not any(run.role == "grown" for run in runs):  # no pilot grows: kappa x amplitude is taken as the amplitude
        seen.remove("grown")
    fitted = [Coefficients._fields.index(name) for name in seen]

    def project(nonlinear: np.ndarray) -> tuple[Coefficients, np.ndarray]:
        """Coefficients >= 0 and relative residuals; re-weighted once for Huber's loss."""
        design = np.concatenate([p.columns(nonlinear) for p in points])
        if len(fitted) < design.shape[1]:  # a copy of all columns, laid out anew, would change the last digits
            design = design[:, fitted]
        linear, _ = nonnegative(design, y, weight / y)
        robust = huber_weight((design @ linear - y) / y, THRESHOLD)
        linear, _ = nonnegative(design, y, weight / y * robust)
        named = dict(zip(seen, linear, strict=True))
        return Coefficients(**{"grown": named["fresh"]} | named), (design @ linear - y) / y

    low, high = np.log([EXPONENT, EXPONENT, ONSET, RATE]).T
    best = least_cost(
        lambda first: scipy.optimize.least_squares(
            lambda nonlinear: weight * project(nonlinear)[1] / THRESHOLD,
            np.clip(first, low, high),
            bounds=(low, high),
            loss="huber",
            max_nfev=40,
            xtol=1e-6,
            ftol=1e-8,
        ),
        [*(low + sobol(4, starts, seed=seed) * (high - low)), *([] if start is None else [start])],
    )
    if best is None:
        raise InputError("loss", None, "gives no finite cost from any start", "check the pilots' losses")
    return Solution(nonlinear=best.x, linear=project(best.x)[0], cost=float(best.cost))


def _law(solution: Solution, reference: float, small_depth: int, full_depth: int) -> AreaLaw:
    trunk_exponent, fresh_exponent, onset, rate = np.exp(solution.nonlinear)
    linear = solution.linear
    unit = {"onset": onset * reference, "reference": reference}
    return AreaLaw(
        small_depth=small_depth,
        full_depth=full_depth,
        floor=linear.floor,
        small_gap=linear.gap,
        trunk=Signal(amplitude=linear.trunk, exponent=trunk_exponent, **unit),
        fresh=Signal(amplitude=linear.fresh, exponent=fresh_exponent, **unit),
        kappa=linear.grown / linear.fresh if linear.fresh > 0 else 1.0,
        noise=linear.noise,
        noise_rate=rate / reference,
    )


def _identifiability(runs: Sequence[LossCurve], law: AreaLaw, reference: float) -> tuple[str, ...]:
    """What these pilots cannot tell, and which pilot could."""
    lines = []
    if not any(run.role == "grown" for run in runs):
        lines.append("kappa is taken as 1: no pilot grows. A pilot that grows at half its steps would measure it.")
    if law.fresh.amplitude == 0:
        lines.append(
            "fresh amplitude is 0: these pilots show no modes that only the full depth learns. Pilots of more steps "
            "would."
        )
    steps = max(run.schedule.horizon for run in runs)
    for name, signal in {"trunk": law.trunk, "fresh": law.fresh}.items():
        if signal.amplitude > 0 and not EXPONENT[0] * 1.02 < signal.exponent < EXPONENT[1] * 0.98:
            end = "small: a logarithm as far as these pilots see" if signal.exponent < 0.5 else "large"
            lines.append(
                f"{name} exponent ends at its bound {signal.exponent:.3g} ({end}). "
                f"A pilot of more than {steps} steps would fix it."
            )
    areas = [run.schedule.total_area for run in runs if run.role == "full"]
    longest = max(run.schedule.horizon for run in runs if run.role == "full")
    if law.noise > 0 and not any(run.schedule.lrs()[-1] < 0.5 * run.schedule.peak for run in runs):
        lines.append("noise is not seen apart from the floor: no pilot decays its learning rate. One that does would.")
    if max(areas) < SEEN * reference:
        lines.append(
            f"the full depth is seen for {max(areas) / reference:.0%} of the largest area. One of "
            f"{math.ceil(longest * SEEN * reference / max(areas))} steps would say more of the step to grow."
        )
    return tuple(lines)
