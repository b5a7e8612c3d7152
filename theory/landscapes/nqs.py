r"""The noisy quadratic system: a power-law quadratic trained by noisy gradient steps, exact in every mode.

Notation
    n = 1 ... N      modes that a model of N parameters has; m = (n + n0)/(1 + n0), n0 the onset of the power laws
    lambda_n         lr x curvature, Q m^-q (1 - n/(N+1))^h, h = 0 or 2 the hard edge
    P m^-p /2        loss in mode n before training;    R m^-r    gradient noise in mode n, per example
    K, B             steps, batch;     s_k              learning rate of step k over the fitted peak
    g                effective rate, s/sqrt(1 + B_c/B): what Adam's normalisation leaves of the rate below the
                     critical batch B_c (0: plain SGD, g = s)

One step w_n <- w_n - g_k lambda_n (w_n - w_n*) + g_k sqrt(R_n/B) xi gives, exactly,

    E L = e + 1/2 sum_{n>N} P m^-p                                    irreducible, out of reach
            + 1/2 sum_{n<=N} P m^-p  prod_k (1 - g_k lambda_n)^2      bias: not learned yet
            + 1/2 sum_{n<=N} lambda_n (R m^-r/B) sum_k g_k^2 prod_{j>k} (1 - g_j lambda_n)^2     variance

with K geometric steps in closed form for each of a few segments of constant rate, and the sum over up to 1e10 modes as
its first and last terms plus Gauss-Legendre quadrature in log n (:func:`modes`): a prediction costs microseconds.

The published system (arXiv 2605.09154) has n0 = 0, h = 0, B_c = 0 and a constant rate; there the first mode carries the
early loss, and a model learns its last modes as fast as a larger model does. Two facts change that: the power laws set
in after many modes (n0); and a model of N parameters mixes N modes at random, where the smallest eigenvalues of a
square random matrix fall off as (1 - n/N)^2 (Marchenko-Pastur at ratio 1), so h = 2. Both are chosen on held-out
compute, never on a fit's own error.

Regime: one pass over the data, one optimiser and schedule shape; errors of a few per cent over four decades of compute.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import numpy as np
import scipy

from latebloom.theory import checks
from latebloom.theory.errors import InputError
from latebloom.theory.spec import NonNegative, Positive, Spec

if TYPE_CHECKING:
    from numpy.typing import ArrayLike

__all__ = ["COSINE", "NoisyQuadratic", "cosine", "loss_terms", "modes", "segments_of"]

EXACT_MODES = 16  # summed one by one at either end
NODES = 24
CONSTANT = np.ones(1)
SEGMENTS = 16


def cosine(count: int) -> np.ndarray:
    """Mean of (1 + cos(pi u))/2 over each of ``count`` equal segments of u in [0, 1]: a shape for a cosine schedule.

    What segments of constant rate get wrong, mostly noise at the very end, falls as 1/count^2: 0.7 % of the learnable
    loss at 16 where noise dominates.

    Args:
        count: Segments, at least 1.

    Returns:
        Learning rate of each segment over the peak, shape (count,).

    Raises:
        InputError: if ``count`` is not a whole number >= 1.
    """
    count = int(checks.whole("count", count, 1))
    edge = np.linspace(0, 1, count + 1)
    return 0.5 * (1 + np.diff(np.sin(np.pi * edge)) / (np.pi / count))


COSINE = cosine(SEGMENTS)


class NoisyQuadratic(Spec, frozen=True, kw_only=True):
    """A noisy quadratic system, in nats.

    Args:
        floor: e.
        signal: P.
        signal_exponent: p > 1.
        rate: Q, peak learning rate x largest curvature, at most 1: no mode overshoots.
        rate_exponent: q.
        noise: R.
        noise_exponent: r.
        onset: n0.
        edge: h.
        critical_batch: B_c, examples.
    """

    floor: NonNegative
    signal: NonNegative
    signal_exponent: Positive
    rate: Positive
    rate_exponent: Positive
    noise: NonNegative
    noise_exponent: float
    onset: NonNegative = 0.0
    edge: Literal[0, 2] = 2
    critical_batch: NonNegative = 0.0

    def check(self) -> None:
        if self.signal_exponent <= 1:
            rule = "must be above 1, or the loss of all modes is infinite"
            raise InputError("signal_exponent", self.signal_exponent, rule, "give p > 1")
        if self.rate > 1:
            raise InputError("rate", self.rate, "must be at most 1: the top mode overshoots", "lower the learning rate")

    def loss(
        self,
        parameters: ArrayLike,
        batch: ArrayLike,
        steps: ArrayLike,
        *,
        shape: ArrayLike = CONSTANT,
        lr: ArrayLike = 1.0,
    ) -> np.ndarray:
        """Expected loss after ``steps``; arguments broadcast. See :meth:`terms`, whose sum it is."""
        return sum(self.terms(parameters, batch, steps, shape=shape, lr=lr).values(), np.zeros(()))

    def terms(
        self,
        parameters: ArrayLike,
        batch: ArrayLike,
        steps: ArrayLike,
        *,
        shape: ArrayLike = CONSTANT,
        lr: ArrayLike = 1.0,
    ) -> dict[str, np.ndarray]:
        """The four terms: ``floor``, ``approximation``, ``bias``, ``variance``.

        Args:
            parameters: N; it broadcasts with the next two.
            batch: B, examples.
            steps: K.
            shape: Learning rates over the peak, one for each equal share of the steps, such as :data:`COSINE`.
            lr: Peak learning rate over the one that ``rate`` belongs to.

        Raises:
            InputError: if a number is not positive, or ``lr`` makes the top mode overshoot.
        """
        n, b, k, s = np.broadcast_arrays(*[np.asarray(v, dtype=float) for v in (parameters, batch, steps, lr)])
        checks.columns(0, parameters=n.ravel(), batch=b.ravel(), steps=k.ravel(), lr=s.ravel())
        segments = segments_of(shape)
        if float(np.max(s)) * float(np.max(segments)) * self.rate > 1:
            raise InputError("lr", float(np.max(s)), f"overshoots at rate {self.rate:.3g}", "lower the learning rate")
        x = np.array(
            [self.signal_exponent, self.rate_exponent, np.log(self.rate), self.noise_exponent]
            + [np.log(v) if v > 0 else -np.inf for v in (self.onset, self.critical_batch)]
        )
        columns = loss_terms(x, n.ravel(), b.ravel(), k.ravel(), s.ravel(), segments, self.edge, *modes(n.ravel()))
        approximation, bias, variance = (c.reshape(n.shape) for c in columns)
        return {
            "floor": np.full(n.shape, self.floor),
            "approximation": self.signal * approximation,
            "bias": self.signal * bias,
            "variance": self.noise * variance,
        }


def modes(parameters: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Nodes n and weights w with sum_{n=1}^N f(n) = sum_i w_i f(n_i), shape (points, 2 EXACT_MODES + 2 NODES) each.

    The first and last M modes stand for themselves. Between them the sum is an integral plus f'/24 at either end
    (midpoint Euler-Maclaurin, f' by differences of the last three), by Gauss-Legendre in log n up to the middle and in
    log(N + 1 - n) from there: power laws from the first mode, powers of 1 - n/(N+1) from the last, and exponentials of
    both, are smooth on it.

    Args:
        parameters: N, shape (points,), rounded down; at least 2 EXACT_MODES + 1.

    Raises:
        InputError: if there are fewer modes than that.
    """
    n = np.floor(checks.finite("parameters", parameters))[:, None]
    if np.any(n <= 2 * EXACT_MODES):
        rule = f"must be above {2 * EXACT_MODES}"
        raise InputError("parameters", float(n.min()), rule, "a power-law spectrum needs more modes")
    gauss, weight = np.polynomial.legendre.leggauss(NODES)
    low = np.log(EXACT_MODES + 0.5)
    span = np.log((n + 1) / 2) - low
    away = np.exp(low + span * (gauss + 1) / 2)  # distance from either end, up to the middle
    jacobian = span / 2 * weight * away
    first = np.broadcast_to(np.arange(1.0, EXACT_MODES + 1), (len(n), EXACT_MODES))
    one = np.ones_like(first)
    one[:, -3:] += np.array([1.0, -3.0, 2.0]) / 24
    nodes = np.concatenate([first, away, n + 1 - away, n + 1 - first], axis=1)
    return nodes, np.concatenate([one, jacobian, jacobian, one], axis=1)


