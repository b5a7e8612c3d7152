r"""The recovery field: a Gaussian posterior of what growing recovers, from annealed ends of paired runs.

It stands in ``theory/fitting`` because it is what its neighbours are: runs in, a landscape with its uncertainty out.
Annealed ends count, losses at the end of a whole schedule, and they are paired: runs of one seed and data order share
most of their error, which cancels in every difference. The small trunk's validation curve, if given, informs s alone.

Notation
    S, u        learning-rate area before and after the expansion, in units of the full depth's at ``reference`` area
    y           logarithm of an annealed loss: no loss is negative, whatever is extrapolated, and every gap is a ratio
    s(S + u)    y of the small depth alone
    z(S, u)     what growing recovers of it, as a share of the loss for small z
    q           share of the way from the small to the full depth, ln((d + 1)/(l + 1)) / ln((L + 1)/(l + 1)) at depth d

    never grown  y = s(S) + e                              u = 0
    grown        y = s(S + u) - z(S, u) + e
    full depth   y = s(u) - z(0, u) + e                    the depth gap delta is z at S = 0
    between      y = s(u) - z_q(0, u) + e                  z_1 = z, z_0 = 0
    trunk        y = s(S) + offset + slope ln S + noise    not annealed yet: the offset is vague, the slope small

Both limits are exact, not fitted: a run grown at step 0 *is* the fixed run (the same S = 0, u), and z(., 0) = 0.

    s   power law a - c g(t), g = (1 + t0)/b [1 - ((t + t0)/(1 + t0))^-b], (b, t0) on a grid, a and c vague, and a
        discrepancy (Matern 5/2 in ln t, variance D^2 + (f1 d)^2); g has the slope 1 in ln t at 1 for all b and t0, so
        that none is favoured
    z   mean A r (1 + g l) q^v [n + (1 - n)/(1 + S/p2)], and covariance
        B [o^2 (1 + g l)(1 + g l') + m^2 l l' + w^2 min(|l|, |l'|)] [c + (1 - c) exp(-|p - p'|/p1)] (q q')^v h(q, q')
        + (f3 d)^2 exp(-(S + S')/p0) (q q')^v Matern 5/2(ln u/u'),  B = A^2 + (f2 d)^2,
        with l = (v^k - 1)/k, v = (u + u0)/u1, p = ln(1 + S/p0), h = exp(-|ln q - ln q'|/q1), A on a grid;
        k = 1 - (1 + b)/(1 + t0) within [-1, 1], ln v at 0: what growing recovers bends with the small depth's curve
    d   by how much faster than before the small or the full depth fell from one horizon of the pilots to the next: 0
        for a power law, above it for a net that leaves a plateau. When it leaves depends on seed and depth, and what
        the full depth is early or late by is not taken over by layers that are added to a trained trunk (f3)
    e   a part common to a seed, one common to a trunk, and a run's own; the size of the last two on a grid

Given a point of the grid everything is linear and Gaussian: one Cholesky each, and the posterior is their mixture, with
weights as at d = 0: d is made of the same losses, and what it adds must not make A small. What
is vague is left out of it and added as a regression's columns are (section 2.7 of the book): within one matrix it would
cost seven digits.

Not supported, and refused: ladders of several expansions; growth from, or to, a depth between the two (fit a field of
its own for those two depths); different peak rates. A fixed depth of which no run exists is predicted from the prior's
correlation over depth alone, and says so by its width.

References: Rasmussen & Williams (2006), Gaussian Processes for Machine Learning, algorithm 2.1. The discrepancy is
Kennedy & O'Hagan's (2001), J. R. Stat. Soc. B 63, 425.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from latebloom.theory import checks
from latebloom.theory.errors import InputError
from latebloom.theory.fitting.annealed_ends import AnnealedEnd, TrunkCurve, check_ends, ends_of, trunk_curve_of
from latebloom.theory.fitting.field_kernel import (
    FieldKernel,
    FieldPrior,
    FieldRuns,
    Points,
    depth_share,
    fall_seen,
    field_runs,
    prior_of,
)
from latebloom.theory.prediction import Quantiles

if TYPE_CHECKING:
    from latebloom.theory.record import Record

__all__ = ["COLUMNS", "RecoveryField", "field_of_records", "fit_recovery_field"]

COLUMNS = ("amplitude", "exponent", "discrepancy", "noise", "onset")  # of the posterior's grid
KEPT_WEIGHT = 0.995  # of the mixture: points of the grid beyond it are dropped in predictions


@dataclass(frozen=True, kw_only=True)
class RecoveryField:
    """The posterior: a mixture over ``grid`` of Gaussian fields. Losses in nats per token, areas as they are given.

    Attributes:
        ends: What it was fitted to.
        prior: Hyperparameters.
        reference: Area that is called 1.
        scale: Smallest loss of the ends, whose logarithm is 0 here, nats per token.
        small_depth: l.
        full_depth: L.
        grid: (A, b, discrepancy, noise, t0) of each point, (grid, 5).
        weights: Posterior probabilities of the points, (grid,).
        trunk_curve: The small trunk's validation curve it was fitted to as well, if any.
    """

    ends: tuple[AnnealedEnd, ...]
    prior: FieldPrior
    reference: float
    scale: float
    small_depth: int
    full_depth: int
    grid: np.ndarray
    weights: np.ndarray
    trunk_curve: TrunkCurve | None = None

    @property
    def noise(self) -> float:
        """Standard deviation of one run's final loss about its seed's mean, nats per token, root of its mean square."""
        return self.scale * float(np.sqrt(self.weights @ self.grid[:, 3] ** 2))

    def parameter(self, name: str) -> Quantiles:
        """Quantiles of one column of ``grid``, itself one of its points.

        Args:
            name: One of :data:`COLUMNS`.
        """
        values = self.grid[:, COLUMNS.index(name)]
        order = np.argsort(values)
        at = np.searchsorted(np.cumsum(self.weights[order]), [0.05, 0.5, 0.95])
        low, median, high = values[order][np.minimum(at, len(values) - 1)]
        return Quantiles(low=float(low), median=float(median), high=float(high))

    def points(self, area_before: Sequence[float], area_after: Sequence[float], depths: Sequence[int]) -> Points:
        """Runs that end at ``depths`` after these areas; a run of the small depth has no area after.

        Args:
            area_before: S, learning rate x steps, (points,).
            area_after: u, learning rate x steps, (points,).
            depths: Blocks at the end, (points,).
        """
        share = [depth_share(depth, self.small_depth, self.full_depth) for depth in depths]
        return Points(before=np.asarray(area_before, float), after=np.asarray(area_after, float), share=np.array(share))

    def draws(
        self, points: Points, *, number: int = 200, seed: int = 0, measured: bool | Sequence[bool] = False
    ) -> np.ndarray:
        """Joint posterior draws of the losses at ``points``, (number, points).

        Args:
            points: Where.
            number: How many draws.
            seed: Of the generator; equal seeds give equal draws.
            measured: Draw what runs on the first pilot's seed and trunks will show, with an error of their own each,
                instead of expected losses over seeds. A point whose end is known already is still a new run. One value
                for all points, or one for each.

        Returns:
            Losses, equal to the last digit for equal points.
        """
        checks.whole("number", number, 1)
        checks.whole("seed", seed, 0)
        run = np.broadcast_to(np.asarray(measured, bool), len(points))
        unique, inverse, first = _distinct(points, run)
        generator = np.random.default_rng(seed)
        trunks = [t if m else "" for t, m in zip(self.trunks_of(unique), run[first], strict=True)]
        weights, means, covariances = self._mixture(unique, trunks)
        counts = generator.multinomial(number, weights)
        values, vectors = np.linalg.eigh(covariances[counts > 0])
        roots = vectors * np.sqrt(np.maximum(values, 0.0))[:, None, :]
        parts = zip(means[counts > 0], roots, counts[counts > 0], strict=True)
        drawn = [mean + generator.normal(size=(count, len(mean))) @ root.T for mean, root, count in parts]
        return self.scale * np.exp(np.concatenate(drawn)[generator.permutation(number)][:, inverse])

    def expected(self, points: Points, *, measured: bool = False) -> np.ndarray:
        """Losses whose logarithm is the expected one, nats per token, (points,).

        Args:
            points: Where.
            measured: As in :meth:`draws`.
        """
        mean, _ = self.moments(points, measured=measured)
        return self.scale * np.exp(mean)

    def moments(
        self, points: Points, *, measured: bool = False, trunks: Sequence[str] | None = None
    ) -> tuple[np.ndarray, np.ndarray]:
        """Mean, (points,), and covariance, (points, points), of ln(loss/scale).

        Args:
            points: Where.
            measured: As in :meth:`draws`.
            trunks: Trunk of each point, '' for expected losses; overrides ``measured``.
        """
        weights, means, covariances = self._mixture(points, trunks or self._trunks(points, measured))
        mean = weights @ means
        apart = means - mean
        return mean, np.tensordot(weights, covariances, 1) + (weights[:, None] * apart).T @ apart

    def _mixture(self, points: Points, trunks: Sequence[str]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Weights, means and covariances at ``points`` of the grid's points that matter."""
        order = np.argsort(self.weights)[::-1]
        kept = order[: int(np.searchsorted(np.cumsum(self.weights[order]), KEPT_WEIGHT)) + 1]
        runs = field_runs(self.ends, self.trunk_curve, self.small_depth, self.full_depth, self.reference)
        known = _logarithms(self.ends, self.trunk_curve, self.scale)
        asked = FieldRuns(
            points=points.over(self.reference),
            seeds=[runs.seeds[0] if t else None for t in trunks],
            trunks=trunks,
            curve_noise=np.full(len(points), np.nan),
        )
        kernel = FieldKernel(prior=self.prior, grid=self.grid[kept])
        means, covariances = _condition(kernel, runs, known).at(asked)
        return self.weights[kept] / self.weights[kept].sum(), means, covariances

    def _trunks(self, points: Points, measured: bool) -> list[str]:
        return self.trunks_of(points) if measured else [""] * len(points)

    def trunks_of(self, points: Points) -> list[str]:
        """The trunk on which a run at each point goes on: that of the pilots of its first depth, else a new one."""
        by_share: dict[float, str] = {}
        for end in self.ends:
            begins = self.small_depth if end.kind == "grown" else end.depth
            by_share.setdefault(depth_share(begins, self.small_depth, self.full_depth), end.trunk)
        first = np.where(points.before > 0, 0.0, points.share)
        return [by_share.get(float(share), f"new trunk {share}") for share in first]


