r"""Fits any loss law to measured curves: multistart, variable projection, Huber on the log loss, intervals by run.

    minimise  (1/R) sum_runs (1/n_run) sum_i rho(ln L(t_i) - ln loss_i) + (e^2/R) sum_p ((theta_p - centre_p)/width_p)^2

Every run counts the same however often it was logged; rho is Huber's (:data:`THRESHOLD`). The last term holds shape
parameters that the curves leave open near where the law expects them (:data:`EXPECTATION`; published laws expect
nothing). Linear parameters are projected out (Golub & Pereyra 1973, with Kaufman's Jacobian), so the search is over
the shape parameters only, from Sobol points within the law's bounds, which are in units of the data's own largest area
and learning rate. The best start is then polished in all parameters at once on the objective above, with exact
Jacobians. No setting depends on the data set.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import scipy

from latebloom.theory import checks
from latebloom.theory.errors import InputError
from latebloom.theory.fitting.bootstrap import LEVEL, interval, resampled_losses
from latebloom.theory.fitting.curves import LossCurve
from latebloom.theory.fitting.engine import huber, least_cost, nonnegative, sobol
from latebloom.theory.landscapes.law import Law, shape_slopes
from latebloom.theory.landscapes.lr_history import GroupRates, histories

__all__ = [
    "LawFit",
    "bootstrap_laws",
    "carried_losses",
    "fit_law",
    "held_out_errors",
    "law_report",
    "prediction_errors",
]

THRESHOLD = 0.002  # log residual beyond which a point counts linearly
EXPECTATION = 1e-3  # e: relative misfit of one curve that weighs as much as a parameter one width off
SCREEN = 64  # Sobol points that are evaluated
STARTS = 4  # of them are optimised
OPEN = 1.0  # standard error (of a logarithm, or in widths) beyond which a parameter counts as open
SILENT = 0.1  # relative error of a held-out prediction that is no prediction: the others leave the law open


@dataclass(frozen=True, kw_only=True)
class LawFit:
    """A fitted law.

    Attributes:
        law: The fitted law.
        curves: What it was fitted to.
        cost: Value of the objective.
        predicted: The law's losses at the curves' points, one array a curve.
        errors: Standard error of each parameter from the curves alone: of its logarithm, or (parameters that may be 0)
            as a share of its range; infinite where they say nothing.
        identifiability: One line for each parameter that the curves leave open, and the run that would fix it.
    """

    law: Law
    curves: tuple[LossCurve, ...]
    cost: float
    predicted: tuple[np.ndarray, ...]
    errors: dict[str, float]
    identifiability: tuple[str, ...]

    @property
    def status(self) -> str:
        """ "identified", or "open: " and the parameters that the curves leave open."""
        names = [line.split(":")[0] for line in self.identifiability]
        return f"open: {', '.join(names)}" if names else "identified"


def fit_law(
    kind: type[Law], curves: Sequence[LossCurve], *, seed: int = 0, start: dict[str, float] | None = None
) -> LawFit:
    """Fit the law ``kind`` to ``curves``.

    Args:
        kind: A class of :mod:`latebloom.theory.landscapes`.
        curves: Runs of one model; each counts the same.
        seed: Of the Sobol points.
        start: Shape parameters to start from instead of many points.

    Raises:
        InputError: if there are no more points than parameters.
    """
    problem = _Problem(kind, curves)
    count = len(kind.linear) + len(kind.shapes)
    if len(problem.loss) <= count:
        rule = f"are too few for {count} parameters"
        raise InputError("points", len(problem.loss), rule, f"give {count + 1} or more")
    return _polish(problem, curves, _search(problem, seed, start))


def carried_losses(fit: LawFit, schedule: Any, step: np.ndarray) -> np.ndarray:
    """Losses of a run that reads the same batches in the same order as the fitted ones, at the same steps.

        L(t) exp(d(t)),    d(t) = mean over fitted runs of ln(loss/L) at step t

    The order of the data moves all such runs together, by more than seeds do, and so does much of what the law cannot
    express. Between a run's points d is a straight line, beyond all points it stays. Runs that read other batches, or
    differ in more than their schedule, are better predicted by ``fit.law.loss``.

    Args:
        fit: A fitted law.
        schedule: Of the run that is predicted, as in :meth:`latebloom.theory.landscapes.law.Law.loss`.
        step: Updates done, increasing, shape (points,).

    Returns:
        Nats, shape (points,).
    """
    losses = fit.law.loss(schedule, step)
    every = np.unique(np.concatenate([curve.step for curve in fit.curves]))
    missed = [
        np.interp(every, curve.step, np.log(curve.loss / predicted), left=np.nan, right=np.nan)
        for curve, predicted in zip(fit.curves, fit.predicted, strict=True)
    ]
    return losses * np.exp(np.interp(step, every, np.nanmean(missed, axis=0)))


def prediction_errors(fit: LawFit, curve: LossCurve) -> dict[str, float]:
    """Mean relative errors on a run that was not fitted: of the law ``alone``, and of :func:`carried_losses`.

    Args:
        fit: A fitted law.
        curve: The run.
    """
    losses = {
        "alone": fit.law.loss(curve.schedule, curve.step),
        "carried": carried_losses(fit, curve.schedule, curve.step),
    }
    return {how: float(np.mean(np.abs(loss / curve.loss - 1))) for how, loss in losses.items()}


def bootstrap_laws(fit: LawFit, *, replicas: int = 40, seed: int = 0) -> tuple[Law, ...]:
    """Replicas of the law by wild cluster bootstrap with held-out residuals, clusters = runs.

    See :mod:`latebloom.theory.fitting.bootstrap`. A run's residuals are those of the fit without it, unless the others
    are too few points or say nothing of it (:data:`SILENT`). Parameters that the curves leave open are held by the
    law's expectations in every replica: their intervals say nothing, their :attr:`LawFit.identifiability` does.

    Args:
        fit: The fit.
        replicas: How many.
        seed: Of the weights.

    Returns:
        One law a replica.
    """
    kind, shape = type(fit.law), {name: fit.law.parameters[name] for name in type(fit.law).shapes}
    residuals = []
    for curve, predicted in zip(fit.curves, fit.predicted, strict=True):
        others = [other for other in fit.curves if other is not curve]
        if sum(len(other.step) for other in others) > len(fit.law.linear) + len(shape):
            alone = fit_law(kind, others, start=shape).law.loss(curve.schedule, curve.step)
            if np.all(np.abs(alone / curve.loss - 1) < SILENT):
                predicted = alone
        residuals.append(np.log(curve.loss / predicted))
    laws = []
    for losses in resampled_losses(fit.predicted, residuals, replicas=replicas, seed=seed):
        curves = [replace(curve, loss=loss) for curve, loss in zip(fit.curves, losses, strict=True)]
        laws.append(fit_law(kind, curves, start=shape).law)
    return tuple(laws)


def held_out_errors(
    kinds: Sequence[type[Law]], curves: Sequence[LossCurve], *, seed: int = 0
) -> dict[type[Law], dict[str, float]]:
    """Mean relative error on each run of the law that was fitted without it: what laws are chosen by.

    A single run is split in steps instead: the last third is predicted from the rest.

    Args:
        kinds: Laws to compare.
        curves: Runs of one model.
        seed: Of the searches.

    Returns:
        Errors by run for every law with enough points; laws without are left out, and laws of two learning rates where
        the runs have one.

    Raises:
        InputError: if no law has enough points.
    """
    folds = [([c for c in curves if c is not held], held) for held in curves]
    if len(curves) == 1:
        cut = 2 * len(curves[0].step) // 3
        if cut < 1:
            raise InputError("points", len(curves[0].step), "are too few to hold some out", "log more often")
        early, late = (replace(curves[0], step=curves[0].step[s], loss=curves[0].loss[s]) for s in np.s_[:cut, cut:])
        folds = [([early], late)]
    table = {}
    two_rates = all(isinstance(curve.schedule, GroupRates) for curve in curves)
    for kind in kinds:
        if "other" in kind.scales.values() and not two_rates:
            continue
        if any(sum(len(c.step) for c in rest) <= len(kind.linear) + len(kind.shapes) for rest, _ in folds):
            continue
        fits = [(fit_law(kind, rest, seed=seed).law, held) for rest, held in folds]
        table[kind] = {h.name: float(np.mean(np.abs(law.loss(h.schedule, h.step) / h.loss - 1))) for law, h in fits}
    if not table:
        raise InputError("points", sum(len(c.step) for c in curves), "are too few for any law", "log more often")
    return table


def law_report(fit: LawFit, replicas: Sequence[Law], *, level: float = LEVEL) -> dict[str, Any]:
    """Parameters with units and intervals, errors by run, and what the runs leave open, as plain data.

    Args:
        fit: The fit.
        replicas: Of :func:`bootstrap_laws`; without any there are no intervals.
        level: Of the intervals.

    Returns:
        ``law``, ``parameters``, ``runs``, ``status`` and ``identifiability``.
    """
    law = fit.law
    spread = {
        name: interval([other.parameters[name] for other in replicas], level=level, estimate=value)
        if replicas
        else None
        for name, value in law.parameters.items()
    }
    errors = [np.abs(p / c.loss - 1) for p, c in zip(fit.predicted, fit.curves, strict=True)]
    return {
        "law": law.__struct_config__.tag,
        "parameters": {
            name: {
                "value": value,
                "unit": law.units.get(name, "1"),
                "low": around.low if around else None,
                "high": around.high if around else None,
            }
            for (name, value), around in zip(law.parameters.items(), spread.values(), strict=True)
        },
        "runs": {
            c.name: {"points": len(c.step), "mean": float(e.mean()), "worst": float(e.max())}
            for c, e in zip(fit.curves, errors, strict=True)
        },
        "status": fit.status,
        "identifiability": list(fit.identifiability),
    }


class _Problem:
    """The data and both objectives, with shape parameters mapped to the unit cube."""

    def __init__(self, kind: type[Law], curves: Sequence[LossCurve]):
        self.kind = kind
        self.past = histories([(curve.schedule, curve.step) for curve in curves])
        self.loss = np.concatenate([np.asarray(curve.loss, dtype=float) for curve in curves])
        self.weights = np.concatenate([np.full(len(c.loss), 1 / len(c.loss)) for c in curves]) / len(curves)
        self.longest = max(int(curve.step[-1]) for curve in curves)
        area, rate, other = self.past.total_area, self.past.rate_unit, self.past.of_others.usual_lr
        self.names = list(kind.shapes)
        shapes = list(kind.shapes.values())
        unit = np.array([area**s.area * rate**s.rate * other**s.other for s in shapes])
        self.low = np.array([s.low for s in shapes]) * unit
        self.high = np.array([s.high for s in shapes]) * unit
        self.log = np.array([s.log for s in shapes], dtype=bool)
        self.scales = {name: {"area": area, "rate": rate, "other": other}[which] for name, which in kind.scales.items()}
        self.span = np.array([np.log(s.high / s.low) if s.log else s.high - s.low for s in shapes])
        self.width = np.array([s.width for s in shapes])
        self.expected = self.unit(dict(zip(self.names, np.array([s.centre for s in shapes]) * unit, strict=True)))
        self.stiffness = EXPECTATION / np.sqrt(len(curves)) * self.span / self.width

    def shape(self, z: np.ndarray) -> dict[str, float]:
        value = np.where(self.log, self.low * np.exp(self.span * z), self.low + self.span * z)
        return {**dict(zip(self.names, value.tolist(), strict=True)), **self.scales}

    def unit(self, shape: dict[str, float]) -> np.ndarray:
        value = np.array([shape[name] for name in self.names])
        offset = np.log(np.where(self.log, value, 1.0) / np.where(self.log, self.low, 1.0))
        return np.where(self.log, offset, value - self.low) / self.span

    def stretch(self, shape: dict[str, float]) -> np.ndarray:
        """d value/d z of each shape parameter."""
        return np.where(self.log, np.array([shape[name] for name in self.names]), 1.0) * self.span

    def project(self, z: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Linear parameters >= 0 of the least squares of relative residuals; weighted residuals; design."""
        root = np.sqrt(self.weights)
        design = self.kind.columns(self.past, self.shape(z)) * (root / self.loss)[:, None]
        size = np.linalg.norm(design, axis=0)
        size[size == 0] = 1.0
        linear, _ = nonnegative(design / size, root, np.ones(len(root)))
        return linear / size, design @ (linear / size) - root, design

    def residual(self, z: np.ndarray) -> np.ndarray:
        return np.concatenate([self.project(z)[1], self.stiffness * (z - self.expected)])

    def jacobian(self, z: np.ndarray) -> np.ndarray:
        """Kaufman's: the derivative of the design times the coefficients, without what the design can express."""
        linear, _, design = self.project(z)
        shape = self.shape(z)
        slopes = shape_slopes(self.kind, self.past, shape)
        raw = np.column_stack([slopes[name] @ linear for name in self.names])
        raw *= (np.sqrt(self.weights) / self.loss)[:, None]
        basis, _ = np.linalg.qr(design[:, linear > 0])
        return np.vstack([(raw - basis @ (basis.T @ raw)) * self.stretch(shape), np.diag(self.stiffness)])


