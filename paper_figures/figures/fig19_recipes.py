"""Figure 19: ways of growing head to head: one model, one amount of compute, above its best fixed depth.

The cell is the one in which most ways were tried with two seeds or more. Ways of other cells stand in the CSV.

Records: every study.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, NamedTuple

import matplotlib.pyplot as plt
import numpy as np
from scipy.stats import t as student

from latebloom.paper_figures.curves import depth_color
from latebloom.paper_figures.fronts import STUDIES, GrownArm, finished_ends, grown_arms, told_model
from latebloom.paper_figures.missing import require
from latebloom.paper_figures.tables import Table

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from latebloom.theory.record import Record

RECORDS = list(STUDIES)
MADE_BY = "latebloom study studies/NAME.toml --data DIR --out runs/NAME --parquet DIR"


class Way(NamedTuple):
    """One way of growing in one cell: a study at one compute.

    Attributes:
        cell: The study and its compute.
        model: Of the study, in words.
        tokens_per_parameter: At its compute, of the deepest model that anything there grew to.
        way: How it grows.
        small: Depth before.
        above: Final loss above the best fixed depth, per cent of it, one a seed.
    """

    cell: str
    model: str
    tokens_per_parameter: float
    way: str
    small: int
    above: np.ndarray

    @property
    def half_interval(self) -> float:
        """Half of the 90 % interval of the mean over seeds (Student's t); nan with one seed."""
        n = len(self.above)
        return float(student.ppf(0.95, n - 1) * self.above.std(ddof=1) / n**0.5) if n > 1 else float("nan")


def prepare(records: Mapping[str, Record]) -> list[Way]:
    """Every way of every cell, the cell with most ways first, in it the best mean first."""
    cells: dict[str, list[GrownArm]] = {}
    for arm in grown_arms(finished_ends(records)):
        if np.isfinite(arm.share).any():
            cells.setdefault(f"{arm.group} C{arm.compute}", []).append(arm)
    require(cells, "grown runs beside fixed runs of equal compute", MADE_BY)
    most = sorted(cells, key=lambda cell: -sum(len(arm.share) > 1 for arm in cells[cell]))
    ways = []
    for cell in most:
        deepest = min(arm.tokens_per_parameter for arm in cells[cell])
        for arm in sorted(cells[cell], key=lambda arm: np.nanmean(arm.share)):
            above = 100 * arm.share[np.isfinite(arm.share)]
            ways.append(Way(cell, told_model(arm.plan), deepest, arm.way, arm.plan.stages[0].depth, above))
    return ways


def _shown(ways: list[Way]) -> list[Way]:
    """Those of the first cell."""
    return [way for way in ways if way.cell == ways[0].cell]


def make(ways: list[Way]) -> Figure:
    """One row a way."""
    shown = _shown(ways)
    figure, axes = plt.subplots(figsize=(7.0, 0.9 + 0.17 * len(shown)))
    for place, way in enumerate(reversed(shown)):
        color = depth_color(way.small)
        axes.errorbar([way.above.mean()], [place], xerr=[way.half_interval], fmt="o", color=color, markersize=4.5,
                      elinewidth=0.9, label=way.way)  # fmt: skip
        axes.plot(way.above, np.full(len(way.above), place), "|", color=color, markersize=6, label="_each")
    axes.axvline(0, color="#000000", linewidth=0.9)
    axes.set_yticks(
        range(len(shown)), [f"{way.way}  (n = {len(way.above)})" for way in reversed(shown)], fontsize=6.8
    )  # fmt: skip
    ends = [value for way in shown for value in way.above]
    axes.set_title(f"{shown[0].model}, {shown[0].tokens_per_parameter:.0f} tokens a parameter")
    room = 0.06 * (max(ends) - min(min(ends), 0))
    axes.set(xlabel="final loss above the best fixed depth (%)", ylim=(-0.6, len(shown) - 0.4),
             xlim=(min(min(ends), 0) - room, max(ends) + room))  # fmt: skip
    return figure


def data(ways: list[Way]) -> Table:
    """Every way of every cell, seed by seed."""
    rows = [(w.cell, w.model, w.way, float(value)) for w in ways for value in w.above]
    return Table(("cell", "model", "way", "above best fixed (%)"), rows)


def caption(ways: list[Way]) -> str:
    """The caption, its numbers computed."""
    shown = _shown(ways)
    best = next((way for way in shown if len(way.above) > 1), shown[0])
    seeds = [len(way.above) for way in shown]
    interval = f" ± {best.half_interval:.2f}" if len(best.above) > 1 else ""
    won = sum(int((way.above < 0).sum()) for way in ways)
    total = sum(len(way.above) for way in ways)
    return (
        f"{len(shown)} ways of growing at one compute ({best.model}; {best.tokens_per_parameter:.0f} tokens a "
        "parameter of the deepest model): final loss above the fixed depth that ends lowest with the same seed. Dots "
        f"are means over n = {min(seeds)} to {max(seeds)} seeds, ticks single seeds, lines 90 % intervals of the mean, "
        f"colors the depth before. Lowest with more than one: {best.way}, {best.above.mean():+.2f}{interval} % of the "
        f"loss. Of all {total} grown runs, other models and amounts of compute among them, {won} end below the best "
        "fixed depth."
    )
