r"""What all fits share: where they start, how coefficients are projected out, how outliers are weighed.

A law is linear in some coefficients c >= 0 and not in a few numbers x:

    prediction(x, c) = columns(x) c,      minimise over x in a box and c >= 0   sum_i w_i rho(r_i/h)

with r_i the relative residuals. For each x the coefficients are projected out by non-negative least squares (Golub &
Pereyra, SIAM J. Numer. Anal. 10 (1973) 413); x is searched from the points of a scrambled Sobol sequence, and the least
cost is kept. rho is Huber's, r^2/2 up to the threshold h and linear beyond. The thresholds are the scatter of what is
fitted, and an argument:

    .005    pilots: a validation loss on few batches, read once
    .002    long logged curves, and shapes of models: averages over many batches
    .001    published final losses, as in Hoffmann et al. (arXiv 2203.15556) and its refits
    inf     least squares, where the score is a root mean square
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
import scipy

from latebloom.theory import checks
from latebloom.theory.errors import InputError

__all__ = [
    "Projection", "huber", "huber_weight", "least_cost", "nonnegative", "project", "sobol",
]  # fmt: skip

SOLVES = 3  # non-negative least squares per evaluation: each re-weights for Huber's loss after the last
SMALLEST = 1e-300  # keeps logarithms and ratios finite


def sobol(dimension: int, count: int, *, seed: int | np.random.Generator) -> np.ndarray:
    """Points of a scrambled Sobol sequence in the unit cube, from which a search starts.

    Args:
        dimension: Axes of the cube.
        count: Points; a power of 2, or 0.
        seed: Of the scrambling. An integer and the generator made of it give different points.

    Returns:
        Shape (count, dimension).

    Raises:
        InputError: if the count or the seed is not a whole number >= 0.
    """
    checks.whole("starts", count, 0)
    if not isinstance(seed, np.random.Generator):
        checks.whole("seed", seed, 0)
    return scipy.stats.qmc.Sobol(dimension, seed=seed).random(count) if count else np.empty((0, dimension))


def least_cost(solve: Callable[[np.ndarray], Any], starts: Iterable[np.ndarray]) -> Any | None:
    """The result of least finite ``cost`` among those of all starts, the first of equals; None if there is none.

    Args:
        solve: A start to scipy's result.
        starts: Starting points, shape (parameters,) each.
    """
    best = None
    for start in starts:
        result = solve(start)
        if np.isfinite(result.cost) and (best is None or result.cost < best.cost):
            best = result
    return best


def nonnegative(design: np.ndarray, target: np.ndarray, weight: np.ndarray) -> tuple[np.ndarray, float]:
    """Coefficients c >= 0 that minimise sum_i weight_i^2 (design_i . c - target_i)^2.

    Args:
        design: Shape (points, coefficients).
        target: Shape (points,).
        weight: Of each point, shape (points,).

    Returns:
        The coefficients, shape (coefficients,), and the square root of the sum.
    """
    return scipy.optimize.nnls(design * weight[:, None], target * weight)


def huber_weight(residual: np.ndarray, threshold: float) -> np.ndarray:
    """sqrt(min(1, h/|r|)): multiplying residuals by it makes the next least squares that of Huber's loss.

    Args:
        residual: r, any shape.
        threshold: h > 0, where Huber's loss turns from a square into a line.
    """
    return np.sqrt(np.minimum(1.0, threshold / np.maximum(np.abs(residual), SMALLEST)))


def huber(square: np.ndarray) -> np.ndarray:
    """Huber's rho of z = (r/h)^2 and its two derivatives, shape (3, points), as ``scipy.optimize.least_squares`` asks.

    rho = z up to 1, 2 sqrt(z) - 1 beyond. scipy's own ``"huber"``, to be weighed point by point.

    Args:
        square: z of each point, shape (points,).
    """
    root = np.sqrt(np.maximum(square, 1.0))
    far = square > 1
    return np.array([np.where(far, 2 * root - 1, square), 1 / root, np.where(far, -0.5 / root**3, 0.0)])


@dataclass(frozen=True, kw_only=True)
class Projection:
    """Optimum of a projected fit.

    Attributes:
        nonlinear: x, shape (parameters,).
        linear: c >= 0, shape (coefficients,).
        cost: Huber cost.
        evaluations: Of the design.
    """

    nonlinear: np.ndarray
    linear: np.ndarray
    cost: float
    evaluations: int


def project(
    columns: Callable[[np.ndarray], np.ndarray],
    loss: np.ndarray,
    bounds: np.ndarray,
    *,
    threshold: float,
    starts: int = 8,
    seed: int = 0,
) -> Projection:
    r"""Minimise sum_i rho(log(prediction_i/loss_i)), prediction = columns(x) c, over x in a box and c >= 0.

    Args:
        columns: Nonlinear parameters x to the design, shape (points, coefficients).
        loss: Measured losses, positive, shape (points,).
        bounds: Box of x, shape (parameters, 2).
        threshold: Log residual beyond which a point counts linearly; infinite for least squares.
        starts: Sobol points to start from; a power of 2.
        seed: Of the Sobol points.

    Returns:
        The optimum.

    Raises:
        InputError: if no start gives a finite cost.
    """
    low, high = np.asarray(bounds, dtype=float).T
    robust = bool(np.isfinite(threshold))

    def solve(nonlinear: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        design = columns(nonlinear) / loss[:, None]
        linear, residual, weight = np.zeros(design.shape[1]), np.ones(len(loss)), np.ones(len(loss))
        for _ in range(SOLVES if robust else 1):
            linear, _ = nonnegative(design, np.ones(len(loss)), weight)
            residual = np.log(np.maximum(design @ linear, SMALLEST))
            weight = huber_weight(residual, threshold)
        return linear, residual

    scale = threshold if robust else 1.0
    evaluations = 0

    def search(start: np.ndarray) -> Any:
        nonlocal evaluations
        result = scipy.optimize.least_squares(
            lambda nonlinear: solve(nonlinear)[1] / scale, start, bounds=(low, high), x_scale=high - low,
            loss="huber" if robust else "linear", max_nfev=100,
        )  # fmt: skip
        evaluations += int(result.nfev)
        return result

    best = least_cost(search, low + sobol(len(low), starts, seed=seed) * (high - low))
    if best is None:
        raise InputError("loss", loss, "gives no finite cost from any start", "check the data")
    return Projection(nonlinear=best.x, linear=solve(best.x)[0], cost=float(best.cost), evaluations=evaluations)
