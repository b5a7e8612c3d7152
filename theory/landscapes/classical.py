r"""Published loss laws over learning-rate schedules: power law, convex bound, momentum law, multi-power law.

Notation: eta_k learning rate of update k, S_t = sum_{k<t} eta_k learning-rate area (warm-up included), L0 floor, nats.
Laws that count *falls* of the learning rate count them from the end of the warm-up, which none of the papers fits.
"""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np
import scipy

from latebloom.theory.landscapes.law import Law, Shape
from latebloom.theory.landscapes.lr_history import History
from latebloom.theory.spec import NonNegative, Positive

__all__ = ["ConvexBound", "MomentumLaw", "MultiPowerLaw", "PowerLaw"]

EXPONENT = Shape(low=0.05, high=2.0)


class PowerLaw(Law, frozen=True, kw_only=True, tag="power"):
    """L0 + A S^-a: learning-rate area alone, no noise.

    Args:
        floor: L0, nats.
        amplitude: A, the signal at S = 1, nats.
        exponent: a.
    """

    floor: NonNegative
    amplitude: NonNegative
    exponent: Positive

    linear: ClassVar[tuple[str, ...]] = ("floor", "amplitude")
    shapes: ClassVar[dict[str, Shape]] = {"exponent": EXPONENT}
    units: ClassVar[dict[str, str]] = {"floor": "nats", "amplitude": "nats A^a", "exponent": "1"}

    @classmethod
    def columns(cls, past: History, shape: dict[str, Any]) -> np.ndarray:
        return np.column_stack([np.ones(len(past.run)), past.area ** -shape["exponent"]])


class ConvexBound(Law, frozen=True, kw_only=True, tag="convex"):
    r"""The last-iterate bound of convex optimisation with fitted constants.

        L0 + D^2/(2 S_T) + (G^2/2) [eta_T + sum_{k<T} eta_k^2/(S_T - S_k)],   S_k = eta_1 + ... + eta_k

    Updates at a learning rate of 0 change nothing and are left out. On a constant piece of n updates the sum is
    eta [psi(x + n) - psi(x)] with x = (S_T - S_end)/eta: exact.

    Args:
        floor: L0, nats.
        distance2: D^2, squared distance to the optimum.
        gradient2: G^2, squared gradient norm.

    References: Defazio et al., arXiv 2310.07831, Theorem 10; Schaipp et al., arXiv 2501.18965; arXiv 2602.07145.
    """

    floor: NonNegative
    distance2: NonNegative
    gradient2: NonNegative

    linear: ClassVar[tuple[str, ...]] = ("floor", "distance2", "gradient2")
    units: ClassVar[dict[str, str]] = {"floor": "nats", "distance2": "nats A", "gradient2": "nats/R"}

    @classmethod
    def columns(cls, past: History, shape: dict[str, Any]) -> np.ndarray:
        if ("convex",) not in past.cache:
            past.cache["convex",] = np.column_stack([np.ones(len(past.run)), 0.5 / past.area, 0.5 * _abel_sum(past)])
        return past.cache["convex",]


def _abel_sum(past: History) -> np.ndarray:
    """eta_T + sum_{k<T} eta_k^2/(S_T - S_k) at the points."""
    lags = past.lags()[:, 1:]  # to the end of each piece
    lr, steps = past.lr[past.run], past.steps[past.run]
    index = np.arange(lr.shape[1])
    live = (index < past.edge[:, None]) & (lr != 0) & (steps > 0)
    last = index == np.max(np.where(live, index, -1), axis=1)[:, None]
    safe = np.where(live, lr, 1.0)
    x = np.where(last | ~live, 1.0, lags / safe)  # the update that ends a run has weight eta_T, not a lag
    sums = scipy.special.digamma(x + np.where(live, steps - last, 1.0)) - scipy.special.digamma(x)
    return np.sum(np.where(live, lr * (sums + last), 0.0), axis=1)