def _search(problem: _Problem, seed: int, start: dict[str, float] | None) -> np.ndarray:
    """Best optimum of the projected problem."""
    if not problem.names:
        return np.empty(0)
    if start is not None:
        points = np.clip(problem.unit(start), 0, 1)[None]
    else:
        checks.whole("seed", seed, 0)
        points = sobol(len(problem.names), SCREEN, seed=np.random.default_rng(seed))
        costs = [float(np.sum(problem.residual(z) ** 2)) for z in points]
        points = points[np.argsort(costs)[:STARTS]]
    inside = np.clip(points, 1e-6, 1 - 1e-6)
    best = least_cost(
        lambda start: scipy.optimize.least_squares(
            problem.residual, start, problem.jacobian, bounds=(0, 1), max_nfev=100, x_scale="jac"
        ),
        inside,
    )
    if best is None:
        raise InputError("loss", None, "gives no finite cost from any start", "check the curves")
    return best.x


def _polish(problem: _Problem, curves: Sequence[LossCurve], z: np.ndarray) -> LawFit:
    """All parameters together on the Huber objective, from the projected optimum."""
    kind, past, loss, count = problem.kind, problem.past, problem.loss, len(problem.kind.linear)
    linear, _, _ = problem.project(z)
    reach = np.max(np.abs(kind.columns(past, problem.shape(z))), axis=0)  # what each column can contribute
    size = np.where(linear > 0, linear, np.max(loss) / np.where(reach > 0, reach, 1.0))
    lowest = 1e-3 * loss  # of a prediction on the way: the logarithm needs a positive one

    def parts(x: np.ndarray) -> tuple[np.ndarray, dict[str, float], np.ndarray]:
        shape = problem.shape(x[count:])
        return x[:count] * size, shape, kind.columns(past, shape)

    def residual(x: np.ndarray) -> np.ndarray:
        weights, _, columns = parts(x)
        misfit = np.log(np.maximum(columns @ weights, lowest) / loss)
        return np.concatenate([misfit, problem.stiffness * (x[count:] - problem.expected)])

    def jacobian(x: np.ndarray) -> np.ndarray:
        weights, shape, columns = parts(x)
        slopes = shape_slopes(kind, past, shape)
        inner = np.column_stack([columns * size, *(slopes[name] @ weights for name in problem.names)])
        inner[:, count:] *= problem.stretch(shape)
        inner /= np.maximum(columns @ weights, lowest)[:, None]
        return np.vstack([inner, np.hstack([np.zeros((len(z), count)), np.diag(problem.stiffness)])])

    def weighed(square: np.ndarray) -> np.ndarray:
        """Huber's rho for the points, each with its weight; plain squares for the expectations that follow them."""
        rho = huber(square)
        rho[:, : len(loss)] *= problem.weights
        rho[:, len(loss) :] = np.array([square[len(loss) :], np.ones(len(z)), np.zeros(len(z))])
        return rho

    start = np.concatenate([linear / size, z])
    high = np.concatenate([np.full(count, np.inf), np.ones(len(z))])
    best = scipy.optimize.least_squares(
        residual, start, jacobian, bounds=(0, high), loss=weighed, f_scale=THRESHOLD, x_scale="jac", max_nfev=200
    )
    weights, shape, columns = parts(best.x)
    law = kind.from_parameters({**dict(zip(kind.linear, weights.tolist(), strict=True)), **shape})
    predicted = columns @ weights
    errors = _standard_errors(
        problem, jacobian(best.x)[: len(loss)], best.x, np.log(np.maximum(predicted, lowest) / loss)
    )
    return LawFit(
        law=law,
        curves=tuple(curves),
        cost=float(best.cost),
        predicted=tuple(np.split(predicted, np.cumsum([len(c.loss) for c in curves])[:-1])),
        errors=errors,
        identifiability=_identifiability(problem, law, errors, best.x[count:]),
    )


