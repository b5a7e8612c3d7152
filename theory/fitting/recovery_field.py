r"""The recovery field: a Gaussian posterior of what growing recovers, from annealed ends of paired runs.

It stands in ``theory/fitting`` because it is what its neighbours are: runs in, a landscape with its uncertainty out.
Annealed ends count, losses at the end of a whole schedule, and they are paired: runs of one seed and data order share
most of their error, which cancels in every difference. The small trunk's validation curve, if given, informs s alone.

Notation
    S, u        learning-rate area before and after the expansion, in units of the full depth's at ``reference`` area
    s(S + u)    annealed loss of the small depth alone
    z(S, u)     what growing recovers of it
    q           share of the way from the small to the full depth, ln((d + 1)/(l + 1)) / ln((L + 1)/(l + 1)) at depth d

    never grown  y = s(S) + e                              u = 0
    grown        y = s(S + u) - z(S, u) + e
    full depth   y = s(u) - z(0, u) + e                    the depth gap delta is z at S = 0
    between      y = s(u) - z_q(0, u) + e                  z_1 = z, z_0 = 0
    trunk        c = s(S) + offset + slope ln S + noise    not annealed yet: the offset is vague, the slope small

Both limits are exact, not fitted: a run grown at step 0 *is* the fixed run (the same S = 0, u), and z(., 0) = 0.

    s   power law a + c t^-b, b on a grid, a and c vague, and a discrepancy (Matern 5/2 in ln t)
    z   A^2 [o^2 (1 + g l)(1 + g l') + m^2 l l' + w^2 min(|l|, |l'|)] [c + (1 - c) exp(-|p - p'|/p1)] (q q')^v r(q, q')
        with l = (v^k - 1)/k, v = (u + u0)/u1, p = ln(1 + S/p0), r = exp(-|ln q - ln q'|/q1), A on a grid;
        k = -b within [-1, 1], ln v at 0: what growing recovers bends as the small depth's own curve does
    e   a part common to a seed, one common to a trunk, and a run's own; the size of the last two on a grid

Given a point of the grid everything is linear and Gaussian: one Cholesky each, and the posterior is their mixture.

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
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np

from latebloom.theory import checks
from latebloom.theory.cost import plan_flops
from latebloom.theory.errors import InputError

if TYPE_CHECKING:
    from latebloom.theory.plan import Plan
    from latebloom.theory.record import Record

__all__ = [
    "AnnealedEnd",
    "FieldPrior",
    "Points",
    "RecoveryField",
    "TrunkCurve",
    "depth_share",
    "ends_of",
    "fit_recovery_field",
    "trunk_curve_of",
]

Kind = Literal["small", "between", "full", "grown"]
FEWEST_SMALL_ENDS = 3  # a power law has three numbers
CURVE_BEGIN = 0.1  # of the trunk's area: earlier, the curve of a steep power law is worse conditioned than the ends
CURVE_POINTS = 12
FEWEST_CURVE_POINTS = 5
KEPT_WEIGHT = 0.995  # of the mixture: points of the grid beyond it are dropped in predictions
STEEPEST_BEND = 1.0  # of |k| in l: z at most as v or 1/v


@dataclass(frozen=True, kw_only=True)
class AnnealedEnd:
    """The end of one finished run, and what it shares with others.

    Attributes:
        name: Of the run.
        kind: ``small``, ``full`` or a depth ``between``, never grown; or ``grown`` from the small to the full depth.
        depth: Blocks at the end.
        steps: Horizon T.
        tau: Expansion step, 0 for a run of one depth.
        area: Learning-rate area of the whole schedule, learning rate x steps.
        area_before: Area before the expansion: 0 for a run of one depth, all of it for the small one.
        loss: Validation loss at the horizon, nats per token.
        seed: Of weights and data order.
        data: Digest of the data, None if it was not recorded.
        trunk: Equal for runs that are one run until they decay or grow.
        recipe: How the new blocks begin, '' for a run of one depth.
        peak_lr: Peak learning rate.
        warmup_steps: Steps until it is reached.
        flops: Training FLOPs of the run alone, its trunk included.
        digest: SHA-256 of its plan, '' if there is none.
        stable_steps: Step up to which a branch with another decay is the same run, 0 if none can be.
    """

    name: str
    kind: Kind
    depth: int
    steps: int
    tau: int
    area: float
    area_before: float
    loss: float
    seed: int
    data: str | None
    trunk: str
    recipe: str
    peak_lr: float
    warmup_steps: int
    flops: float = 0.0
    digest: str = ""
    stable_steps: int = 0


@dataclass(frozen=True, kw_only=True)
class FieldPrior:
    """Hyperparameters, relative to the smallest loss and to the reference area; chosen on simulations, see
    ``tests/benchmarks/planner_calibration.py``.

    Attributes:
        amplitudes: Grid of A.
        amplitude_power: Its prior falls as A to minus this.
        exponents: Grid of b; below 0 for losses that fall faster and faster in ln t, as before a power law sets in.
        noises: Grid of the standard deviation of one run about its seed's mean.
        noise_typical: Where its prior is largest.
        noise_spread: Standard deviation of its logarithm under the prior.
        trunk_share: Share of that variance which runs of one trunk have in common.
        seed: Standard deviation of what a seed shifts all its runs by.
        vague: Standard deviation of a and c.
        discrepancies: Grid of the standard deviation of s about its power law.
        discrepancy_power: Its prior falls as the discrepancy to minus this.
        discrepancy_range: Its range in ln t.
        curve_slope: Standard deviation of the slope in ln t of what the trunk's curve lies above s.
        curve_noise: Least standard deviation of a point of that curve.
        u0: Onset of l.
        u1: Origin of l.
        level: o.
        level_slope: g.
        slope: m.
        wander: w, the Brownian part's.
        p0: Onset of the memory of S.
        p1: Range of the memory of S.
        common: c, the part of z that does not depend on S.
        depth_power: v.
        depth_range: q1.
    """

    amplitudes: tuple[float, ...] = (0.0008, 0.0016, 0.0032, 0.0064, 0.0128, 0.0256, 0.0512, 0.1024)
    amplitude_power: float = 0.5
    exponents: tuple[float, ...] = (-1.0, -0.4, 0.05, 0.1, 0.15, 0.2, 0.3, 0.4, 0.55, 0.75, 1.0, 1.5, 2.5)
    noises: tuple[float, ...] = (0.0005, 0.001, 0.002, 0.004, 0.008)
    noise_typical: float = 0.0012
    noise_spread: float = 0.5
    trunk_share: float = 0.6
    seed: float = 0.006
    vague: float = 3.0
    discrepancies: tuple[float, ...] = (0.002, 0.011, 0.064)
    discrepancy_power: float = 1.0
    discrepancy_range: float = 1.0
    curve_slope: float = 0.01
    curve_noise: float = 0.0005
    u0: float = 0.02
    u1: float = 0.3
    level: float = 1.3
    level_slope: float = 0.6
    slope: float = 0.5
    wander: float = 0.5
    p0: float = 0.07
    p1: float = 3.5
    common: float = 0.65
    depth_power: float = 0.5
    depth_range: float = 2.0


@dataclass(frozen=True, kw_only=True)
class TrunkCurve:
    """Validation losses of the small depth's trunk at its constant learning rate.

    Attributes:
        area: Learning-rate area up to each point, learning rate x steps, (points,).
        loss: Validation loss, nats per token, (points,).
        noise: Standard deviation of a point about a smooth curve, nats per token.
    """

    area: np.ndarray
    loss: np.ndarray
    noise: float

    def __len__(self) -> int:
        return len(self.loss)

    @classmethod
    def thinned(cls, area: np.ndarray, loss: np.ndarray) -> TrunkCurve | None:
        """At most :data:`CURVE_POINTS` points equally spaced in ln area, from a tenth of the last area on.

        ``noise`` is the scatter of all points there about the straight line in ln area between their neighbours, the
        median absolute one x 1.4826, divided by what independent errors of the three points make of it.

        Args:
            area: Learning-rate area up to each point, increasing, learning rate x steps, (all points,).
            loss: Validation loss, nats per token, (all points,).

        Returns:
            The curve; None if there are fewer than :data:`FEWEST_CURVE_POINTS` points.
        """
        late = area >= CURVE_BEGIN * area.max(initial=0.0)
        area, loss = area[late], loss[late]
        if len(area) < FEWEST_CURVE_POINTS:
            return None
        log_area = np.log(area)
        share = (log_area[1:-1] - log_area[:-2]) / (log_area[2:] - log_area[:-2])
        apart = loss[1:-1] - (1 - share) * loss[:-2] - share * loss[2:]
        noise = 1.4826 * np.median(np.abs(apart) / np.sqrt(1 + share**2 + (1 - share) ** 2))
        wanted = np.linspace(log_area[0], log_area[-1], CURVE_POINTS)
        kept = np.unique(np.abs(log_area[:, None] - wanted).argmin(axis=0))
        return cls(area=area[kept], loss=loss[kept], noise=float(noise))


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


# --- records in -------------------------------------------------------------------------------------------------------


def ends_of(records: Sequence[Record], *, small_depth: int, full_depth: int) -> tuple[AnnealedEnd, ...]:
    """The annealed ends of finished runs.

    Args:
        records: Finished runs of one experiment.
        small_depth: l.
        full_depth: L.

    Raises:
        InputError: if a run did not finish, or is none of: one depth from l to L, or l grown once to L.
    """
    return tuple(_end(record, small_depth, full_depth) for record in records)


def trunk_curve_of(records: Sequence[Record], *, small_depth: int) -> TrunkCurve | None:
    """The small depth's validation curve at constant learning rate, of its longest run.

    Args:
        records: Finished runs of one experiment and one seed.
        small_depth: l.

    Returns:
        The curve; None if no run of the small depth has a phase of constant rate with points enough.
    """
    small = [record for record in records if [stage.depth for stage in record.plan.stages] == [small_depth]]
    if not small:
        return None
    trunk = max(small, key=lambda record: record.plan.steps)
    schedule = trunk.plan.schedule
    at_peak = np.flatnonzero(np.isclose(schedule.lrs(), schedule.peak))
    steps, loss = trunk.curve(split="val")
    constant = (steps > 0) & (steps >= at_peak[0]) & (steps <= at_peak[-1] + 1) & np.isfinite(loss)
    area = np.array([float(schedule.area(int(step))) for step in steps[constant]])
    return TrunkCurve.thinned(area, loss[constant])


def _end(record: Record, small_depth: int, full_depth: int) -> AnnealedEnd:
    plan, header = record.plan, record.header
    plan.refuse_special_stages("the field")
    depths = [stage.depth for stage in plan.stages]
    rule = f"is neither one depth from {small_depth} to {full_depth} nor one growth {small_depth} -> {full_depth}"
    if depths[0] < small_depth or depths[-1] > full_depth or len(depths) > 2:
        raise InputError(f"{header.name}: depths", depths, rule, "leave it out")
    kind: Kind = "between"
    if len(depths) == 2:
        if depths != [small_depth, full_depth]:
            fix = f"leave it out; to plan {depths[0]} -> {depths[1]}, fit a field of those two depths"
            raise InputError(f"{header.name}: depths", depths, rule, fix)
        kind = "grown"
    elif depths[0] in (small_depth, full_depth):
        kind = "small" if depths[0] == small_depth else "full"
    total = plan.schedule.total_area
    before = {"grown": float(plan.schedule.area(plan.tau or 0)), "small": total}.get(kind, 0.0)
    last = plan.stages[-1]
    return AnnealedEnd(
        name=header.name,
        kind=kind,
        depth=depths[-1],
        steps=plan.steps,
        tau=plan.tau or 0,
        area=total,
        area_before=before,
        loss=record.final(),
        seed=header.seed,
        data=header.data_digest,
        trunk=_trunk(plan),
        recipe=f"{last.init} {last.order} {last.optimizer_state}" if kind == "grown" else "",
        peak_lr=plan.schedule.peak,
        warmup_steps=_warmup_steps(plan),
        flops=plan_flops(plan),
        digest=header.plan_digest,
        stable_steps=_stable_steps(plan),
    )


def _warmup_steps(plan: Plan) -> int:
    """Updates until the learning rate is at its peak, of whatever shape."""
    return int(np.argmax(plan.schedule.lrs())) + 1


def _has_trunk(plan: Plan) -> bool:
    """Whether the rate is constant between warm-up and decay, so that branches can leave it anywhere."""
    return type(plan.schedule).__name__ in ("WSD", "Constant")


def _stable_steps(plan: Plan) -> int:
    """Updates at the constant rate or before it."""
    return plan.steps - int(getattr(plan.schedule, "decay_steps", 0)) if _has_trunk(plan) else 0


def _trunk(plan: Plan) -> str:
    """Runs that begin at one depth, with one optimizer and one constant rate after one warm-up, are one run so far."""
    schedule = plan.schedule
    start = f"{schedule.peak} {_warmup_steps(plan)}" if _has_trunk(plan) else plan.digest
    return f"depth {plan.stages[0].depth}, {plan.batch_tokens} tokens, {plan.optimizer}, {start}"


def _check(ends: Sequence[AnnealedEnd]) -> None:
    """Refuse what no field can be fitted to, and name the pilot that would mend it."""
    small = [end for end in ends if end.kind == "small"]
    others = [end for end in ends if end.kind != "small"]
    if not small:
        fix = "train the small depth to the horizon and anneal it at an eighth, a quarter, a half and all of it"
        raise InputError("pilots", [end.name for end in ends], "hold no run of the small depth alone", fix)
    horizons = sorted({end.steps for end in small})
    if len(horizons) < FEWEST_SMALL_ENDS:
        missing = [t for t in (horizons[-1] // 4, horizons[-1] // 2, horizons[-1] // 8) if t not in horizons]
        wanted = " and ".join(str(t) for t in missing[: FEWEST_SMALL_ENDS - len(horizons)])
        rule = f"too few annealed ends of the small depth: its slope needs {FEWEST_SMALL_ENDS} horizons"
        raise InputError("pilots", horizons, rule, f"anneal the small depth's trunk at step {wanted} too")
    pairs = {(end.seed, end.data) for end in small}
    for end in others:
        if (end.seed, end.data) not in pairs:
            rule = f"is unpaired: no run of the small depth has its seed {end.seed} and its data order"
            raise InputError(f"{end.name}: seed", end.seed, rule, f"train the small depth with seed {end.seed}")
    common = max({end.warmup_steps for end in small}, key=[end.warmup_steps for end in small].count)
    for end in ends:
        if end.warmup_steps != common:
            rule = f"differs from the warm-up of the other runs, {common} steps"
            fix = f"train it again with a warm-up of {common} steps: pilots keep the warm-up in steps"
            raise InputError(f"{end.name}: warmup_steps", end.warmup_steps, rule, fix)
        if not np.isclose(end.peak_lr, small[0].peak_lr):
            rule = f"differs from the peak learning rate of the other runs, {small[0].peak_lr:g}"
            raise InputError(f"{end.name}: peak_lr", end.peak_lr, rule, "leave it out, or train it at that rate")
        if not np.isfinite(end.loss):
            raise InputError(f"{end.name}: loss", end.loss, "is not a number: the run diverged", "leave it out")
    grown = [end for end in ends if end.kind == "grown"]
    for end in grown:
        if end.recipe != grown[0].recipe:
            rule = f"is a growth of another recipe than {grown[0].name}: {grown[0].recipe}"
            fix = f"grow it again by {grown[0].recipe}, or plan each recipe with its own pilots"
            raise InputError(f"{end.name}: recipe", end.recipe, rule, fix)


# --- the posterior ----------------------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class RecoveryField:
    """The posterior: a mixture over ``grid`` of Gaussian fields. Losses in nats per token, areas as they are given.

    Attributes:
        ends: What it was fitted to.
        prior: Hyperparameters.
        reference: Area that is called 1.
        scale: Smallest loss of the ends, to which the hyperparameters are relative.
        small_depth: l.
        full_depth: L.
        grid: (A, b, discrepancy, noise) of each point, (grid, 4), relative.
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
        return np.concatenate(drawn)[generator.permutation(number)][:, inverse]

    def moments(
        self, points: Points, *, measured: bool = False, trunks: Sequence[str] | None = None
    ) -> tuple[np.ndarray, np.ndarray]:
        """Mean, (points,), and covariance, (points, points), of the mixture.

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
        runs = _runs_of(self.ends, self.trunk_curve, self.small_depth, self.full_depth, self.reference)
        loss = _losses(self.ends, self.trunk_curve)
        asked = _Runs(
            points=_scaled(points, self.reference),
            seeds=[runs.seeds[0] if t else None for t in trunks],
            trunks=trunks,
            curve_noise=np.full(len(points), np.nan),
        )
        kernel = _Kernel(prior=self.prior, scale=self.scale, grid=self.grid[kept])
        factors = np.linalg.cholesky(kernel.covariance(runs, runs, same=True))
        cross = kernel.covariance(runs, asked)
        right = np.concatenate([cross, np.broadcast_to(loss[:, None], (len(kept), len(loss), 1))], axis=2)
        half = np.linalg.solve(factors, right)
        half, whitened = half[..., :-1], half[..., -1:]
        turned = half.transpose(0, 2, 1)
        weights = self.weights[kept] / self.weights[kept].sum()
        return weights, (turned @ whitened)[..., 0], kernel.covariance(asked, asked, same=True) - turned @ half

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
        prior: Hyperparameters.
        trunk_curve: The small trunk's validation curve, of the ends' seed, see :func:`trunk_curve_of`; narrows s.

    Returns:
        The field; the same ends give the same field.

    Raises:
        InputError: for too few annealed ends, unpaired runs, different warm-ups or peak rates, growth of different
            recipes, or diverged runs; each names the pilot that mends it.
    """
    prior = prior or FieldPrior()
    _check(ends)
    if not 0 < reference < math.inf:
        raise InputError("reference", reference, "must be positive", "give the full run's learning-rate area")
    small_depth = next(end.depth for end in ends if end.kind == "small")
    checks.whole("full_depth", full_depth, small_depth + 1, fix="give the number of blocks")
    runs = _runs_of(ends, trunk_curve, small_depth, full_depth, reference)
    loss = _losses(ends, trunk_curve)
    scale = min(end.loss for end in ends)
    axes = (prior.amplitudes, prior.exponents, prior.discrepancies, prior.noises)
    grid = np.array(list(itertools.product(*axes)))
    factors = np.linalg.cholesky(_Kernel(prior=prior, scale=scale, grid=grid).covariance(runs, runs, same=True))
    whitened = np.linalg.solve(factors, np.broadcast_to(loss[:, None], (len(grid), len(loss), 1)))[..., 0]
    log_weight = -0.5 * (whitened**2).sum(1) - np.log(np.diagonal(factors, axis1=1, axis2=2)).sum(1)
    log_weight -= 0.5 * (np.log(grid[:, 3] / prior.noise_typical) / prior.noise_spread) ** 2
    log_weight -= prior.amplitude_power * np.log(grid[:, 0]) + prior.discrepancy_power * np.log(grid[:, 2])
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
class _Runs:
    """Points in units of the reference area, and whose errors they share; no seed: an expected loss, without error.

    ``curve_noise`` is that of a point of the trunk's curve, nats per token, and NaN for everything annealed.
    """

    points: Points
    seeds: Sequence[tuple[int, str | None] | None]
    trunks: Sequence[str]
    curve_noise: np.ndarray


