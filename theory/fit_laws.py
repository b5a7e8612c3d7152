r"""Fits any loss law to measured curves: multistart, variable projection, Huber on the log loss, intervals by run.

    minimise  sum_runs (1/n_run) sum_i huber(ln L(t_i) - ln loss_i)

Every run counts the same however often it was logged. Linear parameters are projected out (Golub & Pereyra 1973, with
Kaufman's Jacobian), so the search is over the two to five shape parameters only, from Sobol points within the law's
bounds; these are in units of the data's own largest area and learning rate. The best starts are then polished in all
parameters at once on the objective above, with exact Jacobians.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from theory.errors import InputError
from theory.landscapes.history import History, histories
from theory.landscapes.law import Law, shape_slopes
from theory.schedules import Schedule

__all__ = ["LawFit", "LossCurve", "fit_law"]

HUBER = 0.002  # log residual beyond which a point counts linearly
EXPECTATION = 1e-3  # relative misfit of one curve that weighs as much as a parameter one width off
SCREEN = 64  # Sobol points that are only evaluated
POLISH = 4  # of them are optimised


@dataclass(frozen=True, kw_only=True)
class LossCurve:
    """Losses of one run, and every learning rate that led to them.

    Args:
        name: Of the run.
        schedule: A schedule, or one learning rate for each update from the first, warm-up included.
        step: Updates done when the losses were measured, increasing.
        loss: Nats.
    """

    name: str
    schedule: Schedule | np.ndarray
    step: np.ndarray
    loss: np.ndarray

    def __post_init__(self) -> None:
        step, loss = np.asarray(self.step), np.asarray(self.loss, dtype=float)
        if step.shape != loss.shape or step.ndim != 1 or len(step) == 0:
            raise InputError(
                f"{self.name}: loss", loss.shape, f"needs one value for each of {step.shape} steps", "match them"
            )
        if np.any(np.diff(step) <= 0):
            at = int(np.argmax(np.diff(step) <= 0)) + 1
            raise InputError(f"{self.name}: step", step[at].item(), "does not increase", "sort the curve")
        if not np.all(np.isfinite(loss) & (loss > 0)):
            bad = loss[~(np.isfinite(loss) & (loss > 0))][0].item()
            raise InputError(f"{self.name}: loss", bad, "must be a positive number", "drop diverged points")


@dataclass(frozen=True, kw_only=True)
class LawFit:
    """A fitted law.

    Attributes:
        law: It.
        curves: What it was fitted to.
        cost: Value of the objective.
        jacobian: (N, P) derivative of the log losses with respect to the parameters, in the order of ``law.parameters``.
        weights: (N,) weight of each point.
        status: "identified", or which parameters these curves leave open.
    """

    law: Law
    curves: tuple[LossCurve, ...]
    cost: float
    jacobian: np.ndarray
    weights: np.ndarray


class _Problem:
    """The data and the two objectives, with shapes mapped to the unit cube."""

    def __init__(self, kind: type[Law], curves: Sequence[LossCurve]):
        self.kind = kind
        self.past = histories([(curve.schedule, curve.step) for curve in curves])
        self.loss = np.concatenate([np.asarray(curve.loss, dtype=float) for curve in curves])
        self.weights = np.concatenate([np.full(len(c.loss), 1 / len(c.loss)) for c in curves]) / len(curves)
        area, rate = self.past.total_area, float(np.max(self.past.lr.real))
        self.names = list(kind.shapes)
        shapes = list(kind.shapes.values())
        unit = np.array([area**s.area * rate**s.rate for s in shapes])
        self.low = np.array([s.low for s in shapes]) * unit
        self.high = np.array([s.high for s in shapes]) * unit
        self.log = np.array([s.log for s in shapes], dtype=bool)
        self.scales = {name: {"area": area, "rate": rate}[which] for name, which in kind.scales.items()}
        span = np.array([np.log(s.high / s.low) if s.log else s.high - s.low for s in shapes])
        self.expected = self.unit(dict(zip(self.names, np.array([s.centre for s in shapes]) * unit, strict=True)))
        self.stiffness = EXPECTATION / np.sqrt(len(curves)) * span / np.array([s.width for s in shapes])

    def shape(self, z: np.ndarray) -> dict[str, float]:
        with np.errstate(divide="ignore", invalid="ignore"):
            value = np.where(self.log, self.low * (self.high / self.low) ** z, self.low + (self.high - self.low) * z)
        return {**dict(zip(self.names, value.tolist(), strict=True)), **self.scales}

    def unit(self, shape: dict[str, float]) -> np.ndarray:
        value = np.array([shape[name] for name in self.names])
        with np.errstate(divide="ignore", invalid="ignore"):
            return np.where(self.log, np.log(value / self.low) / np.log(self.high / self.low),
                            (value - self.low) / (self.high - self.low))  # fmt: skip

    def stretch(self, shape: dict[str, float]) -> np.ndarray:
        """d value/d z of each shape parameter."""
        value = np.array([shape[name] for name in self.names])
        with np.errstate(divide="ignore", invalid="ignore"):
            return np.where(self.log, value * np.log(self.high / self.low), self.high - self.low)

    def project(self, z: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Linear parameters >= 0 of the least squares of relative residuals; weighted residuals; design."""
        from scipy.optimize import nnls

        root = np.sqrt(self.weights)
        design = self.kind.columns(self.past, self.shape(z)) * (root / self.loss)[:, None]
        size = np.linalg.norm(design, axis=0)
        size[size == 0] = 1.0
        linear, _ = nnls(design / size, root)
        return linear / size, design @ (linear / size) - root, design

    def residual(self, z: np.ndarray) -> np.ndarray:
        return np.concatenate([self.project(z)[1], self.stiffness * (z - self.expected)])

    def jacobian(self, z: np.ndarray) -> np.ndarray:
        """Kaufman's: the derivative of the design times the coefficients, without what the design can express."""
        linear, _, design = self.project(z)
        shape = self.shape(z)
        slopes = shape_slopes(self.kind, self.past, shape)
        raw = (
            np.column_stack([slopes[name] @ linear for name in self.names])
            * (np.sqrt(self.weights) / self.loss)[:, None]
        )
        basis, _ = np.linalg.qr(design[:, linear > 0])
        return np.vstack([(raw - basis @ (basis.T @ raw)) * self.stretch(shape), np.diag(self.stiffness)])


