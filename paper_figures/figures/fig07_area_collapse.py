"""Figure 7: is learning-rate area the clock? The price of growing under two schedules, against time and against area.

Left: the price, final loss of the grown run over that of the fixed depth, against the expansion step. Right: the same
against the share of the schedule's area that is left. If the area law holds the points of both schedules fall on one
curve: with a logarithmic signal, price = a ln(S_T/u), one number a (docs/derivation.md, section 1).

Records: those of figure 6.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import TYPE_CHECKING, NamedTuple

import matplotlib.pyplot as plt
import numpy as np

from latebloom.paper_figures.figures.fig06_schedules import MADE_BY, RECORDS, SCHEDULES, TAUS
from latebloom.paper_figures.seeds import above, told_seeds
from latebloom.paper_figures.tables import Table

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from latebloom.theory.record import Record

__all__ = ["MADE_BY", "RECORDS"]

HOLDS = 0.1  # misfit over the largest price, up to which the law is said to hold


class Price(NamedTuple):
    """What growing cost one run: (tau/T, u/S_T, nats)."""

    schedule: str
    tau: float
    left: float
    price: float


def prepare(records: Mapping[str, Record]) -> list[Price]:
    """The price of every grown run, against the fixed depth of its seed."""
    prices = []
    for kind in SCHEDULES:
        for tau in TAUS:
            plan = records[f"schedules/{kind}-grown-{tau}_s0"].plan
            where = (tau / plan.steps, float(plan.schedule.remaining(tau)))
            costs = above(records, f"schedules/{kind}-grown-{tau}", f"schedules/{kind}-fixed")
            prices += [Price(kind, *where, float(cost)) for cost in costs]
    return prices


def _mean_prices(prices: list[Price], kind: str) -> list[Price]:
    """Of one schedule, the mean over seeds at each step."""
    return [
        Price(kind, *where, float(np.mean([p.price for p in prices if (p.schedule, p.tau, p.left) == (kind, *where)])))
        for where in dict.fromkeys((p.tau, p.left) for p in prices if p.schedule == kind)
    ]


def slope(prices: list[Price]) -> tuple[float, float]:
    """(a, its root mean square misfit) of price = a ln(S_T/u), least squares, nats."""
    x = np.log([1 / p.left for p in prices])
    y = np.array([p.price for p in prices])
    a = float(x @ y / (x @ x))
    return a, float(np.sqrt(np.mean((y - a * x) ** 2)))


def make(prices: list[Price]) -> Figure:
    """Two panels."""
    figure, (left, right) = plt.subplots(1, 2, sharey=True)
    for kind, (label, color) in SCHEDULES.items():
        here, each = _mean_prices(prices, kind), [p for p in prices if p.schedule == kind]
        left.plot([p.tau for p in here], [p.price for p in here], "o-", color=color, label=label)
        right.plot([p.left for p in here], [p.price for p in here], "o", color=color, label=label)
        if len(each) > len(here):
            left.plot([p.tau for p in each], [p.price for p in each], "_", color=color, label="_seeds")
            right.plot([p.left for p in each], [p.price for p in each], "_", color=color, label="_seeds")
    a, _ = slope(prices)
    grid = np.geomspace(min(p.left for p in prices), 1, 100)
    right.plot(grid, a * np.log(1 / grid), color="#000000", linewidth=1, label=f"{a:.3f} ln(1/share)")
    left.set(xlabel="expansion at τ/T", ylabel="price of growing (nats/token)", title="against time", xlim=(0, 1))
    right.set(xscale="log", xlabel="share of the learning-rate area that is left", title="against area")
    right.invert_xaxis()
    ticks = (1, 0.5, 0.2, 0.1, 0.05, 0.02)
    right.set_xticks(ticks, [f"{tick:g}" for tick in ticks])
    right.set_xticks([], minor=True)
    left.legend()
    right.legend()
    return figure


def data(prices: list[Price]) -> Table:
    """Every run."""
    return Table(("schedule", "tau/T", "u/S_T", "price (nats)"), prices)


def caption(prices: list[Price]) -> str:
    """The caption, its numbers computed."""
    a, misfit = slope(prices)
    alone = []
    for kind, (label, _) in SCHEDULES.items():
        own, _ = slope([p for p in prices if p.schedule == kind])
        alone.append(f"{label} alone {own:.3f}")
    largest = max(p.price for p in prices)
    seeds = told_seeds(Counter((p.schedule, p.tau) for p in prices).values())
    return (
        f"The price of growing from 1 to 4 blocks in {len(prices)} runs ({seeds}), against the expansion's step "
        "and against the share of the learning-rate area that is left then. One number for both schedules, "
        f"a = {a:.3f} nats per e-fold ({', '.join(alone)}), leaves a misfit of {misfit:.3f} nats (root mean square) of "
        f"prices up to {largest:.3f}: "
        f"{'the area law holds here' if misfit < HOLDS * largest else 'the area law does not hold here'}."
    )
