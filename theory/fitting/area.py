r"""Fitting the area law to pilot runs, with intervals by wild cluster bootstrap and an identifiability report.

The law is linear in floor, gap, amplitudes, kappa x amplitude and noise; only four numbers are not (two exponents, the
onset and the noise rate), so the fit projects the linear ones out (Golub & Pereyra 1973) and searches the four from
many starts. Residuals are relative, Huber-weighted, and every run counts the same however often it was evaluated.

Roles follow from the pilots' plans: the smallest depth trained alone, the largest, and runs that grow between the two.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import scipy

from latebloom.theory.errors import InputError
from latebloom.theory.landscapes.area import AreaLaw, Signal, noise_segments
from latebloom.theory.plan import Provenance
from latebloom.theory.record import Record
from latebloom.theory.schedules import AnySchedule

__all__ = ["AreaFit", "PilotRun", "bootstrap", "fit_area_law", "left_open", "provenance", "report"]

BURN_IN = 0.1  # share of a run's area, and of the area since an expansion, that is not fitted: warm-up transients
HUBER = 0.005  # relative residual beyond which a point counts linearly
WEBB = np.array([-np.sqrt(1.5), -1.0, -np.sqrt(0.5), np.sqrt(0.5), 1.0, np.sqrt(1.5)])
EXPONENT = (0.05, 1.5)
ONSET = (1e-3, 0.3)  # in units of the largest pilot's area
RATE = (1.0, 300.0)  # per largest pilot's area
KNOWN = 0.01  # chosen: half a final loss's interval, as a share of it, up to which it counts as known
COVERED = 0.9  # chosen: share of a horizon's area from which on a run counts as having seen it
AHEAD = 3  # chosen: horizons of the longest pilot at which a report without a plan looks
NOISE_SEGMENTS = 1000  # per run, for the noise response
Role = Literal["small", "full", "grown"]


@dataclass(frozen=True, kw_only=True)
class PilotRun:
    """The points of one pilot that are fitted: losses (nats) after ``step`` updates."""

    name: str
    role: Role
    schedule: AnySchedule
    tau: int | None
    step: np.ndarray
    loss: np.ndarray


@dataclass(frozen=True, kw_only=True)
class Solution:
    """Optimum of the projected problem: logs of (trunk exponent, fresh exponent, onset, noise rate), linear
    coefficients in the order of the design's columns, and the robust cost."""

    nonlinear: np.ndarray
    linear: np.ndarray
    cost: float


@dataclass(frozen=True, kw_only=True)
class AreaFit:
    """A fitted :class:`AreaLaw` and what it was fitted to.

    Attributes:
        law: The fitted landscape.
        runs: The fitted points.
        predicted: The law's losses at them, one array a run.
        solution: The optimiser's answer.
        identifiability: One line for each parameter that these pilots leave open, and the pilot that would fix it.
        digests: Plan digests of the pilots.
    """

    law: AreaLaw
    runs: tuple[PilotRun, ...]
    predicted: tuple[np.ndarray, ...]
    solution: Solution
    identifiability: tuple[str, ...]
    digests: tuple[str, ...]


def fit_area_law(records: Sequence[Record], *, split: str = "val", seed: int = 0, starts: int = 16) -> AreaFit:
    """Fit the area law to pilot records.

    Args:
        records: At least one run of the small depth, alone or before an expansion, and one of the full depth.
        split: Which loss.
        seed, starts: Of the Sobol multistart; ``starts`` a power of 2.

    Raises:
        InputError: if roles are missing, or there are fewer points than parameters.
    """
    runs, small_depth, full_depth = _pilot_runs(records, split)
    reference = max(run.schedule.total_area for run in runs)
    x = _solve(runs, reference, [run.loss for run in runs], seed=seed, starts=starts)
    law = _law(x, runs, reference, small_depth, full_depth)
    return AreaFit(
        law=law,
        runs=tuple(runs),
        predicted=tuple(_curve(law, run) for run in runs),
        solution=x,
        identifiability=_identifiability(runs, law, reference),
        digests=tuple(record.header.plan_digest for record in records),
    )


