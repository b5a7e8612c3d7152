r"""River and valley: the law of this project for loss curves over learning-rate schedules.

    L(t) = L0 + A (X_t/X_ref)^-a + B (X_t/X_ref)^-g <(eta/eta_ref)^q>_t

    X_t   = sum_k eta_k/(1 + eta_k/eta_c)                      progress along the river, which saturates in eta
    <f>_t = sum_k f(eta_k) [(1 + C (S_t - S_{k+1}))^-d - (1 + C (S_t - S_k))^-d]
                                                               average over the past: the valley's walls remember

The river (flat directions) makes progress with learning-rate area, but not without limit: steps beyond eta_c buy
ever less. The valley (sharp directions) holds noise that follows the learning rate to the power q < 1 (normalised
optimisers, curvature that adapts to the step), relaxes over all time scales from 1/C up (a completely monotone
kernel: modes of all curvatures), and shrinks as the loss comes down. Special cases: eta_c = inf, q = 1, g = 0 is the
functional scaling law with kernel exponent d + 1; d = 1 as well is the noise of :mod:`theory.landscapes.area`.

Regime: one optimiser, batch and model; learning rates up to about twice the largest that was fitted.
Constants: all fitted.
"""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np

from theory.landscapes.classical import EXPONENT
from theory.landscapes.history import History, average_weights, rate_grid
from theory.landscapes.law import Law, Shape
from theory.spec import NonNegative, Positive

__all__ = ["RiverValley"]


class RiverValley(Law, frozen=True, kw_only=True, tag="river_valley"):
    r"""L0 + A (X/X_ref)^-a + B (X/X_ref)^-g <(eta/eta_ref)^q>, see the module.

    Args:
        floor: L0. signal_at_reference: A, at X = X_ref. noise: B, at X_ref and constant eta_ref.
        exponent: a. saturation: eta_c. memory: C. tail: d. rate_power: q. cooling: g.
        reference_area: X_ref. reference_lr: eta_ref.
    """

    floor: NonNegative
    amplitude: NonNegative
    noise: NonNegative
    exponent: Positive
    saturation: Positive
    memory: Positive
    tail: Positive
    rate_power: Positive
    cooling: NonNegative
    reference_area: Positive
    reference_lr: Positive

    linear: ClassVar[tuple[str, ...]] = ("floor", "amplitude", "noise")
    scales: ClassVar[dict[str, str]] = {"reference_area": "area", "reference_lr": "rate"}
    shapes: ClassVar[dict[str, Shape]] = {
        "exponent": EXPONENT,
        "saturation": Shape(low=0.03, high=30.0, rate=1),
        "memory": Shape(low=3.0, high=1e4, area=-1),
        "tail": Shape(low=0.05, high=3.0),
        "rate_power": Shape(low=0.3, high=1.5, log=False),
        "cooling": Shape(low=0.0, high=0.5, log=False),
    }
    units: ClassVar[dict[str, str]] = {
        "floor": "nats", "amplitude": "nats", "noise": "nats", "exponent": "1", "saturation": "R", "memory": "1/A",
        "tail": "1", "rate_power": "1", "cooling": "1", "reference_area": "A", "reference_lr": "R",
    }  # fmt: skip

    @classmethod
    def columns(cls, past: History, shape: dict[str, Any]) -> np.ndarray:
        progress = past.at(past.sums(past.lr / (1 + past.lr / shape["saturation"]))) / shape["reference_area"]
        total = past.total_area
        rates = rate_grid(total, max(1e4 / total, float(np.real(shape["memory"]))))
        lagged = past.averages(rates, drive=shape["rate_power"]) @ average_weights(rates, shape["memory"], shape["tail"])
        noise = progress ** -shape["cooling"] * lagged * shape["reference_lr"] ** -shape["rate_power"]
        return np.column_stack([np.ones(len(past.run)), progress ** -shape["exponent"], noise])
