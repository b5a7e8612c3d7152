"""Latebloom's toy: deep linear networks on which the theory is exact, running the same Plans that are trained.

>>> from sim import simulate                                                # doctest: +SKIP
>>> simulate(read_plan("plan.json")).claims                                 # doctest: +SKIP

Names are loaded when they are first used: the command line must not wait for torch.
"""

from __future__ import annotations

import importlib
from typing import Any

_EXPORTS = {
    "SGD": "sim.mapping",
    "Arm": "sim.engine",
    "Claim": "sim.claims",
    "Curve": "sim.engine",
    "Family": "sim.family",
    "Landscape": "sim.claims",
    "LowRank": "sim.lowrank",
    "Simulation": "sim.simulation",
    "Toy": "sim.mapping",
    "grow": "sim.growth",
    "run_arms": "sim.engine",
    "sharpness": "sim.stability",
    "simulate": "sim.simulation",
    "toy_plan": "sim.mapping",
}

__all__ = sorted(_EXPORTS)


def __getattr__(name: str) -> Any:
    if name not in _EXPORTS:
        raise AttributeError(f"module 'sim' has no attribute {name!r}")
    return getattr(importlib.import_module(_EXPORTS[name]), name)
