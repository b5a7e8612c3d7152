"""Figure 10: one expansion or several? Runs that grow to 4 blocks in one, two and three steps.

Left: loss over compute. Right: final losses over compute, beside fixed depths at the same settings.

Records: GPT-2 of width 64 on bytes of novels, plans in
paper_figures/plans, all seeds that there are; fixed depths of other compute are those of the study `depths_bytes_w64`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import matplotlib.pyplot as plt
import numpy as np

from latebloom.paper_figures.curves import Look, depth_color, loss_limits, plot_ends, plot_seeds, told_depths
from latebloom.paper_figures.fronts import Front, finished_ends
from latebloom.paper_figures.seeds import finals, records_of_seeds, runs_of, told_mean, told_seeds
from latebloom.paper_figures.tables import Table
from latebloom.theory.cost import plan_flops
from latebloom.theory.words import amount_text, blocks_text

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from latebloom.theory.record import Record

RUNS = {"1-4": "#D55E00", "1-2-4": "#0072B2", "1-2-3-4": "#009E73"}
FIXED = {"schedules/wsd-fixed": ("4 blocks from the start", "#000000", "-"),
         "schedules/wsd-small": ("1 block, never grown", "#777777", "--")}  # fmt: skip
STUDY = "studies/depths_bytes_w64/fixed-"  # of other compute
SHOWN = ("1", "2")  # depths of it, beside the two above
GROWN = [f"stages/{run}" for run in RUNS]
RECORDS = [*records_of_seeds([*GROWN, *FIXED]), *(f"{STUDY}{depth}-C*00-s0" for depth in SHOWN)]
MADE_BY = "latebloom train paper_figures/plans/stages/NAME.json --data DIR"


def _label(record: Record) -> str:
    depths = " → ".join(str(stage.depth) for stage in record.plan.stages)
    at = ", ".join(str(stage.start_step) for stage in record.plan.stages[1:])
    return f"{depths} at {at}"


def make(records: Mapping[str, Record]) -> Figure:
    """Two panels."""
    figure, (left, right) = plt.subplots(1, 2)
    for name, shown in FIXED.items():
        plot_seeds(left, list(runs_of(records, name).values()), Look(*shown), against="flops")
    fixed = [end for end in finished_ends(_one_seed(records)) if not end.grown]
    for depth, (cost, loss) in Front(fixed).curves.items():
        label = f"{blocks_text(depth)}, fixed"
        right.plot(cost, loss, ".-", color=depth_color(depth), label=label, linewidth=1)
    for name, color in zip(GROWN, RUNS.values(), strict=True):
        runs = list(runs_of(records, name).values())
        plot_seeds(left, runs, Look(_label(runs[0]), color), against="flops")
        plot_ends(right, plan_flops(runs[0].plan), finals(records, name), "D", color=color, label=f"_{name}")
    right.set(xlabel="training FLOPs", ylabel="final loss (nats/token)", title="ends, fixed depths beside")
    right.legend(fontsize=6.8)
    loss_limits(left, [run for name in (*GROWN, *FIXED) for run in runs_of(records, name).values()])
    left.set(xlabel="training FLOPs", ylabel="validation loss (nats/token)", title="runs of 400 steps")
    figure.legend(*left.get_legend_handles_labels(), loc="outside lower center", ncols=3)
    return figure


def _one_seed(records: Mapping[str, Record]) -> dict[str, Record]:
    """Of seed 0, of which there are fixed depths of other compute."""
    return {name: record for name, record in records.items() if record.header.seed == 0}


def _rows(records: Mapping[str, Record]) -> list[tuple[str, float, np.ndarray]]:
    """Every run: its name, FLOPs and final losses, one a seed; fixed depths by their compute."""
    rows = []
    for name in GROWN:
        first = runs_of(records, name)[0]
        rows.append((_label(first), float(plan_flops(first.plan)), finals(records, name)))
    fixed = [end for end in finished_ends(_one_seed(records)) if not end.grown]
    for end in sorted(fixed, key=lambda end: (end.plan.depth, end.flops)):
        losses = finals(records, name) if (name := end.name.rpartition("_s")[0]) in FIXED else np.array([end.loss])
        rows.append((told_depths(end.plan), end.flops, losses))
    return rows


def data(records: Mapping[str, Record]) -> Table:
    """Every run's end, one row a seed."""
    rows = [(told, flops, float(loss)) for told, flops, losses in _rows(records) for loss in losses]
    return Table(("run", "FLOPs", "final loss"), rows)


def caption(records: Mapping[str, Record]) -> str:
    """The caption, its numbers computed."""
    told = "; ".join(
        f"{name}: {amount_text(flops)} FLOPs, {told_mean(losses, '.3f')}" for name, flops, losses in _rows(records)
    )
    seeds = told_seeds(len(runs_of(records, name)) for name in (*GROWN, *FIXED))
    others = "" if seeds == "n = 1 seed" else ", fixed depths of other compute n = 1"
    return (
        "One, two and three expansions to 4 blocks, at the steps given, of 400, beside fixed depths (GPT-2, width 64, "
        f"bytes; {seeds}{others}). Final losses in nats: {told}."
    )
