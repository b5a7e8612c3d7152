"""What a progressive run is compared with: one table, which planner, verdict, demo, ablation, simulator, report and
figures read.

A progressive run grows from depth l to L at step tau of T, and spends the compute C.

    name                  depth   for                             the difference to the progressive run is
    fixed                 L       T steps                         what growing costs in loss
    equal_compute         L       the steps that C pays for       what growing is worth beside the full depth alone
    cold_start            L       the T - tau steps after tau     what the small phase is worth
    small                 l       T steps                         what the expansion is worth
    small_equal_compute   l       the steps that C pays for       what growing is worth beside never growing
    depth_equal_compute   any d   the steps that C pays for       the same beside every other fixed depth

A control whose horizon differs has its own schedule of the same form, its warm-up kept in steps; the cold start has
the tail of the progressive run's. :data:`COMPARED` names the rows that are predicted, run by ``latebloom demo`` and
named in the verdict. Those of equal compute are the other ways to spend C, and growing is worth it only if it ends
below all of them; the others say what it costs and where its worth comes from.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from typing import Final, Literal, Protocol

from latebloom.theory import checks
from latebloom.theory.cost import flops_per_token, plan_flops
from latebloom.theory.errors import InputError, nearest
from latebloom.theory.menu import schedule_for
from latebloom.theory.plan import Plan, Prediction, Provenance, Stage
from latebloom.theory.schedules import AnySchedule, Tail
from latebloom.theory.words import blocks_text

__all__ = [
    "COMPARED",
    "CONTROLS",
    "Control",
    "Maker",
    "cold_start",
    "compared",
    "control",
    "controls_among",
    "depths_between",
    "equal_compute",
    "fixed_depth",
]


def fixed_depth(plan: Plan, *, name: str, depth: int | None = None, schedule: AnySchedule | None = None) -> Plan:
    """The run of ``plan`` at one depth from the start, without predictions.

    Args:
        plan: Any plan.
        name: Of the new plan.
        depth: Number of blocks, the full depth by default.
        schedule: Learning rates, those of ``plan`` by default.
    """
    stage = Stage(start_step=0, depth=plan.depth if depth is None else depth)
    changes = {"stages": (stage,), "predicted": Prediction(), "provenance": Provenance()}
    return plan.replace(name=name, schedule=schedule or plan.schedule, **changes)


def equal_compute(plan: Plan, *, name: str, depth: int | None = None) -> Plan:
    """The fixed-depth run that costs what ``plan`` costs, with its own horizon and its own schedule.

    round(C / (b c_d)) steps, with C the FLOPs of ``plan``, b its tokens a step and c_d the FLOPs a token at depth d.
    The warm-up keeps its steps, so that runs of one depth begin alike and can share a trunk; the decay keeps its share.

    Args:
        plan: Any plan.
        name: Of the new plan.
        depth: d, number of blocks; the full depth by default.
    """
    per_step = plan.batch_tokens * flops_per_token(plan.model, plan.depth if depth is None else depth)
    steps = max(1, round(plan_flops(plan) / per_step))
    return fixed_depth(plan, name=name, depth=depth, schedule=schedule_for(plan.schedule, steps))


def cold_start(plan: Plan, *, name: str, depth: int | None = None) -> Plan:
    """A run from scratch for just the steps after the expansion, with the same tail of the schedule.

    Args:
        plan: A progressive plan.
        name: Of the new plan.
        depth: Number of blocks, the full depth by default.

    Raises:
        InputError: if ``plan`` has no expansion.
    """
    if plan.tau is None:
        raise InputError("stages", len(plan.stages), "a fixed-depth plan has no expansion", "give a progressive plan")
    return fixed_depth(plan, name=name, depth=depth, schedule=Tail(base=plan.schedule, start_step=plan.tau))


class Maker(Protocol):
    """Makes a control's plan from the progressive one."""

    __name__: str

    def __call__(self, plan: Plan, *, name: str, depth: int | None = None) -> Plan: ...