def field_of_records(
    records: Sequence[Record], *, small_depth: int, full_depth: int, reference: float
) -> RecoveryField:
    """The posterior of the recovery field given finished runs: their annealed ends and the small trunk's curve.

    Args:
        records: Finished runs of one experiment and one seed.
        small_depth: l.
        full_depth: L.
        reference: Learning-rate area of the full depth's whole run, the unit of the prior.

    Raises:
        InputError: as :func:`ends_of` and :func:`fit_recovery_field`.
    """
    return fit_recovery_field(
        ends_of(records, small_depth=small_depth, full_depth=full_depth),
        full_depth=full_depth,
        reference=reference,
        trunk_curve=trunk_curve_of(records, small_depth=small_depth),
    )


def fit_recovery_field(
    ends: Sequence[AnnealedEnd],
    *,
    full_depth: int,
    reference: float,
    prior: FieldPrior | None = None,
    trunk_curve: TrunkCurve | None = None,
) -> RecoveryField:
    """The posterior of the recovery field given annealed ends.

    Args:
        ends: Of paired runs, see :func:`ends_of`. With the small depth's alone, z is its prior.
        full_depth: L.
        reference: Learning-rate area of the full depth's whole run, the unit of the prior.
        prior: Hyperparameters. None: those of the ends' optimizer.
        trunk_curve: The small trunk's validation curve, of the ends' seed, see :func:`trunk_curve_of`; narrows s.

    Returns:
        The field; the same ends give the same field.

    Raises:
        InputError: for too few annealed ends, unpaired runs, different warm-ups or peak rates, growth of different
            recipes, or diverged runs; each names the pilot that mends it.
    """
    check_ends(ends)
    prior = prior or prior_of(ends[0].optimizer)
    if prior.fall is None:
        prior = replace(prior, fall=fall_seen(ends))
    if not 0 < reference < math.inf:
        raise InputError("reference", reference, "must be positive", "give the full run's learning-rate area")
    small_depth = next(end.depth for end in ends if end.kind == "small")
    checks.whole("full_depth", full_depth, small_depth + 1, fix="give the number of blocks")
    runs = field_runs(ends, trunk_curve, small_depth, full_depth, reference)
    scale = min(end.loss for end in ends)
    known = _logarithms(ends, trunk_curve, scale)
    axes = (prior.amplitudes, prior.exponents, prior.discrepancies, prior.noises, prior.onsets)
    grid = np.array(list(itertools.product(*axes)))
    grid[:, 1] *= 1 + grid[:, 4]
    regular = FieldKernel(prior=replace(prior, fall=0.0), grid=grid)  # d is made of the same losses and only widens
    log_weight = _condition(regular, runs, known).log_likelihood()
    log_weight -= 0.5 * (np.log(grid[:, 3] / prior.noise_typical) / prior.noise_spread) ** 2
    log_weight -= prior.amplitude_power * np.log(grid[:, 0]) + prior.discrepancy_power * np.log(grid[:, 2])
    log_weight -= prior.onset_power * np.log1p(grid[:, 4])
    weights = np.exp(log_weight - log_weight.max())
    return RecoveryField(
        ends=tuple(ends),
        prior=prior,
        reference=reference,
        scale=scale,
        small_depth=small_depth,
        full_depth=full_depth,
        grid=grid,
        weights=weights / weights.sum(),
        trunk_curve=trunk_curve,
    )


