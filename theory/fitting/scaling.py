"""Fitting the laws over model size, shape and tokens to final losses of many runs."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np
import scipy

from latebloom.theory import checks
from latebloom.theory.errors import InputError
from latebloom.theory.fitting.engine import least_cost, project, sobol
from latebloom.theory.landscapes.nqs import COSINE, NoisyQuadratic, loss_terms, modes, segments_of
from latebloom.theory.landscapes.scaling import ShapeLaw, SizeLaw, log_ratios, shape_columns

if TYPE_CHECKING:
    from typing import Any

    from numpy.typing import ArrayLike

__all__ = ["fit_noisy_quadratic", "fit_shape_law", "fit_size_law"]

SIZE_THRESHOLD = 1e-3  # log residual, as in Hoffmann et al. and its refits
SHAPE_THRESHOLD = 2e-3  # the scatter of a loss averaged over a few batches
SHAPE_BOUNDS = np.array([(0.02, 2.0), (0.02, 2.0), (0.02, 2.0), (-1.0, 1.0)])  # a, b, c, d
QUADRATIC_THRESHOLD = np.inf  # least squares: the league's measure is a root mean square
QUADRATIC_BOUNDS = np.array(  # p, q, ln Q, r, ln n0, ln B_c
    [(1.01, 2.0), (0.2, 2.0), (-8.0, 0.0), (0.0, 4.0), (-2.0, 10.0), (-2.0, 8.0)]
)


def fit_size_law(
    parameters: ArrayLike, tokens: ArrayLike, loss: ArrayLike, *, starts: int = 16, seed: int = 0
) -> SizeLaw:
    """Least Huber loss of log L over (E, A, alpha, B, beta), the objective of Hoffmann et al., sect. D.2.

    The valley is flat: fits that stop early report amplitudes off by several per cent at equal exponents. This one
    polishes until the step is below 1e-12.

    Args:
        parameters: N of each run, shape (runs,).
        tokens: D of each run, shape (runs,).
        loss: Final loss of each run, nats, shape (runs,).
        starts: Points of the Sobol multistart, a power of 2.
        seed: Of the Sobol sequence.

    Raises:
        InputError: if columns do not match, a value is not positive, or there are too few points.
    """
    n, d, y = checks.columns(5, parameters=parameters, tokens=tokens, loss=loss)
    logs = np.log(n / np.median(n)), np.log(d / np.median(d)), np.log(y)

    def residual(x: np.ndarray) -> np.ndarray:
        floor, size, token, alpha, beta = x
        terms = np.logaddexp(size - alpha * logs[0], token - beta * logs[1])
        return (np.logaddexp(terms, floor) - logs[2]) / SIZE_THRESHOLD

    lowest = float(np.log(np.min(y)))
    low = np.array([lowest - 3, lowest - 6, lowest - 6, 0.05, 0.05])
    high = np.array([lowest, lowest + 1, lowest + 1, 1.0, 1.0])

    def search(start: np.ndarray) -> Any:
        result = scipy.optimize.least_squares(
            residual, start, loss="huber", xtol=1e-12, ftol=1e-15, gtol=1e-12, max_nfev=400, x_scale=high - low
        )
        if min(result.x[3:]) <= 0:  # a rising power law: no answer, however good the fit
            result.cost = np.inf
        return result

    best = least_cost(search, low + sobol(5, starts, seed=seed) * (high - low))
    if best is None:
        rule = "leads to no exponents above 0 from any start"
        raise InputError("loss", y, rule, "check that losses fall with parameters and tokens")
    floor, size, token, alpha, beta = (float(v) for v in best.x)
    return SizeLaw(
        floor=math.exp(floor),
        size_amplitude=math.exp(size) * float(np.median(n)) ** alpha,
        size_exponent=alpha,
        token_amplitude=math.exp(token) * float(np.median(d)) ** beta,
        token_exponent=beta,
    )


def fit_shape_law(
    width: ArrayLike,
    depth: ArrayLike,
    tokens: ArrayLike,
    loss: ArrayLike,
    *,
    lr: ArrayLike | None = None,
    starts: int = 8,
    seed: int = 0,
) -> ShapeLaw:
    """The shape law of least Huber loss in log L; five coefficients are projected out, four exponents searched.

    Args:
        width: w of each point, shape (points,); a run may give several points along its tokens.
        depth: L of each point, blocks, shape (points,).
        tokens: D of each point, shape (points,).
        loss: Loss at each point, nats, shape (points,).
        lr: Learning rate of each point, in any unit, or what a shape rule gives, such as 1/(w sqrt(L)). None: the same
            everywhere, so that its exponent and noise cannot be told and are 0: the additive law in w, L, D.
        starts: Points of the Sobol multistart, a power of 2.
        seed: Of the Sobol sequence.

    Raises:
        InputError: if columns do not match, a value is not positive, there are too few points, or a column is constant.
    """
    names: dict[str, ArrayLike] = {"width": width, "depth": depth, "tokens": tokens}
    if lr is not None:
        names["lr"] = lr
    *arrays, y = checks.columns(7 if lr is None else 9, **names, loss=loss)
    for name, array in zip(names, arrays, strict=True):
        if np.ptp(np.log(array)) < 1e-9:
            rule = "is the same at every point, so its exponent cannot be told"
            raise InputError(name, float(array[0]), rule, "leave lr out" if name == "lr" else "add runs that vary it")
    references = [float(np.exp(np.mean(np.log(array)))) for array in arrays]
    if lr is None:
        arrays, references = [*arrays, np.ones(len(y))], [*references, 1.0]
    x = log_ratios(*zip(arrays, references, strict=True))
    free, terms = (4, 5) if lr is not None else (3, 4)

    def columns(exponents: np.ndarray) -> np.ndarray:
        return shape_columns(np.append(exponents, np.zeros(4 - free)), x)[:, :terms]

    best = project(columns, y, SHAPE_BOUNDS[:free], threshold=SHAPE_THRESHOLD, starts=starts, seed=seed)
    exponents = [float(v) for v in best.nonlinear] + [0.0] * (4 - free)
    linear = [float(v) for v in best.linear] + [0.0] * (5 - terms)
    return ShapeLaw(
        floor=linear[0],
        width_amplitude=linear[1],
        width_exponent=exponents[0],
        depth_amplitude=linear[2],
        depth_exponent=exponents[1],
        token_amplitude=linear[3],
        token_exponent=exponents[2],
        lr_exponent=exponents[3],
        noise=linear[4],
        width_reference=references[0],
        depth_reference=references[1],
        token_reference=references[2],
        lr_reference=references[3],
    )


def fit_noisy_quadratic(
    parameters: ArrayLike,
    batch: ArrayLike,
    steps: ArrayLike,
    loss: ArrayLike,
    *,
    shape: ArrayLike = COSINE,
    starts: int = 4,
    seed: int = 0,
) -> NoisyQuadratic:
    """Least squares of log loss; e, P and R are projected out, six numbers searched.

    Args:
        parameters: N of each run, shape (runs,); all at one peak learning rate.
        batch: B of each run, shape (runs,).
        steps: K of each run, shape (runs,).
        loss: Final loss of each run, nats, shape (runs,).
        shape: The runs' schedule, see :meth:`NoisyQuadratic.terms`.
        starts: Points of the Sobol multistart, a power of 2.
        seed: Of the Sobol sequence.

    Raises:
        InputError: if columns do not match, a value is not positive, or there are too few points.
    """
    n, b, k, y = checks.columns(9, parameters=parameters, batch=batch, steps=steps, loss=loss)
    segments, one, sum_modes = segments_of(shape), np.ones(len(y)), modes(n)

    def design(x: np.ndarray) -> np.ndarray:
        approximation, bias, variance = loss_terms(x, n, b, k, one, segments, 2, *sum_modes)
        return np.column_stack([one, approximation + bias, variance])

    best = project(design, y, QUADRATIC_BOUNDS, threshold=QUADRATIC_THRESHOLD, starts=starts, seed=seed)
    p, q, rate, r, onset, critical = (float(v) for v in best.nonlinear)
    return NoisyQuadratic(
        floor=float(best.linear[0]),
        signal=float(best.linear[1]),
        signal_exponent=p,
        rate=float(np.exp(rate)),
        rate_exponent=q,
        noise=float(best.linear[2]),
        noise_exponent=r,
        onset=float(np.exp(onset)),
        critical_batch=float(np.exp(critical)),
    )
