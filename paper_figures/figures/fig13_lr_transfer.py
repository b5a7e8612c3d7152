"""Figure 13: does one learning rate serve other depths, widths and horizons?

Final loss over the peak learning rate, the mean over seeds; the best of each sweep is marked. One rate for all depths
is what the paper's growth relies on; the width's and the horizon's rules are those of :mod:`latebloom.theory.transfer`.

Records: GPT-2 on bytes of novels under Muon-NSGD, warmup-stable-decay; base width 32, 2 blocks, 200 steps of 1024
tokens; plans in paper_figures/plans.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, NamedTuple

import matplotlib.pyplot as plt
import numpy as np

from latebloom.paper_figures.missing import require
from latebloom.paper_figures.seeds import told_seeds
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


class Sweep(NamedTuple):
    """Peak rates, and final losses at each, one a seed."""

    rates: list[float]
    losses: list[np.ndarray]

    @property
    def best(self) -> float:
        """The rate of the lowest mean."""
        return self.rates[int(np.argmin([each.mean() for each in self.losses]))]


def _told(size: int, axis: str) -> str:
    return "1 block" if (size, axis) == (1, "depth") else f"{size} {UNITS[axis]}"


def _size(plan: Plan) -> dict[str, int]:
    return {"depth": plan.depth, "width": plan.model.width, "horizon": plan.steps}


def prepare(records: Mapping[str, Record]) -> dict[str, dict[int, Sweep]]:
    """By axis and size: a sweep of peak rates where the other two sizes are the base's."""
    sweeps: dict[str, dict[int, dict[float, list[float]]]] = {axis: {} for axis in BASE}
    for record in records.values():
        size = _size(record.plan)
        for axis, points in sweeps.items():
            if all(size[other] == BASE[other] for other in BASE if other != axis):
                rates = points.setdefault(size[axis], {})
                rates.setdefault(record.plan.schedule.peak, []).append(record.final())
    kept = {
        axis: {size: points for size, points in sorted(sizes.items()) if len(points) >= FEWEST}
        for axis, sizes in sweeps.items()
    }
    require(all(len(points) > 1 for points in kept.values()), "sweeps of two sizes along each axis", MADE_BY)
    return {
        axis: {n: Sweep([*sorted(p)], [np.array(p[rate]) for rate in sorted(p)]) for n, p in points.items()}
        for axis, points in kept.items()
    }


def make(sweeps: dict[str, dict[int, Sweep]]) -> Figure:
    """One panel an axis."""
    figure, panels = plt.subplots(1, 3, sharey=True, figsize=(7.0, 2.7))
    for axes, (axis, sizes) in zip(panels, sweeps.items(), strict=True):
        for color, (size, sweep) in zip(COLORS, sizes.items(), strict=False):
            means = [each.mean() for each in sweep.losses]
            axes.plot(sweep.rates, means, ".-", color=color, label=_told(size, axis), markersize=3)
            axes.plot([sweep.best], [min(means)], "o", color=color, label="_best", markersize=5)
            for rate, each in zip(sweep.rates, sweep.losses, strict=True):
                if len(each) > 1:
                    axes.plot([rate] * len(each), each, "_", color=color, label="_seeds", markersize=5)
        axes.set(xscale="log", xlabel="peak learning rate", title=axis)
        ticks = sorted({rate for sweep in sizes.values() for rate in sweep.rates})
        axes.set_xticks(ticks, [f"{tick:g}".lstrip("0") for tick in ticks])
        axes.set_xticks([], minor=True)
        axes.legend()
    panels[0].set_ylabel("final validation loss (nats/token)")
    return figure


def data(sweeps: dict[str, dict[int, Sweep]]) -> Table:
    """Every run."""
    rows = [
        (axis, size, rate, float(loss))
        for axis, sizes in sweeps.items()
        for size, sweep in sizes.items()
        for rate, losses in zip(sweep.rates, sweep.losses, strict=True)
        for loss in losses
    ]
    return Table(("axis", "size", "peak learning rate", "final loss"), rows)


def caption(sweeps: dict[str, dict[int, Sweep]]) -> str:
    """The caption, its numbers computed."""
    told = []
    for axis, sizes in sweeps.items():
        told.append(f"{axis}: " + ", ".join(f"{_told(size, axis)} {sweep.best:g}" for size, sweep in sizes.items()))
    seeds = told_seeds(len(each) for sizes in sweeps.values() for sweep in sizes.values() for each in sweep.losses)
    return (
        f"Final loss over the peak learning rate under Muon-NSGD (GPT-2 on bytes, {seeds}), the same rate for all "
        f"kinds of parameter; base {BASE['width']} wide, {BASE['depth']} blocks, {BASE['horizon']} steps. Best rate of "
        f"each sweep (large dots), on a grid of factors of 2: {'; '.join(told)}."
    )