def fit_law(kind: type[Law], curves: Sequence[LossCurve], *, seed: int = 0) -> LawFit:
    """Fit the law ``kind`` to ``curves``.

    Args:
        kind: A class of :mod:`theory.landscapes`.
        curves: Runs; each counts the same.
        seed: Of the Sobol points.

    Raises:
        InputError: if there are no more points than parameters.
    """
    from scipy.optimize import least_squares
    from scipy.stats import qmc

    problem = _Problem(kind, curves)
    count = len(kind.linear) + len(kind.shapes)
    if len(problem.loss) <= count:
        rule = f"are too few for {count} parameters"
        raise InputError("points", len(problem.loss), rule, f"give {count + 1} or more")
    if not kind.shapes:
        return _finish(problem, curves, np.empty(0))
    points = qmc.Sobol(len(kind.shapes), rng=seed).random(SCREEN)
    costs = [float(np.sum(problem.residual(z) ** 2)) for z in points]
    best: Any = None
    for i in np.argsort(costs)[:POLISH]:
        found = least_squares(
            problem.residual, points[i], problem.jacobian, bounds=(0, 1), max_nfev=100, x_scale="jac", loss="linear"
        )
        if best is None or found.cost < best.cost:
            best = found
    return _finish(problem, curves, best.x)


def _finish(problem: _Problem, curves: Sequence[LossCurve], z: np.ndarray) -> LawFit:
    """Polish all parameters on the Huber objective from the projected optimum."""
    from scipy.optimize import least_squares

    linear, _, _ = problem.project(z)
    kind, count = problem.kind, len(problem.kind.linear)
    size = np.where(
        linear > 0,
        linear,
        np.max(problem.loss) / np.maximum(np.abs(kind.columns(problem.past, problem.shape(z))).max(axis=0), 1e-300),
    )

    def unpack(x: np.ndarray) -> tuple[np.ndarray, dict[str, float]]:
        return x[:count] * size, problem.shape(x[count:])

    def residual(x: np.ndarray) -> np.ndarray:
        weights, shape = unpack(x)
        predicted = kind.columns(problem.past, shape) @ weights
        misfit = np.log(np.maximum(predicted, 1e-3 * problem.loss) / problem.loss)
        return np.concatenate([misfit, problem.stiffness * (x[count:] - problem.expected)])

    def jacobian(x: np.ndarray) -> np.ndarray:
        weights, shape = unpack(x)
        columns = kind.columns(problem.past, shape)
        slopes = shape_slopes(kind, problem.past, shape)
        inner = np.column_stack([columns * size, *(slopes[n] @ weights for n in problem.names)])
        inner[:, count:] *= problem.stretch(shape)
        inner /= np.maximum(columns @ weights, 1e-3 * problem.loss)[:, None]
        return np.vstack([inner, np.hstack([np.zeros((len(x) - count, count)), np.diag(problem.stiffness)])])

    def huber(square: np.ndarray) -> np.ndarray:
        root = np.sqrt(np.maximum(square, 1.0))
        inside = square <= 1
        rho = np.array(
            [np.where(inside, square, 2 * root - 1), np.where(inside, 1, 1 / root), np.where(inside, 0, -0.5 / root**3)]
        )
        points = len(problem.loss)
        rho[:, :points] *= problem.weights
        rho[:, points:] = np.array([square[points:], np.ones(len(square) - points), np.zeros(len(square) - points)])
        return rho

    start = np.concatenate([linear / size, z])
    low, high = np.zeros(len(start)), np.concatenate([np.full(count, np.inf), np.ones(len(z))])
    found = least_squares(residual, np.clip(start, low, np.where(np.isfinite(high), high, start)), jacobian, bounds=(low, high), loss=huber,
                          f_scale=HUBER, x_scale="jac", max_nfev=200)  # fmt: skip
    weights, shape = unpack(found.x)
    law = kind.from_parameters({**dict(zip(kind.linear, weights.tolist(), strict=True)), **shape})
    return LawFit(
        law=law, curves=tuple(curves), cost=float(found.cost), jacobian=jacobian(found.x)[: len(problem.loss)], weights=problem.weights
    )
