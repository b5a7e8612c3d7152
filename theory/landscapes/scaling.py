r"""Scaling laws over model size, shape and tokens.

Notation
    N, D       parameters, training tokens                w, L     width (residual stream), depth (blocks)
    C          training compute in FLOPs, C = 6 N D       eta      peak learning rate, any unit
    X0         reference of a quantity X: amplitudes are nats at the reference, so exponents and amplitudes decouple

    size law    L(N, D) = E + A N^-alpha + B D^-beta                        (Hoffmann et al. 2022, eq. 2)
    shape law   L(w, L, D, eta) = E + A (w/w0)^-a + B (L/L0)^-b
                                    + C (D/D0)^-c (eta/eta0)^-d + F eta/eta0

In the shape law width and depth each leave loss of their own that no tokens remove. The token term's clock is
learning-rate area to a power, D eta^(d/c): a suite whose learning rate follows its shape, such as
eta ~ 1/(w sqrt(L)), makes larger models slower *per token*, which an additive law in (w, L, D) mistakes for a smaller
benefit of size. F eta is the noise floor of a constant learning rate, linear in eta as for SGD on any quadratic.

Regime: one data distribution and tokenizer, less than an epoch; constant learning rate, or one schedule shape
throughout (F then is what that shape leaves). E = 0 is a legitimate answer: it says that the floor is out of sight.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import scipy

from latebloom.theory import checks
from latebloom.theory.errors import InputError
from latebloom.theory.spec import NonNegative, Positive, Spec

if TYPE_CHECKING:
    from numpy.typing import ArrayLike

__all__ = ["Allocation", "ShapeAllocation", "ShapeLaw", "SizeLaw", "log_ratios", "shape_columns"]

FLOPS_PER_PARAMETER_TOKEN = 6.0


@dataclass(frozen=True, kw_only=True)
class Allocation:
    """How to spend a compute budget.

    Attributes:
        parameters: N.
        tokens: D.
        loss: What the law gives for them, nats.
    """

    parameters: float
    tokens: float
    loss: float


@dataclass(frozen=True, kw_only=True)
class ShapeAllocation:
    """How to spend a compute budget on a shape.

    Attributes:
        width: w, a real number.
        depth: L, a real number.
        tokens: D.
        loss: What the law gives for them, nats.
    """

    width: float
    depth: float
    tokens: float
    loss: float


class SizeLaw(Spec, frozen=True, kw_only=True):
    """L(N, D) = E + A N^-alpha + B D^-beta, in nats.

    Args:
        floor: E.
        size_amplitude: A.
        size_exponent: alpha.
        token_amplitude: B.
        token_exponent: beta.

    References: Hoffmann et al., arXiv 2203.15556, eq. 2; Besiroglu et al., arXiv 2404.10102.
    """

    floor: NonNegative
    size_amplitude: Positive
    size_exponent: Positive
    token_amplitude: Positive
    token_exponent: Positive

    def loss(self, parameters: ArrayLike, tokens: ArrayLike) -> np.ndarray:
        """Loss in nats; arguments broadcast."""
        n, d = checks.positive("parameters", parameters), checks.positive("tokens", tokens)
        return (
            self.floor + self.size_amplitude * n**-self.size_exponent + self.token_amplitude * d**-self.token_exponent
        )

    def optimum(self, compute: float) -> Allocation:
        """Parameters and tokens of least loss under C = 6 N D.

            N = G (C/6)^(beta/(alpha+beta)),  D = (C/6)/N,  G = (alpha A/(beta B))^(1/(alpha+beta))

        Args:
            compute: C in FLOPs.

        References: Hoffmann et al., arXiv 2203.15556, eq. 4.
        """
        budget = float(checks.positive("compute", compute)) / FLOPS_PER_PARAMETER_TOKEN
        alpha, beta = self.size_exponent, self.token_exponent
        scale = (alpha * self.size_amplitude / (beta * self.token_amplitude)) ** (1 / (alpha + beta))
        n = scale * budget ** (beta / (alpha + beta))
        return Allocation(parameters=n, tokens=budget / n, loss=float(self.loss(n, budget / n)))


class ShapeLaw(Spec, frozen=True, kw_only=True):
    """L(w, L, D, eta) of the module's notation, in nats; exponents may be read off, amplitudes are at the references.

    Args:
        floor: E.
        width_amplitude: A.
        width_exponent: a.
        depth_amplitude: B.
        depth_exponent: b.
        token_amplitude: C.
        token_exponent: c.
        lr_exponent: d; the token term's clock is D eta^(d/c).
        noise: F, nats at the reference learning rate.
        width_reference: w0.
        depth_reference: L0.
        token_reference: D0.
        lr_reference: eta0.
    """

    floor: NonNegative
    width_amplitude: NonNegative
    width_exponent: Positive
    depth_amplitude: NonNegative
    depth_exponent: Positive
    token_amplitude: NonNegative
    token_exponent: Positive
    lr_exponent: float
    noise: NonNegative
    width_reference: Positive
    depth_reference: Positive
    token_reference: Positive
    lr_reference: Positive

    def loss(self, width: ArrayLike, depth: ArrayLike, tokens: ArrayLike, lr: ArrayLike | None = None) -> np.ndarray:
        """Loss in nats; arguments broadcast. ``lr`` may be left out of a law that was fitted without it.

        Raises:
            InputError: if a number is not positive, or the law needs a learning rate and has none.
        """
        if lr is None:
            if self.lr_exponent or self.noise:
                raise InputError(
                    "lr", None, "is needed: this law depends on it", "give the learning rate of each shape"
                )
            lr = self.lr_reference
        x = log_ratios(
            (checks.positive("width", width), self.width_reference),
            (checks.positive("depth", depth), self.depth_reference),
            (checks.positive("tokens", tokens), self.token_reference),
            (checks.positive("lr", lr), self.lr_reference),
        )
        exponents = np.array([self.width_exponent, self.depth_exponent, self.token_exponent, self.lr_exponent])
        linear = [self.floor, self.width_amplitude, self.depth_amplitude, self.token_amplitude, self.noise]
        return shape_columns(exponents, x) @ np.array(linear)

    def optimum(
        self,
        compute: float,
        *,
        parameters: Callable[[float, float], float],
        lr: Callable[[float, float], float] | None = None,
        depth: tuple[float, float] = (1.0, 200.0),
        width: tuple[float, float] = (64.0, 65536.0),
    ) -> ShapeAllocation:
        """Width, depth and tokens of least loss under C = 6 N(w, L) D.

        Args:
            compute: C in FLOPs.
            parameters: N(w, L), the parameters that every token passes.
            lr: Learning rate of a shape (w, L), in the law's unit; may be left out of a law fitted without it.
            depth: Range of L; equal ends fix it, which gives the best width at a depth.
            width: Range of w; equal ends fix it, which gives the best depth at a width.

        Raises:
            InputError: if a range is empty, or the optimum lies on the end of a range that is open (the law then has
                no opinion: it was not asked about shapes like that).
        """
        budget = float(checks.positive("compute", compute)) / FLOPS_PER_PARAMETER_TOKEN
        for name, (low, high) in {"depth": depth, "width": width}.items():
            if not 0 < low <= high < math.inf:
                raise InputError(name, (low, high), "must be a range of positive numbers", "give (low, high)")
        box = np.log([width, depth])

        def at(x: np.ndarray) -> float:
            w, l = np.exp(x)
            return float(self.loss(w, l, budget / parameters(w, l), lr(w, l) if lr else None))

        starts = [box[:, 0] + u * (box[:, 1] - box[:, 0]) for u in (0.25, 0.5, 0.75)]
        found = [
            scipy.optimize.minimize(
                at, x0, bounds=box, method="Nelder-Mead", options={"xatol": 1e-7, "fatol": 1e-13, "maxiter": 2000}
            )
            for x0 in starts
        ]
        best = min(found, key=lambda f: f.fun)
        for name, x, (low, high) in zip(("width", "depth"), best.x, box, strict=True):
            if low < high and min(x - low, high - x) < 1e-4:
                rule = "is the end of the range, not an optimum"
                raise InputError(name, float(np.exp(x)), rule, "widen the range, or fix it by equal ends")
        w, l = np.exp(best.x)
        return ShapeAllocation(width=float(w), depth=float(l), tokens=budget / parameters(w, l), loss=float(best.fun))


def shape_columns(exponents: np.ndarray, x: np.ndarray) -> np.ndarray:
    """Terms of the shape law at unit amplitude, shape (..., 5): floor, width, depth, tokens, noise.

    Args:
        exponents: Of width, depth, tokens and learning rate.
        x: Logarithms of the four over their references, shape (..., 4).
    """
    a, b, c, d = exponents
    w, l, t, e = np.moveaxis(x, -1, 0)
    return np.stack([np.ones_like(w), np.exp(-a * w), np.exp(-b * l), np.exp(-c * t - d * e), np.exp(e)], axis=-1)


def log_ratios(*pairs: tuple[np.ndarray, float]) -> np.ndarray:
    """log(value/reference) of each quantity, broadcast, last axis the quantities.

    Args:
        pairs: Value and reference of each.
    """
    return np.stack(np.broadcast_arrays(*[np.log(value / reference) for value, reference in pairs]), axis=-1)
