r"""Functional scaling laws: noise as a Volterra sum over the schedule with a power-law kernel in learning-rate area.

    L(t) = L0 + signal(S_t) + B int_0^{S_t} eta(v) (1 + C (S_t - v))^-d dv

which is B sum_k eta_k^2 (1 + C (S_t - S_k))^-d with the kernel integrated over each update instead of sampled.

References: Li et al., arXiv 2509.19189 (kernel, source and capacity); Bordelon & Pehlevan, arXiv 2602.04774.
"""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np
import scipy

from latebloom.theory import checks
from latebloom.theory.errors import InputError
from latebloom.theory.landscapes.classical import EXPONENT
from latebloom.theory.landscapes.law import BestSchedule, Law, Shape, history_of_rates
from latebloom.theory.landscapes.lr_history import History
from latebloom.theory.spec import NonNegative, Positive

__all__ = ["FunctionalLaw", "QuadraticLaw", "best_functional_schedule"]


class FunctionalLaw(Law, frozen=True, kw_only=True, tag="functional"):
    r"""FSL: L0 + A S^-a + B int eta (1 + C u)^-d dv, u = S_t - v.

    Args:
        floor: L0, nats.
        amplitude: A, the signal at S = 1, nats.
        noise: B, nats per learning rate and area.
        exponent: a.
        memory: C, per learning-rate area.
        tail: d.
    """

    floor: NonNegative
    amplitude: NonNegative
    noise: NonNegative
    exponent: Positive
    memory: Positive
    tail: Positive

    linear: ClassVar[tuple[str, ...]] = ("floor", "amplitude", "noise")
    shapes: ClassVar[dict[str, Shape]] = {
        "exponent": EXPONENT,
        "memory": Shape(low=1.0, high=1e4, area=-1),
        "tail": Shape(low=0.1, high=3.0),
    }
    units: ClassVar[dict[str, str]] = {
        "floor": "nats",
        "amplitude": "nats A^a",
        "noise": "nats/(R A)",
        "exponent": "1",
        "memory": "1/A",
        "tail": "1",
    }

    @classmethod
    def columns(cls, past: History, shape: dict[str, Any]) -> np.ndarray:
        noise = past.response(shape["memory"], shape["tail"])
        return np.column_stack([np.ones(len(past.run)), past.area ** -shape["exponent"], noise])


class QuadraticLaw(Law, frozen=True, kw_only=True, tag="quadratic"):
    r"""Source/capacity form: a quadratic whose modes lambda carry signal lambda^s and noise lambda^(2 - 1/beta).

    Each mode's loss decays as exp(-2 lambda S) and its noise relaxes with the same rate; with densities that fall off
    beyond the sharpest mode C like exp(-lambda/C), both are exact:

        L0 + A (1 + C S)^-s + B int eta (1 + C u)^-(2 - 1/beta) dv

    so that one curvature C sets the onset of the power law and the memory of the noise: fast sharp directions hold a
    floor of noise proportional to eta, slow ones make progress with S (the river and the valley).

    Args:
        floor: L0, nats.
        amplitude: A, the signal at S = 0, nats.
        noise: B, nats per learning rate and area.
        source: s.
        capacity: beta >= 1/2 (spectrum j^-beta).
        sharpness: C, per area (twice the largest curvature).

    References: Li et al., arXiv 2509.19189, section 3; Wen et al., arXiv 2410.05192.
    """

    floor: NonNegative
    amplitude: NonNegative
    noise: NonNegative
    source: Positive
    capacity: Positive
    sharpness: Positive

    linear: ClassVar[tuple[str, ...]] = ("floor", "amplitude", "noise")
    shapes: ClassVar[dict[str, Shape]] = {
        "source": EXPONENT,
        "capacity": Shape(low=0.55, high=10.0),
        "sharpness": Shape(low=1.0, high=1e4, area=-1),
    }
    units: ClassVar[dict[str, str]] = {
        "floor": "nats",
        "amplitude": "nats",
        "noise": "nats/(R A)",
        "source": "1",
        "capacity": "1",
        "sharpness": "1/A",
    }

    @classmethod
    def columns(cls, past: History, shape: dict[str, Any]) -> np.ndarray:
        noise = past.response(shape["sharpness"], 2 - 1 / shape["capacity"])
        signal = (1 + shape["sharpness"] * past.area) ** -shape["source"]
        return np.column_stack([np.ones(len(past.run)), signal, noise])


