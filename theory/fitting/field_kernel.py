r"""Prior covariances of the recovery field: what two runs' losses have in common before any is known.

Notation and formulas stand in :mod:`latebloom.theory.fitting.recovery_field`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from latebloom.theory import checks
from latebloom.theory.fitting.annealed_ends import AnnealedEnd, TrunkCurve, falls

__all__ = ["FieldKernel", "FieldPrior", "FieldRuns", "Points", "depth_share", "fall_seen", "field_runs", "prior_of"]

GRADIENT_SLOPE = 0.4  # g under gradient descent
FASTER = 1.25  # ratio of two shares an e-fold next to one another up to which a fall is no faster than before
STEEPEST_BEND = 1.0  # of |k| in l: z at most as v or 1/v


@dataclass(frozen=True, kw_only=True)
class FieldPrior:
    """Hyperparameters, of the logarithm of the loss and in units of the reference area; chosen on simulations, see
    ``tests/benchmarks/planner_calibration.py``.

    Attributes:
        amplitudes: Grid of A.
        amplitude_power: Its prior falls as A to minus this.
        exponents: Grid of b/(1 + t0).
        onsets: Grid of t0; before it the loss falls faster and faster in ln t, after it by the power law.
        onset_power: Its prior falls as 1 + t0 to minus this.
        noises: Grid of the standard deviation of one run about its seed's mean.
        noise_typical: Where its prior is largest.
        noise_spread: Standard deviation of its logarithm under the prior.
        trunk_share: Share of that variance which runs of one trunk have in common.
        seed: Standard deviation of what a seed shifts all its runs by.
        vague: Standard deviation of a.
        vague_slope: Standard deviation of c, the share that the law falls an e-fold at t = 1.
        discrepancies: Grid of the standard deviation of s about its power law.
        discrepancy_power: Its prior falls as the discrepancy to minus this.
        discrepancy_range: Its range in ln t.
        curve_slope: Standard deviation of the slope in ln t of what the trunk's curve lies above s.
        curve_noise: Least standard deviation of a point of that curve.
        u0: Onset of l.
        u1: Origin of l.
        lead: r, the mean of the level: deeper is better where nothing is known.
        retained: n, what of that mean is left on a trunk however long it was trained.
        half_retained: p2, area S at which half of the rest is left.
        level: o.
        level_slope: g.
        slope: m.
        wander: w, the Brownian part's.
        p0: Onset of the memory of S.
        p1: Range of the memory of S.
        common: c, the part of z that does not depend on S.
        depth_power: v.
        depth_range: q1.
        fall: d, by how much pilots fell faster than before, see :func:`fall_seen`; None: of the ends that are fitted.
        fall_never: f1, standard deviation that it adds to the discrepancy of s, in units of d.
        fall_recovery: f2, the same for A.
        fall_lag: f3, the same for z on a trunk that is not trained.
    """

    amplitudes: tuple[float, ...] = (0.0008, 0.0016, 0.0032, 0.0064, 0.0128, 0.0256, 0.0512, 0.1024)
    amplitude_power: float = 0.5
    exponents: tuple[float, ...] = (0.1, 0.2, 0.3, 0.45, 0.7, 1.0, 1.6, 2.5)
    onsets: tuple[float, ...] = (0.0, 0.3, 1.0, 6.0)
    onset_power: float = 1.5
    noises: tuple[float, ...] = (0.0005, 0.001, 0.002, 0.004, 0.008)
    noise_typical: float = 0.0012
    noise_spread: float = 0.8
    trunk_share: float = 0.6
    seed: float = 0.006
    vague: float = 3.0
    vague_slope: float = 1.0
    discrepancies: tuple[float, ...] = (0.0005, 0.0025, 0.0125, 0.04)
    discrepancy_power: float = 1.0
    discrepancy_range: float = 1.0
    curve_slope: float = 0.01
    curve_noise: float = 0.0005
    u0: float = 0.02
    u1: float = 0.3
    lead: float = 1.15
    retained: float = 0.0
    half_retained: float = 0.7
    level: float = 1.0
    level_slope: float = 1.2
    slope: float = 0.5
    wander: float = 0.55
    p0: float = 0.07
    p1: float = 3.5
    common: float = 0.85
    depth_power: float = 0.5
    depth_range: float = 8.0
    fall: float | None = None
    fall_never: float = 0.7
    fall_recovery: float = 0.3
    fall_lag: float = 0.3


def prior_of(optimizer: str) -> FieldPrior:
    """The prior for runs of one optimizer.

    Under updates of a size of their own (Muon, AdamW, NSGD) the depth gap grows 3 to 5 times from a quarter of the
    horizon on in simulated worlds, and new layers recover the less of it the longer the trunk was trained; under
    gradient descent hardly.

    Args:
        optimizer: One of a plan's; '' if it is not known.
    """
    if optimizer and optimizer != "sgd":
        return FieldPrior()
    prior = FieldPrior(noise_spread=0.5, retained=0.8, half_retained=0.07, common=0.75)
    if optimizer:
        return replace(prior, level_slope=GRADIENT_SLOPE)
    return replace(prior, lead=1.0, retained=1.0, level_slope=0.7, wander=0.6, amplitude_power=0.25)  # wider


@dataclass(frozen=True, kw_only=True)
class Points:
    """Where the field is asked: runs with ``before`` and ``after`` learning-rate area and the depth at their end.

    Attributes:
        before: S, learning rate x steps, (points,).
        after: u, learning rate x steps, (points,).
        share: q, 0 at the small and 1 at the full depth, (points,).
    """

    before: np.ndarray
    after: np.ndarray
    share: np.ndarray

    def __len__(self) -> int:
        return len(self.before)

    def over(self, reference: float) -> Points:
        """The same with areas in units of ``reference``.

        Args:
            reference: Learning rate x steps.
        """
        return Points(before=self.before / reference, after=self.after / reference, share=self.share)


def depth_share(depth: int, small_depth: int, full_depth: int) -> float:
    """q = ln((d + 1)/(l + 1)) / ln((L + 1)/(l + 1)).

    Args:
        depth: d.
        small_depth: l.
        full_depth: L.

    >>> depth_share(1, 1, 4), depth_share(4, 1, 4)
    (0.0, 1.0)
    """
    checks.whole("small_depth", small_depth, 0, fix="give the number of blocks")
    checks.whole("full_depth", full_depth, small_depth + 1, fix="give a larger number of blocks")
    checks.whole("depth", depth, small_depth, full_depth, fix="give a depth from the small to the full one")
    return float(np.log((depth + 1) / (small_depth + 1)) / np.log((full_depth + 1) / (small_depth + 1)))


@dataclass(frozen=True, kw_only=True)
class FieldRuns:
    """Points, and whose errors they share.

    Attributes:
        points: Where, in units of the reference area.
        seeds: Seed and data of each; None: an expected loss, without error.
        trunks: Trunk of each, '' for none.
        curve_noise: Of a point of the trunk's curve, relative; NaN for everything annealed, (points,).
    """

    points: Points
    seeds: Sequence[tuple[int, str | None] | None]
    trunks: Sequence[str]
    curve_noise: np.ndarray


@dataclass(frozen=True, kw_only=True)
class FieldKernel:
    """Prior covariances between the logarithms of two sets of runs' losses, one matrix for each point of ``grid``.

    What is vague (a, c, and the offset and slope of the trunk's curve) stands apart, as columns of :meth:`basis`:
    beside its variances, 1e7 times those of noise, most digits would be lost. The whole covariance of a and b is
    ``covariance(a, b) + basis(a) @ basis(b).T``.

    Attributes:
        prior: Hyperparameters.
        grid: (A, b, discrepancy, noise, t0) of each point, (grid, 5).
    """

    prior: FieldPrior
    grid: np.ndarray

    def covariance(self, a: FieldRuns, b: FieldRuns, *, same: bool = False) -> np.ndarray:
        """Prior covariance of the logarithms of two sets of runs' losses without what is vague, (grid, a, b).

        Args:
            a: Runs.
            b: Others.
            same: Both are the same runs, each of which has an error of its own.
        """
        prior = self.prior
        amplitude, _, discrepancy, noise, _ = (column[:, None, None] for column in self.grid.T)
        t, t2 = (runs.points.before + runs.points.after for runs in (a, b))
        distance = np.log(t)[:, None] - np.log(t2)[None, :]
        fall = prior.fall or 0.0
        never = (discrepancy**2 + (prior.fall_never * fall) ** 2) * _matern(distance / prior.discrepancy_range)
        seeds = np.array([[s is not None and s == s2 for s2 in b.seeds] for s in a.seeds], float)
        trunks = np.array([[trunk == trunk2 for trunk2 in b.trunks] for trunk in a.trunks], float) * seeds
        own = np.diag([float(s is not None) for s in a.seeds]) if same else 0.0
        error = prior.trunk_share * trunks + (1 - prior.trunk_share) * own
        size = amplitude**2 + (prior.fall_recovery * fall) ** 2
        field = never + size * self._recovery(a.points, b.points)
        if fall and prior.fall_lag:
            field = field + (prior.fall_lag * fall) ** 2 * self._lag(a.points, b.points)
        ends = field + prior.seed**2 * seeds + noise**2 * error
        return ends + self._curve_noise(a) if same else ends

    def basis(self, runs: FieldRuns) -> np.ndarray:
        """What is vague, as columns times their standard deviations: a, c, a curve's offset, its slope.

        Args:
            runs: Runs.

        Returns:
            (grid, runs, 4); the last two columns are 0 where nothing of the trunk's curve is among the runs.
        """
        prior = self.prior
        t = runs.points.before + runs.points.after
        on_curve = ~np.isnan(runs.curve_noise)
        offset, slope = prior.vague * on_curve, prior.curve_slope * np.log(t) * on_curve
        known = np.stack([np.full(len(t), prior.vague), offset, slope], axis=1)
        columns = np.broadcast_to(known, (len(self.grid), *known.shape))
        return np.insert(columns, 1, prior.vague_slope * self._fall(t), axis=2)

    def mean(self, runs: FieldRuns) -> np.ndarray:
        """Prior mean of -z of the runs, (grid, runs); that of everything else is 0.

        Args:
            runs: Where.
        """
        prior, points = self.prior, runs.points
        grown = (points.after > 0) & (points.share > 0)
        depth = np.where(points.share > 0, points.share, 1.0) ** prior.depth_power
        lifts = self._of_bends(lambda power: 1 + prior.level_slope * self._lift(points.after, power))
        trained = prior.retained + (1 - prior.retained) / (1 + points.before / prior.half_retained)
        return -prior.lead * self.grid[:, :1] * lifts * depth * trained * grown

    def _of_bends(self, value: Callable[[float], np.ndarray]) -> np.ndarray:
        """``value`` of each point's k, computed once for equal ones, (grid, ...)."""
        bends = 1 - (1 + self.grid[:, 1]) / (1 + self.grid[:, 4])
        powers, which = np.unique(np.clip(bends, -STEEPEST_BEND, STEEPEST_BEND).round(6), return_inverse=True)
        return np.array([value(float(power)) for power in powers])[which.reshape(-1)]

    def _lift(self, after: np.ndarray, power: float) -> np.ndarray:
        """l = (v^power - 1)/power."""
        v = (after + self.prior.u0) / self.prior.u1
        return np.log(v) if power == 0 else (v**power - 1) / power

    def _fall(self, t: np.ndarray) -> np.ndarray:
        """What a power law falls from t = 1 to ``t``, its slope in ln t at 1 being -1, (grid, t)."""
        exponent, onset = self.grid[:, 1, None], self.grid[:, 4, None]
        return np.expm1(-exponent * np.log((t + onset) / (1 + onset))) * (1 + onset) / exponent

    def _curve_noise(self, runs: FieldRuns) -> np.ndarray:
        """Variances of the points of the trunk's curve, (runs, runs); 0 for what is annealed."""
        noise = np.maximum(runs.curve_noise, self.prior.curve_noise)
        return np.diag(np.where(np.isnan(runs.curve_noise), 0.0, noise) ** 2)

    def _recovery(self, a: Points, b: Points) -> np.ndarray:
        """Covariance of z at A = 1, exactly 0 where nothing follows the expansion."""
        prior = self.prior
        p, p2 = (np.log1p(x.before / prior.p0) for x in (a, b))
        memory = prior.common + (1 - prior.common) * np.exp(-np.abs(p[:, None] - p2[None, :]) / prior.p1)
        q, q2 = (np.where(x.share > 0, x.share, 1.0) for x in (a, b))
        depth = np.outer(q, q2) ** prior.depth_power
        depth = depth * np.exp(-np.abs(np.log(q)[:, None] - np.log(q2)[None, :]) / prior.depth_range)
        grown = np.outer((a.after > 0) & (a.share > 0), (b.after > 0) & (b.share > 0))
        return self._of_bends(lambda power: self._along(a.after, b.after, power)) * memory * depth * grown

    def _lag(self, a: Points, b: Points) -> np.ndarray:
        """Covariance of what a deeper net is early or late by, which a trained trunk does not take over."""
        prior = self.prior
        fresh, fresh2 = (
            np.where(x.share > 0, x.share, 0.0) ** prior.depth_power * np.exp(-x.before / prior.p0) * (x.after > 0)
            for x in (a, b)
        )
        l, l2 = (np.log(np.where(x.after > 0, x.after, 1.0)) for x in (a, b))
        return np.outer(fresh, fresh2) * _matern(l[:, None] - l2[None, :])

    def _along(self, after: np.ndarray, after2: np.ndarray, power: float) -> np.ndarray:
        """Covariance of z along u, a level, a slope and a Brownian part in l."""
        prior = self.prior
        l, l2 = self._lift(after, power), self._lift(after2, power)
        level = np.outer(1 + prior.level_slope * l, 1 + prior.level_slope * l2)
        same_side = np.sign(l)[:, None] == np.sign(l2)[None, :]
        wander = np.where(same_side, np.minimum(np.abs(l)[:, None], np.abs(l2)[None, :]), 0.0)
        return prior.level**2 * level + prior.slope**2 * np.outer(l, l2) + prior.wander**2 * wander


def _matern(distance: np.ndarray) -> np.ndarray:
    """Matern 5/2 correlation."""
    apart = np.sqrt(5) * np.abs(distance)
    return (1 + apart + apart**2 / 3) * np.exp(-apart)


def fall_seen(ends: Sequence[AnnealedEnd]) -> float:
    """How far from any power law the fixed depths among pilots fall: d = max (f2 - FASTER max(f1, 0)), at least 0.

    f1, f2 are shares of the loss an e-fold of area between horizons next to one another, f2 of the longer ones. A power
    law of any exponent has f2 < f1; a net that leaves a plateau has not, and what comes next no such law can say.

    Args:
        ends: Of pilots.
    """
    found = [0.0]
    for kind in ("small", "full"):
        _, shares = falls(ends, kind)
        found += list(shares[1:] - FASTER * np.maximum(shares[:-1], 0))
    return float(max(found))


def field_runs(
    ends: Sequence[AnnealedEnd], curve: TrunkCurve | None, small_depth: int, full_depth: int, reference: float
) -> FieldRuns:
    """The ends, and after them the points of the trunk's curve: never grown, with no seed, as their offset is vague.

    Args:
        ends: Of pilots.
        curve: Of the small trunk, if any.
        small_depth: l.
        full_depth: L.
        reference: Learning-rate area that is called 1.
    """
    on_curve = np.array(curve.area if curve else (), dtype=float)
    relative = curve.noise / np.array(curve.loss) if curve else on_curve
    before = np.concatenate([[end.area_before for end in ends], on_curve])
    total = np.concatenate([[end.area for end in ends], on_curve])
    share = [depth_share(end.depth, small_depth, full_depth) for end in ends]
    return FieldRuns(
        points=Points(before=before, after=total - before, share=np.append(share, np.zeros(len(on_curve)))).over(
            reference
        ),
        seeds=[(end.seed, end.data) for end in ends] + [None] * len(on_curve),
        trunks=[end.trunk for end in ends] + [""] * len(on_curve),
        curve_noise=np.append(np.full(len(ends), np.nan), relative),
    )