def loss_terms(
    x: np.ndarray,
    n: np.ndarray,
    b: np.ndarray,
    k: np.ndarray,
    lr: np.ndarray,
    segments: np.ndarray,
    edge: int,
    node: np.ndarray,
    weight: np.ndarray,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Approximation and bias at P = 1, variance at R = 1, each of shape (points,).

    Args:
        x: p, q, log of the rate, r, log of the onset, log of the critical batch.
        n: N of each point.
        b: B of each point.
        k: K of each point.
        lr: Peak learning rate of each point over the reference.
        segments: Learning rates over the peak, one for each equal share of the steps.
        edge: h, power of (1 - n/(N + 1)) in the rate of mode n.
        node: Modes at which sums over modes are taken, (points, nodes).
        weight: Of each node, (points, nodes).
    """
    p, q, log_rate, r, log_onset, log_critical = x
    onset = np.exp(log_onset)
    m = (node + onset) / (1 + onset)
    rate = np.exp(log_rate) * m**-q * (1 - node / (np.floor(n)[:, None] + 1)) ** edge
    scale = (lr / np.sqrt(1 + np.exp(log_critical) / b))[:, None]
    share = (k / len(segments))[:, None]
    kept, spread = np.ones_like(m), np.zeros_like(m)
    for segment in segments:
        g = segment * scale
        # (1 - z)^(2 share) and g^2 (1 - that)/(1 - (1 - z)^2), whose denominator is z (2 - z), without cancellation
        z = g * rate
        with np.errstate(divide="ignore"):
            power = 2 * share * np.log1p(-np.minimum(z, 1.0))
        decay = np.exp(power)
        steps = np.where(z > 1e-12, -np.expm1(power) / np.maximum(z * (2 - z), 1e-300), share)
        kept, spread = kept * decay, spread * decay + g**2 * steps
    tail = scipy.special.zeta(p, np.floor(n) + 1 + onset) * (1 + onset) ** p
    signal = weight * m**-p
    return tail / 2, np.sum(signal * kept, axis=1) / 2, np.sum(weight * rate * m**-r * spread, axis=1) / b / 2


def segments_of(shape: ArrayLike) -> np.ndarray:
    """Learning rates over the peak, one for each equal share of the steps, as an array.

    Args:
        shape: Numbers >= 0, some above 0.

    Returns:
        Shape (segments,).

    Raises:
        InputError: for anything else.
    """
    segments = np.atleast_1d(np.asarray(shape, dtype=float))
    if segments.ndim != 1 or not np.all(np.isfinite(segments) & (segments >= 0)) or not np.any(segments > 0):
        raise InputError("shape", shape, "must be learning rates >= 0 over the peak", "give such as [1.0] or COSINE")
    return segments