class MomentumLaw(Law, frozen=True, kw_only=True, tag="momentum"):
    r"""L0 + A S^-a - C S2: falls of the learning rate pay out with a memory of 1/(1 - lambda) updates.

        S2 = (1 - lambda) sum_{i<=t} m_i,  m_i = lambda m_{i-1} + (eta_{i-1} - eta_i),

    which is the fall of a lagged average: S2 = eta_peak - Phi(t), Phi the average of eta over the past with weights
    lambda^i. The published C is this one's (1 - lambda).

    Args:
        floor: L0, nats.
        amplitude: A, the signal at S = 1, nats.
        gain: C, 1/(1 - lambda) times the published one.
        exponent: a.
        forgetting: -ln(lambda), per update.

    References: Tissue, Wang & Wang, arXiv 2408.11029, equation 1.
    """

    floor: NonNegative
    amplitude: NonNegative
    gain: NonNegative
    exponent: Positive
    forgetting: Positive

    linear: ClassVar[tuple[str, ...]] = ("floor", "amplitude", "gain")
    shapes: ClassVar[dict[str, Shape]] = {
        "exponent": EXPONENT,
        "forgetting": Shape(low=1.0, high=1000.0, area=-1, rate=1),
    }
    units: ClassVar[dict[str, str]] = {
        "floor": "nats",
        "amplitude": "nats A^a",
        "gain": "nats/R",
        "exponent": "1",
        "forgetting": "1/update",
    }

    @classmethod
    def columns(cls, past: History, shape: dict[str, Any]) -> np.ndarray:
        rate = np.atleast_1d(shape["forgetting"])
        warm = np.arange(past.lr.shape[1]) < past.warm[:, None]
        steady = past.lr[np.arange(len(past.lr)), past.warm]  # the first learning rate after the warm-up
        fallen = np.where(warm, 0.0, steady[:, None] - past.lr)
        fall = rate[0] * past.modes(rate, drive=fallen, clock=past.sums(np.ones_like(past.lr)))[:, 0]
        return np.column_stack([np.ones(len(past.run)), past.area ** -shape["exponent"], -fall])


class MultiPowerLaw(Law, frozen=True, kw_only=True, tag="multi_power"):
    r"""L0 + A S^-a - B sum_k (eta_{k-1} - eta_k) [1 - (1 + C (eta_k/eta_ref)^-g (S_t - S_{k-1}))^-b].

    Falls count after the warm-up; the published C is C eta_ref^g.

    Args:
        floor: L0, nats.
        amplitude: A, the signal at S = 1, nats.
        gain: B, nats per learning rate.
        exponent: a.
        memory: C, per learning-rate area.
        rate_power: g.
        tail: b.
        reference: eta_ref, a learning rate.

    References: Luo et al., arXiv 2503.12811, equation 6.
    """

    floor: NonNegative
    amplitude: NonNegative
    gain: NonNegative
    exponent: Positive
    memory: Positive
    rate_power: float
    tail: Positive
    reference: Positive

    linear: ClassVar[tuple[str, ...]] = ("floor", "amplitude", "gain")
    scales: ClassVar[dict[str, str]] = {"reference": "rate"}
    shapes: ClassVar[dict[str, Shape]] = {
        "exponent": EXPONENT,
        "memory": Shape(low=1.0, high=1e4, area=-1),
        "rate_power": Shape(low=0.0, high=1.5, log=False),
        "tail": Shape(low=0.02, high=3.0),
    }
    units: ClassVar[dict[str, str]] = {
        "floor": "nats",
        "amplitude": "nats A^a",
        "gain": "nats/R",
        "exponent": "1",
        "memory": "1/A",
        "rate_power": "1",
        "tail": "1",
        "reference": "R",
    }

    @classmethod
    def columns(cls, past: History, shape: dict[str, Any]) -> np.ndarray:
        index = np.arange(1, past.lr.shape[1])
        falls = past.lr[:, :-1] - past.lr[:, 1:]  # at the start of pieces 1 ... M - 1
        falls = np.where((index > past.warm[:, None]) & (past.steps[:, 1:] > 0), falls, 0.0)[past.run]
        lags, lr = past.lags()[:, 1:-1], past.lr[:, 1:][past.run]
        gone = (falls != 0) & (lags != 0)
        paid = np.zeros(falls.shape, dtype=np.result_type(falls, lags, *shape.values()))
        paid[gone] = falls[gone]  # at a learning rate of 0 a fall pays in full as soon as the area goes on
        live = np.nonzero(gone & (lr != 0))
        relative = lr[live] / shape["reference"]
        paid[live] *= 1 - (1 + shape["memory"] * relative ** -shape["rate_power"] * lags[live]) ** -shape["tail"]
        return np.column_stack([np.ones(len(past.run)), past.area ** -shape["exponent"], -np.sum(paid, axis=1)])
