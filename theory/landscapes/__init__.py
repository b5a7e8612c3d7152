"""Loss landscapes. Laws over learning-rate schedules share one interface (:mod:`latebloom.theory.landscapes.law`):

    law.loss(schedule or array of learning rates, step) -> losses        law.parameters, law.units
    law.gradient(history(schedule, step)), law.schedule_gradient(...)    Growth(small=law, full=law, ...).loss(plan)

:mod:`latebloom.theory.fitting.laws` fits any of them. The area law (:mod:`latebloom.theory.landscapes.area`) is the
one that plans expansions.
"""

from latebloom.theory.landscapes.classical import ConvexBound, MomentumLaw, MultiPowerLaw, PowerLaw
from latebloom.theory.landscapes.functional import FunctionalLaw, QuadraticLaw
from latebloom.theory.landscapes.law import Law
from latebloom.theory.landscapes.river import RiverValley

LAWS: dict[str, type[Law]] = {
    "power": PowerLaw,
    "convex": ConvexBound,
    "momentum": MomentumLaw,
    "multi_power": MultiPowerLaw,
    "functional": FunctionalLaw,
    "quadratic": QuadraticLaw,
    "river_valley": RiverValley,
}

__all__ = [
    "LAWS",
    "ConvexBound",
    "FunctionalLaw",
    "Law",
    "MomentumLaw",
    "MultiPowerLaw",
    "PowerLaw",
    "QuadraticLaw",
    "RiverValley",
]
