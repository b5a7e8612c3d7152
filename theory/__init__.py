"""Latebloom's analytic side: loss landscapes in, a :class:`Plan` out.

Nothing here imports torch, sympy, pandas or matplotlib, and nothing imports ``sim`` or ``train``.
"""

from latebloom.theory.architectures.presets import preset
from latebloom.theory.controls import cold_start, equal_compute, fixed_depth
from latebloom.theory.errors import InputError
from latebloom.theory.landscapes.area import AreaLaw, Signal
from latebloom.theory.online_expansion import AutoExpansion
from latebloom.theory.plan import (
    Base,
    GPT2Shape,
    Optimizer,
    Plan,
    Stage,
    read_plan,
    write_plan,
)
from latebloom.theory.planning import plan_expansion
from latebloom.theory.record import Record, read_record, read_records
from latebloom.theory.schedules import WSD, Constant, Cosine, Linear, Schedule, Tail, wsd
from latebloom.theory.timing import tau_star

__all__ = [
    "WSD",
    "AreaLaw",
    "AutoExpansion",
    "Base",
    "Constant",
    "Cosine",
    "GPT2Shape",
    "InputError",
    "Linear",
    "Optimizer",
    "Plan",
    "Record",
    "Schedule",
    "Signal",
    "Stage",
    "Tail",
    "cold_start",
    "equal_compute",
    "fixed_depth",
    "plan_expansion",
    "preset",
    "read_plan",
    "read_record",
    "read_records",
    "tau_star",
    "write_plan",
    "wsd",
]
