"""Latebloom's toy: deep linear networks on which the theory is exact, running the same Plans that are trained.

>>> from sim import simulate                                                # doctest: +SKIP
>>> simulate(read_plan("plan.json")).claims                                 # doctest: +SKIP
"""

from sim.claims import Claim, Landscape
from sim.engine import Arm, Curve, run_arms
from sim.family import Family
from sim.growth import grow
from sim.lowrank import LowRank
from sim.mapping import SGD, Toy, toy_plan
from sim.simulate import Simulation, simulate
from sim.stability import sharpness

__all__ = [
    "SGD", "Arm", "Claim", "Curve", "Family", "Landscape", "LowRank", "Simulation", "Toy", "grow", "run_arms",
    "sharpness", "simulate", "toy_plan",
]  # fmt: skip
