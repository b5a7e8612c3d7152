"""Figure 13: does one learning rate serve other depths, widths and horizons?

Final loss over the peak learning rate; the best of each sweep is marked. One rate for all depths is what the paper's
growth relies on; the width's and the horizon's rules are those of :mod:`latebloom.theory.transfer`.

Records: GPT-2 on bytes of novels under Muon-NSGD, warmup-stable-decay; base width 32, 2 blocks, 200 steps of 1024
tokens; plans in paper_figures/plans.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import matplotlib.pyplot as plt
import numpy as np

from latebloom.paper_figures.missing import require
from latebloom.paper_figures.tables import Table

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from latebloom.theory.plan import Plan
    from latebloom.theory.record import Record

RECORDS = ["lr_transfer/*"]
MADE_BY = "latebloom train paper_figures/plans/lr_transfer/NAME.json --data DIR"
BASE = {"depth": 2, "width": 32, "horizon": 200}
FEWEST = 4  # rates of a sweep that is shown
COLORS = ("#56B4E9", "#000000", "#D55E00", "#009E73")
UNITS = {"depth": "blocks", "width": "wide", "horizon": "steps"}


def _told(size: int, axis: str) -> str:
    return "1 block" if (size, axis) == (1, "depth") else f"{size} {UNITS[axis]}"


def _size(plan: Plan) -> dict[str, int]:
    return {"depth": plan.depth, "width": plan.model.width, "horizon": plan.steps}


def prepare(records: Mapping[str, Record]) -> dict[str, dict[int, tuple[np.ndarray, np.ndarray]]]:
    """By axis and size: (peak rates, final losses), where the other two are the base's."""
    sweeps: dict[str, dict[int, dict[float, float]]] = {axis: {} for axis in BASE}
    for record in records.values():
        size = _size(record.plan)
        for axis, points in sweeps.items():
            if all(size[other] == BASE[other] for other in BASE if other != axis):
                points.setdefault(size[axis], {})[record.plan.schedule.peak] = record.final()
    sweeps = {
        axis: {size: points for size, points in sizes.items() if len(points) >= FEWEST}
        for axis, sizes in sweeps.items()
    }
    require(all(len(points) > 1 for points in sweeps.values()), "sweeps of two sizes along each axis", MADE_BY)
    return {
        axis: {n: (np.array(sorted(p)), np.array([p[x] for x in sorted(p)])) for n, p in sorted(points.items())}
        for axis, points in sweeps.items()
    }


def make(sweeps: dict[str, dict[int, tuple[np.ndarray, np.ndarray]]]) -> Figure:
    """One panel an axis."""
    figure, panels = plt.subplots(1, 3, sharey=True, figsize=(7.0, 2.7))
    for axes, (axis, sizes) in zip(panels, sweeps.items(), strict=True):
        for color, (size, (rates, losses)) in zip(COLORS, sizes.items(), strict=False):
            axes.plot(
                rates,
                losses,
                "-",
                color=color,
                label=_told(size, axis),
                marker=".",
                markersize=3,
            )
            best = int(losses.argmin())
            axes.plot(rates[best : best + 1], losses[best : best + 1], "o", color=color, label="_best", markersize=5)
        axes.set(xscale="log", xlabel="peak learning rate", title=axis)
        ticks = sorted({float(rate) for rates, _ in sizes.values() for rate in rates})
        axes.set_xticks(ticks, [f"{tick:g}".lstrip("0") for tick in ticks])
        axes.set_xticks([], minor=True)
        axes.legend()
    panels[0].set_ylabel("final validation loss (nats/token)")
    return figure


def data(sweeps: dict[str, dict[int, tuple[np.ndarray, np.ndarray]]]) -> Table:
    """Every run."""
    rows = [
        (axis, size, float(rate), float(loss))
        for axis, sizes in sweeps.items()
        for size, (rates, losses) in sizes.items()
        for rate, loss in zip(rates, losses, strict=True)
    ]
    return Table(("axis", "size", "peak learning rate", "final loss"), rows)


def caption(sweeps: dict[str, dict[int, tuple[np.ndarray, np.ndarray]]]) -> str:
    """The caption, its numbers computed."""
    told = []
    for axis, sizes in sweeps.items():
        best = ", ".join(f"{_told(size, axis)} {rates[losses.argmin()]:g}" for size, (rates, losses) in sizes.items())
        told.append(f"{axis}: {best}")
    return (
        "Final loss over the peak learning rate under Muon-NSGD (GPT-2 on bytes, n = 1 seed), the same rate for all "
        "kinds of "
        f"parameter; base {BASE['width']} wide, {BASE['depth']} blocks, {BASE['horizon']} steps. Best rate of each "
        "sweep, on a "
        f"grid of factors of 2: {'; '.join(told)}."
    )