@dataclass(frozen=True, kw_only=True)
class _Conditioned:
    """The field given losses, at each point of a kernel's grid: what is vague by least squares, the rest by Cholesky.

    Rasmussen & Williams (2006), section 2.7, with the vague coefficients' own prior, N(0, 1) in units of their standard
    deviations.

    Attributes:
        kernel: Prior.
        runs: What is known, n runs.
        factors: L, lower, of the covariance of the runs without what is vague, (grid, n, n).
        whitened: L^-1 times the runs' basis, (grid, n, 4).
        normal: C, lower, C C' = 1 + whitened' whitened, (grid, 4, 4).
        coefficients: Posterior means of what is vague, (grid, 4, 1).
        residuals: L^-1 times what those and the prior mean leave of the logarithms, (grid, n, 1).
    """

    kernel: FieldKernel
    runs: FieldRuns
    factors: np.ndarray
    whitened: np.ndarray
    normal: np.ndarray
    coefficients: np.ndarray
    residuals: np.ndarray

    def log_likelihood(self) -> np.ndarray:
        """Logarithm of their density, without its constant, (grid,)."""
        misfit = (self.residuals**2).sum((1, 2)) + (self.coefficients**2).sum((1, 2))
        diagonals = [np.diagonal(each, axis1=1, axis2=2) for each in (self.factors, self.normal)]
        return -0.5 * misfit - sum(np.log(diagonal).sum(1) for diagonal in diagonals)

    def at(self, asked: FieldRuns) -> tuple[np.ndarray, np.ndarray]:
        """Means, (grid, points), and covariances, (grid, points, points), at ``asked`` runs."""
        kernel = self.kernel
        half = np.linalg.solve(self.factors, kernel.covariance(self.runs, asked))
        turned, basis = half.transpose(0, 2, 1), kernel.basis(asked)
        means = kernel.mean(asked) + (basis @ self.coefficients + turned @ self.residuals)[..., 0]
        vague = np.linalg.solve(self.normal, (basis - turned @ self.whitened).transpose(0, 2, 1))
        covariances = kernel.covariance(asked, asked, same=True) - turned @ half + vague.transpose(0, 2, 1) @ vague
        return means, covariances


