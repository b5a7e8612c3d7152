r"""Functional scaling laws: noise as a Volterra sum over the schedule with a power-law kernel in learning-rate area.

    L(t) = L0 + signal(S_t) + B int_0^{S_t} eta(v) (1 + C (S_t - v))^-d dv

which is B sum_k eta_k^2 (1 + C (S_t - S_k))^-d with the kernel integrated over each update instead of sampled.

References: Li et al., arXiv 2509.19189 (kernel, source and capacity); Bordelon & Pehlevan, arXiv 2602.04774.
"""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np

from theory.landscapes.classical import EXPONENT
from theory.landscapes.history import History
from theory.landscapes.law import Law, Shape
from theory.spec import NonNegative, Positive

__all__ = ["FunctionalLaw", "NoisyQuadratic"]


class FunctionalLaw(Law, frozen=True, kw_only=True, tag="functional"):
    r"""FSL: L0 + A S^-a + B int eta (1 + C u)^-d dv, u = S_t - v.

    Args:
        floor: L0. amplitude: A. noise: B. exponent: a. memory: C, per area. tail: d.
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
        "floor": "nats", "amplitude": "nats A^a", "noise": "nats/(R A)", "exponent": "1", "memory": "1/A", "tail": "1",
    }  # fmt: skip

    @classmethod
    def columns(cls, past: History, shape: dict[str, Any]) -> np.ndarray:
        noise = past.response(shape["memory"], shape["tail"])
        return np.column_stack([np.ones(len(past.run)), past.area ** -shape["exponent"], noise])


class NoisyQuadratic(Law, frozen=True, kw_only=True, tag="quadratic"):
    r"""Source/capacity form: a quadratic whose modes lambda carry signal lambda^s and noise lambda^(2 - 1/beta).

    Each mode's loss decays as exp(-2 lambda S) and its noise relaxes with the same rate; with densities that fall off
    beyond the sharpest mode C like exp(-lambda/C), both are exact:

        L0 + A (1 + C S)^-s + B int eta (1 + C u)^-(2 - 1/beta) dv

    so that one curvature C sets the onset of the power law and the memory of the noise: fast sharp directions hold a
    floor of noise proportional to eta, slow ones make progress with S (the river and the valley).

    Args:
        floor: L0. amplitude: A, the signal at S = 0. noise: B. source: s. capacity: beta >= 1/2 (spectrum j^-beta).
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
        "floor": "nats", "amplitude": "nats", "noise": "nats/(R A)", "source": "1", "capacity": "1", "sharpness": "1/A",
    }  # fmt: skip

    @classmethod
    def columns(cls, past: History, shape: dict[str, Any]) -> np.ndarray:
        noise = past.response(shape["sharpness"], 2 - 1 / shape["capacity"])
        signal = (1 + shape["sharpness"] * past.area) ** -shape["source"]
        return np.column_stack([np.ones(len(past.run)), signal, noise])