@dataclasses.dataclass(frozen=True, kw_only=True)
class Control:
    """A kind of run that a progressive run is compared with.

    Attributes:
        name: Key in results and name of runs.
        label: For people.
        controls_for: What the difference to the progressive run is.
        make: Makes its plan.
        depth: ``full`` or ``small`` depth of the progressive plan, a number of blocks, or None: a family, of which
            :meth:`at` gives the member of a depth.
        at_equal_compute: Its horizon follows from the progressive run's FLOPs.
        starts_at_expansion: Its first step is the progressive run's step tau, in schedule and data.
        family: Name of the row that a member is of.
    """

    name: str
    label: str
    controls_for: str
    make: Maker
    depth: Literal["full", "small"] | int | None
    at_equal_compute: bool = False
    starts_at_expansion: bool = False
    family: str | None = None

    @property
    def row(self) -> str:
        """Name of its row in the table."""
        return self.family or self.name

    def at(self, depth: int) -> Control:
        """This control at another depth, called ``NAME-DEPTH``.

        Args:
            depth: Number of blocks.
        """
        checks.whole("depth", depth, 0, fix="give the number of blocks")
        return dataclasses.replace(
            self, name=f"{self.name}-{depth}", label=f"{blocks_text(depth)}, {self.label}", depth=depth, family=self.row
        )

    def plan(self, progressive: Plan, *, name: str | None = None) -> Plan:
        """Its plan.

        Args:
            progressive: The plan that grows.
            name: Of the new plan; the control's by default.

        Raises:
            InputError: if this is a family and no depth was chosen, or if the plan does not grow and the control needs
                its expansion.
        """
        if self.depth is None:
            raise InputError("control", self.name, "stands for one control a depth", f"choose one: {self.name}-2")
        depths = {"full": progressive.depth, "small": progressive.stages[0].depth}
        depth = depths[self.depth] if isinstance(self.depth, str) else self.depth
        return self.make(progressive, name=name or self.name, depth=depth)


_ROWS = (
    Control(
        name="fixed",
        label="fixed depth",
        controls_for="what growing costs in loss",
        make=fixed_depth,
        depth="full",
    ),
    Control(
        name="equal_compute",
        label="fixed depth, equal compute",
        controls_for="what growing is worth beside the full depth alone",
        make=equal_compute,
        depth="full",
        at_equal_compute=True,
    ),
    Control(
        name="cold_start",
        label="cold start",
        controls_for="what the small phase is worth",
        make=cold_start,
        depth="full",
        starts_at_expansion=True,
    ),
    Control(
        name="small",
        label="never grown",
        controls_for="what the expansion is worth",
        make=fixed_depth,
        depth="small",
    ),
    Control(
        name="small_equal_compute",
        label="never grown, equal compute",
        controls_for="what growing is worth beside never growing",
        make=equal_compute,
        depth="small",
        at_equal_compute=True,
    ),
    Control(
        name="depth_equal_compute",
        label="equal compute",
        controls_for="what growing is worth beside another fixed depth",
        make=equal_compute,
        depth=None,
        at_equal_compute=True,
    ),
)
CONTROLS: Final[dict[str, Control]] = {row.name: row for row in _ROWS}
COMPARED: tuple[str, ...] = (
    "fixed", "equal_compute", "cold_start", "small", "small_equal_compute", "depth_equal_compute",
)  # fmt: skip


def depths_between(small_depth: int, full_depth: int) -> tuple[int, ...]:
    """Fixed depths that someone might train instead: from the small one by doubling, below the full one.

    >>> depths_between(1, 12), depths_between(0, 4)
    ((2, 4, 8), (1, 2))

    Args:
        small_depth: l.
        full_depth: L.

    Raises:
        InputError: if a depth is not a whole number.
    """
    checks.whole("small_depth", small_depth, 0)
    checks.whole("full_depth", full_depth, 1)
    depths, depth = [], max(2 * small_depth, 1)
    while depth < full_depth:
        depths.append(depth)
        depth *= 2
    return tuple(depths)


def compared(depths: Iterable[int] = ()) -> tuple[Control, ...]:
    """The controls that :data:`COMPARED` names.

    Args:
        depths: Of the members of its families, see :func:`depths_between`.
    """
    depths = tuple(depths)
    rows = map(control, COMPARED)
    return tuple(each for row in rows for each in ([row] if row.depth is not None else map(row.at, depths)))


def control(name: str) -> Control:
    """The control called ``name``.

    >>> control("depth_equal_compute-2").label
    '2 blocks, equal compute'

    Args:
        name: A row of :data:`CONTROLS`, or a row at a depth, as ``small-2``.

    Raises:
        InputError: if there is none.
    """
    named = _named(name)
    if named is None:
        raise InputError("control", name, "is unknown", nearest(name, CONTROLS))
    return named


def controls_among(names: Iterable[str]) -> list[Control]:
    """The controls among the runs called ``names``, in the order of the table, those of one row by depth.

    Args:
        names: Of runs, controls or not.
    """
    places = list(CONTROLS)
    among = [named for name in names if (named := _named(name)) is not None]
    return sorted(among, key=lambda c: (places.index(c.row), c.depth if isinstance(c.depth, int) else -1))


def _named(name: str) -> Control | None:
    if name in CONTROLS:
        return CONTROLS[name]
    row, _, depth = name.rpartition("-")
    return CONTROLS[row].at(int(depth)) if row in CONTROLS and depth.isdecimal() else None
