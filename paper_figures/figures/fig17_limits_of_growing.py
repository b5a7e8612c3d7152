"""Figure 17: how much growing can save at most, and what measured runs saved.

Left: compute of the best fixed size over that of growth which only keeps its loss at each expansion, if the loss falls
as N^-a with size and D^-b with tokens (:mod:`latebloom.theory.limits`). Right: the same ratio measured: compute that
the best fixed depth needs for the loss of a grown run, over what the grown run spent.

Records: of the demo's corpus and model (see figure 4), and every study.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, NamedTuple

import matplotlib.pyplot as plt
import numpy as np

from latebloom.paper_figures.curves import depth_color
from latebloom.paper_figures.fronts import DEMO, STUDIES, finished_ends, fronts_of
from latebloom.paper_figures.missing import require
from latebloom.paper_figures.tables import Table
from latebloom.theory.limits import loss_equal_limit, one_expansion_limit
from latebloom.theory.words import blocks_text

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from latebloom.theory.record import Record

RECORDS = [*DEMO, *STUDIES]
MADE_BY = "latebloom study studies/NAME.toml --data DIR --out runs/NAME --parquet DIR"
SIZES = {0.2: "#56B4E9", 0.34: "#0072B2", 0.5: "#D55E00"}  # exponents a, and their colors
PUBLISHED = {  # exponents (a, b) as published
    "Hoffmann et al. 2022": (0.34, 0.28, "o"),
    "Besiroglu et al. 2024": (0.348, 0.366, "s"),
}


class Saving(NamedTuple):
    """What one grown run saved against the best fixed depth."""

    group: str
    seed: int
    small: int
    full: int
    share: float
    flops: float
    tokens_per_parameter: float
    ratio: float


def prepare(records: Mapping[str, Record]) -> list[Saving]:
    """Every grown run whose loss some fixed depth was measured at."""
    ends = finished_ends(records)
    fronts = fronts_of(ends)
    savings = []
    for end in ends:
        front = fronts[end.group, end.seed]
        if end.grown and len(end.plan.stages) == 2 and front.judges(end):
            ratio = front.cost_of(end.loss) / end.flops
            depths = (end.plan.stages[0].depth, end.plan.depth)
            share = (end.plan.tau or 0) / end.plan.steps
            if np.isfinite(ratio):
                savings.append(Saving(end.group, end.seed, *depths, share, end.flops, end.tokens_per_parameter, ratio))
    require(savings, "grown runs at whose loss a fixed depth was measured", MADE_BY)
    return savings


def make(savings: list[Saving]) -> Figure:
    """Two panels."""
    figure, (left, right) = plt.subplots(1, 2)
    b = np.linspace(0.15, 0.8, 40)
    for a, color in SIZES.items():
        left.plot(b, [loss_equal_limit(a, x) for x in b], color=color, label=f"a = {a:g}, grown all the time")
        left.plot(
            b[::3], [one_expansion_limit(a, x) for x in b[::3]], "--", color=color, label=f"a = {a:g}, grown once"
        )
    for name, (a, x, marker) in PUBLISHED.items():
        left.plot([x], [loss_equal_limit(a, x)], marker, color="#000000", label=name, linestyle="none")
    left.set(xlabel="exponent b of the tokens", ylabel="compute of the best fixed size\n/ compute of growing")
    left.set(title="at most, if growing keeps its loss", ylim=(1, 1.3))
    left.legend(fontsize=6.3, ncols=1, loc="upper left")
    for small in sorted({s.small for s in savings}):
        here = [s for s in savings if s.small == small]
        label = f"from {blocks_text(small)}"
        right.plot([s.tokens_per_parameter for s in here], [s.ratio for s in here], "D", color=depth_color(small),
                   label=label, markersize=3.5, alpha=0.8, markeredgewidth=0)  # fmt: skip
    right.axhline(1, color="#000000", linewidth=0.9)
    limit = loss_equal_limit(*PUBLISHED["Besiroglu et al. 2024"][:2])
    right.axhline(limit, color="#999999", linestyle="--", linewidth=0.9, label=f"limit {limit:.3f}")
    right.set(xscale="log", xlabel="compute (tokens a parameter of the full depth)", title="measured, GPT-2")
    right.set_ylim(bottom=0)
    right.legend(fontsize=6.5)
    return figure


def data(savings: list[Saving]) -> Table:
    """Every measured point."""
    return Table(("runs", "seed", "from", "to", "tau/T", "FLOPs", "tokens a parameter", "ratio"), savings)


def caption(savings: list[Saving]) -> str:
    """The caption, its numbers computed."""
    ratios = np.array([s.ratio for s in savings])
    published = ", ".join(f"{name} {loss_equal_limit(a, b):.3f}" for name, (a, b, _) in PUBLISHED.items())
    seeds = len({(s.group, s.seed) for s in savings})
    return (
        "Left: compute that the best fixed size needs over that of growth through every size (or once) that keeps its "
        f"loss when it grows, for a loss E + A N^-a + B D^-b; with published exponents {published}. Right: the same "
        "ratio "
        f"of {len(ratios)} grown runs of {len({s.group for s in savings})} sets ({seeds} sets x seeds), each against "
        "the "
        f"best fixed depth at its loss: median {np.median(ratios):.2f}, highest {ratios.max():.2f}; "
        f"{int((ratios > 1).sum())} of {len(ratios)} lie above 1, where growing pays."
    )