def bootstrap(fit: AreaFit, *, replicas: int = 60, seed: int = 0) -> tuple[AreaLaw, ...]:
    """Replicas of the law by wild cluster bootstrap with held-out residuals, clusters = runs.

    Residuals within a curve are correlated, so a run's relative residuals stay together and are multiplied by one
    random weight of Webb's six-point distribution; roles stay filled, unlike when runs are drawn anew. The residuals of
    a run are those of the fit without it, where another run has its role: a fit of ten parameters bends towards every
    smooth deviation of a curve, and its own residuals give intervals several times too narrow.

    References: MacKinnon, Nielsen & Webb, J. Appl. Econometrics 38 (2023) 671 (held-out residuals); Cameron, Gelbach &
    Miller, Rev. Econ. Stat. 90 (2008) 414; Webb, Queen's Econ. Dept. WP 1315 (2014).
    """
    rng = np.random.default_rng(seed)
    residuals = _held_out_residuals(fit, seed)
    laws = []
    for _ in range(replicas):
        losses = [
            predicted * np.exp(residual * rng.choice(WEBB))
            for predicted, residual in zip(fit.predicted, residuals, strict=True)
        ]
        laws.append(_refit(fit, fit.runs, losses, seed))
    return tuple(laws)


def _held_out_residuals(fit: AreaFit, seed: int) -> list[np.ndarray]:
    """log(loss/prediction) of each run, predicted without it where another run has its role."""
    residuals = []
    for run, predicted in zip(fit.runs, fit.predicted, strict=True):
        others = [other for other in fit.runs if other is not run]
        if run.role in {other.role for other in others}:
            predicted = _curve(_refit(fit, others, [other.loss for other in others], seed), run)
        residuals.append(np.log(run.loss / np.maximum(predicted, 1e-9)))
    return residuals


def _refit(fit: AreaFit, runs: Sequence[PilotRun], losses: Sequence[np.ndarray], seed: int) -> AreaLaw:
    """The law fitted to ``losses``, from the optimum of ``fit``."""
    reference = fit.law.trunk.reference
    x = _solve(runs, reference, losses, seed=seed, starts=0, start=fit.solution.nonlinear)
    return _law(x, runs, reference, fit.law.small_depth, fit.law.full_depth)


def provenance(fit: AreaFit) -> Provenance:
    """What a plan made from this fit says of its origin."""
    return Provenance(landscape="area", parameters=parameters(fit.law), pilots=fit.digests)


def parameters(law: AreaLaw) -> dict[str, float]:
    """The law's numbers by name."""
    return {
        "floor": law.floor,
        "small_gap": law.small_gap,
        "trunk_amplitude": law.trunk.amplitude,
        "trunk_exponent": law.trunk.exponent,
        "fresh_amplitude": law.fresh.amplitude,
        "fresh_exponent": law.fresh.exponent,
        "onset": law.trunk.onset,
        "reference": law.trunk.reference,
        "kappa": law.kappa,
        "noise": law.noise,
        "noise_rate": law.noise_rate,
    }


def report(fit: AreaFit, replicas: Sequence[AreaLaw], *, level: float = 0.9) -> dict:
    """Parameters with intervals, errors by run, and what the pilots leave open, as plain data."""
    point = parameters(fit.law)
    table = {name: [parameters(law)[name] for law in replicas] for name in point}
    quantiles = {name: np.quantile(values, [(1 - level) / 2, (1 + level) / 2]) for name, values in table.items()}
    errors = [np.abs(p / run.loss - 1) for p, run in zip(fit.predicted, fit.runs, strict=True)]
    return {
        "parameters": {
            name: {"value": value, "low": float(quantiles[name][0]), "high": float(quantiles[name][1])}
            for name, value in point.items()
        },
        "runs": {
            run.name: {"role": run.role, "points": len(run.step), "mean": float(e.mean()), "worst": float(e.max())}
            for run, e in zip(fit.runs, errors, strict=True)
        },
        "identifiability": [*fit.identifiability, *left_open(fit, replicas, _ahead(fit), level=level)],
    }


def left_open(fit: AreaFit, replicas: Sequence[AreaLaw], schedule: AnySchedule, *, level: float = 0.9) -> list[str]:
    """What the pilots cannot say of the final loss on ``schedule``, in words; nothing if they know it to 1 %.

    Short pilots see one falling curve: a low floor with a small exponent and a high floor with a large one fit it alike
    and part beyond it. The small depth alone for the whole horizon, the cheapest run that long, tells them apart.

    Args:
        fit: The fit.
        replicas: Its bootstrap.
        schedule: Of the run that is asked about.
        level: Of the intervals.
    """
    area, steps = schedule.total_area, schedule.horizon
    small = [float(r.schedule.area(r.tau or r.schedule.horizon)) for r in fit.runs if r.role != "full"]
    if len(replicas) < 2 or max(small) >= COVERED * area:
        return []
    levels = [(1 - level) / 2, (1 + level) / 2]
    final = float(fit.law.fixed(schedule, steps, depth=fit.law.full_depth))
    losses = [float(law.fixed(schedule, steps, depth=law.full_depth)) for law in replicas]
    low, high = np.quantile(losses, levels)
    if high - low <= 2 * KNOWN * final:
        return []
    floor = np.quantile([law.floor for law in replicas], levels)
    exponent = np.quantile([law.trunk.exponent for law in replicas], levels)
    return [
        f"floor and trunk exponent are not told apart ({level:.0%} intervals {floor[0]:.3g} to {floor[1]:.3g} nats, "
        f"{exponent[0]:.2g} to {exponent[1]:.2g}): the small depth is seen for {max(small) / area:.0%} of the "
        f"learning-rate area of {steps} steps, so the full depth's final loss there may be anything from {low:.4g} to "
        f"{high:.4g} (+-{(high - low) / 2 / final:.1%}). A pilot of depth {fit.law.small_depth} alone for all {steps} "
        "steps would tell."
    ]