@dataclass(frozen=True, kw_only=True)
class _Kernel:
    """Prior covariances between two sets of runs, one matrix for each point of ``grid``, in nats squared."""

    prior: FieldPrior
    scale: float
    grid: np.ndarray

    def covariance(self, a: _Runs, b: _Runs, *, same: bool = False) -> np.ndarray:
        """(grid, a, b); ``same``: both are the same runs, each of which has an error of its own."""
        prior = self.prior
        amplitude, exponent, discrepancy, noise = (column[:, None, None] for column in self.grid.T)
        t, t2 = (runs.points.before + runs.points.after for runs in (a, b))
        distance = np.log(t)[:, None] - np.log(t2)[None, :]
        law = 1 + t[:, None] ** -exponent * t2[None, :] ** -exponent
        apart = np.sqrt(5) * np.abs(distance) / prior.discrepancy_range
        never = prior.vague**2 * law + discrepancy**2 * (1 + apart + apart**2 / 3) * np.exp(-apart)
        seeds = np.array([[s is not None and s == s2 for s2 in b.seeds] for s in a.seeds], float)
        trunks = np.array([[trunk == trunk2 for trunk2 in b.trunks] for trunk in a.trunks], float) * seeds
        own = np.diag([float(s is not None) for s in a.seeds]) if same else 0.0
        error = prior.trunk_share * trunks + (1 - prior.trunk_share) * own
        field = never + amplitude**2 * self.recovery(a.points, b.points)
        ends = self.scale**2 * (field + prior.seed**2 * seeds + noise**2 * error)
        return ends + self._curve(a, b, t, t2, same=same)

    def _curve(self, a: _Runs, b: _Runs, t: np.ndarray, t2: np.ndarray, *, same: bool) -> np.ndarray:
        """Covariance of what points of the trunk's curve lie above s, (a, b); 0 where either is annealed."""
        prior = self.prior
        above = prior.vague**2 + prior.curve_slope**2 * np.outer(np.log(t), np.log(t2))
        shared = self.scale**2 * above * np.outer(~np.isnan(a.curve_noise), ~np.isnan(b.curve_noise))
        least = prior.curve_noise * self.scale
        own = np.where(np.isnan(a.curve_noise), 0.0, np.maximum(a.curve_noise, least))
        return shared + (np.diag(own**2) if same else 0.0)

    def recovery(self, a: Points, b: Points) -> np.ndarray:
        """Covariance of z at A = 1 and relative to the loss, exactly 0 where nothing follows the expansion."""
        prior = self.prior
        p, p2 = (np.log1p(x.before / prior.p0) for x in (a, b))
        memory = prior.common + (1 - prior.common) * np.exp(-np.abs(p[:, None] - p2[None, :]) / prior.p1)
        q, q2 = (np.where(x.share > 0, x.share, 1.0) for x in (a, b))
        depth = np.outer(q, q2) ** prior.depth_power
        depth = depth * np.exp(-np.abs(np.log(q)[:, None] - np.log(q2)[None, :]) / prior.depth_range)
        grown = np.outer((a.after > 0) & (a.share > 0), (b.after > 0) & (b.share > 0))
        powers, which = np.unique(-np.clip(self.grid[:, 1], -STEEPEST_BEND, STEEPEST_BEND), return_inverse=True)
        along = np.array([self._along(a.after, b.after, float(power)) for power in powers])
        return along[which.reshape(-1)] * memory * depth * grown

    def _along(self, after: np.ndarray, after2: np.ndarray, power: float) -> np.ndarray:
        """Covariance of z along u, a level, a slope and a Brownian part in l = (v^power - 1)/power."""
        prior = self.prior
        v, v2 = ((u + prior.u0) / prior.u1 for u in (after, after2))
        l, l2 = (np.log(x) if power == 0 else (x**power - 1) / power for x in (v, v2))
        level = np.outer(1 + prior.level_slope * l, 1 + prior.level_slope * l2)
        same_side = np.sign(l)[:, None] == np.sign(l2)[None, :]
        wander = np.where(same_side, np.minimum(np.abs(l)[:, None], np.abs(l2)[None, :]), 0.0)
        return prior.level**2 * level + prior.slope**2 * np.outer(l, l2) + prior.wander**2 * wander