def _standard_errors(problem: _Problem, jacobian: np.ndarray, x: np.ndarray, misfit: np.ndarray) -> dict[str, float]:
    """Of each parameter, from the curves alone and with one residual's worth of information a curve (residuals along a
    curve are correlated): how far it moves, the others following, before the fit gets visibly worse."""
    count = len(problem.kind.linear)
    scale = np.concatenate([x[:count], np.ones(len(x) - count)])  # logarithms of linear parameters
    free = scale > 0
    scaled = np.sqrt(problem.weights)[:, None] * jacobian[:, free] * scale[free]
    noise = max(float(np.sqrt(np.sum(problem.weights * misfit**2))), 1e-9) / np.sqrt(len(np.unique(problem.past.run)))
    _, singular, right = np.linalg.svd(scaled, full_matrices=False)
    inverse = 1 / np.maximum(singular, 1e-12 * singular[0])
    spread = np.full(len(x), np.inf)
    spread[free] = noise * np.sqrt(np.sum((right.T * inverse) ** 2, axis=1))
    spread[count:] *= np.where(problem.log, problem.span, 1.0)  # to logarithms, or shares of the range
    return dict(zip([*problem.kind.linear, *problem.names], spread.tolist(), strict=True))


def _identifiability(problem: _Problem, law: Law, errors: dict[str, float], z: np.ndarray) -> tuple[str, ...]:
    lines = []
    share = dict(zip(problem.names, z.tolist(), strict=True))  # where each lies between its bounds
    for name, error in errors.items():
        value = law.parameters[name]
        expected = name in share and bool(np.isfinite(problem.width[problem.names.index(name)]))
        held = f" It stands near what the law expects, {value:.3g}." if expected else ""
        remedy = law.remedies.get(name, "A run of more than {steps} steps").format(steps=problem.longest)
        if name not in share and value == 0 and name != law.linear[0]:
            lines.append(f"{name}: is 0, these runs show no sign of it. {remedy} would.")
        elif (
            name in share and not 1e-4 < share[name] < 1 - 1e-4 and (problem.kind.shapes[name].log or share[name] > 0.5)
        ):
            end = "lower" if share[name] < 0.5 else "upper"
            lines.append(f"{name}: ends at its {end} bound {value:.3g}. {remedy} would fix it.")
        elif error > OPEN:
            known = "is not fixed at all" if error > 10 else f"is known to a factor of {np.exp(error):.2g} only"
            lines.append(f"{name}: {known} by these runs.{held} {remedy} would fix it.")
    return tuple(lines)
