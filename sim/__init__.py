"""Latebloom's toy: deep linear networks on which the theory is exact, running the same Plans that are trained.

>>> from latebloom.sim import simulate                                                # doctest: +SKIP
>>> simulate(read_plan("plan.json")).claims                                 # doctest: +SKIP

Names are loaded when they are first used: the command line must not wait for torch.
"""

from __future__ import annotations

import importlib
from typing import Any

_EXPORTS = {
    "SGD": "latebloom.sim.mapping",
    "Arm": "latebloom.sim.engine",
    "Claim": "latebloom.sim.claims",
    "NetworkFamily": "latebloom.sim.family",
    "Landscape": "latebloom.sim.claims",
    "LowRank": "latebloom.sim.lowrank",
    "SimulatedCurve": "latebloom.sim.engine",
    "Simulation": "latebloom.sim.simulation",
    "Toy": "latebloom.sim.mapping",
    "add_blocks": "latebloom.sim.growth",
    "run_arms": "latebloom.sim.engine",
    "sharpness": "latebloom.sim.stability",
    "simulate": "latebloom.sim.simulation",
    "toy_plan": "latebloom.sim.mapping",
}

__all__ = sorted(_EXPORTS)


def __getattr__(name: str) -> Any:
    if name not in _EXPORTS:
        raise AttributeError(f"module 'latebloom.sim' has no attribute {name!r}")
    return getattr(importlib.import_module(_EXPORTS[name]), name)
