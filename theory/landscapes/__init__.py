"""Loss landscapes. Laws over learning-rate schedules share one interface (:mod:`latebloom.theory.landscapes.law`):

    law.loss(schedule or array of learning rates, step) -> losses        law.parameters, law.units
    law.gradient(history(schedule, step)) -> slopes                      LawPair(small=law, full=law, ...).loss(plan)

:mod:`latebloom.theory.fitting.laws` fits any of them. The area law (:mod:`latebloom.theory.landscapes.area`) is the
one that plans expansions.
"""

from typing import get_args

from latebloom.theory.landscapes.classical import ConvexBound, MomentumLaw, MultiPowerLaw, PowerLaw
from latebloom.theory.landscapes.functional import FunctionalLaw, QuadraticLaw
from latebloom.theory.landscapes.law import Law
from latebloom.theory.landscapes.river import RiverValley
from latebloom.theory.landscapes.two_valleys import TwoValleys

AnyLaw = PowerLaw | ConvexBound | MomentumLaw | MultiPowerLaw | FunctionalLaw | QuadraticLaw | RiverValley | TwoValleys

LAWS: dict[str, type[Law]] = {str(law.__struct_config__.tag): law for law in get_args(AnyLaw)}  # by the tag in its JSON

__all__ = [
    "LAWS",
    "AnyLaw",
    "ConvexBound",
    "FunctionalLaw",
    "Law",
    "MomentumLaw",
    "MultiPowerLaw",
    "PowerLaw",
    "QuadraticLaw",
    "RiverValley",
    "TwoValleys",
]
