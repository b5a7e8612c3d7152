"""Fitting the law of normalised steps to pilot runs.

Hit areas stand on a grid and their weights are projected out by non-negative least squares on relative residuals, with
noise and floor; delay and memory are searched by Nelder-Mead, since the delay cuts off and has no useful gradient.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import scipy

from latebloom.theory import checks
from latebloom.theory.errors import InputError
from latebloom.theory.fitting.curves import LossCurve, pilots
from latebloom.theory.fitting.engine import nonnegative
from latebloom.theory.fitting.landscape_fit import LandscapeFit, curve_of
from latebloom.theory.landscapes.normalised import (
    HitTimes,
    NormalisedLaw,
    delayed_area,
    floor_response,
    mode_shapes,
)
from latebloom.theory.record import Record

__all__ = ["NormalisedFit", "fit_normalised", "fit_normalised_pilots"]

HIT_AREAS = 60  # grid of h_j, logarithmic from 1/30 to 3 times the pilots' area: finer changes predictions by < .2 %
LAGS = (0.01, 0.06)  # where the search starts: lambda x largest learning rate,
MEMORIES = (5.0, 50.0)  # and C x largest area


@dataclass(frozen=True, kw_only=True)
class NormalisedFit(LandscapeFit):
    """A fitted :class:`NormalisedLaw`; see :class:`LandscapeFit`.

    Attributes:
        law: The fitted landscape.
    """

    law: NormalisedLaw

    def refit(self, runs: Sequence[LossCurve], losses: Sequence[np.ndarray], *, seed: int) -> NormalisedLaw:
        """The law fitted to other ``losses`` of ``runs``; its search draws no random numbers."""
        return _fit_roles(
            [replace(run, loss=loss) for run, loss in zip(runs, losses, strict=True)],
            self.law.small_depth,
            self.law.full_depth,
        )

    def can_do_without(self, others: Sequence[LossCurve], run: LossCurve) -> bool:
        """Whether ``others`` fill its role, and the full depth keeps two learning rates."""
        rates = {other.schedule.peak for other in others if other.role == "full"}
        return super().can_do_without(others, run) and len(rates) > 1


def fit_normalised_pilots(records: Sequence[Record], *, split: str = "val", seed: int = 0) -> NormalisedFit:
    """Fit the law of normalised steps to pilot records.

    Args:
        records: Full-depth runs at two or more peak learning rates; for l >= 1 a run that grows, too.
        split: Which loss.
        seed: Taken for the registry's sake: the search is deterministic.

    Returns:
        The fit.

    Raises:
        InputError: if roles or a second learning rate are missing.
    """
    measured = pilots(records, split=split)
    law = _fit_roles(measured.runs, measured.small_depth, measured.full_depth)
    lines = []
    if law.noise == 0:
        lines.append("noise is 0: these pilots show no floor of the learning rate. A pilot that decays it late would.")
    if not law.regrown.areas:
        lines.append("regrown is 0: the grown pilots show nothing that is learnt after the expansion.")
    return NormalisedFit(
        law=law,
        runs=measured.runs,
        predicted=tuple(curve_of(law, run) for run in measured.runs),
        identifiability=tuple(lines),
        digests=measured.digests,
    )


def _fit_roles(runs: Sequence[LossCurve], small_depth: int, full_depth: int) -> NormalisedLaw:
    """The law from runs with roles; what a run shows before it grows counts for the small depth."""
    of_role = {role: [run for run in runs if run.role == role] for role in ("small", "full", "grown")}
    before = [
        replace(run, step=run.step[run.step <= run.tau], loss=run.loss[run.step <= run.tau], role="small", tau=None)
        for run in of_role["grown"]
        if run.tau is not None and np.any(run.step <= run.tau)
    ]
    return fit_normalised(
        of_role["full"],
        small_depth=small_depth,
        full_depth=full_depth,
        small=[*of_role["small"], *before] if small_depth > 0 else (),
        grown=of_role["grown"] if small_depth > 0 else (),
    )


def fit_normalised(
    full: Sequence[LossCurve],
    *,
    small_depth: int,
    full_depth: int,
    small: Sequence[LossCurve] = (),
    grown: Sequence[LossCurve] = (),
    noisy: bool = True,
    floor: float | None = None,
) -> NormalisedLaw:
    """Fit the law to fixed-depth pilots (and, for l >= 1, to one grown pilot), relative errors least squares.

    Areas beyond those of the pilots are extrapolated: let one pilot be as long as what is to be predicted.

    Args:
        full: Fixed full-depth runs at two or more learning rates; one that decays tells the memory of the floor.
        small_depth: l.
        full_depth: L.
        small: Fixed small-depth runs.
        grown: Runs grown from a trained trunk, each with its tau; from l = 0 none is needed.
        noisy: Fit the floor b, C; without it b = 0.
        floor: L0, if it is known; fitted otherwise.

    Returns:
        The law.

    Raises:
        InputError: if one learning rate only is given (delay and signal cannot be told apart), or if l >= 1 comes
            without a grown pilot.
    """
    if floor is not None:
        checks.non_negative("floor", floor, fix="give a loss, or None to fit it")
    if len({p.schedule.peak for p in full}) < 2:
        raise InputError("full", len(full), "are pilots of fewer than two learning rates", "run one at half the rate")
    if small_depth > 0 and not (grown and small):
        rule = "is a trunk that knows something: its signal is another"
        raise InputError("small_depth", small_depth, rule, "give a small and a grown pilot")
    total = max(p.schedule.total_area for p in full)
    rate = max(p.schedule.peak for p in full)

    def projected(logs: np.ndarray) -> _Projected:
        memory = np.exp(logs[1]) / total if noisy else None
        return _project(full, total, lag=np.exp(logs[0]) / rate, memory=memory, floor=floor)

    searches = [
        scipy.optimize.minimize(
            lambda logs: projected(logs).misfit,
            np.log([lag, memory]),
            method="Nelder-Mead",
            options={"xatol": 0.02, "fatol": 1e-9, "maxfev": 120},
        )
        for lag, memory in itertools.product(LAGS, MEMORIES if noisy else (1.0,))
    ]
    best = min(searches, key=lambda search: search.fun)
    lag, noise_rate = float(np.exp(best.x[0]) / rate), float(np.exp(best.x[1]) / total)
    memory = noise_rate if noisy else None
    fixed = projected(best.x)
    fresh = _signal(fixed.weights, total)
    regrown, trunk, gap = fresh, HitTimes(), float(fresh(0.0))
    if grown:
        after = _project(grown, total, lag=lag, memory=memory, noise=fixed.noise, floor=fixed.floor)
        regrown = _signal(after.weights, total)
    if small:
        shallow = _project(small, total, lag=lag, memory=memory, noise=fixed.noise)
        trunk, gap = _signal(shallow.weights, total), max(shallow.floor - fixed.floor, 0.0)
    return NormalisedLaw(
        small_depth=small_depth,
        full_depth=full_depth,
        floor=fixed.floor,
        small_gap=gap,
        trunk=trunk,
        fresh=fresh,
        regrown=regrown,
        lag=lag,
        noise=fixed.noise,
        noise_rate=noise_rate,
    )


@dataclass(frozen=True, kw_only=True)
class _Projected:
    """Weights of the hit areas, noise and floor, all >= 0, and the relative misfit that they leave."""

    weights: np.ndarray
    noise: float
    floor: float
    misfit: float


def _project(
    runs: Sequence[LossCurve],
    total: float,
    *,
    lag: float,
    memory: float | None,
    noise: float | None = None,
    floor: float | None = None,
) -> _Projected:
    """Least squares of relative residuals at one delay and memory; ``noise`` and ``floor`` are fitted where not given.

    Without a ``memory`` there is no noise.
    """
    blocks, targets = [], []
    for run in runs:
        start = run.tau or 0
        after = np.asarray(run.step) > start
        step, loss = np.asarray(run.step)[after], np.asarray(run.loss, dtype=float)[after]
        columns = [mode_shapes(delayed_area(run.schedule, step, lag=lag, start=start), _grid(total))]
        response = floor_response(run.schedule, step, memory) if memory is not None else np.zeros(len(step))
        if memory is not None and noise is None:
            columns.append(response[:, None])
        if floor is None:
            columns.append(np.ones((len(step), 1)))
        blocks.append(np.concatenate(columns, axis=1) / loss[:, None])
        targets.append(1.0 - ((noise or 0.0) * response + (floor or 0.0)) / loss)
    design, target = np.concatenate(blocks), np.concatenate(targets)
    coefficients, left = nonnegative(design, target, np.ones(len(target)))
    rest = iter(coefficients[HIT_AREAS:].tolist())
    return _Projected(
        weights=coefficients[:HIT_AREAS],
        noise=0.0 if memory is None else next(rest) if noise is None else noise,
        floor=next(rest) if floor is None else floor,
        misfit=left / len(target) ** 0.5,
    )


def _grid(total: float) -> np.ndarray:
    """Hit areas whose weights are fitted to runs of area ``total``."""
    return np.geomspace(total / 30, 3 * total, HIT_AREAS)


def _signal(weights: np.ndarray, total: float) -> HitTimes:
    used = np.flatnonzero(weights > 0)
    return HitTimes(weights=tuple(weights[used].tolist()), areas=tuple(_grid(total)[used].tolist()))
