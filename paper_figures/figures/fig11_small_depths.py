"""Figure 11: which depth to start from. Final loss over compute of fixed depths, and of runs that grow from each.

The black line is the best fixed depth at each compute: a run that grows is worth it only below it.

Source: arXiv 2511.04981 compares starts from 0 and 1 blocks with the full depth alone. Records: of the demo's corpus
and model (see figure 4), and the study `depths_bytes_w64`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, NamedTuple

import matplotlib.pyplot as plt
import numpy as np

from latebloom.paper_figures.curves import depth_color
from latebloom.paper_figures.fronts import DEMO, End, Front, finished_ends, fronts_of, told_model
from latebloom.paper_figures.tables import Table
from latebloom.theory.words import blocks_text

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from latebloom.theory.record import Record

MADE_BY = "latebloom study studies/depths_bytes_w64.toml --data DIR --out runs/depths --parquet DIR"
RECORDS = [*DEMO, "studies/depths_*/*"]
SEED = 0


class Panel(NamedTuple):
    """One corpus: its ends of seed 0 and its fixed front."""

    group: str
    ends: list[End]
    front: Front

    @property
    def title(self) -> str:
        """Model and data in words."""
        return told_model(self.ends[0].plan)


def prepare(records: Mapping[str, Record]) -> list[Panel]:
    """The ends of each corpus, of one learning rate."""
    ends = [end for end in finished_ends(records) if end.seed == SEED and len(end.plan.stages) <= 2]
    fronts = fronts_of(ends)
    groups = dict.fromkeys(e.group for e in ends if e.grown and fronts[e.group, SEED].judges(e))
    return [Panel(group, [e for e in ends if e.group == group], fronts[group, SEED]) for group in groups]


def make(panels: list[Panel]) -> Figure:
    """One panel a corpus."""
    figure, axes = plt.subplots(1, len(panels), figsize=(3.5 * len(panels), 3.6), squeeze=False)
    for axis, panel in zip(axes[0], panels, strict=True):
        for depth, (cost, loss) in panel.front.curves.items():
            label = f"{blocks_text(depth)}, fixed"
            axis.plot(cost, loss, "-", color=depth_color(depth), label=label, marker=".", markersize=5, linewidth=1,
                      zorder=3)  # fmt: skip
        grid = np.geomspace(min(e.flops for e in panel.ends), max(e.flops for e in panel.ends), 200)
        best = [panel.front.loss_at(c) for c in grid]
        axis.plot(grid, best, color="#000000", linewidth=3.5, alpha=0.15, label="best fixed depth", zorder=0)
        for small in sorted({e.plan.stages[0].depth for e in panel.ends if e.grown}):
            grown = [e for e in panel.ends if e.grown and e.plan.stages[0].depth == small]
            label = f"{small} → {grown[0].plan.depth}, grown"
            axis.plot([e.flops for e in grown], [e.loss for e in grown], "D", color=depth_color(small), label=label,
                      markersize=4, markeredgecolor="#000000", markeredgewidth=0.5)  # fmt: skip
        lowest, highest = min(e.loss for e in panel.ends), max(e.loss for e in panel.ends)
        axis.set(xscale="log", xlabel="training FLOPs", title=panel.title, ylim=(lowest * 0.985, highest * 1.015))
        axis.legend(fontsize=6.5, ncols=2, loc="upper center", bbox_to_anchor=(0.5, -0.2))
    axes[0][0].set_ylabel("final validation loss (nats/token)")
    return figure


def data(panels: list[Panel]) -> Table:
    """Every run."""
    rows = [
        (p.group, " → ".join(str(s.depth) for s in e.plan.stages), e.plan.tau or 0, e.plan.steps, e.flops, e.loss)
        for p in panels
        for e in p.ends
    ]
    return Table(("corpus", "depths", "expansion step", "steps", "FLOPs", "final loss"), rows)


def caption(panels: list[Panel]) -> str:
    """The caption, its numbers computed."""
    told = []
    for panel in panels:
        above: dict[int, list[float]] = {}
        for end in panel.ends:
            best = panel.front.loss_at(end.flops)
            if end.grown and np.isfinite(best):
                above.setdefault(end.plan.stages[0].depth, []).append(end.loss - best)
        ends = "; ".join(
            f"from {small}: {min(gaps):+.3f} to {max(gaps):+.3f} nats ({sum(g < 0 for g in gaps)} of {len(gaps)} below)"
            for small, gaps in sorted(above.items())
        )
        told.append(f"{panel.title}: {ends}")
    return (
        "Final loss over compute, one seed: circles are fixed depths trained for different horizons, diamonds runs "
        "that "
        "grow, each with its own schedule; the broad line is the best fixed depth. Grown runs against the best fixed "
        f"depth of equal compute: {'. '.join(told)}."
    )
