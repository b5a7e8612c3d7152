"""Figure 15: scaling of fixed and of grown runs. Final loss over compute, with exponents.

Each line is L = A C^-alpha, least squares in logarithms over what was measured; it has no floor, so that the exponents
are local and may be compared on the same range only.

Source: arXiv 2511.04981 compares scaling of fixed and grown runs. Records: of the demo's corpus and model (see figure
4), grown from 1 to 4 blocks at .45 of the steps; studies whose names begin with `scaling_` are drawn too.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, NamedTuple

import matplotlib.pyplot as plt
import numpy as np

from latebloom.paper_figures.curves import depth_color, plain_log_ticks
from latebloom.paper_figures.fronts import DEMO, End, depths_passed, finished_ends
from latebloom.paper_figures.missing import require
from latebloom.paper_figures.seeds import told_seeds
from latebloom.paper_figures.tables import Table
from latebloom.theory.words import blocks_text

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from latebloom.theory.record import Record

RECORDS = [*DEMO, "studies/scaling_*/*"]
MADE_BY = "paper_figures/recipes/fig15_scaling.sh"
FEWEST = 3  # runs of a line: two parameters and an error
SHARE = 0.45  # tau/T of the grown runs shown, at every horizon, to .02: studies grow at multiples of some steps
SHORTEST = 200  # steps: below, the warm-up is much of the run


class Line(NamedTuple):
    """One way of training over compute: log L = intercept - exponent log C."""

    label: str
    color: str
    flops: np.ndarray
    loss: np.ndarray
    seeds: np.ndarray
    exponent: float
    error: float


def _line(label: str, color: str, ends: list[End]) -> Line:
    """The fit over all seeds, its standard error from residuals."""
    flops, loss = np.array([e.flops for e in ends]), np.array([e.loss for e in ends])
    x, y = np.log(flops), np.log(loss)
    slope, intercept = np.polyfit(x, y, 1)
    residual = y - slope * x - intercept
    error = np.sqrt(residual @ residual / (len(x) - 2) / ((x - x.mean()) ** 2).sum())
    return Line(label, color, flops, loss, np.array([e.seed for e in ends]), -float(slope), float(error))


def prepare(records: Mapping[str, Record]) -> list[Line]:
    """Fixed depths, and the runs that grow at one share of their steps."""
    ends = [e for e in finished_ends(records) if e.plan.steps >= SHORTEST]
    groups: dict[tuple[str, str], list[End]] = {}  # by label and color
    for end in sorted(ends, key=lambda end: (end.grown, end.plan.depth)):
        if end.plan.tau is None:
            groups.setdefault((f"{blocks_text(end.plan.depth)}, fixed", depth_color(end.plan.depth)), []).append(end)
        elif abs(end.plan.tau / end.plan.steps - SHARE) <= 0.02:
            groups.setdefault((f"{depths_passed(end.plan)} at .{SHARE * 100:.0f} T", "#000000"), []).append(end)
    lines = [_line(*look, ends) for look, ends in groups.items() if len(ends) >= FEWEST]
    require(any("→" in line.label for line in lines), "runs that grow at one share of their steps", MADE_BY)
    return lines


def make(lines: list[Line]) -> Figure:
    """One panel with the runs and the lines, one with the exponents."""
    figure, (left, right) = plt.subplots(1, 2, width_ratios=(1.5, 1))
    for line in lines:
        left.plot(line.flops, line.loss, "o", color=line.color, markersize=3, alpha=0.6, label=f"_{line.label}")
        grid = np.geomspace(line.flops.min(), line.flops.max(), 50)
        slope, intercept = np.polyfit(np.log(line.flops), np.log(line.loss), 1)
        dashes = "--" if "→" in line.label else "-"
        left.plot(grid, np.exp(intercept + slope * np.log(grid)), dashes, color=line.color, label=line.label)
    left.set(xscale="log", xlabel="training FLOPs", ylabel="final validation loss (nats/token)")
    plain_log_ticks(left)
    left.set_title("runs and power laws")
    left.legend()
    for place, line in enumerate(lines):
        right.errorbar([line.exponent], [-place], xerr=[2 * line.error], fmt="o", color=line.color, capsize=2)
    right.set_yticks([-i for i in range(len(lines))], [line.label for line in lines])
    right.set(xlabel="exponent α of the compute", title="with two standard errors", ylim=(-len(lines) + 0.4, 0.6))
    return figure


def data(lines: list[Line]) -> Table:
    """Every run."""
    rows = [
        (line.label, int(seed), float(c), float(loss), line.exponent, line.error)
        for line in lines
        for seed, c, loss in zip(line.seeds, line.flops, line.loss, strict=True)
    ]
    return Table(("line", "seed", "FLOPs", "final loss", "exponent", "standard error"), rows)


def caption(lines: list[Line]) -> str:
    """The caption, its numbers computed."""
    told = "; ".join(f"{line.label} {line.exponent:.4f} ± {line.error:.4f} ({len(line.loss)} runs)" for line in lines)
    seeds = told_seeds([len({int(seed) for line in lines for seed in line.seeds})])
    return (
        f"Final loss over training compute of fixed depths and of runs that grow at {SHARE:.0%} of their steps, "
        f"{SHORTEST} steps or more, {seeds}. Exponents α of L = A C^-α, without a floor, with standard errors: {told}. "
        "They hold on this range of compute alone."
    )