def _runs_of(
    ends: Sequence[AnnealedEnd], curve: TrunkCurve | None, small_depth: int, full_depth: int, reference: float
) -> _Runs:
    """The ends, and after them the points of the trunk's curve: never grown, with no seed, as their offset is vague."""
    on_curve = curve.area if curve else np.zeros(0)
    before = np.concatenate([[end.area_before for end in ends], on_curve])
    total = np.concatenate([[end.area for end in ends], on_curve])
    share = [depth_share(end.depth, small_depth, full_depth) for end in ends]
    return _Runs(
        points=_scaled(
            Points(before=before, after=total - before, share=np.append(share, np.zeros(len(on_curve)))), reference
        ),
        seeds=[(end.seed, end.data) for end in ends] + [None] * len(on_curve),
        trunks=[end.trunk for end in ends] + [""] * len(on_curve),
        curve_noise=np.append(np.full(len(ends), np.nan), np.full(len(on_curve), curve.noise if curve else 0.0)),
    )


def _losses(ends: Sequence[AnnealedEnd], curve: TrunkCurve | None) -> np.ndarray:
    return np.concatenate([[end.loss for end in ends], curve.loss if curve else []])


def _scaled(points: Points, reference: float) -> Points:
    return Points(before=points.before / reference, after=points.after / reference, share=points.share)


def _distinct(points: Points, measured: np.ndarray) -> tuple[Points, np.ndarray, np.ndarray]:
    """The distinct points, where each stands among them, and where each stood first: one value a draw at one point."""
    table = np.stack([points.before, points.after, np.where(points.after > 0, points.share, 0.0), measured], axis=1)
    unique, first, inverse = np.unique(table, axis=0, return_index=True, return_inverse=True)
    return Points(before=unique[:, 0], after=unique[:, 1], share=unique[:, 2]), inverse.reshape(-1), first