def best_functional_schedule(law: FunctionalLaw, *, steps: float, peak_lr: float, pieces: int = 400) -> BestSchedule:
    r"""The learning rates that minimise the last loss of ``law`` within 0 <= eta <= ``peak_lr``, in closed form.

    In area, the constraint of the horizon is int dv/eta = T and the noise is B int eta K(u) dv, u = S_T - v, so at any
    given S_T the optimum has B K(u) = mu/eta^2:

        eta(u) = min(eta_max, c (1 + C u)^(d/2))

    a plateau and then a decay that in steps n left is a power: eta ~ n^(d/(2 - d)) where C u >> 1 and d < 2, that is
    n^(2 beta - 1) for d = 2 - 1/beta. Only c is left to search. For a > d - 1 (easy) c falls with T and the plateau is
    not needed: eta_peak ~ T^-(a + 1 - d)/(a + 2 - d). For a < d - 1 (hard) the plateau fills all but a vanishing share.

    Args:
        law: With d != 2 (there the decay is an exponential).
        steps: T > 0.
        peak_lr: eta_max > 0.
        pieces: Of the returned schedule, geometric in the area left; at least 2.

    Raises:
        InputError: if the law's d is 2, or an argument is not positive.

    References: Li et al., arXiv 2602.06797, Theorems for the easy and the hard regime (same exponents).
    """
    checks.positive("steps", steps)
    checks.positive("peak_lr", peak_lr)
    checks.whole("pieces", pieces, 2)
    memory, half = law.memory, law.tail / 2
    if abs(half - 1) < 1e-9:
        raise InputError("tail", law.tail, "makes the decay an exponential", "perturb it")

    def steps_left(u: float, c: float) -> float:
        turn = max(0.0, ((peak_lr / c) ** (1 / half) - 1) / memory)  # where the plateau ends
        inner = min(u, turn)
        power = ((1 + memory * inner) ** (1 - half) - 1) / (memory * c * (1 - half))
        return power + (u - inner) / peak_lr

    def area(c: float) -> float:
        return float(
            scipy.optimize.brentq(lambda u: steps_left(u, c) - steps, 0.0, steps * peak_lr * (1 + 1e-12), xtol=1e-14)
        )

    def schedule(c: float) -> tuple[np.ndarray, np.ndarray]:
        """Lengths and learning rates of its pieces."""
        total = area(c)
        u = np.concatenate([[0.0], np.geomspace(1e-4 / memory, 1.0 if total < 1e-4 / memory else total, pieces)])
        u = np.minimum(u, total)
        left = np.array([steps_left(x, c) for x in u])
        lengths = -np.diff(left[::-1])
        areas = -np.diff(u[::-1])
        keep = lengths > 0
        return lengths[keep], areas[keep] / lengths[keep]

    def loss(log_c: float) -> float:
        lengths, rates = schedule(np.exp(log_c))
        return float(law.predict(history_of_rates(rates=rates, steps=lengths))[0])

    low = np.log(peak_lr) - half * np.log(1 + memory * steps * peak_lr) - 8.0
    best = scipy.optimize.minimize_scalar(
        loss, bounds=(low, np.log(peak_lr)), method="bounded", options={"xatol": 1e-6}
    )
    lengths, rates = schedule(float(np.exp(best.x)))
    return BestSchedule(steps=lengths, lr=rates, loss=float(best.fun))
