r"""Volterra sums with a completely monotone kernel, over a whole curve, in O(T M).

    y_i = sum_{k<i} w_k K(P_i - P_k + r_k),     i = 0 ... n

Notation
    P_i   a clock that never runs backwards, mostly learning-rate area S_i; given by its steps P_{i+1} - P_i >= 0,
          ``gap``, and not by its values, whose differences lose digits where learning rates are small
    w_k   ``weight`` of what happened at k, any sign          r_k  ``lag`` >= 0, optional
    K(v)  completely monotone: v^-d and (1 + C u)^-d here, and sums of them
    x_j, a_j   rates and weights of K(v) ~ sum_j a_j exp(-x_j v), M of them

Every convex bound and every loss law of this library is such a sum. With M exponentials each step updates M numbers,
z_j <- (z_j + w_k) exp(-x_j gap_k), instead of visiting all of the past.

The exponentials come from v^-d = int exp(d s - v e^s) ds / Gamma(d) by the trapezoid rule in s = ln x, whose error is
known beforehand (Poisson's formula: relative 2 |Gamma(d + 2 pi i/h)|/Gamma(d) for spacing h; Beylkin & Monzon, Appl.
Comput. Harmon. Anal. 28 (2010) 131). The infinitely many small rates below the grid are replaced by four that have the
same first four moments, so that slow decays (d < 1/2) cost no more.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from latebloom.theory import checks
from latebloom.theory.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import ArrayLike

__all__ = ["Exponentials", "Grid", "grid", "power_kernel", "response"]

TAIL = 4  # rates that stand for all those below the grid
TAIL_SPAN = 0.3  # largest tail rate x largest argument; the error of the tail goes with its fourth power
CHUNK = 16384  # steps whose M factors are held at once
SPACINGS = np.geomspace(1.2, 0.15, 45)  # of ln(rate), tried from the widest
UNDERFLOW = 690.0  # exp(-690) = 1e-300 stands for 0: below it numpy's exponential is eight times slower


@dataclass(frozen=True, kw_only=True)
class Exponentials:
    """K(u) ~ sum_j weight_j exp(-rate_j u) for ``low`` <= u <= ``high``.

    Attributes:
        rate: x, shape (M,).
        weight: a, shape (M,).
        low: Smallest u at which ``error`` was measured.
        high: Largest u at which ``error`` was measured.
        error: Largest relative error |sum/K - 1|, measured at six points to each oscillation of the error.
    """

    rate: np.ndarray
    weight: np.ndarray
    low: float
    high: float
    error: float

    def __call__(self, u: ArrayLike) -> np.ndarray:
        """The sum of exponentials at ``u`` >= 0."""
        return np.exp(-np.multiply.outer(checks.non_negative("u", u), self.rate)) @ self.weight


@dataclass(frozen=True, kw_only=True)
class Grid:
    """Rates for every power kernel v^-d with ``low`` <= v <= ``high``: log-spaced, after ``TAIL`` equispaced ones.

    Attributes:
        rate: Shape (M,).
        spacing: h, the step of ln(rate).
        low: Smallest v.
        high: Largest v.
    """

    rate: np.ndarray
    spacing: float
    low: float
    high: float

    def weights(self, exponent: complex, shift: complex = 0.0) -> np.ndarray:
        """a_j of (shift + u)^-d ~ sum_j a_j exp(-rate_j u); smooth in both arguments, which may carry complex steps.

        Args:
            exponent: d > 0.
            shift: Added to u, >= 0.

        Returns:
            Weights, shape (M,).

        Raises:
            InputError: if a number is not finite or of the wrong sign.
        """
        from scipy.special import gamma

        checks.positive("exponent", np.real(exponent))
        checks.non_negative("shift", np.real(shift))
        h, d = self.spacing, exponent
        x = self.rate[TAIL:]
        first = x[0] * math.exp(-h)  # the largest rate of the replaced geometric series first, first/e^h, ...
        power = d + np.arange(TAIL)
        moments = h / gamma(d) * first**d / -np.expm1(-h * power)  # of (rate/first)^p
        tail = np.linalg.solve(np.vander(self.rate[:TAIL] / first, TAIL, increasing=True).T, moments)
        body = h / gamma(d) * x**d
        return np.concatenate([tail, body]) * np.exp(-shift * self.rate)


def grid(low: float, high: float, *, tolerance: float = 1e-6, exponent: float | tuple[float, float] = 1.0) -> Grid:
    """Rates with which v^-d is within ``tolerance`` (relative) for every d in the range ``exponent``.

    M grows like (ln(high/low) + ln ln(1/tolerance)) ln(1/tolerance)/pi^2: 37 for 1e-6 over seven decades.

    Args:
        low: Smallest v = shift + u, same unit as position.
        high: Largest v.
        tolerance: In [1e-13, 0.1].
        exponent: d, or its smallest and largest value; in (0, 10].

    Raises:
        InputError: if the range, the tolerance or the exponent is out of bounds.
    """
    from scipy.special import gammainccinv, loggamma

    exponents = np.atleast_1d(np.asarray(exponent, dtype=float)).ravel()
    if not 0 < low <= high < math.inf:
        raise InputError("low", low, f"must be positive and at most high = {high}", "give the smallest and largest gap")
    if not 1e-13 <= tolerance <= 0.1:
        raise InputError("tolerance", tolerance, "must lie in [1e-13, 0.1]", "give a relative error such as 1e-6")
    if not np.all((exponents > 0) & (exponents <= 10)):
        raise InputError("exponent", exponents.tolist(), "must lie in (0, 10]", "use another kernel")
    alias = 2 * np.exp(np.max([np.real(loggamma(d + 2j * np.pi / SPACINGS)) - loggamma(d) for d in exponents], axis=0))
    good = np.flatnonzero(alias <= 0.9 * tolerance)
    h = float(SPACINGS[good[0]] if good.size else SPACINGS[-1])
    top = max(float(gammainccinv(d, tolerance / 8)) for d in exponents) / low
    bottom = TAIL_SPAN * min(1.0, (tolerance / 1e-6) ** 0.25) / high
    count = max(2, math.ceil(math.log(top / bottom) / h) + 1)
    body = top * np.exp(h * np.arange(1 - count, 1))
    first = body[0] * math.exp(-h)
    return Grid(rate=np.concatenate([first * np.arange(TAIL) / (TAIL - 1), body]), spacing=h, low=low, high=high)


def power_kernel(
    exponent: float, *, low: float, high: float, shift: float = 0.0, rate: float = 1.0, tolerance: float = 1e-6
) -> Exponentials:
    r"""(``shift`` + ``rate`` u)^-d as a sum of exponentials, with its measured error.

    shift = 0, rate = 1, d = 1 is the kernel 1/u of the convex bounds; shift = 1, rate = C that of the scaling laws.

    Args:
        exponent: d in (0, 10].
        low: Smallest u; may be 0 if shift > 0.
        high: Largest u.
        shift: >= 0.
        rate: > 0.
        tolerance: Wanted relative error. The reached one is in the result.

    Raises:
        InputError: if the range or a parameter is out of bounds.

    >>> kernel = power_kernel(1.0, low=1e-3, high=1e3, tolerance=1e-8)
    >>> bool(abs(kernel(0.5) - 2) < 1e-7), kernel.error < 1e-8
    (True, True)
    """
    if not (shift >= 0 and rate > 0 and math.isfinite(shift + rate)):
        raise InputError("shift", (shift, rate), "must be >= 0, and rate > 0", "give finite kernel parameters")
    if not (0 <= low <= high < math.inf and shift + rate * low > 0):
        raise InputError("low", low, f"must be >= 0, <= high = {high}, and > 0 without a shift", "give the gaps' range")
    base = grid(shift + rate * low, shift + rate * high, tolerance=tolerance, exponent=exponent)
    plain = base.weights(exponent)
    points = max(30, math.ceil(6 * math.log(base.high / base.low) / base.spacing))
    v = base.low * np.exp(np.arange(points) * (math.log(base.high / base.low) / (points - 1)))
    approximate = np.exp(np.maximum(np.multiply.outer(-v, base.rate), -UNDERFLOW)) @ plain
    error = float(np.max(np.abs(approximate * v**exponent - 1)))
    weight = plain * np.exp(-shift * base.rate)
    return Exponentials(rate=rate * base.rate, weight=weight, low=low, high=high, error=error)


def response(gap: ArrayLike, weight: ArrayLike, kernel: Exponentials, *, lag: ArrayLike | None = None) -> np.ndarray:
    """y_i = sum_{k<i} w_k K(P_i - P_k + r_k) for i = 0 ... n, in O(n M).

    Where all weights have one sign the relative error is at most ``kernel.error``; else that much of sum |w_k| K.

    Args:
        gap: P_{i+1} - P_i, shape (n,), >= 0; for the loss laws the learning rates themselves.
        weight: w, shape (n,), any sign.
        kernel: K, good for every gap + lag and for the whole length.
        lag: r, shape (n,), >= 0.

    Returns:
        y, shape (n + 1,); y_0 = 0.

    Raises:
        InputError: if an argument is not finite or negative, or a gap lies outside the kernel's range.
    """
    gap, weight, lag = _inputs(gap, weight, lag)
    shortest = float(np.min(gap if lag is None else gap + lag, initial=math.inf))
    longest = float(np.sum(gap) + (0.0 if lag is None else np.max(lag, initial=0.0)))
    if len(gap) and (shortest < kernel.low * (1 - 1e-9) or longest > kernel.high * (1 + 1e-9)):
        rule = f"must lie, singly and in sum, in the kernel's range [{kernel.low:g}, {kernel.high:g}]"
        raise InputError("gap", (shortest, longest), rule, "build the kernel for this range")
    out = np.zeros(len(gap) + 1)
    for start, z in _scan(gap, weight, lag, kernel.rate):
        y = np.matmul(kernel.weight, z).T.ravel()[: len(gap) - start]
        out[start + 1 : start + 1 + len(y)] = y
    return out


def _scan(
    gap: np.ndarray, weight: np.ndarray, lag: np.ndarray | None, rate: np.ndarray
) -> Iterator[tuple[int, np.ndarray]]:
    """Yield (first index s, states z), z[l, j, b] after update s + b len(z) + l: z_{i+1} = (z_i + w_i) exp(-x gap_i).

    Blocks of consecutive updates advance together. First each block runs from zero to find what it leaves behind,
    then this is carried from block to block, then each runs again from its true state.
    """
    from scipy.linalg import get_lapack_funcs

    n, m = len(gap), len(rate)
    state = np.zeros(m)
    (tbtrs,) = get_lapack_funcs(("tbtrs",), (state,))
    length = max(1, min(48, math.isqrt(n)))
    memory = np.empty(length * m * -(-min(CHUNK, n) // length))  # once: fresh pages cost as much as the exponentials
    for start in range(0, n, CHUNK):
        count = min(CHUNK, n - start)
        blocks = -(-count // length)

        gaps, add = (_cut(series[start : start + count], length, blocks) for series in (gap, weight))
        factor = memory[: length * m * blocks].reshape(length, m, blocks)
        np.multiply(gaps, -rate[:, None], out=factor)
        low = np.flatnonzero(rate * gaps.max() > UNDERFLOW)
        if low.size:  # rates mostly rise: from the first such one on
            np.maximum(factor[:, low[0] :], -UNDERFLOW, out=factor[:, low[0] :])
        np.exp(factor, out=factor)
        if lag is not None:
            late = _cut(lag[start : start + count], length, blocks)
            add = add * np.exp(np.maximum(late * -rate[:, None], -UNDERFLOW))
        z = np.zeros((m, blocks))
        for i in range(length):
            z += add[i]
            z *= factor[i]
        # carry: state_{b+1} = z_b + whole_b state_b for each rate, all rates in one bidiagonal system
        whole = np.exp(np.maximum(np.multiply.outer(-rate, gaps.sum((0, 1))), -UNDERFLOW))
        z[:, 0] += whole[:, 0] * state
        band = np.ones((2, m * blocks), order="F")
        band[1, :-1] = -whole.ravel()[1:]
        band[1, blocks - 1 :: blocks] = 0.0
        after, _ = tbtrs(band, z.ravel(), uplo="L", diag="U")
        after = after.reshape(m, blocks)
        z[:, 0], z[:, 1:], state = state, after[:, :-1], after[:, -1]
        before = np.empty_like(z)
        for i in range(length):
            np.add(z, add[i], out=before)
            z = np.multiply(before, factor[i], out=factor[i])
        yield start, factor


def _cut(series: np.ndarray, length: int, blocks: int) -> np.ndarray:
    """``series`` padded with zeros and cut into ``blocks`` of ``length``; element [l, 0, b] is number b length + l."""
    padded = np.zeros(blocks * length)
    padded[: len(series)] = series
    return np.ascontiguousarray(padded.reshape(blocks, length).T)[:, None]


def _inputs(
    gap: ArrayLike, weight: ArrayLike, lag: ArrayLike | None
) -> tuple[np.ndarray, np.ndarray, np.ndarray | None]:
    gap, weight = checks.series("gap", gap, low=0.0), checks.series("weight", weight)
    if lag is not None:
        lag = checks.series("lag", lag, low=0.0)
    for name, value in {"weight": weight, "lag": lag}.items():
        if value is not None and len(value) != len(gap):
            raise InputError(name, len(value), f"needs one value for each of {len(gap)} gaps", "match them")
    return gap, weight, lag
