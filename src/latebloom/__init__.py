"""Latebloom: whether, when and from what depth to grow a transformer during pre-training, and then doing it.

    latebloom.theory          loss landscapes -> Plan        latebloom.sim     a Plan on deep linear networks -> Record
    latebloom.paper_figures   Records -> figures             latebloom.train   a Plan on GPT-2 -> Record

The names below are the ones most people need. Each is loaded when it is first used, so that ``import latebloom`` loads
no torch.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from latebloom.sim.simulation import simulate
    from latebloom.theory.errors import InputError, RunError
    from latebloom.theory.plan import Plan, read_plan, write_plan
    from latebloom.theory.planning import plan_expansion
    from latebloom.theory.record import Record, read_record, read_records
    from latebloom.train.growth.operators import grow
    from latebloom.train.optim.plan_lr import PlanLR
    from latebloom.train.run.loop import fit_gpt2, resume

__all__ = [
    "InputError",
    "Plan",
    "PlanLR",
    "Record",
    "RunError",
    "fit_gpt2",
    "grow",
    "plan_expansion",
    "read_plan",
    "read_record",
    "read_records",
    "resume",
    "simulate",
    "write_plan",
]

_HOMES = {
    "latebloom.sim.simulation": ("simulate",),
    "latebloom.theory.errors": ("InputError", "RunError"),
    "latebloom.theory.plan": ("Plan", "read_plan", "write_plan"),
    "latebloom.theory.planning": ("plan_expansion",),
    "latebloom.theory.record": ("Record", "read_record", "read_records"),
    "latebloom.train.growth.operators": ("grow",),
    "latebloom.train.optim.plan_lr": ("PlanLR",),
    "latebloom.train.run.loop": ("fit_gpt2", "resume"),
}
_HOME = {name: module for module, names in _HOMES.items() for name in names}


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'latebloom' has no attribute {name!r}")
    return getattr(importlib.import_module(_HOME[name]), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