def _condition(kernel: FieldKernel, runs: FieldRuns, known: np.ndarray) -> _Conditioned:
    """The field given the logarithms of the losses of runs."""
    factors = np.linalg.cholesky(kernel.covariance(runs, runs, same=True))
    above = (known - kernel.mean(runs))[:, :, None]
    whitened = np.linalg.solve(factors, np.concatenate([kernel.basis(runs), above], axis=2))
    basis, above = whitened[..., :-1], whitened[..., -1:]
    turned = basis.transpose(0, 2, 1)
    precision = np.eye(basis.shape[2]) + turned @ basis
    coefficients = np.linalg.solve(precision, turned @ above)
    return _Conditioned(
        kernel=kernel, runs=runs, factors=factors, whitened=basis, normal=np.linalg.cholesky(precision),
        coefficients=coefficients, residuals=above - basis @ coefficients,
    )  # fmt: skip


def _logarithms(ends: Sequence[AnnealedEnd], curve: TrunkCurve | None, scale: float) -> np.ndarray:
    """ln(loss/scale) in the order of :func:`~latebloom.theory.fitting.field_kernel.field_runs`."""
    return np.log(np.concatenate([[end.loss for end in ends], curve.loss if curve else []]) / scale)


def _distinct(points: Points, measured: np.ndarray) -> tuple[Points, np.ndarray, np.ndarray]:
    """The distinct points, where each stands among them, and where each stood first: one value a draw at one point."""
    table = np.stack([points.before, points.after, np.where(points.after > 0, points.share, 0.0), measured], axis=1)
    unique, first, inverse = np.unique(table, axis=0, return_index=True, return_inverse=True)
    return Points(before=unique[:, 0], after=unique[:, 1], share=unique[:, 2]), inverse.reshape(-1), first
