"""Figure 10: one expansion or several? Runs that grow to 4 blocks in one, two and three steps.

Left: loss over compute. Right: final loss above the best fixed depth of equal compute, from the study of fixed depths
at the same settings.

Source: theory (:func:`latebloom.theory.tradeoff.best_stages`) has several expansions collapse into one where each
layer brings the same signal for the same cost. Records: GPT-2 of width 64 on bytes of novels, plans in
paper_figures/plans; fixed depths are those of the study `depths_bytes_w64`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import matplotlib.pyplot as plt
import numpy as np

from latebloom.paper_figures.curves import Look, loss_limits, plot_run
from latebloom.paper_figures.fronts import Front, finished_ends
from latebloom.paper_figures.missing import require
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


def _front(records: Mapping[str, Record]) -> Front:
    """Fixed depths of the study and of the runs beside those that grow."""
    fixed = {name: record for name, record in records.items() if record.plan.tau is None}
    front = Front(finished_ends(fixed))
    known = all(np.isfinite(front.loss_at(plan_flops(records[f"stages/{run}_s0"].plan))) for run in RUNS)
    require(known, "fixed depths of the grown runs' compute", MADE_BY)
    return front


def make(records: Mapping[str, Record]) -> Figure:
    """Two panels."""
    figure, (left, right) = plt.subplots(1, 2)
    runs = {run: records[f"stages/{run}_s0"] for run in RUNS}
    plot_run(left, records["schedules/wsd-fixed_s0"], Look("4 blocks from the start", "#000000"), against="flops")
    plot_run(left, records["schedules/wsd-small_s0"], Look("1 block, never grown", "#777777", "--"), against="flops")
    front = _front(records)
    for place, (run, color) in enumerate(RUNS.items()):
        plot_run(left, runs[run], Look(_label(runs[run]), color), against="flops")
        above = runs[run].final() - front.loss_at(plan_flops(runs[run].plan))
        right.plot([above], [-place], "o", color=color, label=_label(runs[run]))
    right.axvline(0, color="#000000", linewidth=0.9)
    right.set_yticks([-i for i in range(len(RUNS))], [_label(run) for run in runs.values()])
    right.set(xlabel="final loss − best fixed depth of equal compute", title="at the end", ylim=(-len(RUNS) + 0.4, 0.6))
    loss_limits(left, list(records.values())[: len(RUNS) + 2])
    left.set(xlabel="training FLOPs", ylabel="validation loss (nats/token)", title="runs of 400 steps")
    figure.legend(*left.get_legend_handles_labels(), loc="outside lower center", ncols=3)
    return figure


def _rows(records: Mapping[str, Record]) -> list[tuple[str, float, float, float]]:
    """Every grown run: its name, FLOPs, final loss, and the best fixed depth's."""
    front = _front(records)
    rows = []
    for run in RUNS:
        record = records[f"stages/{run}_s0"]
        flops = float(plan_flops(record.plan))
        rows.append((_label(record), flops, record.final(), front.loss_at(flops)))
    return rows


def data(records: Mapping[str, Record]) -> Table:
    """Every grown run's end."""
    return Table(("run", "FLOPs", "final loss", "best fixed depth of equal compute"), _rows(records))


def caption(records: Mapping[str, Record]) -> str:
    """The caption, its numbers computed."""
    told = "; ".join(
        f"{name}: {flops:.3g} FLOPs, {loss:.3f} ({loss - best:+.3f})" for name, flops, loss, best in _rows(records)
    )
    return (
        "One, two and three expansions to 4 blocks, at the steps given, of 400 (GPT-2, width 64, bytes, n = 1 seed). "
        "Final "
        f"loss in nats, and in brackets its distance to the best fixed depth of equal compute: {told}."
    )