def _ahead(fit: AreaFit) -> AnySchedule:
    """The schedule of the longest pilot, three times as long."""
    longest = max((run.schedule for run in fit.runs), key=lambda schedule: schedule.total_area)
    return longest.with_steps(AHEAD * longest.horizon)


def _pilot_runs(records: Sequence[Record], split: str) -> tuple[list[PilotRun], int, int]:
    depths = sorted({stage.depth for record in records for stage in record.plan.stages})
    if len(depths) != 2:
        rule = "must be two: the small one and the full one"
        raise InputError("depths", depths, rule, "give pilots of exactly one small and one full depth")
    small, full = depths
    first = records[0].plan
    growths = {(s.init, s.order) for record in records for s in record.plan.stages[1:]}
    if len(growths) > 1:
        rule = "are the ways in which these pilots grow: they make different laws"
        raise InputError("init, order", sorted(growths), rule, "give pilots that grow alike")
    runs = []
    for record in records:
        plan = record.plan
        for name in ("model", "batch_tokens", "optimizer"):
            if getattr(plan, name) != getattr(first, name):
                rule = f"differs from that of {records[0].header.name!r}"
                where = f"{name} of {record.header.name}"
                raise InputError(where, getattr(plan, name), rule, "fit runs together that are alike")
        step, loss = record.curve(split=split)
        if not np.all(np.isfinite(loss)):
            at = int(step[~np.isfinite(loss)][0])
            rule = f"at step {at} of pilot {record.header.name!r}: it diverged"
            raise InputError("loss", None, rule, "leave it out, or run it at a lower learning rate")
        area = plan.schedule.area(step)
        keep = area >= BURN_IN * plan.schedule.total_area
        if plan.tau is not None:
            start = float(plan.schedule.area(plan.tau))
            keep &= (step <= plan.tau) | (area - start >= BURN_IN * (plan.schedule.total_area - start))
        role: Role = "grown" if plan.tau is not None else "small" if plan.depth == small else "full"
        runs.append(
            PilotRun(
                name=record.header.name,
                role=role,
                schedule=plan.schedule,
                tau=plan.tau,
                step=step[keep],
                loss=loss[keep],
            )
        )
    roles = {run.role for run in runs}
    if "full" not in roles:
        raise InputError("pilots", sorted(roles), f"need one of the full depth {full} alone", "run that pilot")
    if not roles & {"small", "grown"}:
        raise InputError("pilots", sorted(roles), f"need one of the small depth {small}", "run that pilot")
    points = sum(len(run.step) for run in runs)
    if points < 16:
        raise InputError("points", points, "are too few for 10 parameters", "evaluate pilots more often (16 at least)")
    return runs, small, full


class _Points:
    """What the design needs of a run, computed once: areas in units of the reference, and the noise kernel's lags."""

    def __init__(self, run: PilotRun, reference: float):
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
        """Floor, gap, trunk, fresh (fixed depth), fresh (grown: kappa x amplitude), noise."""
        trunk_exponent, fresh_exponent, onset, rate = np.exp(nonlinear)
        fresh = np.where(self.small, 0.0, (self.since + onset) ** -fresh_exponent)
        zero = np.zeros(len(fresh))
        return np.column_stack(
            [
                np.ones(len(fresh)),
                self.small.astype(float),
                (self.area + onset) ** -trunk_exponent,
                zero if self.grown else fresh,
                fresh if self.grown else zero,
                np.diff(1.0 / (1.0 + rate * self.lag), axis=1) @ self.lr,
            ]
        )


