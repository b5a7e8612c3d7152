"""Figure 10: one expansion or several? Runs that grow to 4 blocks in one, two and three steps.

Left: loss over compute. Right: final losses over compute, beside fixed depths at the same settings.

Source: theory (:func:`latebloom.theory.tradeoff.best_stages`) has several expansions collapse into one where each
layer brings the same signal for the same cost. Records: GPT-2 of width 64 on bytes of novels, plans in
paper_figures/plans; fixed depths are those of the study `depths_bytes_w64`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import matplotlib.pyplot as plt

from latebloom.paper_figures.curves import Look, depth_color, loss_limits, plot_run, told_depths
from latebloom.paper_figures.fronts import Front, finished_ends
from latebloom.paper_figures.tables import Table
from latebloom.theory.cost import plan_flops

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from latebloom.theory.record import Record

RUNS = {"1-4": "#D55E00", "1-2-4": "#0072B2", "1-2-3-4": "#009E73"}
FIXED = ("studies/depths_bytes_w64/fixed-1-C200-s0", "studies/depths_bytes_w64/fixed-1-C100-s0")
RECORDS = [*(f"stages/{run}_s0" for run in RUNS), "schedules/wsd-fixed_s0", "schedules/wsd-small_s0", *FIXED]
MADE_BY = "latebloom train paper_figures/plans/stages/NAME.json --data DIR"


def _label(record: Record) -> str:
    depths = " → ".join(str(stage.depth) for stage in record.plan.stages)
    at = ", ".join(str(stage.start_step) for stage in record.plan.stages[1:])
    return f"{depths} at {at}"


def make(records: Mapping[str, Record]) -> Figure:
    """Two panels."""
    figure, (left, right) = plt.subplots(1, 2)
    runs = {run: records[f"stages/{run}_s0"] for run in RUNS}
    plot_run(left, records["schedules/wsd-fixed_s0"], Look("4 blocks from the start", "#000000"), against="flops")
    plot_run(left, records["schedules/wsd-small_s0"], Look("1 block, never grown", "#777777", "--"), against="flops")
    fixed = Front(finished_ends({name: record for name, record in records.items() if record.plan.tau is None}))
    for depth, (cost, loss) in fixed.curves.items():
        label = f"{depth} block{'' if depth == 1 else 's'}, fixed"
        right.plot(cost, loss, ".-", color=depth_color(depth), label=label, linewidth=1)
    for run, color in RUNS.items():
        plot_run(left, runs[run], Look(_label(runs[run]), color), against="flops")
        right.plot([plan_flops(runs[run].plan)], [runs[run].final()], "D", color=color, label=f"_{run}")
    right.set(xlabel="training FLOPs", ylabel="final validation loss", title="ends, fixed depths beside")
    right.legend(fontsize=6.8)
    loss_limits(left, list(records.values())[: len(RUNS) + 2])
    left.set(xlabel="training FLOPs", ylabel="validation loss (nats/token)", title="runs of 400 steps")
    figure.legend(*left.get_legend_handles_labels(), loc="outside lower center", ncols=3)
    return figure


def _rows(records: Mapping[str, Record]) -> list[tuple[str, float, float]]:
    """Every run: its name, FLOPs and final loss."""
    named = {f"stages/{run}_s0" for run in RUNS}
    return [
        (_label(record) if name in named else told_depths(record.plan), float(plan_flops(record.plan)), record.final())
        for name, record in records.items()
    ]


def data(records: Mapping[str, Record]) -> Table:
    """Every grown run's end."""
    return Table(("run", "FLOPs", "final loss"), _rows(records))


def caption(records: Mapping[str, Record]) -> str:
    """The caption, its numbers computed."""
    told = "; ".join(f"{name}: {flops:.3g} FLOPs, {loss:.3f}" for name, flops, loss in _rows(records))
    return (
        "One, two and three expansions to 4 blocks, at the steps given, of 400, beside fixed depths (GPT-2, width 64, "
        f"bytes, n = 1 seed). Final losses in nats: {told}."
    )
