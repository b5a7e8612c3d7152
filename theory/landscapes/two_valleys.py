r"""River and two valleys: a loss law for runs with two learning rates, of the matrices and of the rest.

    L(t) = L0 + A (X_t/X_ref)^-a + B (X_t/X_ref)^-g [(1 - w) <(r/r_ref)^q>_t + w <(o/o_ref)^p>_t]

    X_t   = sum_k (1 - m [k in warm-up]) r_k/(1 + r_k/r_c)
    <f>_t   averages over the past, as in :mod:`latebloom.theory.landscapes.river`, each over its own area with its own
            memory (C, d for the matrices, C', d' for the rest)

Runs of Muon have two learning rates: r of the blocks' matrices, o of embedding, head and vectors. Along the river the
matrices alone are counted. Each group has valley walls of its own: a higher peak of the matrices does not raise the
noise of the rest, and where the two cool down at different times the loss falls twice. With w = 0 it is the law
``river_valley``. Where a run has one learning rate, o = r.

Where decay acts and updates have a size of their own, r is how far matrices turn
(:func:`latebloom.theory.landscapes.effective_rate.turning_rates`), not the learning rate. Such rates are angles, and
progress saturates at the same angle in all runs: r_c and C are expected in radians (``GroupRates(angles=True)``), not
in units of the largest rate of the runs at hand, which said little of runs with a higher one.

Regime: one optimiser, batch and model. Constants: all fitted. One run, whose two rates mostly go one way, does not fix
fourteen of them; the expectations decide what it leaves open (:mod:`latebloom.theory.fitting.laws`). They are rounded
from fits to public runs of a GPT-2 of 124 million parameters under Muon and its kin (``tests/benchmarks/track3.py``):
w = .17, the mean over six groups of alike runs (.09 to .39); the noise of the rest closer to linear in its rate
(p = .8) than that of the matrices (q = .65). Predictions there change little for w from .15 to .2, q from .6 to .7 and
p from .6 to 1. Runs with one learning rate are predicted no better than by ``river_valley``, of 100 million parameters
worse (``docs/accuracy.md``).
"""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np

from latebloom.theory.landscapes.law import Law, Shape
from latebloom.theory.landscapes.lr_history import History
from latebloom.theory.landscapes.river import RiverValley, river_progress
from latebloom.theory.spec import Fraction, NonNegative, Positive

__all__ = ["TwoValleys"]


class TwoValleys(Law, frozen=True, kw_only=True, tag="two_valleys"):
    r"""L0 + A (X/X_ref)^-a + B (X/X_ref)^-g [(1 - w) <(r/r_ref)^q> + w <(o/o_ref)^p>], see the module.

    Args:
        floor: L0, nats.
        amplitude: A, signal at X_ref, nats.
        noise: B, at X_ref, constant r_ref and o_ref, nats.
        exponent: a.
        saturation: r_c, a learning rate of the matrices.
        delay: m, share of the warm-up's progress that is lost.
        memory: C, per learning-rate area of the matrices.
        tail: d.
        rate_power: q.
        cooling: g.
        other_share: w, of the noise.
        other_memory: C', per learning-rate area of the rest.
        other_tail: d'.
        other_power: p.
        reference_area: X_ref, learning-rate area of the matrices.
        reference_lr: r_ref, a learning rate of the matrices.
        reference_other: o_ref, a learning rate of the rest.
    """

    floor: NonNegative
    amplitude: NonNegative
    noise: NonNegative
    exponent: Positive
    saturation: Positive
    delay: Fraction
    memory: Positive
    tail: Positive
    rate_power: Positive
    cooling: NonNegative
    other_share: Fraction
    other_memory: Positive
    other_tail: Positive
    other_power: Positive
    reference_area: Positive
    reference_lr: Positive
    reference_other: Positive

    linear: ClassVar[tuple[str, ...]] = ("floor", "amplitude", "noise")
    scales: ClassVar[dict[str, str]] = {"reference_area": "area", "reference_lr": "rate", "reference_other": "other"}
    shapes: ClassVar[dict[str, Shape]] = {
        "exponent": Shape(low=0.05, high=2.0, centre=0.6, width=0.4),
        "saturation": Shape(low=0.03, high=30.0, rate=1, centre=0.6, width=0.7),
        "delay": Shape(low=0.0, high=0.95, log=False, centre=0.0, width=0.5),
        "memory": Shape(low=0.01, high=1.0, rate=-1, centre=0.2, width=0.7),
        "tail": Shape(low=0.05, high=3.0, centre=0.3, width=0.5),
        "rate_power": Shape(low=0.3, high=1.5, log=False, centre=0.65, width=0.12),
        "cooling": Shape(low=0.0, high=0.5, log=False, centre=0.1, width=0.1),
        "other_share": Shape(low=0.0, high=0.95, log=False, centre=0.17, width=0.1),
        "other_memory": Shape(low=0.01, high=1.0, other=-1, centre=0.15, width=0.7),
        "other_tail": Shape(low=0.05, high=3.0, centre=0.25, width=0.5),
        "other_power": Shape(low=0.3, high=1.5, log=False, centre=0.8, width=0.2),
    }
    units: ClassVar[dict[str, str]] = RiverValley.units | {
        "other_share": "1",
        "other_memory": "1/A'",
        "other_tail": "1",
        "other_power": "1",
        "reference_other": "R'",
    }

    @classmethod
    def columns(cls, past: History, shape: dict[str, Any]) -> np.ndarray:
        progress = river_progress(past, shape) / shape["reference_area"]
        matrices = past.average(shape["memory"], shape["tail"], power=shape["rate_power"])
        matrices = matrices * shape["reference_lr"] ** -shape["rate_power"]
        others = past.of_others.average(shape["other_memory"], shape["other_tail"], power=shape["other_power"])
        others = others * shape["reference_other"] ** -shape["other_power"]
        share = shape["other_share"]
        noise = progress ** -shape["cooling"] * ((1 - share) * matrices + share * others)
        return np.column_stack([np.ones(len(past.run)), progress ** -shape["exponent"], noise])
