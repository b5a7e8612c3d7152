"""Fits of laws that are linear in non-negative coefficients: a Sobol multistart over the few nonlinear ones.

Private, and kept small so that it can be merged with :mod:`latebloom.theory.fitting.area`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import scipy

from latebloom.theory.errors import InputError

if TYPE_CHECKING:
    from numpy.typing import ArrayLike

__all__ = ["Projection", "check_points", "project"]

SOLVES = 3  # non-negative least squares per evaluation: each re-weights for Huber's loss after the last
FLOOR = 1e-300


@dataclass(frozen=True, kw_only=True)
class Projection:
    """Optimum of a projected fit: nonlinear parameters, non-negative linear coefficients, Huber cost, evaluations."""

    nonlinear: np.ndarray
    linear: np.ndarray
    cost: float
    evaluations: int


def project(
    columns: Callable[[np.ndarray], np.ndarray],
    loss: np.ndarray,
    bounds: np.ndarray,
    *,
    huber: float,
    starts: int = 8,
    seed: int = 0,
) -> Projection:
    r"""Minimise sum_i rho(log(prediction_i/loss_i)), prediction = columns(x) c, over x in a box and c >= 0.

    rho is Huber's function, quadratic up to ``huber``. For each x the coefficients c are projected out by non-negative
    least squares on relative residuals, re-weighted for rho (Golub & Pereyra, SIAM J. Numer. Anal. 10 (1973) 413).

    Args:
        columns: Nonlinear parameters to design, shape (points, coefficients).
        loss: Measured losses, positive.
        bounds: Shape (parameters, 2).
        huber: Log residual beyond which a point counts linearly; infinite for least squares.
        starts: Points of a scrambled Sobol sequence to start from; a power of 2.
        seed: Of the sequence.

    Raises:
        InputError: if no start gives a finite cost.
    """
    nnls, least_squares = scipy.optimize.nnls, scipy.optimize.least_squares
    low, high = np.asarray(bounds, dtype=float).T

    def solve(x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        design = columns(x) / loss[:, None]
        linear, residual, weight = np.zeros(design.shape[1]), np.ones(len(loss)), np.ones(len(loss))
        for _ in range(SOLVES if np.isfinite(huber) else 1):
            linear = nnls(design * weight[:, None], weight)[0]
            residual = np.log(np.maximum(design @ linear, FLOOR))
            weight = np.sqrt(np.minimum(1.0, huber / np.maximum(np.abs(residual), FLOOR)))
        return linear, residual

    scale = huber if np.isfinite(huber) else 1.0
    best, evaluations = None, 0
    for u in scipy.stats.qmc.Sobol(len(low), seed=seed).random(starts):
        found = least_squares(
            lambda x: solve(x)[1] / scale, low + u * (high - low), bounds=(low, high), x_scale=high - low,
            loss="huber" if np.isfinite(huber) else "linear", max_nfev=100,
        )  # fmt: skip
        evaluations += int(found.nfev)
        if np.isfinite(found.cost) and (best is None or found.cost < best.cost):
            best = found
    if best is None:
        raise InputError("loss", loss, "gives no finite cost from any start", "check the data")
    return Projection(nonlinear=best.x, linear=solve(best.x)[0], cost=float(best.cost), evaluations=evaluations)


def check_points(parameters: int, /, **columns: ArrayLike) -> list[np.ndarray]:
    """The columns as float arrays of one length.

    Raises:
        InputError: if lengths differ, a value is not finite and positive, or there are too few points.
    """
    arrays = [np.asarray(column, dtype=float) for column in columns.values()]
    for name, array in zip(columns, arrays, strict=True):
        if array.ndim != 1 or len(array) != len(arrays[0]):
            rule = f"must have one value for each of the {len(arrays[0])} points"
            raise InputError(name, array.shape, rule, "give columns of one length")
        bad = ~(np.isfinite(array) & (array > 0))
        if bad.any():
            i = int(np.argmax(bad))
            raise InputError(
                f"{name}[{i}]", float(array[i]), "must be finite and positive", "drop or correct the point"
            )
    if len(arrays[0]) <= parameters:
        rule = f"points are too few for {parameters} parameters"
        raise InputError("points", len(arrays[0]), rule, f"give at least {parameters + 1}")
    return arrays
