"""How far rounding alone carries a run: losses and gradient norms after the last bit of every initial weight was moved.

Sums over sequences in another order (other micro-batches, another number of ranks) round every gradient of every step
otherwise. What that comes to grows with the run, and says nothing against the sums: a run whose weights begin one unit
in the last place apart goes apart as fast. So the difference between two orders is held against that one, step by step.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

from latebloom.theory.plan import Plan
from latebloom.train.config import TrainConfig
from latebloom.train.ranks import joined
from latebloom.train.run.loop import make_trainee
from latebloom.train.run.trainee import Trainee

__all__ = ["allowed", "apart", "updates"]

# Two orders of summation may differ by this many times what the last bits of the weights change: those are moved once,
# sums are rounded anew at every step. Measured: up to 1.6 times.
TIMES = 8.0
FLOOR = 8 * float(np.finfo(np.float32).eps)  # of the values themselves: the first step sees the same weights
NUDGES = 3  # runs; the largest difference counts


def updates(plan: Plan, data: Path, config: TrainConfig, nudge: int | None = None) -> np.ndarray:
    """Loss and gradient norm of every step, on this rank; shape (steps, 2).

    Args:
        plan: What is trained.
        data: Its shards.
        config: How.
        nudge: Seed of the directions in which the last bits of the initial weights are moved; None: they stay.
    """
    with joined("cpu") as ranks:
        trainee = make_trainee(plan, data, config, ranks)
        trainee.begin()
        if nudge is not None:
            _move_last_bits(trainee, nudge)
        rows = []
        while trainee.step < plan.steps:
            if trainee.growth_is_due:
                trainee.grow()
            update = trainee.update()
            rows.append((update.loss, update.gradient_norm))
        trainee.close()
        return np.array(rows)


def apart(plan: Plan, data: Path, config: TrainConfig) -> np.ndarray:
    """Most that last bits of the weights change in loss and gradient norm up to each step, in one process; (steps, 2).

    Args:
        plan: What is trained.
        data: Its shards.
        config: How.
    """
    still = updates(plan, data, config)
    differences = [np.abs(updates(plan, data, config, nudge) - still) for nudge in range(NUDGES)]
    return np.maximum.accumulate(np.max(differences, axis=0))


def allowed(bits: np.ndarray, values: np.ndarray) -> np.ndarray:
    """How far another order of summation may be from ``values``, at each step.

    Args:
        bits: What the last bits of the weights change: :func:`apart`.
        values: Losses and gradient norms: :func:`updates`.
    """
    return TIMES * bits + FLOOR * np.abs(values)


@torch.no_grad()
def _move_last_bits(trainee: Trainee, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    for weight in trainee.weights().values():
        up = torch.randint(2, weight.shape, generator=generator) * 2 - 1
        weight.copy_(torch.nextafter(weight, torch.inf * up))
