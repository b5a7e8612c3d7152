r"""Unit shapes of a decay over n steps from 1 to f, and their exact sums: what schedules are made of.

Each shape is a pair of functions of (i or m, n, f): the value s_i at step i = 0 ... n-1, and sum_{i<m} s_i; y = i/n.

    linear       1 - (1 - f) y
    cosine       f + (1 - f) (1 + cos(pi y))/2
    sqrt         1 - (1 - f) sqrt(y)
    exponential  f^y, f > 0

'sqrt' is the '1-sqrt' of Haegele et al., arXiv 2405.18392.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable

import numpy as np

from latebloom.theory import checks
from latebloom.theory.errors import InputError

__all__ = ["DECAYS", "decay_limit", "power_sum"]

Array = np.ndarray
Shape = Callable[[Array, int, float], Array]


def power_sum(m: Array, exponent: float) -> Array:
    r"""sum_{i=1}^m i^p for real p != -1, to rounding: Euler-Maclaurin from m = 16 on, a table below.

    zeta(-p) + m^{p+1}/(p+1) + m^p/2 + p m^{p-1}/12 - p(p-1)(p-2) m^{p-3}/720 + ... m^{p-5}/30240 - ... m^{p-7}/1209600

    Args:
        m: Whole numbers >= 0.
        exponent: p != -1, finite.

    Raises:
        InputError: if ``m`` is not whole or negative, or ``exponent`` is -1 or not finite.
    """
    from scipy.special import zeta

    m, p = checks.whole("m", m, 0), float(checks.finite("exponent", exponent))
    if p == -1:
        raise InputError("exponent", exponent, "has no closed form here: the sum is a harmonic number", "give another")
    table = np.concatenate([[0.0], np.cumsum(np.arange(1.0, 16.0) ** p)])
    x = np.maximum(m, 16.0)
    falling = [math.prod(p - j for j in range(count)) for count in (1, 3, 5, 7)]
    large = zeta(-p) + x ** (p + 1) / (p + 1) + x**p / 2
    for count, factor, bernoulli in zip((1, 3, 5, 7), falling, (12, -720, 30240, -1209600), strict=True):
        large = large + factor * x ** (p - count) / bernoulli
    return np.where(m < 16, table[np.minimum(m, 15).astype(int)], large)


def _linear(i: Array, n: int, f: float) -> Array:
    return 1.0 - (1.0 - f) * i / n


def _linear_sum(m: Array, n: int, f: float) -> Array:
    return m - (1.0 - f) * m * (m - 1.0) / (2 * n)


def _cosine(i: Array, n: int, f: float) -> Array:
    return f + (1.0 - f) * 0.5 * (1.0 + np.cos(np.pi * i / n))


def _cosine_sum(m: Array, n: int, f: float) -> Array:
    """Dirichlet's kernel: sum_{i<m} cos(i x) = sin(m x/2) cos((m - 1) x/2)/sin(x/2) with x = pi/n."""
    x = math.pi / n
    waves = np.sin(m * x / 2) * np.cos((m - 1) * x / 2) / math.sin(x / 2)
    return f * m + (1.0 - f) * 0.5 * (m + waves)


def _sqrt(i: Array, n: int, f: float) -> Array:
    return 1.0 - (1.0 - f) * np.sqrt(i / n)


def _sqrt_sum(m: Array, n: int, f: float) -> Array:
    return m - (1.0 - f) / math.sqrt(n) * power_sum(np.maximum(m - 1, 0), 0.5)


def _exponential(i: Array, n: int, f: float) -> Array:
    return f ** (i / n)


def _exponential_sum(m: Array, n: int, f: float) -> Array:
    """Geometric: (1 - f^{m/n})/(1 - f^{1/n})."""
    if f == 1:
        return np.asarray(m, dtype=float)
    rate = math.log(f) / n
    return np.expm1(m * rate) / math.expm1(rate)


DECAYS: dict[str, tuple[Shape, Shape]] = {
    "linear": (_linear, _linear_sum),
    "cosine": (_cosine, _cosine_sum),
    "sqrt": (_sqrt, _sqrt_sum),
    "exponential": (_exponential, _exponential_sum),
}


@functools.cache
def decay_limit(shape: str) -> tuple[float, float]:
    r"""(mean r, kappa) of a decay to 0 in the limit of many steps; what it does to a last-iterate bound.

        r = int_0^1 s(y) dy,     kappa = 1/2 int_0^1 s(y)^2/R(y) dy,     R(y) = int_y^1 s

    linear 1/2, 1; cosine 1/2, 1.06107 (by quadrature, no closed form is known to us); sqrt 1/3, 3/2 - (3/4) ln 3.
    An exponential never reaches 0 and has no such limit.

    Args:
        shape: 'linear', 'cosine' or 'sqrt'.

    Raises:
        InputError: for any other shape.

    References:
        arXiv 2602.07145, Table 1 (cosine: q2^2 = 1.061 G^2).

    >>> r, kappa = decay_limit("cosine")
    >>> r, round(kappa, 3)
    (0.5, 1.061)
    """
    if shape == "linear":
        return 0.5, 1.0
    if shape == "sqrt":
        return 1 / 3, 1.5 - 0.75 * math.log(3.0)
    if shape == "cosine":
        from scipy.integrate import quad

        def ratio(z: float) -> float:
            """s^2/R at y = 1 - z; with a = pi z, s = (1 - cos a)/2 and R = (a - sin a)/(2 pi)."""
            a = math.pi * z
            if a < 1e-2:  # 1 - cos a = a^2/2 (1 - a^2/12), a - sin a = a^3/6 (1 - a^2/20), to a^4/360
                return math.pi * 0.75 * a * (1 - a * a / 12) ** 2 / (1 - a * a / 20)
            return math.pi * (1 - math.cos(a)) ** 2 / (2 * (a - math.sin(a)))

        return 0.5, 0.5 * quad(ratio, 0.0, 1.0, epsabs=0, epsrel=1e-12)[0]
    raise InputError("shape", shape, "has no limit", "use linear, cosine or sqrt")