def _solve(
    runs: Sequence[PilotRun],
    reference: float,
    losses: Sequence[np.ndarray],
    *,
    seed: int,
    starts: int,
    start: np.ndarray | None = None,
) -> Solution:
    """Least squares over the nonlinear numbers, the linear ones projected out, from Sobol starts."""
    y = np.concatenate(losses)
    weight = np.concatenate([np.full(len(loss), 1 / np.sqrt(len(loss))) for loss in losses])
    grown = any(run.role == "grown" for run in runs)
    points = [_Points(run, reference) for run in runs]

    def project(nonlinear: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """(linear coefficients >= 0, relative residuals); re-weighted once for Huber's loss."""
        design = np.concatenate([p.columns(nonlinear) for p in points])
        if not grown:
            design = design[:, [0, 1, 2, 3, 5]]
        linear, relative = _nonnegative(design, y, weight / y)
        robust = np.sqrt(np.minimum(1.0, HUBER / np.maximum(np.abs(relative), 1e-12)))
        linear, relative = _nonnegative(design, y, weight / y * robust)
        return linear if grown else np.insert(linear, 4, linear[3]), relative

    low, high = np.log([EXPONENT, EXPONENT, ONSET, RATE]).T
    sobol = scipy.stats.qmc.Sobol(4, seed=seed).random(starts) if starts else np.empty((0, 4))
    best = None
    for x0 in [*(low + sobol * (high - low)), *([] if start is None else [start])]:
        found = scipy.optimize.least_squares(
            lambda x: weight * project(x)[1] / HUBER, np.clip(x0, low, high), bounds=(low, high), loss="huber",
            max_nfev=40, xtol=1e-6, ftol=1e-8,
        )  # fmt: skip
        if best is None or found.cost < best.cost:
            best = found
    assert best is not None
    return Solution(nonlinear=best.x, linear=project(best.x)[0], cost=float(best.cost))


def _nonnegative(design: np.ndarray, y: np.ndarray, scale: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Coefficients >= 0 of the weighted least squares, and relative residuals."""
    linear, _ = scipy.optimize.nnls(design * scale[:, None], y * scale)
    return linear, (design @ linear - y) / y


def _law(x: Solution, runs: Sequence[PilotRun], reference: float, small_depth: int, full_depth: int) -> AreaLaw:
    trunk_exponent, fresh_exponent, onset, rate = np.exp(x.nonlinear)
    floor, gap, trunk, fresh, grown, noise = x.linear
    unit = {"onset": onset * reference, "reference": reference}
    return AreaLaw(
        small_depth=small_depth,
        full_depth=full_depth,
        floor=floor,
        small_gap=gap,
        trunk=Signal(amplitude=trunk, exponent=trunk_exponent, **unit),
        fresh=Signal(amplitude=fresh, exponent=fresh_exponent, **unit),
        kappa=grown / fresh if fresh > 0 else 1.0,
        noise=noise,
        noise_rate=rate / reference,
    )


def _curve(law: AreaLaw, run: PilotRun) -> np.ndarray:
    if run.role == "grown":
        assert run.tau is not None
        return law.grown(run.schedule, run.step, tau=run.tau)
    depth = law.small_depth if run.role == "small" else law.full_depth
    return law.fixed(run.schedule, run.step, depth=depth)


def _identifiability(runs: Sequence[PilotRun], law: AreaLaw, reference: float) -> tuple[str, ...]:
    """What these pilots cannot tell, and which pilot could."""
    lines = []
    if not any(run.role == "grown" for run in runs):
        lines.append("kappa is taken as 1: no pilot grows. A pilot that grows at half its steps would measure it.")
    if law.fresh.amplitude == 0:
        lines.append(
            "fresh amplitude is 0: these pilots show no modes that only the full depth learns. Longer pilots would."
        )
    for name, signal in {"trunk": law.trunk, "fresh": law.fresh}.items():
        if signal.amplitude > 0 and not EXPONENT[0] * 1.02 < signal.exponent < EXPONENT[1] * 0.98:
            end = "small: a logarithm as far as these pilots see" if signal.exponent < 0.5 else "large"
            lines.append(
                f"{name} exponent ends at its bound {signal.exponent:.3g} ({end}). A longer pilot would fix it."
            )
    areas = [run.schedule.total_area for run in runs if run.role == "full"]
    if law.noise > 0 and not any(run.schedule.lrs()[-1] < 0.5 * run.schedule.peak for run in runs):
        lines.append("noise is not seen apart from the floor: no pilot decays its learning rate. One that does would.")
    if max(areas) < 0.3 * reference:
        lines.append(
            f"the full depth is seen for {max(areas) / reference:.0%} of the largest area. A longer one would help."
        )
    return tuple(lines)
