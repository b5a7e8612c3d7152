"""Figure 21: grow, or not? The best grown run of each compute and start against the best fixed depth.

Records: of the demo's corpus and model (see figure 4), and every study.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, NamedTuple

import matplotlib.pyplot as plt
import numpy as np

from latebloom.paper_figures.fronts import DEMO, STUDIES, depths_passed, finished_ends, grown_arms, told_model
from latebloom.paper_figures.missing import require
from latebloom.paper_figures.tables import Table

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from latebloom.theory.record import Record

RECORDS = [*DEMO, *STUDIES]
MADE_BY = "latebloom study studies/NAME.toml --data DIR --out runs/NAME --parquet DIR"

BIN = 0.5  # of the logarithm: amounts of compute of one model are rounded to it


class Cell(NamedTuple):
    """The best grown arm of one model, start and compute: per cent above the best fixed depth, mean over n seeds."""

    model: str
    depths: str
    tokens_per_parameter: float
    way: str
    above: float
    error: float
    seeds: int


def prepare(records: Mapping[str, Record]) -> list[Cell]:
    """The lowest arm of each cell among those with most seeds; see :data:`BIN`."""
    best: dict[tuple[str, str, float], Cell] = {}
    for arm in grown_arms(finished_ends(records)):
        share = 100 * arm.share[np.isfinite(arm.share)]
        key = (
            told_model(arm.plan),
            depths_passed(arm.plan),
            float(np.exp(BIN * round(np.log(arm.tokens_per_parameter) / BIN))),
        )
        error = share.std(ddof=1) / len(share) ** 0.5 if len(share) > 1 else float("nan")
        cell = Cell(*key, arm.way, share.mean(), error, len(share))
        if key not in best or (-cell.seeds, cell.above) < (-best[key].seeds, best[key].above):
            best[key] = cell
    require(best, "grown runs beside fixed runs of equal compute", MADE_BY)
    return sorted(best.values())


def make(cells: list[Cell]) -> Figure:
    """One row a model and start, one square a compute; purple where growing is better, orange where it is worse."""
    rows = list(dict.fromkeys((cell.model, cell.depths) for cell in cells))
    figure, axes = plt.subplots(figsize=(7.0, 1.1 + 0.3 * len(rows)))
    colors = plt.get_cmap("PuOr_r")
    largest = max(1.0, *(abs(cell.above) for cell in cells))
    for cell in cells:
        place = len(rows) - 1 - rows.index((cell.model, cell.depths))
        strength = float(np.sign(cell.above) * np.sqrt(abs(cell.above) / largest))  # small ones are to be seen, too
        shade = colors(0.5 + 0.5 * strength)
        axes.plot([cell.tokens_per_parameter], [place], "s", color=shade, markersize=19, markeredgecolor="#555555",
                  markeredgewidth=0.5, label=f"{cell.model} {cell.depths}")  # fmt: skip
        axes.annotate(f"{cell.above:+.1f}", (cell.tokens_per_parameter, place), ha="center", va="center", fontsize=6,
                      color="#ffffff" if abs(strength) > 0.8 else "#000000")  # fmt: skip
    axes.set_yticks(range(len(rows)), [f"{depths} blocks\n{model}" for model, depths in reversed(rows)], fontsize=6.8)
    axes.set(xscale="log", ylim=(-0.7, len(rows) - 0.3), xlabel="compute (tokens a parameter of the full depth)")
    axes.set_title("best grown run above the best fixed depth of equal compute (% of the loss)")
    axes.margins(x=0.08)
    return figure


def data(cells: list[Cell]) -> Table:
    """Every cell."""
    return Table(("model", "depths", "tokens a parameter", "way", "above (%)", "standard error", "seeds"), cells)


def caption(cells: list[Cell]) -> str:
    """The caption, its numbers computed."""
    below = [cell for cell in cells if cell.above < 0]
    sure = [cell for cell in below if cell.seeds > 1 and cell.above + 2 * cell.error < 0]
    return (
        f"The best way of growing, of those with most seeds, in {len(cells)} cells (model, depths, compute), above the "
        "best fixed depth of equal compute in per cent of the loss; means over n = 1 to "
        f"{max(cell.seeds for cell in cells)} seeds. The best of several ways is chosen after the runs, which favours "
        f"growing. It is below the best fixed depth in {len(below)} cells, by more than two standard errors over seeds "
        f"in {len(sure)}. Negative numbers (purple): grow."
    )
